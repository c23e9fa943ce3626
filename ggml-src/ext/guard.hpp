// How every pl_ function that may fail calls upstream: catches what is thrown, also by a failed assertion of this thread.
#pragma once

#include "log.hpp"
#include "panama_llama.h"

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace pl {

// A GGML_ASSERT or GGML_ABORT on a guarded thread, thrown by the abort hook (abort.cpp).
struct assertion : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void fail(pl_error * err, int32_t code, const char * message) noexcept;

// Between construction and destruction the abort hook may throw on this thread, and warnings and errors of the log are collected.
class guarded {
public:
    guarded() noexcept;
    ~guarded();
    guarded(const guarded &) = delete;
    guarded & operator=(const guarded &) = delete;

    static bool here() noexcept;
};

// What upstream logged as warning or error on this thread since the outermost guard began; "" if nothing.
const std::string & logged() noexcept;

// Whether a buffer of a device or of the host could not be had on this thread since then.
bool allocation_failed() noexcept;

// A failed assertion with the reasons that were logged before it: what a GPU's driver said.
void fail_assertion(pl_error * err, const char * message) noexcept;

// Runs body and returns its result; after an exception returns `failed` and fills err.
template <typename R, typename F> R guard(pl_error * err, R failed, F && body) noexcept {
    err->code = PL_OK;
    err->message[0] = '\0';
    guarded scope;
    try {
        return std::forward<F>(body)();
    } catch (const assertion & e) {
        fail_assertion(err, e.what());
    } catch (const std::bad_alloc &) {
        fail(err, PL_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception & e) {
        fail(err, allocation_failed() ? PL_OUT_OF_MEMORY : PL_EXCEPTION, e.what());
    } catch (...) {
        fail(err, PL_EXCEPTION, "an exception of unknown type");
    }
    return failed;
}

// For functions whose result is a code: the negative pl_code after an exception.
template <typename F> int32_t guard_code(pl_error * err, F && body) noexcept {
    const int32_t result = guard<int32_t>(err, 0, std::forward<F>(body));
    return err->code != PL_OK ? err->code : result;
}

// For functions with codes of upstream's own: a nonzero code keeps PL_OK and gets what upstream logged as its message.
template <typename F> int32_t guard_upstream_code(pl_error * err, F && body) noexcept {
    return guard_code(err, [&]() -> int32_t {
        const quiet silent;
        const int32_t result = body();
        if (result != 0) {
            fail(err, PL_OK, logged().c_str());
        }
        return result;
    });
}

// For operations without a result: PL_OK or the code.
template <typename F> int32_t guard_void(pl_error * err, F && body) noexcept {
    return guard_code(err, [&]() -> int32_t { body(); return PL_OK; });
}

// For functions that answer NULL, false or 0 when they fail: adds upstream's reason.
template <typename R, typename F> R guard_value(pl_error * err, const char * what, F && body) noexcept {
    return guard<R>(err, R(), [&]() -> R {
        R result = body();
        if (!result) {
            const std::string & reason = logged();
            fail(err, allocation_failed() ? PL_OUT_OF_MEMORY : PL_FAILED, reason.empty() ? what : reason.c_str());
        }
        return result;
    });
}

} // namespace pl
