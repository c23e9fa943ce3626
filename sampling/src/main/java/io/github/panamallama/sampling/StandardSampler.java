package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowChain;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.SamplingException;
import io.github.panamallama.runtime.Vocabulary;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeMap;

/**
 * The steps of {@link SamplerOptions#order}, then the draw. Its state is the accepted tokens, with mirostat also what they cost: draws
 * are a function of the seed and of how many were accepted, so that fork and rollback need no more than the history. The row is as before
 * when {@link #sample} returns.
 *
 * <p>The usual steps in the usual order are one call of {@link RowMath}, others go through a {@link RowChain}. Penalties that come first
 * change the few logits they are about in the row itself.
 */
final class StandardSampler implements Sampler {
    private static final int FIRST_CAPACITY = 4096;
    /** Keeps the decisions of xtc apart from the draws. */
    private static final long XTC_STREAM = 0x6a09e667f3bcc909L;
    private static final List<SamplerStep> USUAL = List.of(SamplerStep.TOP_K, SamplerStep.TOP_P, SamplerStep.MIN_P,
            SamplerStep.TEMPERATURE);

    private final SamplerOptions options;
    private final Vocabulary vocabulary;
    private final long seed;
    private final int[] biased;
    private final float[] biases;

    private final TokenCounts window;         // null without penalties
    private final Repetitions repetitions;    // null without dry
    private int[] history;                    // null without both
    private int accepted;

    private final SamplerStep[] first;        // penalties and dry, where they come first
    private final int topK;
    private final float topP;
    private final float minP;
    private final float temperature;
    private final RowChain chain;             // null for the usual steps
    private int xtcStep = -1;
    private int penaltyStep = -1;
    private int dryStep = -1;
    private int mirostatStep = -1;
    private long[] packed = new long[64];

    private int[] changed = new int[64];      // tokens whose logits were changed, oldest first
    private float[] saved = new float[64];
    private int changes;

    private float[] bounds;                   // of mirostat, by accepted tokens; null without it
    private Candidates seen;                  // what was looked at and not yet accepted
    private boolean looked;

    StandardSampler(SamplerOptions options, Vocabulary vocabulary) {
        this(options, vocabulary, options.seed().orElseGet(() -> new SplittableRandom().nextLong()),
                options.usesHistory() ? new TokenCounts() : null, null);
    }

    private StandardSampler(StandardSampler other, long seed) {
        this(other.options, other.vocabulary, seed, other.window == null ? null : new TokenCounts(other.window), other.repetitions);
        accepted = other.accepted;
        history = other.history == null ? null : other.history.clone();
        if (bounds != null) {
            bounds = other.bounds.clone();
            looked = other.looked;
            if (looked) {
                seen = new Candidates(other.seen);
            }
        }
    }

    private StandardSampler(SamplerOptions options, Vocabulary vocabulary, long seed, TokenCounts window, Repetitions like) {
        this.options = options;
        this.vocabulary = vocabulary;
        this.seed = seed;
        var sorted = new TreeMap<>(options.logitBias());
        biased = sorted.keySet().stream().mapToInt(Integer::intValue).toArray();
        biases = new float[biased.length];
        for (int i = 0; i < biased.length; i++) {
            biases[i] = sorted.get(biased[i]);
        }
        if (options.usesVocabulary() && vocabulary == null) {
            throw new IllegalArgumentException("infill, and dry with breakers, need to know what tokens stand for; use Sampler.of(options, "
                    + "vocabulary)");
        }
        var steps = options.active();
        this.window = steps.contains(SamplerStep.PENALTIES) ? window : null;
        if (!steps.contains(SamplerStep.DRY)) {
            repetitions = null;
        } else if (like != null) {
            repetitions = like.fork();
        } else {
            var breakers = options.dry().breakers();
            repetitions = new Repetitions(options.dry(), breakers.isEmpty() ? Breakers.NONE : Breakers.of(breakers, vocabulary));
        }
        history = options.usesHistory() ? new int[FIRST_CAPACITY] : null;

        int leading = 0;
        while (leading < steps.size() && (steps.get(leading) == SamplerStep.PENALTIES || steps.get(leading) == SamplerStep.DRY)) {
            leading++;
        }
        first = steps.subList(0, leading).toArray(SamplerStep[]::new);
        var rest = steps.subList(leading, steps.size());
        topK = rest.contains(SamplerStep.TOP_K) ? options.topK() : 0;
        topP = rest.contains(SamplerStep.TOP_P) ? options.topP() : 1;
        minP = rest.contains(SamplerStep.MIN_P) ? options.minP() : 0;
        temperature = rest.contains(SamplerStep.TEMPERATURE) ? options.temperature() : 1;
        boolean usual = options.mirostat() == null && !options.dynamic() && rest.equals(USUAL.stream().filter(rest::contains).toList());
        chain = usual ? null : chain(rest);
        bounds = options.mirostat() == null ? null : new float[FIRST_CAPACITY];
        if (bounds != null) {
            bounds[0] = 2 * options.mirostat().tau();
        }
    }

