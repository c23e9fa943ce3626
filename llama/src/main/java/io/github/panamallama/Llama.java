package io.github.panamallama;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterInUseException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Embedder;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.Reranker;
import io.github.panamallama.runtime.TextEmbedder;
import io.github.panamallama.runtime.TextReranker;
import io.github.panamallama.runtime.chat.ChatTemplate;
import io.github.panamallama.sampling.asap.Asap;
import io.github.panamallama.sampling.asap.AsapOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A model that is loaded and ready: the place to start.
 *
 * <pre>{@code
 * try (Llama llama = Llama.load(Path.of("model.gguf"))) {
 *     llama.complete("public static int max(").forEach(System.out::print);
 * }
 * }</pre>
 *
 * <p>Any number of threads may use it at once; what they ask for is decoded together in one batch. A {@link Completion} or
 * {@link Chat} that it gives away is for one thread at a time.
 */
public final class Llama extends TextModel {
    /** Of the room for a fill-in prompt, the part that goes to the text before the place when both sides are too long. */
    private static final double PREFIX_SHARE = 0.75;

    /** Characters per token, more than any vocabulary reaches on average: beyond that a text need not be tokenised to be cut. */
    private static final int CHARACTERS_PER_TOKEN = 32;

    private final Model model;
    private final Engine engine;
    private final Map<Path, Adapter> adapters = new LinkedHashMap<>();

    private Llama(Model model, Engine engine, GenerationOptions generation) {
        super(generation);
        this.model = model;
        this.engine = engine;
    }

    /** Loads a GGUF file (of a split model, its first part) with the usual options. */
    public static Llama load(Path path) {
        return load(path, LlamaOptions.defaults());
    }

