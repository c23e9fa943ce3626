package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.layers.Budget;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterInUseException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.ConcurrentUseException;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.DecodeException;
import io.github.panamallama.runtime.EmbedderOptions;
import io.github.panamallama.runtime.EmbeddingException;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.MemoryEstimate;
import io.github.panamallama.runtime.ModelLoadException;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.NativeLibraryException;
import io.github.panamallama.runtime.Pooling;
import io.github.panamallama.runtime.RpcException;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.TokenizationException;
import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.TokenProbability;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarDefinition;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.strategy.AdaDec;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.Confidence;
import io.github.panamallama.sampling.strategy.ContrastiveSearch;
import io.github.panamallama.sampling.strategy.MtpDrafts;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.PlanDrafts;
import io.github.panamallama.sampling.strategy.PlanSwitching;
import io.github.panamallama.sampling.strategy.Strategy;
import io.github.panamallama.sampling.strategy.Uscd;
import io.github.panamallama.sampling.strategy.Work;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.databind.DeserializationContext;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationContext;
import tools.jackson.databind.ValueDeserializer;
import tools.jackson.databind.ValueSerializer;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.module.SimpleModule;

/**
 * What messages carry: requests and answers as JSON, one per call; pieces of text in binary, one per token. Only data crosses: what a
 * request can't take along is refused before it is sent, and what comes is read into these types and no others.
 */
final class Wire {
    /** Adapters are named beside the options; plans as text. */
    private static final SimpleModule OURS = new SimpleModule()
            .addSerializer(AdapterSet.class, new ValueSerializer<>() {
                @Override
                public void serialize(AdapterSet adapters, JsonGenerator json, SerializationContext context) {
                    json.writeNull();
                }
            })
            .addDeserializer(AdapterSet.class, new ValueDeserializer<>() {
                @Override
                public AdapterSet deserialize(JsonParser json, DeserializationContext context) {
                    return (AdapterSet) context.handleUnexpectedToken(AdapterSet.class, json);
                }

                @Override
                public AdapterSet getNullValue(DeserializationContext context) {
                    return AdapterSet.none();
                }
            })
            .addSerializer(LayerPlan.class, new ValueSerializer<>() {
                @Override
                public void serialize(LayerPlan plan, JsonGenerator json, SerializationContext context) {
                    json.writePOJO(Plan.of(plan));
                }
            })
            .addDeserializer(LayerPlan.class, new ValueDeserializer<>() {
                @Override
                public LayerPlan deserialize(JsonParser json, DeserializationContext context) {
                    return context.readValue(json, Plan.class).plan();
                }
            });

    private static final JsonMapper JSON = JsonMapper.builder().addModule(OURS)
            .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();

    /** Strategies that are nothing but settings. */
    private static final Map<String, Class<?>> STRATEGIES = Map.of("plain", Plain.class, "beam", BeamSearch.class, "best", BestOfN.class,
            "contrastive", ContrastiveSearch.class, "uscd", Uscd.class, "mtp", MtpDrafts.class, "planDrafts", PlanDrafts.class,
            "adaDec", LookAhead.class, "budget", Budget.class);

    /** Failures that a message makes whole again. */
    private static final Map<String, Function<String, RuntimeException>> FAILURES = new HashMap<>();

    static {
        List.<Function<String, RuntimeException>>of(LlamaException::new, AdapterException::new, ClosedException::new,
                ConcurrentUseException::new, ContextFullException::new, DecodeCancelledException::new, DecodeException::new,
                LayerPlanException::new,
                RpcException::new, NativeLibraryException::new, SamplingException::new, StateException::new, TokenizationException::new,
                ConstraintException::new, EmbeddingException::new,
                GrammarException::new, IllegalArgumentException::new, IllegalStateException::new, UnsupportedOperationException::new)
                .forEach(failure -> FAILURES.put(failure.apply("").getClass().getName(), failure));
    }

