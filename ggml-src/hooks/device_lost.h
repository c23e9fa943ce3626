// A GPU that is lost while it computes (unplugged, reset by the driver) fails whatever is asked of it from then on, also freeing. Upstream
// ends the process at each failure. On threads that wait for results the abort becomes an error (ext/guard.hpp); destructors must not
// throw, so where only what the device holds is freed failures are ignored: it is gone.
#pragma once

#include <atomic>
#include <exception>

namespace pl {

// Whether this thread frees what a device holds.
inline bool & device_letting_go() {
    static thread_local bool now = false;
    return now;
}

// Handed out by name ("pl_device_let_go"), because back ends may be modules.
inline void device_let_go(bool now) {
    device_letting_go() = now;
}

// Whether anything failed that was not ignored: other threads may have left things half done.
inline std::atomic<bool> & device_failed() {
    static std::atomic<bool> failed { false };
    return failed;
}

// Asked about each failure.
inline bool device_ignores_failure() {
    if (device_letting_go() || std::uncaught_exceptions() > 0) {
        return true;
    }
    device_failed() = true;
    return false;
}

} // namespace pl
