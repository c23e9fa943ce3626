package io.github.panamallama;

import io.github.panamallama.Frames.Type;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.ClosedException;
import java.nio.file.Path;
import java.util.List;

/**
 * A conversation's tokens in a worker. They are gone when that dies; the conversation goes on with the next one, which evaluates its
 * prompt anew.
 */
final class RemoteDialogue implements Dialogue {
    private final IsolatedLlama llama;
    /** Who holds the tokens; null while there are none. */
    private WorkerProcess holder;
    private long number;
    private AdapterSet adapters = AdapterSet.none();
    private boolean closed;

    RemoteDialogue(IsolatedLlama llama, AdapterSet adapters) {
        this.llama = llama;
        adapters(adapters);
    }

    @Override
    public int contextSize() {
        return llama.worker().loaded().contextSize();
    }

    @Override
    public List<String> specialSpellings() {
        return llama.worker().loaded().specialSpellings();
    }

    @Override
    public int[] tokens(String prompt) {
        return llama.worker().ask(Type.TOKENS, prompt, int[].class);
    }

    @Override
    public Generation answer(int[] prompt, GenerationOptions options) {
        requireOpen();
        var wire = Wire.Options.of(options, List.of());
        var refs = llama.refs(adapters);
        return held().open(Type.ANSWER, new Wire.Answer(number, prompt, wire, refs), options.confidence());
    }

    private void requireOpen() {
        if (closed) {
            throw new ClosedException("the conversation has been closed");
        }
    }

    /** The worker, which knows this by its {@link #number} once it has been asked. */
    private WorkerProcess held() {
        var worker = llama.worker();
        if (worker != holder) {
            holder = worker;
            number = llama.newNumber();
        }
        return worker;
    }

    @Override
    public AdapterSet adapters() {
        return adapters;
    }

    @Override
    public void adapters(AdapterSet adapters) {
        requireOpen();
        if (!adapters.equals(this.adapters)) {
            var refs = llama.refs(adapters);
            held().ask(Type.ADAPT, new Wire.Adapted(number, refs), Integer.class);
            this.adapters = adapters;
        }
    }

    @Override
    public int length() {
        return holder == null || !holder.alive() ? 0 : holder.ask(Type.LENGTH, number, Integer.class);
    }

    @Override
    public void save(Path file) {
        requireOpen();
        held().ask(Type.SAVE, kept(file), Integer.class);
    }

    private Wire.Kept kept(Path file) {
        return new Wire.Kept(number, file.toAbsolutePath().toString(), llama.refs(adapters));
    }

    @Override
    public void restore(Path file) {
        requireOpen();
        held().ask(Type.RESTORE, kept(file), Integer.class);
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
