package io.github.panamallama;

import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import io.github.panamallama.runtime.StateException;
import java.nio.file.Path;

/**
 * A conversation's tokens in a worker. They are gone when that dies; the conversation goes on with the next one, which evaluates its
 * prompt anew.
 */
final class RemoteDialogue implements Dialogue {
    private final IsolatedLlama llama;
    /** Who holds the tokens; null while there are none. */
    private WorkerProcess holder;
    private long number;
    private boolean closed;

    RemoteDialogue(IsolatedLlama llama) {
        this.llama = llama;
    }

    @Override
    public int contextSize() {
        return llama.worker().loaded().contextSize();
    }

    @Override
    public int[] tokens(String prompt) {
        return llama.worker().ask(Type.TOKENS, prompt, int[].class);
    }

    @Override
    public Generation answer(int[] prompt, GenerationOptions options) {
        if (closed) {
            throw new ClosedException("the conversation has been closed");
        }
        var wire = Wire.Options.of(options);
        var worker = llama.worker();
        if (worker != holder) {
            holder = worker;
            number = llama.newDialogue();
        }
        return worker.open(Type.ANSWER, new Wire.Answer(number, prompt, wire));
    }

    @Override
    public AdapterSet adapters() {
        return AdapterSet.none();
    }

    @Override
    public void adapters(AdapterSet adapters) {
        Wire.requireNoAdapters(adapters);
    }

    @Override
    public int length() {
        return holder == null || !holder.alive() ? 0 : holder.ask(Type.LENGTH, number, Integer.class);
    }

    @Override
    public void save(Path file) {
        throw new StateException("evaluated tokens of a worker are not saved");
    }

    @Override
    public void restore(Path file) {
        throw new StateException("a worker takes no evaluated tokens from " + file);
    }

    @Override
    public void clear() {
        if (holder != null) {
            holder.tell(Type.RELEASE, number);
            holder = null;
        }
    }

    @Override
    public void close() {
        clear();
        closed = true;
    }
}
