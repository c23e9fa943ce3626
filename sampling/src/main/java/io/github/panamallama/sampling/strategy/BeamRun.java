package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.track.Track;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** {@link BeamSearch}. */
final class BeamRun extends Run {
    private final BeamSearch settings;
    private final Candidates best;
    private final List<Beam> live = new ArrayList<>();
    /** The best text that has ended; null before. */
    private Beam finished;
    private final ArrayDeque<Row> spare = new ArrayDeque<>();
    private Steps chosen;
    private int given;
    private boolean searched;
    private int length;    // of the texts that are being extended

    BeamRun(BeamSearch settings, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        if (settings.width() + 1 > main.maxBranches()) {
            throw new IllegalArgumentException("width " + settings.width() + " needs " + (settings.width() + 1)
                    + " sequences, the engine has "
                    + main.maxBranches() + "; raise EngineOptions.maxSequences");
        }
        this.settings = settings;
        best = new Candidates(Math.min(settings.width(), main.vocabularySize()));
    }

    /** A text. Its track lacks its last token until that is evaluated. */
    private final class Beam {
        final Track track;
        final Chooser own;
        final Ints tokens;
        final double logProbability;
        final boolean finished;
        final Steps steps;
        Row row;

        Beam(Track track, Chooser own, Ints tokens, double logProbability, boolean finished, Steps steps, Row row) {
            this.steps = steps;
            this.track = track;
            this.own = own;
            this.tokens = tokens;
            this.logProbability = logProbability;
            this.finished = finished;
            this.row = row;
        }

        double score() {
            return logProbability / Math.pow(Math.max(1, tokens.size()), settings.alpha());
        }
    }

    private record Extension(Beam from, int token, double logProbability) {
    }

    @Override
    void choose(Steps out) {
        if (!searched) {
            searched = true;
            search();
        }
        if (given == chosen.size()) {
            throw new ContextFullException("context full: the texts of the search reach its end");
        }
        for (; given < chosen.size(); given++) {
            out.add(chosen.token(given), chosen.logProbability(given), chosen.entropy(given), chosen.margin(given));
        }
    }

    private void search() {
        int room = main.contextSize() - main.length() + 1;
        int limit = Math.min(options.maxTokens(), room);
        live.add(new Beam(main.fork(), chooser.fork(), new Ints(), 0, false, new Steps(), row));
        for (length = 1; length <= limit && !live.isEmpty(); length++) {
            extendAll();
            if (finished != null && live.stream().allMatch(beam -> beam.score() <= finished.score())) {
                break;
            }
            if (length < limit && !live.isEmpty()) {
                evaluateAll();
            }
        }
        Beam winner = finished;
        for (var beam : live) {
            winner = winner == null || beam.score() > winner.score() ? beam : winner;
        }
        if (winner == null) {
            throw new ConstraintException("dead end: no token of this vocabulary continues any of the texts found");
        }
        take(winner);
        closeAll();
    }

    /** Replaces the unfinished texts by the best continuations of them all. */
    private void extendAll() {
        var extensions = new ArrayList<Extension>();
        for (var beam : live) {
            Row allowed;
            try {
                allowed = beam.own.allowed(beam.row);
            } catch (ConstraintException e) {
                count("deadEnds");
                continue;
            }
            double sum = RowMath.logSumExp(beam.row);
            int n = RowMath.topK(allowed, best.capacity(), best);
            for (int i = 0; i < n; i++) {
                extensions.add(new Extension(beam, best.token(i), beam.logProbability + best.value(i) - sum));
            }
        }
        extensions.sort(Comparator.comparingDouble(Extension::logProbability).reversed());
        int old = live.size();
        for (var extension : extensions.subList(0, Math.min(settings.width(), extensions.size()))) {
            var beam = extend(extension);
            if (!beam.finished) {
                live.add(beam);
            } else if (finished == null || beam.score() > finished.score()) {
                if (finished != null) {
                    finished.track.close();
                }
                finished = beam;
            } else {
                beam.track.close();    // it can't win any more
            }
        }
        for (var beam : live.subList(0, old)) {
            beam.track.close();
            if (beam.row != row) {
                spare.add(beam.row);
            }
        }
        live.subList(0, old).clear();
    }

    private Beam extend(Extension extension) {
        var from = extension.from();
        var tokens = new Ints(from.tokens);
        tokens.add(extension.token());
        var own = from.own.fork();
        own.accept(extension.token());
        var steps = new Steps(from.steps);
        gauge.add(from.row, extension.token(), steps);
        return new Beam(from.track.fork(), own, tokens, extension.logProbability(), over(tokens.toArray()), steps, null);
    }

    private void evaluateAll() {
        var runs = new ArrayList<Track.Run>();
        for (var beam : live) {
            beam.row = spare.isEmpty() ? new Row(main.vocabularySize()) : spare.poll();
            runs.add(Track.Run.last(beam.track, new int[] {beam.tokens.last()}, beam.row));
        }
        evaluate(runs);
    }

    private void take(Beam beam) {
        main.exchange(beam.track);
        for (int i = 0; i < beam.tokens.size(); i++) {
            commit(beam.tokens.get(i));
        }
        chosen = beam.steps;
    }

    @Override
    boolean behind() {
        return !searched && super.behind();
    }

    @Override
    String place() {
        return searched ? "token " + length : super.place();
    }

    private void closeAll() {
        live.forEach(beam -> beam.track.close());
        if (finished != null) {
            finished.track.close();
        }
    }

    @Override
    void end(int generated) {
        closeAll();
        super.end(generated);
    }
}