    /** More blocks than any model has. */
    private static final int MOST_BLOCKS = 1 << 16;
    /** More than any vector has. */
    private static final int MOST_NUMBERS = 1 << 20;

    private Wire() {
    }

    record Hello(int protocol, String secret) {
        Hello {
            Objects.requireNonNull(secret, "secret");
        }
    }

    /**
     * @param engine  null for a model that only gives vectors or scores
     * @param control null for none
     * @param told    whether the progress is to be told
     */
    record Load(String path, ModelOptions model, EngineOptions engine, ControlFiles control, boolean told) {
    }

    /**
     * @param contextSize      0 for a model that only gives vectors or scores
     * @param template         source of the chat template; null where the model has none
     * @param specialSpellings as {@link Dialogue#specialSpellings}
     */
    record Loaded(int contextSize, boolean canInfill, String template, String bos, String eos, List<String> specialSpellings) {
        Loaded {
            specialSpellings = List.copyOf(specialSpellings);
            Objects.requireNonNull(bos, "bos");
            Objects.requireNonNull(eos, "eos");
            if (contextSize < 0) {
                throw new IllegalArgumentException("a context of " + contextSize + " tokens");
            }
        }
    }

    record Complete(String prompt, Options options) {
    }

    record Infill(String prefix, String suffix, Options options) {
    }

    /** @param adapters of the conversation */
    record Answer(long dialogue, int[] prompt, Options options, List<AdapterRef> adapters) {
    }

    record Adapted(long dialogue, List<AdapterRef> adapters) {
    }

    /** @param adapters of the conversation */
    record Kept(long dialogue, String file, List<AdapterRef> adapters) {
    }

    /**
     * An adapter by its file.
     *
     * @param fingerprint of the file as it was when it was loaded first
     */
    record AdapterRef(String path, float scale, String fingerprint) {
        AdapterRef {
            Objects.requireNonNull(path, "path");
            Objects.requireNonNull(fingerprint, "fingerprint");
        }

        AdapterRef times(float scale) {
            return new AdapterRef(path, scale, fingerprint);
        }

        static String fingerprint(AdapterFile file) {
            return GgufFile.fingerprint(List.of(file.gguf()));
        }
    }

    record AdapterState(long sizeBytes, int sequences) {
    }

    /** An embedder or reranker. */
    record Vectors(long number, EmbedderOptions options, boolean ranks) {
        Vectors {
            Objects.requireNonNull(options, "options");
        }
    }

    /** @param size numbers of a vector; a score is one, whatever this says */
    record VectorsOpened(Pooling pooling, int size, int longest) {
        VectorsOpened {
            Objects.requireNonNull(pooling, "pooling");
            if (size < 1 || size > MOST_NUMBERS || longest < 1) {
                throw new IllegalArgumentException("vectors of " + size + " numbers for " + longest + " tokens");
            }
        }
    }

    /**
     * @param query   that the texts are ranked for; null for none
     * @param byToken whether each token of the one text has a vector
     */
    record VectorsOf(Vectors of, String query, List<String> texts, boolean byToken) {
        VectorsOf {
            Objects.requireNonNull(of, "of");
            texts = List.copyOf(texts);
        }
    }

    record Opened(int promptTokens, int cachedTokens, boolean truncated, Plan plan) {
        Opened {
            Objects.requireNonNull(plan, "plan");
        }
    }

    /**
     * @param tokens what there is of a text that its grammar does not end here; null for a whole text
     * @param work   null without a strategy
     */
    record End(FinishReason reason, int[] tokens, Work work) {
        End {
            Objects.requireNonNull(reason, "reason");
        }
    }

    record Plan(String text, int blocks) {
        Plan {
            if (blocks < 1 || blocks > MOST_BLOCKS) {
                throw new IllegalArgumentException("a plan for " + blocks + " blocks");
            }
            LayerPlan.parse(text, blocks);
        }

