// Devices, and those of other machines through ggml's RPC back end. It may be a module loaded at run time, so its functions are looked up.
#include "guard.hpp"
#include "threads.hpp"

namespace {

using add_server_fn   = ggml_backend_reg_t (*)(const char * endpoint);
using start_server_fn = void (*)(const char * endpoint, const char * cache_dir, size_t n_threads, size_t n_devices,
        ggml_backend_dev_t * devices);
using let_go_fn       = void (*)(bool now);

template <typename F> F rpc_function(const char * name) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    return rpc == nullptr ? nullptr : reinterpret_cast<F>(ggml_backend_reg_get_proc_address(rpc, name));
}

// Back ends whose devices may be lost ask the thread, when something fails, whether it only frees what they hold.
void let_go(bool now) {
    for (size_t i = 0; i < ggml_backend_reg_count(); i++) {
        ggml_backend_reg_t back_end = ggml_backend_reg_get(i);
        for (const char * name : { "pl_rpc_let_go", "pl_device_let_go" }) {
            const auto function = reinterpret_cast<let_go_fn>(ggml_backend_reg_get_proc_address(back_end, name));
            if (function != nullptr) {
                function(now);
            }
        }
    }
}

} // namespace

pl::letting_go::letting_go() { let_go(true); }
pl::letting_go::~letting_go() { let_go(false); }

extern "C" {

int32_t pl_device_memory(ggml_backend_dev_t device, uint64_t * free, uint64_t * total, pl_error * err) {
    return pl::guard_void(err, [&] {
        size_t left = 0;
        size_t all = 0;
        ggml_backend_dev_memory(device, &left, &all);
        *free = left;
        *total = all;
    });
}

int32_t pl_rpc_devices(const char * endpoint, ggml_backend_dev_t * devices, int32_t n_max, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        const auto add_server = rpc_function<add_server_fn>("ggml_backend_rpc_add_server");
        if (add_server == nullptr) {
            pl::fail(err, PL_FAILED, "this build has no RPC back end");
            return PL_FAILED;
        }
        ggml_backend_reg_t server = add_server(endpoint);
        const auto count = server == nullptr ? 0 : static_cast<int32_t>(ggml_backend_reg_dev_count(server));
        for (int32_t i = 0; i < count && i < n_max; i++) {
            devices[i] = ggml_backend_reg_dev_get(server, i);
        }
        return count;
    });
}

int32_t pl_rpc_serve(const char * endpoint, ggml_backend_dev_t device, int32_t n_threads, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        const auto start_server = rpc_function<start_server_fn>("ggml_backend_rpc_start_server");
        if (start_server != nullptr) {
            if (device == nullptr) {
                device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
            }
            if (device == nullptr) {
                device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
            }
            start_server(endpoint, nullptr, n_threads, 1, &device);
        }
        pl::fail(err, PL_FAILED, start_server == nullptr ? "this build has no RPC back end" : "the server can't listen or accept there");
        return PL_FAILED;
    });
}

} // extern "C"
