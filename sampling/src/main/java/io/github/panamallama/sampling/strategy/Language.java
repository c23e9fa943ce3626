package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.TokenDecoder;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.Sampler;
import io.github.panamallama.sampling.SamplerOptions;

/** What tokens stand for: a vocabulary, or letters in tests. */
interface Language {
    /** @param spelling whether control tokens are spelled out */
    static Language of(Vocabulary vocabulary, boolean spelling) {
        return new Language() {
            @Override
            public boolean ends(int token) {
                return vocabulary.isEndOfGeneration(token);
            }

            @Override
            public int[] tokenize(String text) {
                return vocabulary.tokenize(text, false, false);
            }

            @Override
            public Sampler sampler(SamplerOptions options) {
                return Sampler.of(options, vocabulary);
            }

            @Override
            public Reader reader() {
                TokenDecoder decoder = spelling ? vocabulary.spellingDecoder() : vocabulary.decoder();
                return new Reader() {
                    @Override
                    public String push(int token) {
                        return decoder.push(token);
                    }

                    @Override
                    public String rest() {
                        return decoder.flush();
                    }
                };
            }
        };
    }

    /** Whether generation ends with this token. */
    boolean ends(int token);

    /** The usual tokens of a text. */
    int[] tokenize(String text);

    /** The sampler that these options describe, for rows of this language's tokens. */
    default Sampler sampler(SamplerOptions options) {
        return Sampler.of(options);
    }

    /** A reader at the start of a generated text. */
    Reader reader();

    /** Turns tokens to text, one after the other. */
    interface Reader {
        String push(int token);

        String rest();
    }

    default String text(int[] tokens) {
        var reader = reader();
        var text = new StringBuilder();
        for (int token : tokens) {
            text.append(reader.push(token));
        }
        return text.append(reader.rest()).toString();
    }
}
