package io.github.panamallama.runtime;

import java.nio.file.Path;
import java.util.List;

/**
 * Turns texts into vectors, of which near ones mean alike texts, by an embedding model: one that only encodes (BERT, Nomic, Jina and
 * others) or a decoder.
 *
 * <pre>{@code
 * try (Embedder embedder = Embedder.load(Path.of("nomic-embed-text.gguf"))) {
 *     float[][] vectors = embedder.embed(List.of("search_document: a list", "search_document: a map"));
 *     float alike = Embedder.cosine(vectors[0], vectors[1]);
 * }
 * }</pre>
 *
 * <p>Texts of one call are evaluated together as far as they fit into a batch. It holds a native context of its own until it is closed.
 * Thread rule: any thread may call; calls wait for each other.
 */
public final class Embedder implements TextEmbedder {
    private final EmbeddingContext context;
    private final Normalization normalization;
    /** Closed with this; null for somebody else's. */
    private final Model owned;

    private Embedder(EmbeddingContext context, Normalization normalization, Model owned) {
        this.context = context;
        this.normalization = normalization;
        this.owned = owned;
    }

    /** As {@link #load(Path, EmbedderOptions)} with the usual options. */
    public static Embedder load(Path path) {
        return load(path, EmbedderOptions.defaults());
    }

    /**
     * Loads a model and opens it; both are closed together.
     *
     * @throws ModelLoadException as {@link Model#load(Path)}
     * @throws EmbeddingException as {@link #open(Model, EmbedderOptions)}
     */
    public static Embedder load(Path path, EmbedderOptions options) {
        var model = Model.load(path);
        try {
            return new Embedder(context(model, options), options.normalization(), model);
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    /**
     * Opens a model, which can't be closed before this.
     *
     * @throws EmbeddingException          if it has no pooling of its own and none is given, ranks, or is an encoder-decoder
     * @throws InsufficientMemoryException if its buffers don't fit into memory
     */
    public static Embedder open(Model model, EmbedderOptions options) {
        return new Embedder(context(model, options), options.normalization(), null);
    }

    private static EmbeddingContext context(Model model, EmbedderOptions options) {
        var pooling = options.pooling() != null ? options.pooling() : Pooling.of(model);
        if (pooling == null) {
            throw new EmbeddingException(model.path() + " says of no way to make one vector of a text (" + model.architecture()
                    + ".pooling_type): it is no embedding model. Choose a way all the same (EmbedderOptions.withPooling), or take one that is");
        }
        if (pooling == Pooling.RANK) {
            throw new EmbeddingException(model.path() + " ranks texts and gives no vectors; use a Reranker");
        }
        return new EmbeddingContext(model, options, pooling);
    }

    /** The model that makes the vectors. */
    public Model model() {
        return context.model();
    }

    @Override
    public Pooling pooling() {
        return context.pooling();
    }

    @Override
    public int size() {
        return context.width();
    }

    @Override
    public int longestText() {
        return context.longest();
    }

    @Override
    public float[] embed(String text) {
        return embed(List.of(text))[0];
    }

    @Override
    public float[][] embed(List<String> texts) {
        if (pooling() == Pooling.NONE) {
            throw new EmbeddingException("without pooling a text has a vector for each token; ask for embedTokens, or choose a pooling");
        }
        return evaluate(texts);
    }

    @Override
    public float[][] embedTokens(String text) {
        if (pooling() != Pooling.NONE) {
            throw new EmbeddingException("with the pooling " + pooling() + " a text has one vector; choose Pooling.NONE");
        }
        return evaluate(List.of(text));
    }

    private float[][] evaluate(List<String> texts) {
        var vocabulary = model().vocabulary();
        var vectors = context.evaluate(texts.stream().map(text -> vocabulary.tokenize(text, true, false)).toList());
        vectors.forEach(normalization::apply);
        return vectors.toArray(float[][]::new);
    }

    /** The cosine of the angle between two vectors of the same size, -1 to 1; 0 where one is zero. */
    public static float cosine(float[] a, float[] b) {
        if (a.length != b.length) {
            throw new IllegalArgumentException("vectors of " + a.length + " and " + b.length + " numbers can't be compared");
        }
        double product = 0;
        double squaresA = 0;
        double squaresB = 0;
        for (int i = 0; i < a.length; i++) {
            product += (double) a[i] * b[i];
            squaresA += (double) a[i] * a[i];
            squaresB += (double) b[i] * b[i];
        }
        return squaresA == 0 || squaresB == 0 ? 0 : (float) (product / Math.sqrt(squaresA * squaresB));
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
