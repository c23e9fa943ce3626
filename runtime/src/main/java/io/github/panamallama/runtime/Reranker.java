package io.github.panamallama.runtime;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/**
 * Tells how well documents answer a query, by a model with a classification head that reads both together (a cross-encoder).
 *
 * <pre>{@code
 * try (Reranker reranker = Reranker.load(Path.of("bge-reranker.gguf"))) {
 *     reranker.rank("how do I sort a list?", documents).forEach(System.out::println);
 * }
 * }</pre>
 *
 * <p>Query and document are put together as the model's own template says ({@code tokenizer.chat_template.rerank}), else with the tokens
 * that end and separate texts. Special tokens that a text spells out are text. It holds a native context of its own until it is closed.
 * Thread rule: any thread may call; calls wait for each other.
 */
public final class Reranker implements TextReranker {
    private static final Pattern PLACES = Pattern.compile("\\{(query|document)}");

    private final EmbeddingContext context;
    /** Null for none. */
    private final String template;
    /** What has to be kept from becoming a special token in texts. */
    private final List<String> spellings;
    /** Closed with this; null for somebody else's. */
    private final Model owned;

    private Reranker(EmbeddingContext context, Model owned) {
        this.context = context;
        this.template = context.model().chatTemplateSource("rerank").orElse(null);
        this.spellings = template == null ? List.of() : context.model().vocabulary().specialSpellings();
        this.owned = owned;
    }

    /**
     * A document and how well it answers.
     *
     * @param index of the document in the list that was ranked
     * @param score the larger the better; its range is the model's
     */
    public record Ranked(int index, float score) {
        /** The best first; equal ones in their order. */
        static List<Ranked> of(float[] scores) {
            return IntStream.range(0, scores.length).mapToObj(i -> new Ranked(i, scores[i]))
                    .sorted(Comparator.comparingDouble((Ranked ranked) -> -ranked.score)).toList();
        }
    }

    /** As {@link #load(Path, EmbedderOptions)} with the usual options. */
    public static Reranker load(Path path) {
        return load(path, EmbedderOptions.defaults());
    }

    /**
     * Loads a model and opens it; both are closed together.
     *
     * @throws ModelLoadException as {@link Model#load(Path)}
     * @throws EmbeddingException as {@link #open(Model, EmbedderOptions)}
     */
    public static Reranker load(Path path, EmbedderOptions options) {
        var model = Model.load(path);
        try {
            return new Reranker(context(model, options), model);
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    /**
     * Opens a model, which can't be closed before this. Pooling and normalization of the options don't count.
     *
     * @throws EmbeddingException          if it has no classification head, or is an encoder-decoder
     * @throws InsufficientMemoryException if its buffers don't fit into memory
     */
    public static Reranker open(Model model, EmbedderOptions options) {
        return new Reranker(context(model, options), null);
    }

    private static EmbeddingContext context(Model model, EmbedderOptions options) {
        int classes = EmbeddingContext.classes(model);
        if (classes == 0) {
            throw new EmbeddingException(model.path() + " has no head that ranks (cls.output.weight): it is no reranker");
        }
        var context = new EmbeddingContext(model, options, Pooling.RANK);
        if (context.width() != classes) {
            context.close();
            throw new EmbeddingException(model.path() + " has a head of " + classes + " outputs for " + context.width()
                    + " labels (" + model.architecture() + ".classifier.output_labels)");
        }
        return context;
    }

    /** The model that ranks. */
    public Model model() {
        return context.model();
    }

    @Override
    public int longestText() {
        return context.longest();
    }

    @Override
    public float[] scores(String query, List<String> documents) {
        var outputs = context.evaluate(documents.stream().map(document -> pair(query, document)).toList());
        var scores = new float[outputs.size()];
        for (int i = 0; i < scores.length; i++) {
            scores[i] = outputs.get(i)[0];
        }
        return scores;
    }

    private int[] pair(String query, String document) {
        var vocabulary = model().vocabulary();
        if (template != null) {
            return spelled(query) || spelled(document) ? inParts(query, document) : vocabulary.tokenize(PLACES.matcher(template).replaceAll(
                    place -> Matcher.quoteReplacement(place.group(1).equals("query") ? query : document)), true, true);
        }
        var plain = vocabulary.tokenize(query, false, false);
        var first = vocabulary.tokenize(query, true, false);
        var second = vocabulary.tokenize(document, true, false);
        int begin = vocabulary.addsBos() ? 1 : 0;
        var between = new ArrayList<Integer>();
        if (vocabulary.addsEos()) {
            between.add(vocabulary.eos());
        }
        if (vocabulary.addsSep() && vocabulary.sep() >= 0) {
            between.add(vocabulary.sep());
        }
        return IntStream.concat(IntStream.concat(Arrays.stream(first, 0, begin + plain.length), between.stream().mapToInt(token -> token)),
                Arrays.stream(second, begin, second.length)).toArray();
    }

    private boolean spelled(String text) {
        return spellings.stream().anyMatch(text::contains);
    }

    /** The template's text with its special tokens, and the others without. */
    private int[] inParts(String query, String document) {
        var vocabulary = model().vocabulary();
        var around = vocabulary.tokenize("", true, false);
        int begin = vocabulary.addsBos() ? 1 : 0;
        var tokens = IntStream.builder();
        Arrays.stream(around, 0, begin).forEach(tokens);
        int done = 0;
        for (var place = PLACES.matcher(template); place.find(); done = place.end()) {
            Arrays.stream(vocabulary.tokenize(template.substring(done, place.start()), false, true)).forEach(tokens);
            Arrays.stream(vocabulary.tokenize(place.group(1).equals("query") ? query : document, false, false)).forEach(tokens);
        }
        Arrays.stream(vocabulary.tokenize(template.substring(done), false, true)).forEach(tokens);
        Arrays.stream(around, begin, around.length).forEach(tokens);
        return tokens.build().toArray();
    }

    /** Frees the context, and the model if this has loaded it. Waits for calls that are under way; idempotent. */
    @Override
    public void close() {
        context.close();
        if (owned != null) {
            owned.close();
        }
    }
}
