// Thread pools that live as long as a context. They come from the CPU back end, which may be a module loaded at run time, so its
// functions are looked up.
#include "allocator.hpp"
#include "guard.hpp"
#include "hooked.hpp"
#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#if !defined(_WIN32)
#    include <pthread.h>
#endif
#if defined(__linux__)
#    include <sched.h>
#    include <sys/resource.h>
#    include <sys/syscall.h>
#    include <unistd.h>
#endif

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

// Threads that this one makes inherit it; ggml knows no such thing.
void be_nice(int32_t niceness) {
#if defined(__linux__)
    const auto thread = static_cast<id_t>(syscall(SYS_gettid));
    errno = 0;
    const int now = getpriority(PRIO_PROCESS, thread);
    if (errno == 0) {
        setpriority(PRIO_PROCESS, thread, now + niceness);
    }
#else
    (void) niceness;
#endif
}

// ggml only writes to standard error what the system says to these.
void check_priority(int32_t priority) {
#if !defined(_WIN32)
    if (priority > GGML_SCHED_PRIO_NORMAL) {
        sched_param param = {};
        param.sched_priority = priority == GGML_SCHED_PRIO_MEDIUM ? 40 : priority == GGML_SCHED_PRIO_HIGH ? 80 : 90;
        const int code = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
        if (code != 0) {
            throw std::runtime_error(std::string("the system refuses a priority above normal (") + strerror(code)
                                     + "); give the process the right to real-time scheduling (CAP_SYS_NICE on Linux) or leave it out");
        }
    }
#else
    (void) priority;
#endif
}

void check_cpus(const pl_thread_options & options) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return;
    }
    for (int32_t i = 0; i < options.n_cpus; i++) {
        if (options.cpus[i] >= CPU_SETSIZE || !CPU_ISSET(options.cpus[i], &allowed)) {
            throw std::runtime_error("this process can't run on processor " + std::to_string(options.cpus[i]));
        }
    }
#else
    (void) options;
#endif
}

std::atomic<int> evaluators { 0 };
std::mutex evaluators_lock;
std::unordered_map<const llama_context *, pl::evaluator *> evaluator_of_context;

} // namespace

namespace pl {

evaluator::evaluator() : thread([this] { work(); }) {}

evaluator::~evaluator() {
    {
        const std::lock_guard<std::mutex> held(lock);
        ended = true;
    }
    given.notify_one();
    thread.join();
}

void evaluator::run(void (*task)(void *), void * argument) {
    std::unique_lock<std::mutex> held(lock);
    this->task = task;
    this->argument = argument;
    given.notify_one();
    done.wait(held, [this] { return this->task == nullptr; });
}

void evaluator::work() {
    std::unique_lock<std::mutex> held(lock);
    while (true) {
        given.wait(held, [this] { return task != nullptr || ended; });
        if (task == nullptr) {
            return;
        }
        held.unlock(); // one caller at a time, and it waits
        task(argument);
        held.lock();
        task = nullptr;
        done.notify_one();
    }
}

evaluator * evaluator_of(const llama_context * ctx) {
    if (evaluators.load(std::memory_order_relaxed) == 0) {
        return nullptr;
    }
    const std::lock_guard<std::mutex> held(evaluators_lock);
    const auto found = evaluator_of_context.find(ctx);
    return found == evaluator_of_context.end() ? nullptr : found->second;
}

static void employ(const llama_context * ctx, evaluator * by) {
    const std::lock_guard<std::mutex> held(evaluators_lock);
    evaluator_of_context[ctx] = by;
    evaluators = static_cast<int>(evaluator_of_context.size());
}

static void dismiss(const llama_context * ctx) {
    const std::lock_guard<std::mutex> held(evaluators_lock);
    evaluator_of_context.erase(ctx);
    evaluators = static_cast<int>(evaluator_of_context.size());
}

} // namespace pl

struct pl_threads {
    pool_free_fn      release = reinterpret_cast<pool_free_fn>(cpu_function("ggml_threadpool_free"));
    ggml_threadpool * single  = nullptr;
    ggml_threadpool * batch   = nullptr;
    int32_t           n_threads       = 0;
    int32_t           n_threads_batch = 0;
    std::unique_ptr<pl::evaluator> own; // the thread that evaluates, where callers must not

    ~pl_threads() {
        if (batch != nullptr) {
            release(batch);
        }
        if (single != nullptr) {
            release(single);
        }
    }

