package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.ConcurrentUseException;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.DecodeException;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.MemoryEstimate;
import io.github.panamallama.runtime.ModelLoadException;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.NativeLibraryException;
import io.github.panamallama.runtime.RpcException;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.runtime.StateException;
import io.github.panamallama.runtime.TokenizationException;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.TokenProbability;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarDefinition;
import io.github.panamallama.sampling.grammar.GrammarException;
import io.github.panamallama.sampling.strategy.BeamSearch;
import io.github.panamallama.sampling.strategy.BestOfN;
import io.github.panamallama.sampling.strategy.ContrastiveSearch;
import io.github.panamallama.sampling.strategy.Plain;
import io.github.panamallama.sampling.strategy.Strategy;
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
    /** Options without adapters, which are the only ones that cross. */
    private static final SimpleModule NO_ADAPTERS = new SimpleModule()
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
            });

    private static final JsonMapper JSON = JsonMapper.builder().addModule(NO_ADAPTERS)
            .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();

    /** Strategies that are nothing but settings. */
    private static final Map<String, Class<? extends Strategy>> STRATEGIES = Map.of("plain", Plain.class, "beam", BeamSearch.class,
            "best", BestOfN.class, "contrastive", ContrastiveSearch.class);

    /** Failures that a message makes whole again. */
    private static final Map<String, Function<String, RuntimeException>> FAILURES = new HashMap<>();

    static {
        List.<Function<String, RuntimeException>>of(LlamaException::new, AdapterException::new, ClosedException::new,
                ConcurrentUseException::new, ContextFullException::new, DecodeCancelledException::new, DecodeException::new,
                LayerPlanException::new,
                RpcException::new, NativeLibraryException::new, SamplingException::new, StateException::new, TokenizationException::new,
                ConstraintException::new,
                GrammarException::new, IllegalArgumentException::new, IllegalStateException::new, UnsupportedOperationException::new)
                .forEach(failure -> FAILURES.put(failure.apply("").getClass().getName(), failure));
    }

    /** More blocks than any model has. */
    private static final int MOST_BLOCKS = 1 << 16;

    private Wire() {
    }

    record Hello(int protocol, String secret) {
        Hello {
            Objects.requireNonNull(secret, "secret");
        }
    }

    /** @param told whether the progress is to be told */
    record Load(String path, ModelOptions model, EngineOptions engine, boolean told) {
    }

    /** @param template source of the chat template; null where the model has none */
    record Loaded(int contextSize, boolean canInfill, String template, String bos, String eos) {
        Loaded {
            Objects.requireNonNull(bos, "bos");
            Objects.requireNonNull(eos, "eos");
            if (contextSize < 1) {
                throw new IllegalArgumentException("a context of " + contextSize + " tokens");
            }
        }
    }

    record Complete(String prompt, Options options) {
    }

    record Infill(String prefix, String suffix, Options options) {
    }

    record Answer(long dialogue, int[] prompt, Options options) {
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

    /** @param rest the options that are data as they are */
    record Options(GenerationOptions rest, GrammarDefinition grammar, String strategy, JsonNode settings, Plan plan) {
        /** @throws IllegalArgumentException if an option can't cross */
        static Options of(GenerationOptions options) {
            requireNoAdapters(options.adapters());
            if (options.confidence()) {
                throw refusal("confidence");
            }
            Plan plan = null;
            if (options.plans() instanceof GenerationOptions.FixedPlan fixed) {
                plan = Plan.of(fixed.plan());
            } else if (options.plans() != null) {
                throw refusal("a PlanChooser, which is code");
            }
            var strategy = options.strategy();
            String name = null;
            if (strategy != null) {
                name = STRATEGIES.entrySet().stream().filter(entry -> entry.getValue() == strategy.getClass()).map(Map.Entry::getKey)
                        .findFirst().orElseThrow(() -> refusal("the strategy " + strategy.getClass().getSimpleName()));
            }
            var rest = options.withGrammar(null).withStrategy(null).withPlans(null);
            return new Options(rest, options.grammar() == null ? null : options.grammar().definition(), name,
                    name == null ? null : JSON.valueToTree(strategy), plan);
        }

        /** @param known grammars that were made before, by their definition */
        GenerationOptions options(Map<GrammarDefinition, Grammar> known) {
            var made = rest.withPlan(plan == null ? null : plan.plan());
            if (grammar != null) {
                made = made.withGrammar(known.computeIfAbsent(grammar, Grammar::of));
            }
            if (strategy != null) {
                var type = STRATEGIES.get(strategy);
                if (type == null) {
                    throw new IllegalArgumentException("there is no strategy '" + strategy + "' here");
                }
                made = made.withStrategy(JSON.treeToValue(settings, type));
            }
            return made;
        }
    }

    static void requireNoAdapters(AdapterSet adapters) {
        if (!adapters.isEmpty()) {
            throw refusal("adapters");
        }
    }

    private static IllegalArgumentException refusal(String what) {
        return new IllegalArgumentException(what + " can't be sent to a worker process; leave it out, or load the model with Llama.load");
    }

    /** @throws IllegalArgumentException if an option can't cross */
    static Load load(Path path, ModelOptions model, EngineOptions engine) {
        if (model.cancellation() != null) {
            throw new IllegalArgumentException("a cancellation can't be asked from a worker process; interrupt the loading thread, or "
                    + "throw from progress");
        }
        return new Load(path.toAbsolutePath().toString(), model.withProgress(null), engine, model.progress() != null);
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
     * @param number    likewise the memory available; of a {@link GgufException} the offset
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
            } else if (type.equals(ModelLoadException.class.getName())) {
                return new ModelLoadException(message, null, cancelled);
            }
            var known = FAILURES.get(type);
            return known != null ? known.apply(message) : new LlamaException("the worker failed with " + type + ": " + message);
        }
    }

    // --- pieces --------------------------------------------------------------------------------------------------------------

    /**
     * Some text, and what the generation has taken so far.
     *
     * @param logProbs of the tokens since the last piece
     */
    record Piece(String text, int generatedTokens, long promptNanos, long generationNanos, List<LogProbs> logProbs) {
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
                var text = new String(payload, in.position(), in.remaining(), StandardCharsets.UTF_8);
                return new Piece(text, generated, prompt, generation, logProbs);
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