    /**
     * Loads a GGUF file.
     *
     * @throws io.github.panamallama.runtime.ModelLoadException          if the file is missing, damaged or not supported
     * @throws io.github.panamallama.runtime.InsufficientMemoryException if model and context don't fit the memory of this machine
     */
    public static Llama load(Path path, LlamaOptions options) {
        var how = options.model();
        var model = Model.load(path, how.roomFor() == null ? how.withRoomFor(options.engine()) : how);
        try {
            var control = options.control() == null ? null : options.control().apply(model);
            return new Llama(model, Engine.open(model, options.engine(), control), options.generation());
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    /**
     * Loads a GGUF file in a JVM of its own, with the usual options: whatever ends that one leaves this one alone.
     *
     * @see IsolatedLlama
     */
    public static IsolatedLlama isolated(Path path) {
        return isolated(path, LlamaOptions.defaults(), IsolationOptions.defaults());
    }

    /**
     * Loads a GGUF file in a JVM of its own.
     *
     * @throws WorkerDiedException      if that JVM ends before the model is loaded, or takes longer than
     *                                  {@link IsolationOptions#startDeadline}
     * @throws LlamaException           as {@link #load(Path, LlamaOptions)}
     * @throws IsolationException       if the options hold something that can't be sent to another process
     */
    public static IsolatedLlama isolated(Path path, LlamaOptions options, IsolationOptions isolation) {
        return IsolatedLlama.start(path, options, isolation);
    }

    /**
     * Loads an embedding model in a JVM of its own, one that only encodes too, with all that {@link IsolatedLlama} says of deaths; it ends
     * with the embedder.
     *
     * @throws WorkerDiedException as {@link #isolated(Path, LlamaOptions, IsolationOptions)}
     * @throws LlamaException      as {@link Embedder#load(Path, EmbedderOptions)}
     */
    public static TextEmbedder isolatedEmbedder(Path path, EmbedderOptions options, IsolationOptions isolation) {
        return new RemoteEmbedder(IsolatedLlama.startVectors(path, isolation), options, true);
    }

    /**
     * Loads a model that ranks in a JVM of its own, with all that {@link IsolatedLlama} says of deaths; it ends with the reranker.
     *
     * @throws WorkerDiedException as {@link #isolated(Path, LlamaOptions, IsolationOptions)}
     * @throws LlamaException      as {@link Reranker#load(Path, EmbedderOptions)}
     */
    public static TextReranker isolatedReranker(Path path, EmbedderOptions options, IsolationOptions isolation) {
        return new RemoteReranker(IsolatedLlama.startVectors(path, isolation), options, true);
    }

    /** Loads the shipped model in a JVM of its own, with the usual options. */
    public static IsolatedLlama isolatedDefault() {
        return isolatedDefault(LlamaOptions.defaults(), IsolationOptions.defaults());
    }

    /** Loads the shipped model in a JVM of its own. */
    public static IsolatedLlama isolatedDefault(LlamaOptions options, IsolationOptions isolation) {
        return isolated(DefaultModel.path(), options, isolation);
    }

    /** Loads the small Java model that is shipped with panama-llama, for trying things out. */
    public static Llama loadDefault() {
        return loadDefault(LlamaOptions.defaults());
    }

    /** Loads the shipped model. */
    public static Llama loadDefault(LlamaOptions options) {
        return load(DefaultModel.path(), options);
    }

    @Override
    public Completion complete(String prompt, GenerationOptions options) {
        var tokens = promptTokens(prompt, options);
        return completion(tokens.tokens, tokens.cut, options);
    }

    private record Prompt(int[] tokens, boolean cut) {
    }

    private Prompt promptTokens(String prompt, GenerationOptions options) {
        int room = options.promptRoom(engine.contextSize());
        boolean cut = options.truncation() && prompt.length() > (long) room * CHARACTERS_PER_TOKEN;
        var tokens = model.vocabulary().tokenize(cut ? tail(prompt, room * CHARACTERS_PER_TOKEN) : prompt, true, false);
        if (tokens.length == 0) {
            if (model.vocabulary().bos() < 0) {
                throw new IllegalArgumentException("the prompt is empty, and this model has no token that begins a text; give it a word to go on");
            }
            tokens = new int[] {model.vocabulary().bos()};
        }
        if (tokens.length > room && options.truncation()) {
            // the token that begins every text stays
            int keep = model.vocabulary().addsBos() && !cut ? 1 : 0;
            var shorter = Arrays.copyOfRange(tokens, tokens.length - room, tokens.length);
            if (keep == 1) {
                shorter[0] = tokens[0];
            }
            tokens = shorter;
            cut = true;
        }
        return new Prompt(tokens, cut);
    }

    /** Texts of a grammar after a prompt, drawn with the probabilities that the model gives them. */
    public Asap aligned(String prompt, Grammar grammar) {
        return aligned(prompt, grammar, generation(), 1);
    }

    /**
     * Texts of a grammar after a prompt, drawn with the probabilities that the model gives them among all such texts: the sampler learns
     * from draw to draw, and each draw comes with its weight. Of the options, the limit of tokens, temperature (0 stands for 1), seed,
     * biases and adapters count; nothing truncates the distribution. The language is that of the texts which keep a way to their end within
     * the limit.
     *
     * @param parallel texts drawn at the same time in one batch; needs one more of {@code EngineOptions.maxSequences}
     * @return to be closed: it keeps the prompt in the context
     * @throws IllegalArgumentException if prompt and texts do not fit the context
     */
    public Asap aligned(String prompt, Grammar grammar, GenerationOptions options, int parallel) {
        if (options.plans() != null) {
            throw new IllegalArgumentException("aligned texts are drawn from the whole model; leave the layer plan out");
        }
        var tokens = promptTokens(prompt, options);
        int room = engine.contextSize() - tokens.tokens.length;
        int most = options.maxTokens() == 0 ? room : Math.min(room, options.maxTokens());
        if (most < 1) {
            throw full(tokens.tokens.length);
        }
        var sampling = options.sampling();
        var drawing = AsapOptions.defaults().withMaxTokens(most).withParallel(parallel).withLogitBias(sampling.logitBias())
                .withTemperature(sampling.temperature() == 0 ? 1 : sampling.temperature())
                .withSeed(sampling.seed().orElseGet(() -> ThreadLocalRandom.current().nextLong()))
                .withAdapters(options.adapters());
        var constraint = grammar.constraint(model.vocabulary()).within(most);
        return Asap.open(engine, tokens.tokens, constraint, grammar.source(), drawing);
    }

    @Override
    public boolean canInfill() {
        var vocabulary = model.vocabulary();
        return vocabulary.fimPrefix() >= 0 && vocabulary.fimSuffix() >= 0 && vocabulary.fimMiddle() >= 0;
    }

    @Override
    public Completion infill(String prefix, String suffix, GenerationOptions options) {
        var vocabulary = model.vocabulary();
        if (!canInfill()) {
            throw new LlamaException(model.path() + " (" + model.description() + ") has no fill-in-the-middle tokens; use complete");
        }
        boolean bos = vocabulary.addsBos() && vocabulary.bos() >= 0;
        int room = options.promptRoom(engine.contextSize()) - (bos ? 4 : 3);
        if (room < 2) {
            throw new ContextFullException("a context of " + engine.contextSize()
                    + " tokens is too small to fill in; raise EngineOptions.contextSize");
        }
        int most = room * CHARACTERS_PER_TOKEN;
        var before = vocabulary.tokenize(tail(prefix, most), false, false);
        var after = vocabulary.tokenize(head(suffix, most), false, false);
        int keepBefore = Math.min(before.length, Math.max((int) (room * PREFIX_SHARE), room - after.length));
        int keepAfter = Math.min(after.length, room - keepBefore);
        boolean cut = keepBefore < before.length || keepAfter < after.length || prefix.length() > most || suffix.length() > most;

        // the order prefix, suffix, middle, which llama.cpp's server uses as well
        var tokens = new int[(bos ? 4 : 3) + keepBefore + keepAfter];
        int at = 0;
        if (bos) {
            tokens[at++] = vocabulary.bos();
        }
        tokens[at++] = vocabulary.fimPrefix();
        System.arraycopy(before, before.length - keepBefore, tokens, at, keepBefore);
        at += keepBefore;
        tokens[at++] = vocabulary.fimSuffix();
        System.arraycopy(after, 0, tokens, at, keepAfter);
        at += keepAfter;
        tokens[at] = vocabulary.fimMiddle();
        return completion(tokens, cut, options);
    }

    @Override
    ChatTemplate template() {
        requireTalker();
        return ChatTemplate.of(model);
    }

    @Override
    Dialogue dialogue(AdapterSet adapters) {
        requireTalker();
        return new LocalDialogue(engine, adapters);
    }

    @Override
    public Adapter adapter(Path path) {
        synchronized (adapters) {
            var key = path.toAbsolutePath().normalize();
            var known = adapters.get(key);
            if (known != null && !known.closed()) {
                return known;
            }
            var loaded = Adapter.load(model, path);
            adapters.put(key, loaded);
            return loaded;
        }
    }

    @Override
    public List<Adapter> adapters() {
        synchronized (adapters) {
            return adapters.values().stream().filter(adapter -> !adapter.closed()).toList();
        }
    }

    @Override
    public Embedder embedder(EmbedderOptions options) {
        return Embedder.open(model, options);
    }

    @Override
    public Reranker reranker(EmbedderOptions options) {
        return Reranker.open(model, options);
    }

    /** A model that was trained to rank writes words without sense. */
    private void requireWriter() {
        if (Pooling.of(model) == Pooling.RANK) {
            throw new LlamaException(model.path() + " (" + model.description() + ") ranks documents and does not write; use reranker");
        }
    }

    private void requireTalker() {
        requireWriter();
        if (model.hasEncoder()) {
            throw new LlamaException(model.path() + " (" + model.description() + ") has an encoder, which reads a text once: it holds no "
                    + "conversation; use complete");
        }
    }

    /** The model, for whatever the facade doesn't offer. */
    public Model model() {
        return model;
    }

    /** The engine, for whatever the facade doesn't offer. */
    public Engine engine() {
        return engine;
    }

    /**
     * Frees the context, the adapters and the weights. Generations still running end with {@code ClosedException}.
     *
     * @throws AdapterInUseException if sequences of an engine that somebody else opened use an adapter; that one stays open
     */
    @Override
    public void close() {
        try {
            engine.close();
        } finally {
            try {
                closeAdapters();
            } finally {
                model.close();
            }
        }
    }

    private void closeAdapters() {
        AdapterInUseException inUse = null;
        for (var adapter : adapters()) {
            try {
                adapter.close();
            } catch (AdapterInUseException e) {
                inUse = e;
            }
        }
        if (inUse != null) {
            throw inUse;
        }
    }

    private Completion completion(int[] tokens, boolean truncated, GenerationOptions options) {
        requireWriter();
        if (model.hasEncoder()) {
            return decoding(tokens, truncated, options);
        }
        if (tokens.length >= engine.contextSize()) {
            throw full(tokens.length);
        }
        return new Completion(new LocalGeneration(options.newSequence(engine, tokens), true, tokens, truncated, options, false));
    }

    /** What an encoder-decoder writes when its encoder has read the prompt. */
    private Completion decoding(int[] source, boolean truncated, GenerationOptions options) {
        if (model.decoderStart() < 0) {
            throw new LlamaException(model.path() + " (" + model.description() + ") has no token that its decoder begins with");
        }
        if (!options.adapters().isEmpty() || options.plans() != null || options.promptCache() != null) {
            throw new LlamaException(model.path() + " (" + model.description() + ") has an encoder: adapters, layer plans and caches of "
                    + "prompts are for models without");
        }
        return new Completion(new LocalGeneration(engine.newSequence(source), true, new int[] {model.decoderStart()}, truncated, options,
                false));
    }

    private ContextFullException full(int tokens) {
        return new ContextFullException("the prompt has " + tokens + " tokens; the context holds " + engine.contextSize()
                + ", and the answer needs room too: shorten the prompt or raise EngineOptions.contextSize");
    }

    private static String head(String text, int length) {
        if (text.length() <= length) {
            return text;
        }
        return text.substring(0, Character.isHighSurrogate(text.charAt(length - 1)) ? length - 1 : length);
    }

    private static String tail(String text, int length) {
        if (text.length() <= length) {
            return text;
        }
        int start = text.length() - length;
        return text.substring(Character.isLowSurrogate(text.charAt(start)) ? start + 1 : start);
    }
}
