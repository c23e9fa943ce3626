package io.github.panamallama.runtime.natives;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_error;
import io.github.panamallama.runtime.LlamaException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Where a guarded native function puts what went wrong, {@code struct pl_error}. One per owner of a native object, reused for all its
 * calls; about 1 KB. Not safe for use by several threads at once.
 */
public final class NativeError {
    private final MemorySegment error = pl_error.allocate(Arena.ofAuto());

    /** To pass as the last argument of a {@code pl_} function, which resets it. */
    public MemorySegment segment() {
        return error;
    }

    /** Whether the last call failed. */
    public boolean failed() {
        return code() != 0;
    }

    /** 0, or one of {@code enum pl_code}. */
    public int code() {
        return pl_error.code(error);
    }

    /** Whether the last call ran out of memory. */
    public boolean outOfMemory() {
        return code() == LlamaH.PL_OUT_OF_MEMORY();
    }

    /** Whether the last call ended in a failed assertion: the objects it used may only be closed. */
    public boolean assertionFailed() {
        return code() == LlamaH.PL_ASSERTION();
    }

    /** The native side's reason, also for a code of upstream's own such as a bad batch; empty if the last call succeeded. */
    public String message() {
        return pl_error.message(error).getString(0);
    }

    /**
     * Throws if the last call failed.
     *
     * @param what what was tried, for the message: {@code "decode"}
     * @throws LlamaException with the native reason
     */
    public void check(String what) {
        if (failed()) {
            throw new LlamaException(what + " failed: " + message());
        }
    }
}
