package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.SamplingException;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.TreeMap;

/**
 * Logit bias, penalties, top-k, top-p, min-p, temperature, draw. Its state is the accepted tokens and nothing else: the draw is a
 * function of the seed and of how many were accepted, so that fork and rollback need no more than the history. The row is as before
 * when {@link #sample} returns.
 */
final class StandardSampler implements Sampler {
    private static final int FIRST_CAPACITY = 4096;

    private final SamplerOptions options;
    private final long seed;
    private final int[] biased;
    private final float[] biases;

    private final TokenCounts window;    // null without penalties, as is the history
    private int[] history;
    private int accepted;
    private float[] saved = new float[64];

    StandardSampler(SamplerOptions options) {
        this.options = options;
        this.seed = options.seed().orElseGet(() -> new SplittableRandom().nextLong());
        var sorted = new TreeMap<>(options.logitBias());
        biased = sorted.keySet().stream().mapToInt(Integer::intValue).toArray();
        biases = new float[biased.length];
        for (int i = 0; i < biased.length; i++) {
            biases[i] = sorted.get(biased[i]);
        }
        window = options.penalises() ? new TokenCounts() : null;
        history = options.penalises() ? new int[FIRST_CAPACITY] : null;
    }

    private StandardSampler(StandardSampler other, long seed) {
        options = other.options;
        this.seed = seed;
        biased = other.biased;
        biases = other.biases;
        window = other.window == null ? null : new TokenCounts(other.window);
        history = other.history == null ? null : other.history.clone();
        accepted = other.accepted;
    }

    @Override
    public int sample(Row row) {
        int changes = adjust(row);
        try {
            if (options.temperature() == 0) {
                return RowMath.argmax(row);    // truncation never drops the best
            }
            return RowMath.sample(row, options.topK(), options.topP(), options.minP(), options.temperature(), Draws.uniform(seed, accepted));
        } finally {
            restore(row, changes);
        }
    }

    Candidates distribution(Row row) {
        var into = new Candidates(row.size());
        distribution(row, into);
        return into;
    }

    @Override
    public void distribution(Row row, Candidates into) {
        int changes = adjust(row);
        try {
            RowMath.distribution(row, options.topK(), options.topP(), options.minP(), options.temperature(), into);
        } finally {
            restore(row, changes);
        }
    }

    @Override
    public Row adjusted(Row row, Row scratch) {
        if (biased.length == 0 && window == null) {
            return row;
        }
        scratch.segment().copyFrom(row.segment());
        adjust(scratch);
        return scratch;
    }

    /** Applies bias and penalties, remembers what was there before; returns how many logits it changed. */
    private int adjust(Row row) {
        int penalised = window == null ? 0 : window.size();
        if (saved.length < biased.length + penalised) {
            saved = Arrays.copyOf(saved, 2 * (biased.length + penalised));
        }
        check(row, biased.length > 0 ? biased[biased.length - 1] : 0, "logitBias");
        for (int i = 0; i < penalised; i++) {
            check(row, window.token(i), "history");
        }
        int changes = 0;
        for (; changes < biased.length; changes++) {
            float logit = row.get(biased[changes]);
            saved[changes] = logit;
            row.set(biased[changes], logit + biases[changes]);
        }
        for (int i = 0; i < penalised; i++) {
            int token = window.token(i);
            float logit = row.get(token);
            saved[changes++] = logit;
            logit = logit <= 0 ? logit * options.repetitionPenalty() : logit / options.repetitionPenalty();
            row.set(token, logit - (window.count(i) * options.frequencyPenalty() + options.presencePenalty()));
        }
        return changes;
    }

    private void restore(Row row, int changes) {
        while (changes > biased.length) {
            changes--;
            row.set(window.token(changes - biased.length), saved[changes]);
        }
        while (changes > 0) {
            changes--;
            row.set(biased[changes], saved[changes]);
        }
    }

    private static void check(Row row, int token, String where) {
        if (token >= row.size()) {
            throw new SamplingException("token " + token + " of the sampler's " + where + " is outside the row of " + row.size()
                    + " tokens; is it a token of another model?");
        }
    }

    @Override
    public void accept(int token) {
        if (token < 0) {
            throw new SamplingException("token " + token + " cannot be accepted: ids start at 0");
        }
        if (window != null) {
            if (accepted == history.length) {
                history = Arrays.copyOf(history, 2 * accepted);
            }
            history[accepted] = token;
            window.add(token);
            if (accepted >= options.penaltyLastN()) {
                window.remove(history[accepted - options.penaltyLastN()]);
            }
        }
        accepted++;
    }

    @Override
    public Sampler fork() {
        return new StandardSampler(this, seed);
    }

    @Override
    public Sampler fork(long seed) {
        return new StandardSampler(this, seed);
    }

    @Override
    public void rollback(int tokens) {
        if (tokens < 0 || tokens > accepted) {
            throw new IllegalArgumentException("rollback must be 0 to " + accepted + ", the number of accepted tokens, got " + tokens);
        }
        for (int i = 0; i < tokens; i++) {
            accepted--;
            if (window != null) {
                window.remove(history[accepted]);
                if (accepted >= options.penaltyLastN()) {
                    window.add(history[accepted - options.penaltyLastN()]);
                }
            }
        }
    }
}