    private RowChain chain(List<SamplerStep> steps) {
        var made = new RowChain();
        for (var step : steps) {
            switch (step) {
                case PENALTIES -> penaltyStep = made.changes(options.repetitionPenalty());
                case DRY -> dryStep = made.changes(1);
                case TOP_N_SIGMA -> made.topNSigma(options.topNSigma());
                case TOP_K -> made.topK(options.topK());
                case TYPICAL_P -> made.typical(options.typicalP());
                case TOP_P -> made.topP(options.topP());
                case MIN_P -> made.minP(options.minP());
                case XTC -> xtcStep = made.xtc(options.xtc().threshold());
                case TEMPERATURE -> made.temperature(options.temperature(), options.dynamic() ? options.dynamicTemperature().range() : 0,
                        options.dynamic() ? options.dynamicTemperature().exponent() : 1);
                case INFILL -> made.infill(vocabulary);
            }
        }
        if (options.mirostat() != null) {
            mirostatStep = made.mirostat(0);
        }
        return made;
    }

    @Override
    public int sample(Row row) {
        adjust(row);
        try {
            double u = Draws.uniform(seed, accepted);
            if (bounds != null) {
                look(row);
                return draw(u);
            }
            if (chain != null) {
                prepare();
                return chain.sample(row, u);
            }
            if (temperature == 0) {
                return RowMath.argmax(row);    // truncation never drops the best
            }
            return RowMath.sample(row, topK, topP, minP, temperature, u);
        } finally {
            restore(row);
        }
    }

    Candidates distribution(Row row) {
        var into = new Candidates(row.size());
        distribution(row, into);
        return into;
    }

    @Override
    public void distribution(Row row, Candidates into) {
        adjust(row);
        try {
            if (bounds != null) {
                look(row);
                into.copyFrom(seen);
            } else if (chain != null) {
                prepare();
                chain.distribution(row, into);
            } else {
                RowMath.distribution(row, topK, topP, minP, temperature, into);
            }
        } finally {
            restore(row);
        }
    }

    @Override
    public Row adjusted(Row row, Row scratch) {
        if (biased.length == 0 && first.length == 0) {
            return row;
        }
        scratch.segment().copyFrom(row.segment());
        adjust(scratch);
        return scratch;
    }

    /** Keeps the distribution, so that {@link #accept} knows what its token cost. */
    private void look(Row row) {
        looked = false;
        if (seen == null || seen.capacity() < row.size()) {
            seen = new Candidates(row.size());
        }
        prepare();
        chain.distribution(row, seen);
        looked = true;
    }

    /** What mirostat looked at last. */
    Candidates looked() {
        return seen;
    }

    private int draw(double u) {
        double total = 0;
        for (int i = 0; i < seen.size(); i++) {
            total += seen.value(i);
        }
        double rest = u * total;
        int last = 0;
        for (int i = 0; i < seen.size(); i++) {
            if (seen.value(i) > 0) {
                last = i;
                rest -= seen.value(i);
                if (rest < 0) {
                    break;
                }
            }
        }
        return seen.token(last);
    }

