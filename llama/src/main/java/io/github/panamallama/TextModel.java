package io.github.panamallama;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.TextEmbedder;
import io.github.panamallama.runtime.TextReranker;
import io.github.panamallama.runtime.chat.ChatTemplate;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.grammar.Grammar;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;

/**
 * What can be asked of a model, whether it is loaded in this process ({@link Llama}) or in a worker ({@link IsolatedLlama}). Model and
 * engine can't be had through it, because a worker's are not here.
 *
 * <p>Any number of threads may use it at once; what they ask for is decoded together in one batch. A {@link Completion} or
 * {@link Chat} that it gives away is for one thread at a time.
 */
public abstract sealed class TextModel implements AutoCloseable permits Llama, IsolatedLlama {
    private final GenerationOptions generation;
    private final Types types = new Types();

    TextModel(GenerationOptions generation) {
        this.generation = generation;
    }

    /** What holds for every generation that brings no options of its own. */
    public final GenerationOptions generation() {
        return generation;
    }

    /** Continues a text. Nothing is evaluated before the result is read. */
    public final Completion complete(String prompt) {
        return complete(prompt, generation);
    }

    /**
     * Continues a text.
     *
     * @throws ContextFullException     if the prompt leaves no room in the context and may not be truncated
     * @throws IllegalArgumentException if the prompt is empty and the model has no token that begins a text
     */
    public abstract Completion complete(String prompt, GenerationOptions options);

    /**
     * Continues a prompt with JSON and gives the value that it stands for: the type's JSON Schema becomes a grammar, which every token
     * is held to. Properties come in the type's order.
     *
     * <pre>{@code
     * record City(String name, int population) {}
     * City city = llama.generate("The capital of France: ", City.class);
     * }</pre>
     *
     * @param type a record, class, enumeration or simple type; see
     *             {@link io.github.panamallama.sampling.grammar.JsonType}
     * @throws IllegalArgumentException if the type has no JSON schema; the message names the part at fault
     * @throws io.github.panamallama.sampling.ConstraintException if not even the shortest value fits {@link GenerationOptions#maxTokens}
     * @throws IncompleteException      if other generations filled the context before the value was whole
     */
    public final <T> T generate(String prompt, Class<T> type) {
        return generate(prompt, type, generation);
    }

    /** As {@link #generate(String, Class)}. A grammar of the options is replaced. */
    public final <T> T generate(String prompt, Class<T> type, GenerationOptions options) {
        var typed = types.of(type);
        return typed.read(generate(prompt, typed.grammar(), options));
    }

    /** Continues a prompt with a whole text of a grammar. */
    public final String generate(String prompt, Grammar grammar) {
        return generate(prompt, grammar, generation);
    }

    /**
     * Continues a prompt with a whole text of a grammar: when the tokens run out, the text is led to an end in time.
     *
     * @throws io.github.panamallama.sampling.ConstraintException if not even a short text fits {@link GenerationOptions#maxTokens}
     * @throws IncompleteException if the text ended early all the same: at a stop text, or because other generations filled the context
     */
    public final String generate(String prompt, Grammar grammar, GenerationOptions options) {
        try (var completion = complete(prompt, options.withGrammar(Objects.requireNonNull(grammar, "grammar")))) {
            return completion.wholeText();
        }
    }

    /** Whether the model has the tokens for {@link #infill}. */
    public abstract boolean canInfill();

    /** Writes what could stand between two texts. */
    public final Completion infill(String prefix, String suffix) {
        return infill(prefix, suffix, generation);
    }

    /**
     * Writes what could stand between two texts. What of them doesn't fit the context is left out, from the far ends.
     *
     * @throws LlamaException if the model has no tokens for this; {@link #canInfill} tells before
     */
    public abstract Completion infill(String prefix, String suffix, GenerationOptions options);

    /** A new conversation. */
    public final Chat chat() {
        return chat(ChatOptions.defaults());
    }

    /** A new conversation that begins with a system message. */
    public final Chat chat(String system) {
        return chat(ChatOptions.defaults().withSystem(system));
    }

    /**
     * A new conversation, in the model's own chat template unless the options bring one.
     *
     * @throws io.github.panamallama.runtime.chat.ChatTemplateException if the template can't be parsed
     */
    public final Chat chat(ChatOptions options) {
        var generating = options.generation() == null ? generation : options.generation();
        var template = options.template() == null ? template() : options.template();
        return new Chat(dialogue(generating.adapters()), types, options.withGeneration(generating).withTemplate(template));
    }

    /**
     * A LoRA adapter for this model, to be used in an {@link AdapterSet}. The same path gives the same
     * adapter, as it was when it was loaded first, until it is closed. It is closed with this, at the latest.
     *
     * <pre>{@code
     * var style = AdapterSet.of(llama.adapter(Path.of("house-style.gguf")));
     * llama.complete(text, GenerationOptions.defaults().withAdapters(style)).forEach(System.out::print);
     * }</pre>
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file is missing, can't be read or breaks the format
     * @throws io.github.panamallama.runtime.AdapterException   if it is no adapter for this model
     */
    public abstract Adapter adapter(Path path);

    /** The adapters that {@link #adapter} has loaded and nobody has closed. */
    public abstract List<Adapter> adapters();

    /**
     * Vectors of texts, by this model; what makes one of a text's tokens has to be chosen where the model is none for that. A model that
     * only encodes can't be loaded as a {@code Llama}: {@link Embedder#load} and {@link Llama#isolatedEmbedder} load those.
     *
     * @return to be closed before this
     * @throws io.github.panamallama.runtime.EmbeddingException if this model can't do that
     */
    public abstract TextEmbedder embedder(EmbedderOptions options);

    /**
     * Scores of documents as answers to a query, by this model's head for that. {@link Reranker#load} and
     * {@link Llama#isolatedReranker} load models that do nothing else.
     *
     * @return to be closed before this
     * @throws io.github.panamallama.runtime.EmbeddingException if this model can't do that
     */
    public abstract TextReranker reranker(EmbedderOptions options);

    /** The model's own chat template. */
    abstract ChatTemplate template();

    /** The tokens of a new conversation. */
    abstract Dialogue dialogue(AdapterSet adapters);

    @Override
    public abstract void close();
}
