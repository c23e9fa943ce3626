package io.github.panamallama;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.strategy.Confidence;
import io.github.panamallama.sampling.strategy.Work;
import java.util.List;

/** One run of a model, pulled piece by piece, in this process or in a worker. {@link #cancel} may come from any thread. */
interface Generation {
    /** The blocks of the model that run. */
    LayerPlan plan();

    /**
     * The next piece of text, never empty; null at the end.
     *
     * @throws IncompleteException at the end, if the text is only the beginning of one of the grammar and nobody asked for it to be cut
     */
    String next();

    /** All the text so far. */
    String text();

    /** Throws if the text that has ended is not a whole one of the grammar. */
    void requireWhole();

    /** Ends the run: at once if it is idle, within one decode step if a thread is in {@link #next}. */
    void cancel();

    /** Null while it goes on. */
    FinishReason reason();

    List<LogProbs> logProbs();

    /** Null if it wasn't asked for. */
    Confidence confidence();

    /** Null without a strategy. */
    Work work();

    Completion.Stats stats();
}