    /** Tells the chain what is different at this position. */
    private void prepare() {
        if (xtcStep >= 0) {
            chain.enable(xtcStep, Draws.uniform(seed ^ XTC_STREAM, accepted) < options.xtc().probability());
        }
        if (mirostatStep >= 0) {
            chain.value(mirostatStep, bounds[accepted]);
        }
        if (penaltyStep >= 0) {
            reserve(window.size());
            for (int i = 0; i < window.size(); i++) {
                packed[i] = packed(window.token(i), penalty(i));
            }
            chain.changes(penaltyStep, packed, window.size());
        }
        if (dryStep >= 0) {
            repetitions.find(history, accepted);
            reserve(repetitions.size());
            for (int i = 0; i < repetitions.size(); i++) {
                packed[i] = packed(repetitions.token(i), repetitions.penalty(i));
            }
            chain.changes(dryStep, packed, repetitions.size());
        }
    }

    private void reserve(int count) {
        if (packed.length < count) {
            packed = new long[2 * count];
        }
    }

    private static long packed(int token, float minus) {
        return (long) token << 32 | Float.floatToRawIntBits(minus) & 0xffffffffL;
    }

    private float penalty(int i) {
        return window.count(i) * options.frequencyPenalty() + options.presencePenalty();
    }

    /** Applies bias and the penalties that come first, and remembers what was there before. */
    private void adjust(Row row) {
        changes = 0;
        check(row, biased.length > 0 ? biased[biased.length - 1] : 0, "logitBias");
        for (int i = 0; window != null && i < window.size(); i++) {
            check(row, window.token(i), "history");
        }
        for (int i = 0; i < biased.length; i++) {
            change(row, biased[i], row.get(biased[i]) + biases[i]);
        }
        for (var step : first) {
            if (step == SamplerStep.PENALTIES) {
                for (int i = 0; i < window.size(); i++) {
                    int token = window.token(i);
                    float logit = row.get(token);
                    logit = logit <= 0 ? logit * options.repetitionPenalty() : logit / options.repetitionPenalty();
                    change(row, token, logit - penalty(i));
                }
            } else {
                repetitions.find(history, accepted);
                for (int i = 0; i < repetitions.size(); i++) {
                    int token = repetitions.token(i);
                    if (token >= row.size()) {
                        restore(row);
                        check(row, token, "history");
                    }
                    change(row, token, row.get(token) - repetitions.penalty(i));
                }
            }
        }
    }

    private void change(Row row, int token, float logit) {
        if (changes == changed.length) {
            changed = Arrays.copyOf(changed, 2 * changes);
            saved = Arrays.copyOf(saved, 2 * changes);
        }
        changed[changes] = token;
        saved[changes++] = row.get(token);
        row.set(token, logit);
    }

    private void restore(Row row) {
        while (changes > 0) {
            changes--;
            row.set(changed[changes], saved[changes]);
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
        if (history != null) {
            if (accepted == history.length) {
                history = Arrays.copyOf(history, 2 * accepted);
            }
            history[accepted] = token;
        }
        if (window != null) {
            window.add(token);
            if (accepted >= options.penaltyLastN()) {
                window.remove(history[accepted - options.penaltyLastN()]);
            }
        }
        if (bounds != null) {
            if (accepted + 1 == bounds.length) {
                bounds = Arrays.copyOf(bounds, 2 * bounds.length);
            }
            bounds[accepted + 1] = bounds[accepted] - correction(token);
            looked = false;
        }
        accepted++;
    }

    /** By how much the bound of mirostat falls with this token. */
    private float correction(int token) {
        int at = looked ? seen.indexOf(token) : -1;
        if (at < 0 || !(seen.value(at) > 0)) {
            return 0;
        }
        var mirostat = options.mirostat();
        return mirostat.eta() * ((float) (-Math.log(seen.value(at)) / Math.log(2)) - mirostat.tau());
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
        looked &= tokens == 0;
    }
}
