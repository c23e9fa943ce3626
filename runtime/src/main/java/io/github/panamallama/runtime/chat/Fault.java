package io.github.panamallama.runtime.chat;

import com.hubspot.jinjava.interpret.InterpretException;

/** What stops a template: an {@link InterpretException}, because jinjava passes only those through its nodes unwrapped. */
class Fault extends InterpretException {
    private static final long serialVersionUID = 1L;
    private int line;

    Fault(String message) {
        this(message, 0);
    }

    Fault(String message, int line) {
        super(message);
        this.line = line;
    }

    int line() {
        return line;
    }

    /** The innermost known line wins. */
    Fault at(int line) {
        if (this.line == 0) {
            this.line = line;
        }
        return this;
    }
}
