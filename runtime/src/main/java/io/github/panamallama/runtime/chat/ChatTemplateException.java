package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.LlamaException;

/**
 * A chat template can't be parsed, refuses the conversation ({@code raise_exception}), or goes beyond the limits that keep templates from
 * unknown sources harmless.
 */
public final class ChatTemplateException extends LlamaException {
    private final int line;

    ChatTemplateException(String message, int line, Throwable cause) {
        super(line > 0 ? "chat template, line " + line + ": " + message : "chat template: " + message, cause);
        this.line = line;
    }

    ChatTemplateException(String message, int line) {
        this(message, line, null);
    }

    /** Line of the template, from 1; 0 where the fault has no place in it. */
    public int line() {
        return line;
    }
}