        static Plan of(LayerPlan plan) {
            return new Plan(plan.toString(), plan.blocks());
        }

        LayerPlan plan() {
            return LayerPlan.parse(text, blocks);
        }
    }

    /** {@link AdaDec} without code. */
    record LookAhead(double threshold, int candidates, int depth, boolean reuse, boolean functions) {
        static LookAhead of(AdaDec strategy) {
            boolean functions = strategy.finished() == AdaDec.AT_END_OF_FUNCTION;
            if (!functions && strategy.finished() != AdaDec.NO_FURTHER_END) {
                throw refusal("the end of AdaDec's look-ahead, which is code,");
            }
            return new LookAhead(strategy.threshold(), strategy.candidates(), strategy.depth(), strategy.reuse(), functions);
        }

        AdaDec strategy() {
            return new AdaDec(threshold, candidates, depth, reuse, functions ? AdaDec.AT_END_OF_FUNCTION : AdaDec.NO_FURTHER_END);
        }
    }

    /**
     * @param rest   the options that are data as they are
     * @param router file of a router; null for none
     */
    record Options(GenerationOptions rest, GrammarDefinition grammar, String strategy, JsonNode settings, Plan plan, String router,
            List<AdapterRef> adapters) {
        /**
         * @param adapters those of the options
         * @throws IsolationException if an option can't cross
         */
        static Options of(GenerationOptions options, List<AdapterRef> adapters) {
            Plan plan = null;
            String router = null;
            switch (options.plans()) {
                case null -> { }
                case GenerationOptions.FixedPlan fixed -> plan = Plan.of(fixed.plan());
                case RoutedPlans routed -> router = routed.file().toString();
                default -> throw refusal("a PlanChooser, which is code (RoutedPlans is not),");
            }
            Object settings = switch (options.strategy()) {
                case AdaDec lookAhead -> LookAhead.of(lookAhead);
                case PlanSwitching switching when switching.control() instanceof Budget budget -> budget;
                case PlanSwitching _ -> throw refusal("the control of PlanSwitching, which is code (a Budget is not),");
                case null, default -> options.strategy();
            };
            String name = null;
            if (settings != null) {
                name = STRATEGIES.entrySet().stream().filter(entry -> entry.getValue() == settings.getClass()).map(Map.Entry::getKey)
                        .findFirst().orElseThrow(() -> refusal("the strategy " + settings.getClass().getSimpleName()
                                + ", which holds a second model or a table of this process,"));
            }
            var rest = options.withGrammar(null).withStrategy(null).withPlans(null);
            return new Options(rest, options.grammar() == null ? null : options.grammar().definition(), name,
                    name == null ? null : JSON.valueToTree(settings), plan, router, adapters);
        }

        /**
         * @param grammars that were made before, by their definition
         * @param routers  likewise, by their file
         * @param adapter  gives those that are named
         */
        GenerationOptions options(Map<GrammarDefinition, Grammar> grammars, Map<String, RoutedPlans> routers,
                Function<List<AdapterRef>, AdapterSet> adapter) {
            var made = rest.withAdapters(adapter.apply(adapters));
            if (plan != null) {
                made = made.withPlan(plan.plan());
            } else if (router != null) {
                made = made.withPlans(routers.computeIfAbsent(router, file -> RoutedPlans.of(Path.of(file))));
            }
            if (grammar != null) {
                made = made.withGrammar(grammars.computeIfAbsent(grammar, Grammar::of));
            }
            if (strategy != null) {
                var type = STRATEGIES.get(strategy);
                if (type == null) {
                    throw new IllegalArgumentException("there is no strategy '" + strategy + "' here");
                }
                made = made.withStrategy(switch (JSON.treeToValue(settings, type)) {
                    case LookAhead lookAhead -> lookAhead.strategy();
                    case Budget budget -> new PlanSwitching(budget);
                    case Strategy data -> data;
                    default -> throw new IllegalStateException(strategy + " is no strategy");
                });
            }
            return made;
        }
    }

