package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.StopStrings;
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
    private final ArrayDeque<Row> spare = new ArrayDeque<>();
    private Steps chosen;
    private int given;
    private boolean searched;

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
        var finished = new ArrayList<Beam>();
        var order = Comparator.comparingDouble(Beam::score).reversed();
        for (int length = 1; length <= limit && !live.isEmpty(); length++) {
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
            var next = new ArrayList<Beam>();
            for (var extension : extensions.subList(0, Math.min(settings.width(), extensions.size()))) {
                var beam = extend(extension);
                (beam.finished ? finished : next).add(beam);
            }
            for (var beam : live) {
                beam.track.close();
                if (beam.row != row) {
                    spare.add(beam.row);
                }
            }
            live.clear();
            live.addAll(next);
            finished.sort(order);
            if (!finished.isEmpty() && live.stream().allMatch(beam -> beam.score() <= finished.getFirst().score())) {
                break;
            }
            if (length < limit && !live.isEmpty()) {
                evaluateAll();
            }
        }
        var all = new ArrayList<>(finished);
        if (finished.isEmpty() || live.stream().anyMatch(beam -> beam.tokens.size() >= limit)) {
            all.addAll(live);
        }
        if (all.isEmpty()) {
            throw new ConstraintException("dead end: no token of this vocabulary continues any of the texts found");
        }
        all.sort(order);
        take(all.getFirst());
        all.forEach(beam -> beam.track.close());
        finished.forEach(beam -> beam.track.close());
    }

    private Beam extend(Extension extension) {
        var from = extension.from();
        var tokens = new Ints(from.tokens);
        tokens.add(extension.token());
        var own = from.own.fork();
        own.accept(extension.token());
        var steps = new Steps(from.steps);
        gauge.add(from.row, extension.token(), steps);
        return new Beam(from.track.fork(), own, tokens, extension.logProbability(), ends(tokens), steps, null);
    }

    private boolean ends(Ints tokens) {
        if (language.ends(tokens.last())) {
            return true;
        }
        if (options.stopStrings().isEmpty()) {
            return false;
        }
        StopStrings.Matcher matcher = options.stopStrings().matcher();
        matcher.push(language.text(tokens.toArray()));
        return matcher.matched();
    }

    private void evaluateAll() {
        var runs = new ArrayList<Track.Run>();
        for (var beam : live) {
            beam.row = spare.isEmpty() ? new Row(main.vocabularySize()) : spare.poll();
            runs.add(Track.Run.last(beam.track, new int[] {beam.tokens.last()}, beam.row));
        }
        main.evaluate(runs);
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
    void end(int generated) {
        live.forEach(beam -> beam.track.close());
        super.end(generated);
    }
}