    void start(const pl_thread_options & options) {
        check_cpus(options);
        be_nice(options.niceness);
        check_priority(options.priority);
        const auto create = reinterpret_cast<pool_new_fn>(cpu_function("ggml_threadpool_new"));
        const auto pool = [&](int32_t threads) {
            ggml_threadpool_params params = ggml_threadpool_params_default(threads);
            params.poll       = (uint32_t) options.poll;
            params.prio       = (ggml_sched_priority) options.priority;
            params.strict_cpu = options.strict;
            for (int32_t i = 0; i < options.n_cpus; i++) {
                params.cpumask[options.cpus[i]] = true;
            }
            ggml_threadpool * made = create(&params); // the thread that makes a pool is one of its workers, and is placed as such
            if (made == nullptr) {
                throw std::runtime_error("no pool of " + std::to_string(threads) + " threads could be made");
            }
            return made;
        };
        single = pool(options.n_threads);
        if (options.n_threads_batch != options.n_threads) {
            batch = pool(options.n_threads_batch);
        }
        n_threads       = options.n_threads;
        n_threads_batch = options.n_threads_batch;
    }
};

static void lend(const pl_threads & threads, llama_context * ctx) {
    llama_set_n_threads(ctx, threads.n_threads, threads.n_threads_batch);
    llama_attach_threadpool(ctx, threads.single, threads.batch);
    if (threads.own != nullptr) {
        pl::employ(ctx, threads.own.get());
    }
}

static std::string refusal(const pl_thread_options & o) {
    const auto is = [](const char * name, int32_t value, int32_t low, int32_t high) {
        return value >= low && value <= high ? std::string() : std::string(name) + " is " + std::to_string(value) + "; it must be from "
            + std::to_string(low) + " to " + std::to_string(high);
    };
    std::string text = is("the number of threads", o.n_threads, 1, GGML_MAX_N_THREADS);
    text += is("the number of threads for batches", o.n_threads_batch, 1, GGML_MAX_N_THREADS);
    text += is("polling", o.poll, 0, 100);
    text += is("the priority", o.priority, GGML_SCHED_PRIO_LOW, GGML_SCHED_PRIO_REALTIME);
    text += is("the niceness", o.niceness, 0, 19);
    for (int32_t i = 0; i < o.n_cpus; i++) {
        text += is("a processor", o.cpus[i], 0, GGML_MAX_N_THREADS - 1);
    }
    return text;
}

extern "C" {

pl_threads * pl_threads_attach(llama_context * ctx, const pl_thread_options * options, pl_error * err) {
    return pl::guard<pl_threads *>(err, nullptr, [&]() -> pl_threads * {
        const std::string refused = refusal(*options);
        if (!refused.empty()) {
            pl::fail(err, PL_BAD_ARGUMENT, refused.c_str());
            return nullptr;
        }
        auto threads = std::make_unique<pl_threads>();
        if (options->priority != GGML_SCHED_PRIO_NORMAL || options->niceness > 0 || options->n_cpus > 0) {
            threads->own = std::make_unique<pl::evaluator>();
            const bool started = threads->own->call([&] {
                return pl::guard_void(err, [&] { threads->start(*options); }) == PL_OK;
            });
            if (!started) {
                return nullptr;
            }
        } else {
            threads->start(*options);
        }
        lend(*threads, ctx);
        return threads.release();
    });
}

void pl_threads_use(const pl_threads * threads, llama_context * ctx, int32_t n_threads, int32_t n_threads_batch) {
    const auto within = [](int32_t wanted, int32_t most) { return std::min(std::max(wanted, 1), most); };
    llama_set_n_threads(ctx, within(n_threads, threads->n_threads), within(n_threads_batch, threads->n_threads_batch));
}

int32_t pl_threads_share(const pl_threads * threads, llama_context * ctx, pl_error * err) {
    return pl::guard_void(err, [&] { lend(*threads, ctx); });
}

void pl_context_free(llama_context * ctx, pl_threads * threads) {
    pl_error ignored;
    pl::forget_spare_layers(ctx);
    pl::dismiss(ctx);
    pl::guard_void(&ignored, [&] {
        const pl::quiet silent; // graphs that hooks changed took other memory than upstream planned for, and it says so
        const pl::letting_go scope;
        llama_free(ctx);
    });
    pl::guard_void(&ignored, [&] { delete threads; });
    pl::give_back_memory();
}

} // extern "C"

extern "C" void pl_yield(void) {
    std::this_thread::yield();
}