    private static IsolationException refusal(String what) {
        return new IsolationException(what + " can't be sent to a worker process; leave it out, or load the model with Llama.load");
    }

    /** @throws IsolationException if an option can't cross */
    static Load load(Path path, LlamaOptions options) {
        var model = options.model();
        if (model.cancellation() != null) {
            throw new IsolationException("a cancellation can't be asked from a worker process; interrupt the loading thread, or "
                    + "throw from progress");
        }
        ControlFiles control = switch (options.control()) {
            case null -> null;
            case ControlFiles files -> files;
            default -> throw refusal("a control vector that code makes (ControlFiles are not)");
        };
        return new Load(path.toAbsolutePath().toString(), model.withProgress(null), options.engine(), control, model.progress() != null);
    }

    /** A model that only gives vectors or scores. */
    static Load load(Path path) {
        return new Load(path.toAbsolutePath().toString(), ModelOptions.defaults(), null, null, false);
    }

    // --- failures ------------------------------------------------------------------------------------------------------------

    /**
     * An exception.
     *
     * @param type      its class
     * @param reason    why the generation ended that it comes from; null if it comes from none
     * @param tokens    of an {@link IncompleteException}
     * @param text      likewise
     * @param estimate  of an {@link InsufficientMemoryException}
     * @param number    likewise the memory available; of a {@link GgufException} the offset; of an {@link AdapterInUseException} the
     *                  sequences
     * @param path      of a {@link GgufException}
     * @param cancelled of a {@link ModelLoadException}
     */
    record Failure(String type, String message, FinishReason reason, int[] tokens, String text, MemoryEstimate estimate, long number,
            String path, boolean cancelled) {
        Failure {
            Objects.requireNonNull(type, "type");
        }

        static Failure of(Throwable e, FinishReason reason) {
            var type = e.getClass().getName();
            var message = e.getMessage();
            return switch (e) {
                case IncompleteException cut -> new Failure(type, message, reason, cut.tokens(), cut.text(), null, 0, null, false);
                case InsufficientMemoryException lack ->
                    new Failure(type, message, reason, null, null, lack.estimate(), lack.available(), null, false);
                case GgufException bad ->
                    new Failure(type, unplaced(bad), reason, null, null, null, bad.offset(), bad.path().toString(), false);
                case AdapterInUseException used ->
                    new Failure(type, message, reason, null, null, null, used.sequences(), null, false);
                case ModelLoadException load -> new Failure(type, message, reason, null, null, null, 0, null, load.cancelled());
                default -> new Failure(type, message, reason, null, null, null, 0, null, false);
            };
        }

        /** The message without path and place, which its constructor puts there. */
        private static String unplaced(GgufException e) {
            return e.getMessage().substring(new GgufException(e.path(), e.offset(), "").getMessage().length());
        }

        RuntimeException exception() {
            if (type.equals(IncompleteException.class.getName()) && reason != null && tokens != null) {
                return new IncompleteException(reason, tokens, text);
            } else if (type.equals(InsufficientMemoryException.class.getName())) {
                return new InsufficientMemoryException(message, estimate, number);
            } else if (type.equals(GgufException.class.getName()) && path != null) {
                return new GgufException(Path.of(path), number, message);
            } else if (type.equals(AdapterInUseException.class.getName())) {
                return new AdapterInUseException(message, (int) number);
            } else if (type.equals(ModelLoadException.class.getName())) {
                return new ModelLoadException(message, null, cancelled);
            }
            var known = FAILURES.get(type);
            return known != null ? known.apply(message) : new LlamaException("the worker failed with " + type + ": " + message);
        }
    }

    // --- pieces --------------------------------------------------------------------------------------------------------------

