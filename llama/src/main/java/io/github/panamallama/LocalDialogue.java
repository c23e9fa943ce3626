package io.github.panamallama;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.Sequence;
import java.nio.file.Path;
import java.util.List;

/** A conversation's tokens in this process: a sequence. */
final class LocalDialogue implements Dialogue {
    private final Engine engine;
    private Sequence sequence;

    LocalDialogue(Engine engine, AdapterSet adapters) {
        this.engine = engine;
        sequence = engine.newSequence(adapters);
    }

    @Override
    public int contextSize() {
        return engine.contextSize();
    }

    @Override
    public List<String> specialSpellings() {
        return engine.model().vocabulary().specialSpellings();
    }

    /** Templates write special tokens as text; the one that begins a text is added where a template leaves that to the vocabulary. */
    @Override
    public int[] tokens(String prompt) {
        var vocabulary = engine.model().vocabulary();
        var tokens = Spellings.tokens(vocabulary, prompt);
        if (!vocabulary.addsBos() || tokens.length > 0 && tokens[0] == vocabulary.bos()) {
            return tokens;
        }
        var begun = new int[tokens.length + 1];
        begun[0] = vocabulary.bos();
        System.arraycopy(tokens, 0, begun, 1, tokens.length);
        return begun;
    }

    @Override
    public Generation answer(int[] prompt, GenerationOptions options) {
        if (sequence.length() == 0 && (options.plans() != null || options.promptCache() != null)) {
            become(options.withAdapters(sequence.adapters()).newSequence(engine, prompt));
            return new LocalGeneration(sequence, false, prompt, false, options, true);
        }
        return new LocalGeneration(sequence, false, prompt, false, options.withPromptCache(null), true);
    }

    private void become(Sequence other) {
        sequence.close();
        sequence = other;
    }

    @Override
    public AdapterSet adapters() {
        return sequence.adapters();
    }

    @Override
    public void adapters(AdapterSet adapters) {
        if (adapters.equals(sequence.adapters())) {
            return;
        }
        var next = sequence.fork(adapters);
        next.truncate(sequence.evaluatedAlike(next, sequence.length()));
        become(next);
    }

    @Override
    public int length() {
        return sequence.length();
    }

    @Override
    public void clear() {
        sequence.truncate(0);
    }

    @Override
    public void save(Path file) {
        sequence.save(file);
    }

    @Override
    public void restore(Path file) {
        become(engine.newSequence(sequence.adapters(), sequence.plan())); // whose id may be the only one
        become(engine.restore(file, sequence.adapters(), sequence.plan()));
    }

    @Override
    public void close() {
        sequence.close();
    }
}
