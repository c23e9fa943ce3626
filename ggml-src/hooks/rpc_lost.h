// Servers of ggml's RPC back end that go away. Upstream ends the process, from the thread that talks to the server; here the threads
// that wait for it are told, by an abort that guards turn into an error.
#pragma once

#include "ggml.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <string>

#if !defined(_WIN32)
#    include <netinet/in.h>
#    include <netinet/tcp.h>
#    include <sys/socket.h>
#    include <sys/time.h>
#endif

namespace pl {

// Whether this thread frees what the server holds, for which no answer is needed.
inline bool & rpc_letting_go() {
    static thread_local bool now = false;
    return now;
}

// Handed out by name, because the back end may be a module.
inline void rpc_let_go(bool now) {
    rpc_letting_go() = now;
}

class rpc_peer {
public:
    std::string endpoint;

    // After the first exchange that fails nothing is sent any more, and answers are zeros.
    template <typename F> void exchange(F && done, void * answer, size_t size) {
        if (!lost && !done()) {
            lost = true;
        }
        if (lost && answer != nullptr) {
            memset(answer, 0, size);
        }
    }

    // After every wait for an answer.
    void require() const {
        if (lost && !rpc_letting_go()) {
            GGML_ABORT("the RPC server %s was lost: it ended or can't be reached any more", endpoint.c_str());
        }
    }

private:
    std::atomic<bool> lost { false };
};

// A machine that vanished without a word is noticed within half a minute.
inline void rpc_keep_alive(int socket) {
#if !defined(_WIN32)
    const auto set = [socket](int level, int option, int value) { setsockopt(socket, level, option, &value, sizeof(value)); };
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
#    if defined(__linux__)
    set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set(IPPROTO_TCP, TCP_KEEPCNT, 4);
    set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30000);
#    endif
#endif
}

// Seconds that a read waits; 0 for no end.
inline void rpc_patience(int socket, int seconds) {
#if !defined(_WIN32)
    const timeval limit = { seconds, 0 };
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
#else
    (void) socket;
    (void) seconds;
#endif
}

} // namespace pl
