// State of the guards: which threads are inside one, and the end of the road for failed assertions.
#include "guard.hpp"

#include <cstdio>
#include <cstring>
#include <fstream>

#if !defined(_WIN32)
#    include <dlfcn.h>
#    include <unwind.h>
#endif

namespace pl {

namespace {

thread_local int depth = 0;

#if !defined(_WIN32)
_Unwind_Reason_Code look_for_cpu_backend(_Unwind_Context * frame, void * found) {
    Dl_info info;
    const auto address = reinterpret_cast<void *>(_Unwind_GetIP(frame));
    if (address != nullptr && dladdr(address, &info) != 0 && info.dli_fname != nullptr && strstr(info.dli_fname, "ggml-cpu") != nullptr) {
        *static_cast<bool *>(found) = true;
        return _URC_END_OF_STACK;
    }
    return _URC_NO_REASON;
}
#endif

// Inside a graph the other threads of the pool wait at a barrier for this one: leaving it would hang them for good.
bool may_unwind() {
#if defined(_WIN32)
    return false;
#else
    if (depth == 0) {
        return false;
    }
    bool in_graph = false;
    _Unwind_Backtrace(look_for_cpu_backend, &in_graph);
    return !in_graph;
#endif
}

// Called by ggml_abort before it ends the process.
void on_abort(const char * message) {
    if (may_unwind()) {
        throw assertion(message);
    }
    fprintf(stderr, "%s\n", message);
    fflush(stderr);
    log_line(GGML_LOG_LEVEL_ERROR, message);
}

} // namespace

void fail(pl_error * err, int32_t code, const char * message) noexcept {
    err->code = code;
    snprintf(err->message, sizeof(err->message), "%s", message);
}

void fail_assertion(pl_error * err, const char * message) noexcept {
    const std::string & reason = logged();
    err->code = PL_ASSERTION;
    snprintf(err->message, sizeof(err->message), "%s%s%s", message, reason.empty() ? "" : ": ", reason.c_str());
}

guarded::guarded() noexcept {
    if (depth++ == 0) {
        forget_logged();
    }
}

guarded::~guarded() {
    depth--;
}

bool guarded::here() noexcept {
    return depth > 0;
}

} // namespace pl

// Upstream says nothing about modules that can't be loaded, unless they are asked for one by one.
static void tell_why(const std::string & module_dir) {
#if defined(_WIN32)
    const std::string before = module_dir + "\\ggml-", behind = ".dll";
#elif defined(__APPLE__)
    const std::string before = module_dir + "/libggml-", behind = ".dylib";
#else
    const std::string before = module_dir + "/libggml-", behind = ".so";
#endif
    for (const auto & [name, registered] : { std::pair("cuda", "CUDA"), std::pair("vulkan", "Vulkan") }) {
        const std::string file = before + name + behind;
        if (ggml_backend_reg_by_name(registered) == nullptr && std::ifstream(file).good()) {
            ggml_backend_load(file.c_str());
        }
    }
}

extern "C" int32_t pl_backend_init(const char * module_dir, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        const pl::quiet silent; // the caller tells what is in the message
        ggml_set_abort_callback(pl::on_abort);
        if (module_dir != nullptr) {
            ggml_backend_load_all_from_path(module_dir);
            tell_why(module_dir);
        }
        llama_backend_init();
        if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) == nullptr) {
            pl::fail(err, PL_FAILED, "no CPU back end of ggml runs on this processor");
            return PL_FAILED;
        }
        pl::fail(err, PL_OK, pl::logged().c_str());
        return PL_OK;
    });
}
