package io.github.panamallama.bench;

import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.SamplerOptions;
import java.util.HashMap;

/**
 * A generation that both sides carry out.
 *
 * @param prompt      text before the generated tokens
 * @param generate    tokens to draw; the end of generation is ignored, so that the work is always the same
 * @param contextSize tokens that the KV cache holds
 */
record GenerationWork(String prompt, int generate, int contextSize, float temperature, int topK, float topP) {

    /** A start with hardly any context of its own. */
    static final String SHORT_PROMPT = "public static int max(";

    /** Java of our own, so that the shipped model continues with something like Java. */
    static final String JAVA_PROMPT = """
            package org.example.shapes;

            import java.util.ArrayList;
            import java.util.List;

            /**
             * A closed polygon in the plane.
             */
            public final class Polygon {
                private final List<Point> corners = new ArrayList<>();

                /**
                 * Adds a corner after the last one.
                 */
                public void add(Point corner) {
                    corners.add(corner);
                }

                public int size() {
                    return corners.size();
                }

                /**
                 * Returns the length of the border.
                 */
                public double perimeter() {
            """;

    /** The same chain as upstream's with these options; every end-of-generation token is excluded, as {@code --ignore-eos} does. */
    SamplerOptions sampler(Vocabulary vocabulary) {
        var excluded = new HashMap<Integer, Float>();
        for (int token = 0; token < vocabulary.size(); token++) {
            if (vocabulary.isEndOfGeneration(token)) {
                excluded.put(token, Float.NEGATIVE_INFINITY);
            }
        }
        return SamplerOptions.defaults().withTemperature(temperature).withTopK(topK).withTopP(topP).withMinP(0)
                .withLogitBias(excluded);
    }

    GenerationWork withPrompt(String text) {
        return new GenerationWork(text, generate, contextSize, temperature, topK, topP);
    }

    GenerationWork withContextSize(int tokens) {
        return new GenerationWork(prompt, generate, tokens, temperature, topK, topP);
    }

    GenerationWork withGenerate(int tokens) {
        return new GenerationWork(prompt, tokens, contextSize, temperature, topK, topP);
    }
}
