package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;
import java.util.List;

/** {@link ContrastiveSearch}. */
final class ContrastiveRun extends Run {
    /** Tokens whose logits are computed at a time, where that is only done for their states: a row is hundreds of kilobytes. */
    private static final int PIECE = 64;

    private final ContrastiveSearch settings;
    private final int block;
    private final States states = new States();
    private final float[][] ahead;    // states of the candidates
    private final Row[] rows;
    private final Row scratch;
    private final Candidates best;
    private int compared;    // of the best, those that are evaluated
    private volatile Track before;    // what the sequence held, while it is evaluated once more
    private boolean reading;

    ContrastiveRun(ContrastiveSearch settings, int blocks, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        if (settings.candidates() > main.vocabularySize()) {
            throw new IllegalArgumentException("candidates is " + settings.candidates() + ", the vocabulary has " + main.vocabularySize());
        }
        int most = Math.min(main.maxBranches(), main.batchSize());
        if (settings.candidates() > most) {
            throw new IllegalArgumentException(settings.candidates() + " candidates need as many sequences and fit one batch, the engine "
                    + "has " + main.maxBranches() + " and " + main.batchSize() + "; raise EngineOptions.maxSequences or batchSize");
        }
        if (settings.fromLast() >= blocks) {
            throw new IllegalArgumentException("fromLast is " + settings.fromLast() + ", the model has " + blocks + " blocks");
        }
        this.settings = settings;
        block = blocks - 1 - settings.fromLast();
        ahead = new float[settings.candidates()][];
        rows = new Row[settings.candidates()];
        for (int i = 0; i < rows.length; i++) {
            rows[i] = new Row(main.vocabularySize());
        }
        scratch = new Row(main.vocabularySize());
        best = new Candidates(settings.candidates());
    }

    @Override
    void begin() {
        if (base > 0) {
            try (var again = main.fresh()) {
                before = again;
                again.read(block, this::keep);
                append(again, main.tokens());
            } finally {
                before = null;
            }
        }
        main.read(block, this::keep);
        reading = true;
        append(main, prompt);
    }

    private void keep(int position, int node, float[] state) {
        if (node < 0) {
            states.set(position, state);
        } else {
            ahead[node] = state.clone();
        }
    }

    /** Evaluates tokens so far that the block compared is reached by each of them. */
    private void append(Track track, int[] tokens) {
        if (settings.fromLast() > 0) {
            evaluate(List.of(Track.Run.last(track, tokens, row)));
            return;
        }
        for (int i = 0; i < tokens.length; i += PIECE) {
            int[] piece = Arrays.copyOfRange(tokens, i, Math.min(tokens.length, i + PIECE));
            var wanted = new Row[piece.length];
            Arrays.fill(wanted, row);
            evaluate(List.of(new Track.Run(track, piece, wanted)));
        }
    }

    /** The row always follows the last token, or would with what is due: another token may follow either way. */
    @Override
    boolean behind() {
        return true;
    }

    @Override
    void choose(Steps out) {
        int done = main.length() - base;
        if (done < history.size()) {    // what the constraint left no choice about
            append(main, history.from(done));
        }
        var allowed = chooser.allowed(chooser.adjusted(row, scratch));
        int room = main.contextSize() - main.length();
        int n = RowMath.topK(allowed, settings.candidates(), best);
        compared = Math.min(n, room);
        if (room > 0) {
            double sum = RowMath.logSumExp(allowed);
            try (var tree = candidates()) {
                int winner = 0;
                for (int i = 1; i < compared; i++) {
                    winner = score(i, sum) > score(winner, sum) ? i : winner;
                }
                tree.keep(winner);
                states.set(main.length() - 1, ahead[winner]);
                take(winner, out);
                row.segment().copyFrom(rows[winner].segment());
            }
        } else {
            take(0, out);    // the last one, which nobody can evaluate
        }
        if (compared < n) {
            count("fewerCandidates");
        }
    }

    /** Evaluates the candidates, or the likeliest alone if there are no cells for more. */
    private Track.Tree candidates() {
        int[] tokens = new int[compared];
        int[] parents = new int[compared];
        for (int i = 0; i < compared; i++) {
            tokens[i] = best.token(i);
            parents[i] = -1;
        }
        try {
            return main.tree(tokens, parents, Arrays.copyOf(rows, compared));
        } catch (ContextFullException e) {
            if (compared == 1) {
                throw e;
            }
            compared = 1;
            return candidates();
        }
    }

    /** The score of a candidate behind what is evaluated. */
    private double score(int candidate, double sum) {
        return (1 - settings.alpha()) * Math.exp(best.value(candidate) - sum)
                - settings.alpha() * states.largestCosine(ahead[candidate], main.length());
    }

    private void take(int candidate, Steps out) {
        if (candidate > 0) {
            count("changed");
        }
        int token = best.token(candidate);
        gauge.add(row, token, out);
        commit(token);
    }

    @Override
    void end(int generated) {
        if (reading) {
            main.readNothing();
        }
        super.end(generated);
    }

    @Override
    void cancel() {
        super.cancel();
        var again = before;
        if (again != null) {
            again.cancel();
        }
    }
}
