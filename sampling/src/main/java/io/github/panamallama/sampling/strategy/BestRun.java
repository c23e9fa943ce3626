package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.StopStrings;
import io.github.panamallama.sampling.track.Track;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/** {@link BestOfN}. */
final class BestRun extends Run {
    private final BestOfN settings;
    private final List<Text> texts = new ArrayList<>();
    private Text best;
    private int given;
    private int length;    // of the texts with the token that is being drawn

    BestRun(BestOfN settings, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        if (settings.n() + 1 > main.maxBranches()) {
            throw new IllegalArgumentException(settings.n() + " texts need " + (settings.n() + 1) + " sequences, the engine has "
                    + main.maxBranches() + "; raise EngineOptions.maxSequences");
        }
        this.settings = settings;
    }

    private final class Text {
        final Track track = main.fork();
        final Chooser own;
        final Row row = new Row(main.vocabularySize());
        final Steps steps = new Steps();
        final Language.Reader reader = language.reader();
        final StopStrings.Matcher stops = options.stopStrings().matcher();
        double logProbability;
        boolean finished;
        boolean dead;

        Text(Chooser own, Row start) {
            this.own = own;
            row.segment().copyFrom(start.segment());
        }

        void draw() {
            int token;
            try {
                token = own.sample(row);
            } catch (ConstraintException e) {
                count("deadEnds");
                dead = true;
                finished = true;
                return;
            }
            logProbability += RowMath.logProbability(row, token);
            gauge.add(row, token, steps);
            own.accept(token);
            if (language.ends(token)) {
                finished = true;
            } else {
                stops.push(reader.push(token));
                finished = stops.matched();
            }
        }

        double score() {
            return dead ? Double.NEGATIVE_INFINITY : settings.perToken() ? logProbability / steps.size() : logProbability;
        }
    }

    @Override
    void choose(Steps out) {
        if (best == null) {
            best = draw();
        }
        if (given == best.steps.size()) {
            throw new ContextFullException("context full: the texts drawn reach its end");
        }
        for (; given < best.steps.size(); given++) {
            out.add(best.steps.token(given), best.steps.logProbability(given), best.steps.entropy(given), best.steps.margin(given));
        }
    }

    private Text draw() {
        int limit = Math.min(options.maxTokens(), main.contextSize() - main.length() + 1);
        var seeds = new SplittableRandom(options.sampling().seed().orElseGet(() -> new SplittableRandom().nextLong()));
        for (int i = 0; i < settings.n(); i++) {
            texts.add(new Text(i == 0 ? chooser.fork() : chooser.fork(seeds.nextLong()), row));
        }
        for (length = 1; ; length++) {
            var runs = new ArrayList<Track.Run>();
            for (var text : texts) {
                if (!text.finished) {
                    text.draw();
                    if (!text.finished && length < limit) {
                        runs.add(Track.Run.last(text.track, new int[] {text.steps.token(length - 1)}, text.row));
                    }
                }
            }
            if (runs.isEmpty()) {
                break;
            }
            evaluate(runs);
        }
        Text winner = texts.getFirst();
        for (var text : texts) {
            if (text.score() > winner.score()) {
                winner = text;
            }
        }
        if (winner.dead) {
            throw new ConstraintException("dead end: no token of this vocabulary continues any of the " + settings.n() + " texts drawn");
        }
        main.exchange(winner.track);
        for (int token : winner.steps.tokens()) {
            commit(token);
        }
        closeAll();
        return winner;
    }

    private void closeAll() {
        texts.forEach(text -> text.track.close());
        texts.clear();
    }

    @Override
    boolean behind() {
        return best == null && super.behind();
    }

    @Override
    String place() {
        return length > 0 ? "token " + length : super.place();
    }

    @Override
    void end(int generated) {
        closeAll();
        super.end(generated);
    }
}
