package io.github.panamallama.sampling.track;

import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.TokenTree;
import java.util.List;

/** A sequence of an engine. */
final class EngineTrack implements Track {
    private final Engine engine;
    private final Sequence sequence;
    private final Tally tally;
    private final boolean owned;

    EngineTrack(Sequence sequence, Tally tally, boolean owned) {
        this.engine = sequence.engine();
        this.sequence = sequence;
        this.tally = tally;
        this.owned = owned;
    }

    @Override
    public int vocabularySize() {
        return engine.model().vocabulary().size();
    }

    @Override
    public int length() {
        return sequence.length();
    }

    @Override
    public int[] tokens() {
        return sequence.tokens();
    }

    @Override
    public int contextSize() {
        return engine.contextSize();
    }

    @Override
    public int maxBranches() {
        return engine.options().maxSequences();
    }

    @Override
    public int batchSize() {
        return engine.options().batchSize();
    }

    @Override
    public void evaluate(List<Run> runs) {
        var appends = new Append[runs.size()];
        int rows = 0;
        for (int i = 0; i < appends.length; i++) {
            var run = runs.get(i);
            appends[i] = Append.all(((EngineTrack) run.track()).sequence, run.tokens(), run.rows());
            rows += run.tokens().length;
        }
        engine.decode(appends);
        tally.add(rows);
    }

    @Override
    public Tree tree(int[] tokens, int[] parents, Row[] rows) {
        var tree = new TokenTree(sequence, tokens, parents);
        engine.decode(tree, rows);
        tally.add(tokens.length);
        return new Tree() {
            @Override
            public void keep(int node) {
                tree.keep(node);
            }

            @Override
            public void close() {
                tree.close();
            }
        };
    }

    @Override
    public void draft(int[] tokens, Row row) {
        sequence.draft(tokens, row);
    }

    @Override
    public void truncate(int length) {
        sequence.truncate(length);
    }

    @Override
    public Track fork() {
        return new EngineTrack(sequence.fork(), tally, true);
    }

    @Override
    public Track fresh() {
        return new EngineTrack(engine.newSequence(sequence.adapters(), sequence.plan()), tally, true);
    }

    @Override
    public Track fork(LayerPlan plan, Tally tally) {
        return new EngineTrack(sequence.fork(plan, CacheReuse.APPROXIMATE), tally, true);
    }

    @Override
    public void read(int block, Reader reader) {
        var state = new float[engine.model().embeddingSize()];
        sequence.tap(Tap.hidden(block), reading -> {
            if (reading.has(block)) {
                reading.hidden(block, state);
                reader.read(reading.position(), reading.node(), state);
            }
        });
    }

    @Override
    public void readNothing() {
        try {
            sequence.untap();
        } catch (ClosedException e) {
            // nothing is evaluated any more
        }
    }

    @Override
    public void exchange(Track other) {
        sequence.exchange(((EngineTrack) other).sequence);
    }

    @Override
    public void cancel() {
        sequence.cancel();
    }

    @Override
    public Tally tally() {
        return tally;
    }

    @Override
    public void close() {
        if (owned) {
            sequence.close();
        }
    }
}
