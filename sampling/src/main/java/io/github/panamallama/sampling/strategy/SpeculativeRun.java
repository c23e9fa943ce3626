package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.track.Tally;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;

/** {@link Speculative}, {@link MtpDrafts} and {@link PlanDrafts}. */
final class SpeculativeRun extends Run {
    private final Drafter drafter;
    private final DraftLength lengths;
    private final SplittableRandom random;
    private final Candidates p;
    private final Distribution[] q;
    private final Row draftRow;
    private final Row[] rows;

    SpeculativeRun(int length, Track main, Drafter drafter, int[] prompt, StrategyOptions options, Language language) {
        this(DraftLength.fixed(length), main, drafter, prompt, options, language);
    }

    SpeculativeRun(DraftLength lengths, Track main, Drafter drafter, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        this.drafter = drafter;
        this.lengths = lengths;
        random = new SplittableRandom(options.sampling().seed().orElseGet(() -> new SplittableRandom().nextLong()));
        p = new Candidates(main.vocabularySize());
        q = new Distribution[lengths.most()];
        rows = new Row[lengths.most()];
        draftRow = new Row(main.vocabularySize());
    }

    /** A copy of what a sampler draws from. */
    private static final class Distribution {
        int[] tokens = new int[16];
        double[] probabilities = new double[16];
        int size;

        void set(Candidates from) {
            size = from.size();
            if (tokens.length < size) {
                tokens = new int[2 * size];
                probabilities = new double[2 * size];
            }
            for (int i = 0; i < size; i++) {
                tokens[i] = from.token(i);
                probabilities[i] = from.value(i);
            }
        }

        double of(int token) {
            int i = Arrays.binarySearch(tokens, 0, size, token);
            return i < 0 ? 0 : probabilities[i];
        }

        /** Takes {@code max(0, this - q)}; what is left need not sum to 1. */
        void subtract(Distribution q) {
            for (int i = 0; i < size; i++) {
                probabilities[i] = Math.max(0, probabilities[i] - q.of(tokens[i]));
            }
        }

        int draw(double u) {
            double total = 0;
            for (int i = 0; i < size; i++) {
                total += probabilities[i];
            }
            double rest = u * total;
            int last = -1;
            for (int i = 0; i < size; i++) {
                if (probabilities[i] > 0) {
                    last = tokens[i];
                    rest -= probabilities[i];
                    if (rest < 0) {
                        return last;
                    }
                }
            }
            return last;
        }
    }

    private final Distribution target = new Distribution();

    @Override
    Tally helper() {
        return drafter.tally();
    }

    @Override
    void choose(Steps out) {
        if (!behind()) {
            take(row, null, -1, out);    // the prompt's own row needs no draft
            return;
        }
        long start = System.nanoTime();
        int[] drafted = draft(lengths.next());
        long draftEnd = System.nanoTime();
        int[] pending = history.from(main.length() - base);
        int room = main.contextSize() - main.length() - pending.length;
        if (drafted.length > room) {
            drafted = Arrays.copyOf(drafted, Math.max(0, room));
        }
        int[] tokens = Arrays.copyOf(pending, pending.length + drafted.length);
        System.arraycopy(drafted, 0, tokens, pending.length, drafted.length);
        var wanted = new Row[tokens.length];
        wanted[pending.length - 1] = row;
        System.arraycopy(rows, 0, wanted, pending.length, drafted.length);
        main.evaluate(List.of(new Track.Run(main, tokens, wanted)));
        count("passes");
        count("drafted", drafted.length);
        int accepted = 0;
        while (accepted < drafted.length) {
            int token = drafted[accepted];
            boolean good = take(accepted == 0 ? row : rows[accepted - 1], q[accepted], token, out);
            if (!good) {
                break;
            }
            accepted++;
            if (language.ends(token)) {
                break;
            }
        }
        count("accepted", accepted);
        if (accepted == drafted.length && (drafted.length == 0 || !language.ends(history.last()))) {
            take(accepted == 0 ? row : rows[accepted - 1], null, -1, out);
        }
        // the last token chosen is not evaluated, whatever was drafted in its place
        int evaluated = base + history.size() - 1;
        if (main.length() > evaluated) {
            main.truncate(evaluated);
        }
        if (pending.length == 1) {
            lengths.passed(drafted.length, accepted, draftEnd - start, System.nanoTime() - draftEnd);
        }
    }

    /** Accepts the drafted token, or draws one: from what is left, or without a draft from the row itself. */
    private boolean take(Row at, Distribution draftOf, int drafted, Steps out) {
        chooser.distribution(at, p);
        target.set(p);
        int token;
        if (draftOf != null && random.nextDouble() * draftOf.of(drafted) < target.of(drafted)) {
            token = drafted;
        } else {
            if (draftOf != null) {
                target.subtract(draftOf);
            }
            token = target.draw(random.nextDouble());
            if (token < 0) {    // p and q differ by rounding only
                target.set(p);
                token = target.draw(random.nextDouble());
            }
        }
        gauge.add(at, token, out);
        commit(token);
        return draftOf != null && token == drafted;
    }

    /** Tokens drawn behind the history, as far as there is room for them; {@link #q} then holds what they were drawn from. */
    private int[] draft(int length) {
        if (length == 0) {
            return new int[0];
        }
        var tokens = new Ints();
        var own = chooser.fork();
        try {
            if (!drafter.follow(history, draftRow)) {
                return new int[0];
            }
            while (true) {
                own.distribution(draftRow, p);
                var from = at(tokens.size());
                from.set(p);
                int token = from.draw(random.nextDouble());
                tokens.add(token);
                if (tokens.size() == length || language.ends(token)) {
                    break;
                }
                own.accept(token);
                drafter.append(token, draftRow);
            }
        } catch (ContextFullException e) {
            count("draftFull");
        } catch (ConstraintException e) {
            // the draft ran into a dead end: what there is will do
        } finally {
            drafter.drafted();
        }
        return tokens.toArray();
    }

    /** Room for what a drafted token is drawn from, and for the row behind it. */
    private Distribution at(int drafted) {
        if (q[drafted] == null) {
            q[drafted] = new Distribution();
            rows[drafted] = new Row(main.vocabularySize());
        }
        return q[drafted];
    }

    @Override
    void end(int generated) {
        drafter.close();
        super.end(generated);
    }
}
