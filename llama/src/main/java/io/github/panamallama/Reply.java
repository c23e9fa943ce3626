package io.github.panamallama;

import io.github.panamallama.runtime.chat.ChatMessage;
import io.github.panamallama.runtime.chat.ReplyDelta;
import io.github.panamallama.runtime.chat.ReplyParser;
import io.github.panamallama.sampling.FinishReason;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Consumer;

/**
 * What a model answers, as it comes: pieces of text, or with {@link #forEachPart} its reasoning too. Rules as for {@link Completion}: the
 * reader does the work, once; {@link #close} may come from any thread. When it ends, what was said so far joins the conversation.
 */
public final class Reply implements Iterable<String>, AutoCloseable {
    /** What a piece belongs to. */
    public enum Kind {
        /** What the user is told. */
        TEXT,
        /** What the model thinks before it answers. */
        REASONING
    }

    /** A piece of the answer, never empty. */
    public record Part(Kind kind, String text) {
    }

    private final Generation generation;
    private final ReplyParser parser;
    private final int droppedTurns;
    /** Gets the message at the end. */
    private final Consumer<ChatMessage> whenDone;
    private final ArrayDeque<Part> ready = new ArrayDeque<>();
    private final Iterator<String> pieces = new Pieces();
    private ChatMessage message;

    Reply(Generation generation, ReplyParser parser, int droppedTurns, Consumer<ChatMessage> whenDone) {
        this.generation = generation;
        this.parser = parser;
        this.droppedTurns = droppedTurns;
        this.whenDone = whenDone;
    }

    /** The next part, or null at the end. */
    private Part next() {
        while (ready.isEmpty() && message == null) {
            advance();
        }
        return ready.poll();
    }

    private void advance() {
        var text = generation.next();
        if (text == null) {
            finish();
        } else {
            add(parser.push(text));
        }
    }

    private void add(ReplyDelta delta) {
        if (!delta.reasoning().isEmpty()) {
            ready.add(new Part(Kind.REASONING, delta.reasoning()));
        }
        if (!delta.content().isEmpty()) {
            ready.add(new Part(Kind.TEXT, delta.content()));
        }
    }

    /** Makes the message of what has come. The reader does it at the end; the chat, before it goes on after a reply that was closed. */
    void finish() {
        if (message == null) {
            add(parser.end());
            message = ChatMessage.assistant(parser.reply());
            whenDone.accept(message);
        }
    }

    /** The pieces of text still to come; reasoning that comes between is left out. */
    @Override
    public Iterator<String> iterator() {
        return pieces;
    }

    /** Reads to the end: text and reasoning in the order in which the model writes them. */
    public void forEachPart(Consumer<Part> action) {
        for (Part part; (part = next()) != null; ) {
            action.accept(part);
        }
    }

    /** Reads to the end: all of the text, whatever of it has been read before. */
    public String text() {
        return message().content();
    }

    /** Reads to the end: the whole message, with its reasoning and the tools it calls. */
    public ChatMessage message() {
        while (message == null) {
            advance();
        }
        return message;
    }

    /**
     * Why it ended.
     *
     * @throws IllegalStateException while it goes on
     */
    public FinishReason finishReason() {
        if (generation.reason() == null) {
            throw new IllegalStateException("the reply isn't finished; read it to the end or close it first");
        }
        return generation.reason();
    }

    /** Whether there is nothing more to come. */
    boolean ended() {
        return generation.reason() != null;
    }

    /** Reads to the end: the text as the grammar allowed it, before it is taken apart. Throws if it was cut. */
    String wholeText() {
        message();
        generation.requireWhole();
        return generation.text();
    }

    /** What it has taken so far. */
    public Completion.Stats stats() {
        return generation.stats();
    }

    /** Turns that were forgotten to make room for this one. */
    public int droppedTurns() {
        return droppedTurns;
    }

    /** Stops; what was said so far stays part of the conversation. Does nothing after the end. */
    @Override
    public void close() {
        generation.cancel();
    }

    private final class Pieces implements Iterator<String> {
        private String next;

        @Override
        public boolean hasNext() {
            while (next == null) {
                var part = Reply.this.next();
                if (part == null) {
                    return false;
                }
                next = part.kind() == Kind.TEXT ? part.text() : null;
            }
            return true;
        }

        @Override
        public String next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the reply has ended");
            }
            var piece = next;
            next = null;
            return piece;
        }
    }
}
