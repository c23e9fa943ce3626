package io.github.panamallama.runtime.chat;

import java.util.List;

/** A prompt, and what its answer is to be read with. Immutable. */
public final class RenderedPrompt {
    private final String text;
    private final ReplyFormat format;
    private final List<Tool> tools;
    private final boolean startsWithBos;

    RenderedPrompt(String text, ReplyFormat format, List<Tool> tools, String bos) {
        this.text = text;
        startsWithBos = !bos.isEmpty() && text.startsWith(bos);
        this.format = format;
        this.tools = tools;
    }

    /**
     * The prompt; it holds the template's special tokens as text: tokenise it with special tokens parsed, and with special tokens added
     * only where {@link #startsWithBos()} is false.
     */
    public String text() {
        return text;
    }

    /** Whether the template itself wrote the beginning-of-sequence token, so that the vocabulary must not add another. */
    public boolean startsWithBos() {
        return startsWithBos;
    }

    /** Texts that end the assistant's turn, where the vocabulary's end-of-generation tokens do not. */
    public List<String> stopStrings() {
        return format.turnEnd().isEmpty() ? List.of() : List.of(format.turnEnd());
    }

    /** Whether the prompt ends within the reasoning, so that the answer begins with it. */
    public boolean opensReasoning() {
        return !format.reasoningStart().isEmpty() && text.stripTrailing().endsWith(format.reasoningStart());
    }

    /** A parser for one answer to this prompt. */
    public ReplyParser parser() {
        return new ReplyParser(format, tools, text);
    }

    /** Takes a whole answer apart. */
    public ParsedReply parse(String answer) {
        var parser = parser();
        parser.push(answer);
        parser.end();
        return parser.reply();
    }

    @Override
    public String toString() {
        return text;
    }
}
