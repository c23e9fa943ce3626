package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Vocabulary;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A text to learn statistics of activations from. It is cut into windows without overlap, each evaluated from its beginning; what is left
 * behind the last whole one is not used. Where the vocabulary begins texts with BOS, that takes the place of each window's first token. So
 * does llama.cpp's {@code llama-imatrix}.
 *
 * @param text    the text
 * @param window  tokens of a window, at least 16
 * @param windows most windows that are used, at least 1
 */
public record Calibration(String text, int window, int windows) {
    /** Tokens of a window unless told otherwise, as llama.cpp has it. */
    public static final int WINDOW = 512;

    static final int LEAST_WINDOW = 16;

    public Calibration {
        if (window < LEAST_WINDOW || windows < 1) {
            throw new IllegalArgumentException(windows + " windows of " + window + " tokens; at least one, of at least " + LEAST_WINDOW
                    + " tokens, is needed");
        }
    }

    /** All of a text, in windows of {@value #WINDOW} tokens. */
    public static Calibration of(String text) {
        return new Calibration(text, WINDOW, Integer.MAX_VALUE);
    }

    /** This text in windows of so many tokens. */
    public Calibration withWindow(int tokens) {
        return new Calibration(text, tokens, windows);
    }

    /** At most so many windows. */
    public Calibration withWindows(int most) {
        return new Calibration(text, window, most);
    }

    /** @throws LlamaException if the text has fewer tokens than two windows */
    List<int[]> cut(Vocabulary vocabulary) {
        int[] tokens = vocabulary.tokenize(text, true, false);
        if (tokens.length < 2 * window) {
            throw new LlamaException("the calibration text has " + tokens.length + " tokens; at least " + 2 * window
                    + ", two windows, are needed: give a longer text or use shorter windows");
        }
        var cut = new ArrayList<int[]>();
        for (int i = 0; i < Math.min(windows, tokens.length / window); i++) {
            int[] part = Arrays.copyOfRange(tokens, i * window, (i + 1) * window);
            if (vocabulary.addsBos()) {
                part[0] = vocabulary.bos();
            }
            cut.add(part);
        }
        return cut;
    }
}
