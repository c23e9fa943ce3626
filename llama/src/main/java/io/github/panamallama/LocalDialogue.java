package io.github.panamallama;

import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.Sequence;

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

    /** Templates write special tokens as text; the one that begins a text is added where a template leaves that to the vocabulary. */
    @Override
    public int[] tokens(String prompt) {
        var vocabulary = engine.model().vocabulary();
        var tokens = vocabulary.tokenize(prompt, false, true);
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
        if (sequence.length() == 0 && options.plans() != null) {
            var fresh = engine.newSequence(sequence.adapters(), options.plans().choose(engine, prompt));
            sequence.close();
            sequence = fresh;
        }
        return new LocalGeneration(sequence, false, prompt, false, options, true);
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
        sequence.close();
        sequence = next;
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
    public void close() {
        sequence.close();
    }
}
