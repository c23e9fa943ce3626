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

    /** One stub for the whole process: native threads may still be in it when the logger changes. */
    private static final MemorySegment SINK = pl_log_sink.allocate(NativeLog::line, Arena.global());

    private static volatile System.Logger logger;

    private NativeLog() {}

    static void install(System.Logger logger) {
        NativeLog.logger = logger;
        LlamaH.pl_log_set(SINK, MemorySegment.NULL, threshold(logger));
    }

    /** The lowest native level that the logger takes. */
    private static int threshold(System.Logger logger) {
        for (int level = LlamaH.GGML_LOG_LEVEL_DEBUG(); level < LlamaH.GGML_LOG_LEVEL_ERROR(); level++) {
            if (logger.isLoggable(level(level))) {
                return level;
            }
        }
        return LlamaH.GGML_LOG_LEVEL_ERROR();
    }

    private static void line(int level, MemorySegment text, MemorySegment userData) {
        try {
            logger.log(level(level), text.getString(0));
        } catch (Throwable e) {
            // Nothing may leave an upcall: it would end the process. A log line is what we can afford to lose.
        }
    }

    /**
     * Upstream's "info" is what a developer of llama.cpp wants to see: hundreds of lines per model. Errors inside a guarded call come
     * as info too, because an exception carries them.
     */
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
