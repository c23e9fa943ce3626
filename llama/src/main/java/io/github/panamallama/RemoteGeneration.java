package io.github.panamallama;

import io.github.panamallama.Frames.BrokenException;
import io.github.panamallama.Frames.Frame;
import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.LogProbs;
import io.github.panamallama.sampling.strategy.Confidence;
import io.github.panamallama.sampling.strategy.Work;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A generation in a worker. The worker writes ahead of the reader by at most {@link WorkerProcess#WINDOW} pieces; what is told here is the
 * state after the piece that the reader has got.
 */
final class RemoteGeneration implements Generation {
    private static final byte[] WHOLE_WINDOW = credit(WorkerProcess.WINDOW);
    private static final byte[] HALF_WINDOW = credit(WorkerProcess.WINDOW / 2);

    private final WorkerProcess.Call call;
    private final Wire.Opened opened;
    private final LayerPlan plan;
    private final ReentrantLock running = new ReentrantLock();
    private final List<LogProbs> logProbs = new ArrayList<>();
    /** Null if it wasn't asked for. */
    private final Confidence confidence;
    private final StringBuilder text = new StringBuilder();
    private Wire.Piece last = new Wire.Piece("", 0, 0, 0, List.of(), List.of());
    private int taken;
    private boolean started;
    private volatile boolean cancelled;
    private volatile FinishReason reason;
    /** The tokens of a text that its grammar does not end here; null for a whole text. */
    private int[] partial;
    private Work work;

    /** @param measured whether confidence was asked for */
    RemoteGeneration(WorkerProcess.Call call, Wire.Opened opened, boolean measured) {
        this.call = call;
        this.opened = opened;
        confidence = measured ? Confidence.empty() : null;
        plan = opened.plan().plan();
    }

    private static byte[] credit(int pieces) {
        return ByteBuffer.allocate(Integer.BYTES).putInt(pieces).array();
    }

    @Override
    public LayerPlan plan() {
        return plan;
    }

    @Override
    public String next() {
        running.lock();
        try {
            if (reason == null && !started) {
                started = true;
                call.send(Type.CREDIT, WHOLE_WINDOW);
            }
            while (reason == null) {
                var frame = cancelled ? null : call.take();
                if (cancelled) {
                    call.cancel();
                    reason = FinishReason.CANCELLED;
                } else if (frame != null && receive(frame)) {
                    return last.text();
                }
            }
            if (partial != null && (reason == FinishReason.LENGTH || reason == FinishReason.CONTEXT_FULL)) {
                throw incomplete();
            }
            return null;
        } catch (RuntimeException | Error e) {
            reason = reason == null ? FinishReason.FAILED : reason;
            throw e;
        } finally {
            running.unlock();
        }
    }

    /** Whether there is text. */
    private boolean receive(Frame frame) {
        switch (frame.type()) {
            case PIECE -> {
                try {
                    last = Wire.Piece.of(frame.payload());
                } catch (BrokenException e) {
                    throw call.worker().broken(e.getMessage());
                }
                logProbs.addAll(last.logProbs());
                for (var one : confidence == null ? List.<Wire.Measure>of() : last.measures()) {
                    confidence.add(one.token(), one.logProbability(), one.entropy(), one.margin());
                }
                text.append(last.text());
                if (++taken % (WorkerProcess.WINDOW / 2) == 0) {
                    call.send(Type.CREDIT, HALF_WINDOW);
                }
                return !last.text().isEmpty();
            }
            case END -> {
                var end = call.worker().read(frame, Wire.End.class);
                partial = end.tokens();
                work = end.work();
                reason = end.reason();
                call.close();
                call.worker().hasServed();
            }
            case FAILED -> {
                var failure = call.worker().read(frame, Wire.Failure.class);
                reason = failure.reason() == null ? FinishReason.FAILED : failure.reason();
                partial = failure.tokens();
                call.close();
                throw failure.exception();
            }
            default -> throw call.worker().broken(frame);
        }
        return false;
    }

    @Override
    public String text() {
        return text.toString();
    }

    @Override
    public void requireWhole() {
        if (partial != null) {
            throw incomplete();
        }
    }

    private IncompleteException incomplete() {
        return new IncompleteException(reason, partial, text.toString());
    }

    @Override
    public void cancel() {
        if (reason != null) {
            return;
        }
        cancelled = true;
        if (running.tryLock()) {
            try {
                if (reason == null) {
                    reason = FinishReason.CANCELLED;
                    call.cancel();
                }
            } finally {
                running.unlock();
            }
        } else {
            call.wake();
        }
    }

    @Override
    public FinishReason reason() {
        return reason;
    }

    @Override
    public List<LogProbs> logProbs() {
        return List.copyOf(logProbs);
    }

    @Override
    public Confidence confidence() {
        return confidence;
    }

    @Override
    public Work work() {
        return work;
    }

    @Override
    public Completion.Stats stats() {
        return new Completion.Stats(opened.promptTokens(), opened.cachedTokens(), last.generatedTokens(), last.promptNanos(),
                last.generationNanos(), opened.truncated());
    }
}
