package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.sampling.track.Track;
import java.util.Arrays;

/** {@link NGramDrafts}. */
final class NGramRun extends Run {
    /** Tokens whose tri-grams are reinforced before each draft. */
    private static final int WINDOW = 16;
    /** Passes without drafts after they stopped paying. */
    private static final int PAUSE = 32;
    private static final double SMOOTHING = 0.1;

    private final NGramDrafts settings;
    private final DraftSearch search;
    private final Row[] rows;
    private double acceptedPerPass;
    private int paused;

    NGramRun(NGramDrafts settings, Track main, int[] prompt, StrategyOptions options, Language language) {
        super(main, prompt, options, language);
        if (settings.nodes() + 1 > main.batchSize()) {
            throw new IllegalArgumentException(settings.nodes() + " nodes and the last token do not fit a batch of " + main.batchSize()
                    + "; raise EngineOptions.batchSize or draft less");
        }
        if (Math.min(settings.paths(), settings.nodes()) > main.maxBranches()) {
            throw new IllegalArgumentException(settings.paths() + " paths need as many sequences, the engine has " + main.maxBranches()
                    + "; raise EngineOptions.maxSequences or draft fewer");
        }
        this.settings = settings;
        search = new DraftSearch(settings, options.sampling().seed().orElse(0));
        rows = new Row[settings.nodes()];
        acceptedPerPass = Math.max(1, 2 * settings.breakEven());
    }

    @Override
    void begin() {
        super.begin();
        settings.table().reinforce(prompt, 0, prompt.length);
    }

    @Override
    void choose(Steps out) {
        int pending = base + history.size() - main.length();
        if (pending == 0) {
            step(row, out);
            return;
        }
        int[] recent = history.from(Math.max(0, history.size() - WINDOW));
        settings.table().reinforce(recent, 0, recent.length);
        DraftSearch.Tree draft = null;
        if (paused > 0) {
            paused--;
        } else if (history.size() >= 2 && pending + settings.nodes() <= main.batchSize()) {
            draft = search.draft(history.get(history.size() - 2), history.last());
        }
        if (draft == null || draft.tokens().length == 0 || pending + depth(draft) > main.contextSize() - main.length()) {
            plain(out);
            return;
        }
        try {
            verify(draft, pending, out);
        } catch (ContextFullException e) {
            count("noRoom");
            plain(out);
        }
    }

    private void plain(Steps out) {
        count("plainSteps");
        evaluate();
        step(row, out);
    }

    private int step(Row at, Steps out) {
        int token = chooser.sample(at);
        gauge.add(at, token, out);
        commit(token);
        return token;
    }

    private static int depth(DraftSearch.Tree tree) {
        var depths = new int[tree.tokens().length];
        int most = 0;
        for (int i = 0; i < depths.length; i++) {
            depths[i] = tree.parents()[i] < 0 ? 1 : depths[tree.parents()[i]] + 1;
            most = Math.max(most, depths[i]);
        }
        return most;
    }

    /** Evaluates the pending tokens and the tree behind them in one batch; follows what is drawn as long as the tree has it. */
    private void verify(DraftSearch.Tree draft, int pending, Steps out) {
        int n = draft.tokens().length;
        int[] tokens = Arrays.copyOf(history.from(history.size() - pending), pending + n);
        int[] parents = new int[pending + n];
        var wanted = new Row[pending + n];
        for (int i = 0; i < pending; i++) {
            parents[i] = i - 1;
        }
        wanted[pending - 1] = row;
        for (int i = 0; i < n; i++) {
            tokens[pending + i] = draft.tokens()[i];
            parents[pending + i] = draft.parents()[i] < 0 ? pending - 1 : pending + draft.parents()[i];
            if (rows[i] == null) {
                rows[i] = new Row(main.vocabularySize());
            }
            wanted[pending + i] = rows[i];
        }
        int node = pending - 1;
        int accepted = 0;
        try (var tree = main.tree(tokens, parents, wanted)) {
            while (true) {
                int token = step(wanted[node], out);
                int next = -1;
                for (int i = pending; i < tokens.length && next < 0; i++) {
                    next = parents[i] == node && tokens[i] == token ? i : -1;
                }
                if (next < 0 || language.ends(token)) {
                    break;
                }
                node = next;
                accepted++;
            }
            tree.keep(node);
        }
        count("passes");
        count("drafted", n);
        count("accepted", accepted);
        acceptedPerPass += SMOOTHING * (accepted - acceptedPerPass);
        if (acceptedPerPass < settings.breakEven()) {
            paused = PAUSE;
            acceptedPerPass = Math.max(1, 2 * settings.breakEven());
            count("draftsPaused");
        }
    }
}
