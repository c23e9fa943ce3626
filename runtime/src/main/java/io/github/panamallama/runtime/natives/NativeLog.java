package io.github.panamallama.runtime.natives;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_log_sink;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Sends llama.cpp's log to the logger {@value #NAME}. The native side joins the pieces to lines and drops what is below the level
 * that the logger had when the libraries were loaded, so that only lines somebody reads cross over: an upcall per line, at once and
 * in order, which a buffer drained by Java could not promise for a process that is about to die.
 */
final class NativeLog {
    static final String NAME = "panamallama.native";

    private static final System.Logger LOGGER = System.getLogger(NAME);

    private NativeLog() {}

    static void install() {
        var sink = pl_log_sink.allocate(NativeLog::line, Arena.global());
        LlamaH.pl_log_set(sink, MemorySegment.NULL, threshold());
    }

    /** The lowest native level that the logger takes. */
    private static int threshold() {
        for (int level = LlamaH.GGML_LOG_LEVEL_DEBUG(); level < LlamaH.GGML_LOG_LEVEL_ERROR(); level++) {
            if (LOGGER.isLoggable(level(level))) {
                return level;
            }
        }
        return LlamaH.GGML_LOG_LEVEL_ERROR();
    }

    private static void line(int level, MemorySegment text, MemorySegment userData) {
        try {
            LOGGER.log(level(level), text.getString(0));
        } catch (Throwable e) {
            // Nothing may leave an upcall: it would end the process. A log line is what we can afford to lose.
        }
    }

    /** Upstream's "info" is what a developer of llama.cpp wants to see: hundreds of lines per model. */
    static Level level(int nativeLevel) {
        return switch (nativeLevel) {
            case 1 -> Level.TRACE;
            case 2 -> Level.DEBUG;
            case 3 -> Level.WARNING;
            case 4 -> Level.ERROR;
            default -> Level.DEBUG;
        };
    }
}
