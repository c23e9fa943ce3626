package io.github.panamallama.sampling.track;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Function;

/** A model that is a function from history to logits, for what no real model says on request. Checks that it is used properly. */
public final class TableTrack implements Track {
    private final int vocabularySize;
    private final int contextSize;
    private final Function<int[], float[]> logits;
    private Function<int[], float[]> head;
    private Function<int[], float[]> planned;
    private Function<int[], float[]> states;
    private Reader reader;
    private final Tally tally;
    private final int[] open;    // tracks that are forked and not closed, shared
    private int[] tokens = {};
    private boolean treeOpen;
    private boolean closed;

    public TableTrack(int vocabularySize, int contextSize, Function<int[], float[]> logits) {
        this(vocabularySize, contextSize, logits, new Tally(), new int[1], new int[0]);
    }

    private TableTrack(int vocabularySize, int contextSize, Function<int[], float[]> logits, Tally tally, int[] open, int[] tokens) {
        this.vocabularySize = vocabularySize;
        this.contextSize = contextSize;
        this.logits = logits;
        this.tally = tally;
        this.open = open;
        this.tokens = tokens;
    }

    /** Gives the model an MTP head that says these logits. */
    public TableTrack withHead(Function<int[], float[]> head) {
        this.head = head;
        return this;
    }

    /** Gives the model these logits under any plan. */
    public TableTrack withPlan(Function<int[], float[]> planned) {
        this.planned = planned;
        return this;
    }

    /** Gives the model these hidden states, whatever the block. */
    public TableTrack withStates(Function<int[], float[]> states) {
        this.states = states;
        return this;
    }

    private void hand(int[] history, int node) {
        if (reader != null) {
            reader.read(history.length - 1, node, states.apply(history));
        }
    }

    /** Forks that nobody closed. */
    public int openForks() {
        return open[0];
    }

    @Override
    public int vocabularySize() {
        return vocabularySize;
    }

    @Override
    public int length() {
        return tokens.length;
    }

    @Override
    public int[] tokens() {
        return tokens.clone();
    }

    @Override
    public int contextSize() {
        return contextSize;
    }

    @Override
    public int maxBranches() {
        return 64;
    }

    @Override
    public int batchSize() {
        return 512;
    }

    @Override
    public void evaluate(List<Run> runs) {
        int rows = 0;
        for (var run : runs) {
            var track = (TableTrack) run.track();
            track.usable();
            if (track.tokens.length + run.tokens().length > contextSize) {
                throw new ContextFullException("context full");
            }
            if (run.tokens().length == 0) {
                throw new IllegalArgumentException("nothing to append");
            }
        }
        for (var run : runs) {
            var track = (TableTrack) run.track();
            for (int i = 0; i < run.tokens().length; i++) {
                track.tokens = with(track.tokens, run.tokens()[i]);
                track.hand(track.tokens, -1);
                if (run.rows()[i] != null) {
                    run.rows()[i].copyFrom(logits.apply(track.tokens));
                }
            }
            rows += run.tokens().length;
        }
        ((TableTrack) runs.getFirst().track()).tally.add(rows);
    }

    private static int[] with(int[] history, int token) {
        var longer = Arrays.copyOf(history, history.length + 1);
        longer[history.length] = token;
        return longer;
    }

    private void usable() {
        if (treeOpen || closed) {
            throw new IllegalStateException(closed ? "closed" : "a tree is open");
        }
    }

    @Override
    public Tree tree(int[] nodes, int[] parents, Row[] rows) {
        usable();
        if (tokens.length + nodes.length > contextSize) {
            throw new ContextFullException("context full");
        }
        var paths = new int[nodes.length][];
        for (int i = 0; i < nodes.length; i++) {
            paths[i] = with(parents[i] < 0 ? tokens : paths[parents[i]], nodes[i]);
            hand(paths[i], i);
            if (rows[i] != null) {
                rows[i].copyFrom(logits.apply(paths[i]));
            }
        }
        tally.add(nodes.length);
        treeOpen = true;
        return new Tree() {
            @Override
            public void keep(int node) {
                tokens = paths[node];
            }

            @Override
            public void close() {
                treeOpen = false;
            }
        };
    }

    @Override
    public void draft(int[] drafted, Row row) {
        usable();
        if (tokens.length == 0 || drafted.length == 0) {
            throw new IllegalArgumentException("nothing to start from");
        }
        if (tokens.length + drafted.length > contextSize) {
            throw new ContextFullException("context full");
        }
        var all = tokens;
        for (int token : drafted) {
            all = with(all, token);
        }
        row.copyFrom(head.apply(all));
    }

    @Override
    public void truncate(int length) {
        usable();
        if (length < 0 || length > tokens.length) {
            throw new IllegalArgumentException("can't truncate " + tokens.length + " to " + length);
        }
        tokens = Arrays.copyOf(tokens, length);
    }

    @Override
    public Track fork() {
        usable();
        open[0]++;
        return new TableTrack(vocabularySize, contextSize, logits, tally, open, tokens);
    }

    @Override
    public Track fork(LayerPlan plan, Tally tally) {
        usable();
        open[0]++;
        return new TableTrack(vocabularySize, contextSize, planned, tally, open, tokens);
    }

    @Override
    public Track fresh() {
        open[0]++;
        return new TableTrack(vocabularySize, contextSize, logits, tally, open, new int[0]).withStates(states);
    }

    @Override
    public void read(int block, Reader reader) {
        this.reader = reader;
    }

    @Override
    public void readNothing() {
        reader = null;
    }

    /** Whether somebody reads its states. */
    public boolean isRead() {
        return reader != null;
    }

    @Override
    public void exchange(Track other) {
        usable();
        var that = (TableTrack) other;
        that.usable();
        var mine = tokens;
        tokens = that.tokens;
        that.tokens = mine;
    }

    @Override
    public void cancel() {
        // nothing is ever in flight
    }

    @Override
    public Tally tally() {
        return tally;
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            open[0]--;
        }
    }

    /** Logits that depend on the last {@code order} tokens (all if negative), standard normal times {@code spread}. */
    public static Function<int[], float[]> random(int size, int order, double spread, long seed) {
        return history -> {
            int from = order < 0 ? 0 : Math.max(0, history.length - order);
            long hash = seed * 0x9e3779b97f4a7c15L + 1;
            for (int i = from; i < history.length; i++) {
                hash = (hash ^ history[i] + 1) * 0xbf58476d1ce4e5b9L;
                hash ^= hash >>> 29;
            }
            var random = new SplittableRandom(hash);
            var row = new float[size];
            for (int i = 0; i < size; i++) {
                row[i] = (float) (spread * random.nextGaussian());
            }
            return row;
        };
    }
}
