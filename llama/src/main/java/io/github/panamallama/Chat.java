package io.github.panamallama;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.chat.ChatMessage;
import io.github.panamallama.runtime.chat.ChatTemplate;
import io.github.panamallama.runtime.chat.PromptOptions;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.grammar.Grammar;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/**
 * A conversation: its messages, and the evaluated tokens that the next turn builds on. When it outgrows the context, the oldest whole
 * turns (a user's message and all that answers it) are forgotten, and the reply says how many; the system message stays. The adapters it is
 * held under are those of its options until {@link #adapters(AdapterSet)} changes them. A plan of blocks is chosen by the first
 * prompt, and stays until {@link #reset}. Special tokens that a message spells out ({@code <|im_end|>}) are text to the model, but in
 * messages of the system and the developer. One thread at a time; closing a {@link Reply} may come from any thread.
 */
public final class Chat implements AutoCloseable {
    private static final String EVALUATED = ".kv";

    private final Dialogue dialogue;
    private final Types types;
    private final ChatOptions options;
    private final ChatTemplate template;
    private final PromptOptions prompting;
    private final Spellings spellings;
    private List<ChatMessage> history = new ArrayList<>();
    private Reply current;
    private int forgotten;

    /** @param options with a template and with generation options */
    Chat(Dialogue dialogue, Types types, ChatOptions options) {
        this.dialogue = dialogue;
        this.types = types;
        this.options = options;
        template = options.template();
        spellings = new Spellings(dialogue.specialSpellings());
        prompting = PromptOptions.defaults().withTools(options.tools()).withThinking(options.reasoning());
        reset();
    }

    /** Says something; the reply is read like a {@link Completion}. A reply that is still coming is closed first. */
    public Reply send(String text) {
        return send(ChatMessage.user(text));
    }

    /**
     * Adds messages, for instance the results of tools, and asks for a reply. A reply that is still coming is closed first.
     *
     * @throws ContextFullException if the messages alone leave no room for an answer; the conversation is as before then
     */
    public Reply send(ChatMessage... messages) {
        if (messages.length == 0) {
            throw new IllegalArgumentException("no message to send");
        }
        return send(Arrays.asList(messages), options.generation(), prompting);
    }

    /** Says something that is answered by a text of the grammar, whatever the options of the conversation say. */
    public Reply send(String text, Grammar grammar) {
        return send(List.of(ChatMessage.user(text)), options.generation().withGrammar(grammar), prompting.withThinking(false));
    }

    /**
     * Asks for a value: the answer is JSON that fits the type.
     *
     * @param type a record, class, enumeration or simple type
     * @throws IllegalArgumentException if the type has no JSON schema
     * @throws IncompleteException      if the answer was cut before it was whole; the conversation keeps what came
     */
    public <T> T send(String text, Class<T> type) {
        var typed = types.of(type);
        return typed.read(send(text, typed.grammar()).wholeText());
    }

    private Reply send(List<ChatMessage> messages, GenerationOptions generating, PromptOptions prompting) {
        settle();
        var before = List.copyOf(history);
        var next = new ArrayList<>(history);
        next.addAll(messages);
        int room = generating.promptRoom(dialogue.contextSize());
        int dropped = 0;
        var prompt = template.render(spellings.mark(next), prompting);
        var tokens = dialogue.tokens(prompt.text());
        while (tokens.length > room) {
            if (!dropOldestTurn(next)) {
                throw new ContextFullException("the message and what must stay with it have " + tokens.length + " tokens; a context of "
                        + dialogue.contextSize() + " has room for " + room
                                + " beside an answer: shorten it, or raise EngineOptions.contextSize");
            }
            dropped++;
            prompt = template.render(spellings.mark(next), prompting);
            tokens = dialogue.tokens(prompt.text());
        }
        if (generating.grammar() != null && generating.grammar().triggers().isEmpty() && prompt.opensReasoning()) {
            throw new LlamaException("the template begins the answer with reasoning, which is no text of the grammar; use a lazy grammar, "
                    + "or another template (ChatOptions.withTemplate)");
        }
        var stops = Stream.concat(generating.stop().stream(), prompt.stopStrings().stream()).distinct().toList();
        var generation = dialogue.answer(tokens, generating.withStop(stops));
        history = next;
        forgotten += dropped;
        current = new Reply(generation, prompt.parser(), dropped, answer -> {
            if (answer.content().isBlank() && answer.reasoning().isBlank() && answer.toolCalls().isEmpty()) {
                history = new ArrayList<>(before);      // nothing was said: as if nothing had been asked
            } else {
                history.add(answer);
            }
        });
        return current;
    }

