// Upstream logs in pieces, from several threads; the sink gets whole lines, and a failed guard gets the reasons that were logged.
#include "log.hpp"

#include "guard.hpp"

#include <atomic>
#include <mutex>
#include <string>

namespace pl {

namespace {

std::mutex        sink_lock;
pl_log_sink       sink      = nullptr;
void *            sink_data = nullptr;
std::atomic<int>  threshold { GGML_LOG_LEVEL_NONE };

// Enough for the message of a pl_error, which cuts the rest.
constexpr size_t max_reasons = 1000;

struct line_state {
    std::string    text;
    ggml_log_level level = GGML_LOG_LEVEL_INFO;
    std::string    reasons;
    bool           allocation_failed = false;
};
thread_local line_state line;
thread_local int        quiet_depth = 0;

void finish_line() {
    if (line.level >= GGML_LOG_LEVEL_WARN && guarded::here() && line.reasons.size() + line.text.size() < max_reasons) {
        if (!line.reasons.empty()) {
            line.reasons += "; ";
        }
        line.reasons += line.text;
    }
    // ggml-alloc.c, of every buffer: "failed to allocate CUDA0 buffer of size 4096"
    if (line.level == GGML_LOG_LEVEL_ERROR && line.text.find("failed to allocate ") != std::string::npos &&
        line.text.find(" buffer of size ") != std::string::npos) {
        line.allocation_failed = true;
    }
    // What an exception will say needs no second telling; what a caller's code expects needs none at all.
    const bool told = guarded::here() && (line.level == GGML_LOG_LEVEL_ERROR || (line.level == GGML_LOG_LEVEL_WARN && quiet_depth > 0));
    log_line(told ? GGML_LOG_LEVEL_INFO : line.level, line.text.c_str());
    line.text.clear();
}

void on_log(ggml_log_level level, const char * text, void *) {
    try {
        if (level != GGML_LOG_LEVEL_CONT) {
            if (!line.text.empty()) {
                finish_line();
            }
            line.level = level;
        }
        for (const char * c = text; *c != '\0'; c++) {
            if (*c == '\n') {
                finish_line();
            } else {
                line.text += *c;
            }
        }
    } catch (...) {
        // No memory for a log line: the line is lost, upstream's C frames must not see an exception.
    }
}

} // namespace

quiet::quiet() noexcept { quiet_depth++; }
quiet::~quiet() { quiet_depth--; }

void log_line(ggml_log_level level, const char * text) noexcept {
    if (level < threshold.load(std::memory_order_relaxed)) {
        return;
    }
    pl_log_sink to;
    void *      data;
    {
        std::lock_guard<std::mutex> held(sink_lock);
        to   = sink;
        data = sink_data;
    }
    // Outside of the lock: what listens may take its time.
    if (to != nullptr) {
        to(level, text, data);
    }
}

void forget_logged() noexcept {
    line.reasons.clear();
    line.allocation_failed = false;
}

const std::string & logged() noexcept {
    return line.reasons;
}

bool allocation_failed() noexcept {
    return line.allocation_failed;
}

} // namespace pl

extern "C" void pl_log_set(pl_log_sink sink, void * user_data, int32_t min_level) {
    {
        std::lock_guard<std::mutex> held(pl::sink_lock);
        pl::sink      = sink;
        pl::sink_data = user_data;
    }
    pl::threshold.store(min_level);
    llama_log_set(pl::on_log, nullptr);
}
