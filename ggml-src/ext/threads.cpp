// Thread pools that live as long as a context. They come from the CPU back end, which may be a module loaded at run time, so its
// functions are looked up.
#include "guard.hpp"
#include "hooked.hpp"

#include <memory>
#include <thread>
#include <string>

namespace {

using pool_new_fn  = ggml_threadpool * (*)(ggml_threadpool_params *);
using pool_free_fn = void (*)(ggml_threadpool *);

void * cpu_function(const char * name) {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    void * address = device == nullptr ? nullptr : ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name);
    if (address == nullptr) {
        throw std::runtime_error(std::string("the CPU back end has no ") + name);
    }
    return address;
}

} // namespace

struct pl_threads {
    pool_free_fn      release = reinterpret_cast<pool_free_fn>(cpu_function("ggml_threadpool_free"));
    ggml_threadpool * single  = nullptr;
    ggml_threadpool * batch   = nullptr;
    int32_t           n_threads       = 0;
    int32_t           n_threads_batch = 0;

    ~pl_threads() {
        if (batch != nullptr) {
            release(batch);
        }
        if (single != nullptr) {
            release(single);
        }
    }
};

static void lend(const pl_threads & threads, llama_context * ctx) {
    llama_set_n_threads(ctx, threads.n_threads, threads.n_threads_batch);
    llama_attach_threadpool(ctx, threads.single, threads.batch);
}

extern "C" {

pl_threads * pl_threads_attach(llama_context * ctx, int32_t n_threads, int32_t n_threads_batch, int32_t poll, pl_error * err) {
    return pl::guard<pl_threads *>(err, nullptr, [&]() -> pl_threads * {
        if (n_threads < 1 || n_threads > GGML_MAX_N_THREADS || n_threads_batch < 1 || n_threads_batch > GGML_MAX_N_THREADS || poll < 0 || poll > 100) {
            const std::string text = "threads " + std::to_string(n_threads) + " and " + std::to_string(n_threads_batch) + " must be from 1 to "
                                   + std::to_string(GGML_MAX_N_THREADS) + ", polling " + std::to_string(poll) + " from 0 to 100";
            pl::fail(err, PL_BAD_ARGUMENT, text.c_str());
            return nullptr;
        }
        const auto create = reinterpret_cast<pool_new_fn>(cpu_function("ggml_threadpool_new"));
        const auto pool = [&](int32_t threads) {
            ggml_threadpool_params params = ggml_threadpool_params_default(threads);
            params.poll = (uint32_t) poll;
            ggml_threadpool * made = create(&params);
            if (made == nullptr) {
                throw std::runtime_error("no pool of " + std::to_string(threads) + " threads could be made");
            }
            return made;
        };
        auto threads = std::make_unique<pl_threads>();
        threads->single = pool(n_threads);
        if (n_threads_batch != n_threads) {
            threads->batch = pool(n_threads_batch);
        }
        threads->n_threads       = n_threads;
        threads->n_threads_batch = n_threads_batch;
        lend(*threads, ctx);
        return threads.release();
    });
}

int32_t pl_threads_share(const pl_threads * threads, llama_context * ctx, pl_error * err) {
    return pl::guard_void(err, [&] { lend(*threads, ctx); });
}

void pl_context_free(llama_context * ctx, pl_threads * threads) {
    pl_error ignored;
    pl::forget_spare_layers(ctx);
    pl::guard_void(&ignored, [&] {
        const pl::quiet silent; // graphs that hooks changed took other memory than upstream planned for, and it says so
        llama_free(ctx);
    });
    pl::guard_void(&ignored, [&] { delete threads; });
}

} // extern "C"

extern "C" void pl_yield(void) {
    std::this_thread::yield();
}