    /** Ends a reply that is still coming, so that what it said is in the history. */
    private void settle() {
        if (current != null) {
            current.close();
            current.finish();
            current = null;
        }
    }

    /** Removes the first user's message and what follows up to the next; false if there is no next. */
    private static boolean dropOldestTurn(List<ChatMessage> messages) {
        int first = indexOfUser(messages, 0);
        int second = first < 0 ? -1 : indexOfUser(messages, first + 1);
        if (second < 0) {
            return false;
        }
        messages.subList(first, second).clear();
        return true;
    }

    private static int indexOfUser(List<ChatMessage> messages, int from) {
        for (int i = from; i < messages.size(); i++) {
            if (messages.get(i).role().equals("user")) {
                return i;
            }
        }
        return -1;
    }

    /**
     * Writes the conversation to a file: its messages as JSON, and beside it, in a file of the same name and {@value #EVALUATED}, the
     * tokens that are evaluated of it, so that {@link #load} need not evaluate them again. That one may be deleted, and is not written
     * where evaluated tokens can't be saved. A reply that is still coming is closed first.
     *
     * @throws LlamaException if a file can't be written
     */
    public void save(Path file) {
        settle();
        var evaluated = evaluated(file);
        try {
            SavedChat.of(history, forgotten).write(file);
            try {
                dialogue.save(evaluated);
            } catch (StateException e) {
                Files.deleteIfExists(evaluated); // of another conversation
            }
        } catch (IOException e) {
            throw new LlamaException("can't write the conversation to " + file + ": " + LlamaException.reason(e), e);
        }
    }

    /**
     * Goes on with a conversation that {@link #save} wrote, of any model; what was said here is forgotten. A reply that is still coming is
     * closed first.
     *
     * @return what need not be evaluated again
     * @throws LlamaException if the file can't be read or holds no conversation; this one is as before then
     */
    public Loaded load(Path file) {
        var saved = SavedChat.read(file);
        settle();
        history = new ArrayList<>(saved.messages());
        forgotten = saved.forgotten();
        dialogue.clear();
        var evaluated = evaluated(file);
        if (!Files.exists(evaluated)) {
            return new Loaded(0, "there is no " + evaluated);
        }
        try {
            dialogue.restore(evaluated);
            return new Loaded(dialogue.length(), null);
        } catch (StateException | ContextFullException e) {
            return new Loaded(0, e.getMessage());
        }
    }

    /**
     * What {@link #load} has found beside the messages.
     *
     * @param tokens that need not be evaluated again
     * @param reason why all of them will be with the next message; null where they need not
     */
    public record Loaded(int tokens, String reason) {
    }

    private static Path evaluated(Path file) {
        return file.resolveSibling(file.getFileName() + EVALUATED);
    }

    /** What the conversation is held under. */
    public AdapterSet adapters() {
        return dialogue.adapters();
    }

    /**
     * Goes on under other adapters. The messages stay, and the next reply is the one that this set gives to all of them: what it evaluates
     * otherwise than the set before is forgotten and evaluated again with the next message, so that every switch costs the time of a prompt
     * as long as the conversation. Only an activated adapter (aLoRA) leaves what stands before its tokens. A reply that is still coming is
     * closed first; nothing happens if the set is the present one.
     *
     * @throws io.github.panamallama.runtime.AdapterException if an adapter can't be applied to this model
     * @throws io.github.panamallama.runtime.ClosedException  if an adapter is closed
     * @throws IllegalArgumentException                       if an adapter belongs to another model; as before, the conversation is
     *                                                        unchanged
     */
    public void adapters(AdapterSet adapters) {
        settle();
        dialogue.adapters(adapters);
    }

    /** The messages so far, without forgotten ones and without a reply that is still coming. */
    public List<ChatMessage> history() {
        if (current != null && current.ended()) {
            settle();
        }
        return List.copyOf(history);
    }

    /** The user's messages that are not forgotten. */
    public int turns() {
        return (int) history().stream().filter(message -> message.role().equals("user")).count();
    }

    /** Turns that went because the context was full. */
    public int forgottenTurns() {
        return forgotten;
    }

    /** Tokens evaluated and kept for the next turn. */
    public int length() {
        return dialogue.length();
    }

    /** Tokens that the context holds. */
    public int contextSize() {
        return dialogue.contextSize();
    }

    /** Forgets everything but the system message. */
    public void reset() {
        settle();
        history = new ArrayList<>();
        if (options.system() != null) {
            history.add(ChatMessage.system(options.system()));
        }
        dialogue.clear();
        forgotten = 0;
    }

    /** Frees what the conversation holds in the context. */
    @Override
    public void close() {
        settle();
        dialogue.close();
    }
}