    /** What {@link Confidence} tells of a token. */
    record Measure(int token, double logProbability, double entropy, double margin) {
        static List<Measure> of(Confidence confidence, int from) {
            if (confidence == null) {
                return List.of();
            }
            var measures = new ArrayList<Measure>();
            for (int i = from; i < confidence.size(); i++) {
                measures.add(new Measure(confidence.token(i), confidence.logProbability(i), confidence.entropy(i), confidence.margin(i)));
            }
            return measures;
        }
    }

    /**
     * Some text, and what the generation has taken so far.
     *
     * @param logProbs of the tokens since the last piece
     * @param measures likewise what {@link Confidence} tells of them
     */
    record Piece(String text, int generatedTokens, long promptNanos, long generationNanos, List<LogProbs> logProbs,
            List<Measure> measures) {
        byte[] bytes() {
            var bytes = new ByteArrayOutputStream(64);
            try (var out = new DataOutputStream(bytes)) {
                out.writeInt(generatedTokens);
                out.writeLong(promptNanos);
                out.writeLong(generationNanos);
                out.writeInt(logProbs.size());
                for (var at : logProbs) {
                    write(out, at.chosen());
                    out.writeInt(at.top().size());
                    for (var one : at.top()) {
                        write(out, one);
                    }
                }
                out.writeInt(measures.size());
                for (var one : measures) {
                    out.writeInt(one.token);
                    out.writeDouble(one.logProbability);
                    out.writeDouble(one.entropy);
                    out.writeDouble(one.margin);
                }
                out.write(text.getBytes(StandardCharsets.UTF_8));
            } catch (IOException e) {
                throw new UncheckedIOException(e);     // into memory: does not happen
            }
            return bytes.toByteArray();
        }

        private static void write(DataOutputStream out, TokenProbability one) throws IOException {
            out.writeInt(one.token());
            out.writeDouble(one.logProbability());
        }

        static Piece of(byte[] payload) throws BrokenException {
            try {
                var in = ByteBuffer.wrap(payload);
                int generated = in.getInt();
                long prompt = in.getLong();
                long generation = in.getLong();
                int n = in.getInt();
                var logProbs = new ArrayList<LogProbs>();
                for (int i = 0; i < n; i++) {
                    var chosen = probability(in);
                    int alternatives = in.getInt();
                    var top = new ArrayList<TokenProbability>();
                    for (int j = 0; j < alternatives; j++) {
                        top.add(probability(in));
                    }
                    logProbs.add(new LogProbs(chosen, List.copyOf(top)));
                }
                int measured = in.getInt();
                var measures = new ArrayList<Measure>();
                for (int i = 0; i < measured; i++) {
                    measures.add(new Measure(in.getInt(), in.getDouble(), in.getDouble(), in.getDouble()));
                }
                var text = new String(payload, in.position(), in.remaining(), StandardCharsets.UTF_8);
                return new Piece(text, generated, prompt, generation, logProbs, measures);
            } catch (BufferUnderflowException e) {
                throw new BrokenException("a piece of text ends in mid-number", e);
            }
        }

        private static TokenProbability probability(ByteBuffer in) {
            return new TokenProbability(in.getInt(), in.getDouble());
        }
    }

    // --- JSON ----------------------------------------------------------------------------------------------------------------

    static byte[] json(Object value) {
        // through a string: a text with half a surrogate pair is then sent as the vocabulary would read it, with a question mark
        return JSON.writeValueAsString(value).getBytes(StandardCharsets.UTF_8);
    }

    static <T> T read(byte[] json, Class<T> type) throws BrokenException {
        T value;
        try {
            value = JSON.readValue(json, type);
        } catch (JacksonException | IllegalArgumentException e) {
            throw new BrokenException("no " + type.getSimpleName() + ": " + e.getMessage(), e);
        }
        if (value == null) {
            throw new BrokenException("no " + type.getSimpleName() + ": null");
        }
        return value;
    }
}
