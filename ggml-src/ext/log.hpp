// Upstream's log as whole lines, to one sink.
#pragma once

#include "panama_llama.h"

namespace pl {

void log_line(ggml_log_level level, const char * line) noexcept;
void forget_logged() noexcept;

} // namespace pl
