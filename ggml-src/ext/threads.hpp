// Threads of a context's own.
#pragma once

#include "llama.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace pl {

// A thread that runs what callers give it while they wait: its priority and its processors are not theirs.
class evaluator {
public:
    evaluator();
    ~evaluator();
    evaluator(const evaluator &) = delete;
    evaluator & operator=(const evaluator &) = delete;

    // f must not throw.
    template <typename F> auto call(F && f) -> decltype(f()) {
        struct { F & f; decltype(f()) result; } both = { f, {} };
        run([](void * argument) {
            auto & todo = *static_cast<decltype(both) *>(argument);
            todo.result = todo.f();
        }, &both);
        return both.result;
    }

private:
    std::mutex              lock;
    std::condition_variable given;
    std::condition_variable done;
    void                 (* task)(void *) = nullptr;
    void                  * argument = nullptr;
    bool                    ended = false;
    std::thread             thread; // last: it uses the others

    void run(void (*task)(void *), void * argument);
    void work();
};

// NULL where callers evaluate themselves.
evaluator * evaluator_of(const llama_context * ctx);

// Runs f, which must not throw, where the context is evaluated.
template <typename F> auto evaluate(const llama_context * ctx, F && f) -> decltype(f()) {
    evaluator * by = evaluator_of(ctx);
    return by == nullptr ? f() : by->call(f);
}

// While an object of this kind lives, this thread frees what RPC servers hold, and does not mind when they are gone.
class letting_go {
public:
    letting_go();
    ~letting_go();
    letting_go(const letting_go &) = delete;
    letting_go & operator=(const letting_go &) = delete;
};

} // namespace pl
