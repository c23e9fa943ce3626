// Upstream's log as whole lines, to one sink.
#pragma once

#include "panama_llama.h"

namespace pl {

void log_line(ggml_log_level level, const char * line) noexcept;
void forget_logged() noexcept;

// While one lives, this thread's warnings are logged as information: for calls whose result code says what happened.
struct quiet {
    quiet() noexcept;
    ~quiet();
    quiet(const quiet &) = delete;
    quiet & operator=(const quiet &) = delete;
};

} // namespace pl
