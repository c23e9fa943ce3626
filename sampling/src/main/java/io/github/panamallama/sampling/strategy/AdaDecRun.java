package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.track.Track;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/** {@link AdaDec}. */
final class AdaDecRun extends Run {
    private final AdaDec settings;
    private final Candidates best;
    private final ArrayDeque<Row> spare = new ArrayDeque<>();
    /** Rows of the winner's look-ahead that are still to come; the track has evaluated its tokens. */
    private final ArrayDeque<Row> ahead = new ArrayDeque<>();
    private Row current;
    private final Row scratch;
    private int aheadNow;    // tokens of look-ahead before the row that is looked at

    AdaDecRun(AdaDec settings, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        if (settings.candidates() > main.vocabularySize()) {
            throw new IllegalArgumentException("candidates is " + settings.candidates() + ", the vocabulary has " + main.vocabularySize());
        }
        if (settings.candidates() + 1 > main.maxBranches()) {
            throw new IllegalArgumentException(settings.candidates() + " candidates need " + (settings.candidates() + 1)
                    + " sequences, the engine has " + main.maxBranches() + "; raise EngineOptions.maxSequences");
        }
        this.settings = settings;
        best = new Candidates(settings.candidates());
        scratch = new Row(main.vocabularySize());
    }

    private final class Ahead {
        final int first;
        final Track track;
        final Chooser own;
        final Ints tokens;    // the candidate and what follows it
        final List<Row> rows = new ArrayList<>();
        double sum;
        boolean finished;
        boolean dead;

        Ahead(int first, double logProbability, Chooser own, Track track) {
            this.first = first;
            this.own = own;
            this.track = track;
            tokens = new Ints(first);
            sum = logProbability;
            look();
        }

        void look() {
            finished = tokens.size() > settings.depth() || language.ends(tokens.last())
                    || settings.finished().test(language.text(tokens.toArray())) || !options.stopStrings().isEmpty() && over(text());
        }

        /** All that would be generated with this branch. */
        private int[] text() {
            var text = new Ints(history.from(prompt.length));
            for (int i = 0; i < tokens.size(); i++) {
                text.add(tokens.get(i));
            }
            return text.toArray();
        }

        void extend(Row row) {
            int token;
            try {
                token = own.sample(row);
            } catch (ConstraintException e) {
                dead = true;    // the constraint leads nowhere from here
                finished = true;
                return;
            }
            sum += RowMath.logProbability(row, token);
            own.accept(token);
            tokens.add(token);
            look();
        }

        double score() {
            return dead ? Double.NEGATIVE_INFINITY : sum / tokens.size();
        }
    }

    @Override
    String place() {
        return "token " + (history.size() - prompt.length + 1 + aheadNow);
    }

    @Override
    boolean behind() {
        return ahead.isEmpty() && super.behind();
    }

    @Override
    void choose(Steps out) {
        if (current != null) {
            spare.add(current);
            current = null;
        }
        if (!ahead.isEmpty()) {
            current = ahead.poll();
            count("reusedRows");
        } else {
            evaluate();
        }
        var here = current != null ? current : row;
        boolean pauses = RowMath.entropy(here) >= settings.threshold();
        if (pauses) {
            drop();
        }
        int token = pauses ? pause(here) : chooser.sample(here);
        gauge.add(here, token, out);
        commit(token);
        int next = base + history.size();
        if (!ahead.isEmpty() && main.tokens()[next - 1] != token) {    // no sampler that forks well gets here
            spare.addAll(ahead);
            ahead.clear();
            main.truncate(next - 1);
        }
    }

    /** Forgets the look-ahead behind the tokens chosen so far. */
    private void drop() {
        spare.addAll(ahead);
        ahead.clear();
        if (main.length() > base + history.size()) {
            main.truncate(base + history.size());
        }
    }

    private int pause(Row here) {
        count("pauses");
        double sum = RowMath.logSumExp(here);
        int usual = chooser.sample(here);
        int n = RowMath.topK(chooser.allowed(chooser.adjusted(here, scratch)), settings.candidates(), best);
        if (n == 1 || settings.depth() == 0) {
            return settings.depth() == 0 ? best.token(0) : usual;
        }
        var branches = new ArrayList<Ahead>();
        try {
            for (int i = 0; i < n; i++) {
                int token = best.token(i);
                var own = chooser.fork();
                own.accept(token);
                branches.add(new Ahead(token, here.get(token) - sum, own, main.fork()));
            }
            lookAhead(branches);
            Ahead winner = branches.getFirst();
            for (var branch : branches) {
                if (branch.score() > winner.score()) {
                    winner = branch;
                }
            }
            if (settings.reuse() && !winner.rows.isEmpty()) {
                main.exchange(winner.track);
                ahead.addAll(winner.rows);
                winner.rows.clear();
            }
            if (winner.first != usual) {
                count("changed");
            }
            return winner.first;
        } catch (ContextFullException e) {
            count("noRoom");
            aheadNow = 0;
            return usual;
        } finally {
            for (var branch : branches) {
                spare.addAll(branch.rows);
                branch.track.close();
            }
        }
    }

    private void lookAhead(List<Ahead> branches) {
        aheadNow = 0;
        while (true) {
            var runs = new ArrayList<Track.Run>();
            var running = new ArrayList<Ahead>();
            for (var branch : branches) {
                if (!branch.finished) {
                    var into = spare.isEmpty() ? new Row(main.vocabularySize()) : spare.poll();
                    branch.rows.add(into);
                    runs.add(Track.Run.last(branch.track, new int[] {branch.tokens.last()}, into));
                    running.add(branch);
                }
            }
            if (runs.isEmpty()) {
                aheadNow = 0;
                return;
            }
            evaluate(runs);
            count("lookAheadRows", runs.size());
            aheadNow++;
            for (var branch : running) {
                branch.extend(branch.rows.getLast());
            }
        }
    }
}
