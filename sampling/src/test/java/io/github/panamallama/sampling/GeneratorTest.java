package io.github.panamallama.sampling;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.DecodeException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.SamplingException;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.IntConsumer;
import org.junit.jupiter.api.Test;

/** The loop over a toy model: 128 tokens, each the character of its number, whose continuation is a given text. */
class GeneratorTest {
    private static final int END = 0;

    /** After {@code i} tokens, predicts the {@code i}-th character of the script; then the end. */
    private static final class Script implements Branch {
        final String script;
        final List<Integer> appended = new ArrayList<>();
        int capacity = Integer.MAX_VALUE;
        IntConsumer before = length -> { };
        boolean cancelled;

        Script(String script) {
            this.script = script;
        }

        @Override
        public void append(int[] tokens, Row last) {
            before.accept(appended.size());
            for (int token : tokens) {
                appended.add(token);
            }
            predict(last);
        }

        @Override
        public void append(int token, Row row) {
            append(new int[] {token}, row);
        }

        private void predict(Row row) {
            for (int t = 0; t < row.size(); t++) {
                row.set(t, 0);
            }
            row.set(appended.size() < script.length() ? script.charAt(appended.size()) : END, 5);
        }

        @Override
        public boolean full() {
            return appended.size() >= capacity;
        }

        @Override
        public void cancel() {
            cancelled = true;
        }
    }

    private static Generator generator(Script script, GeneratorOptions options) {
        return generator(script, Sampler.greedy(), options);
    }

    private static Generator generator(Script script, Sampler sampler, GeneratorOptions options) {
        return new Generator(script, new int[] {script.script.charAt(0)}, new Row(128), sampler, t -> t == END,
                t -> String.valueOf((char) t), () -> "", options);
    }

    private static String text(Generator generator) {
        var text = new StringBuilder();
        generator.forEachRemaining(t -> text.append(t.text()));
        return text.toString();
    }

    @Test
    void generatesUntilTheModelEnds() {
        var script = new Script("hello");
        var generator = generator(script, GeneratorOptions.defaults());
        assertEquals("ello", text(generator));
        assertEquals(FinishReason.STOP, generator.finishReason());
        assertEquals(END, generator.token());
        assertEquals(5, generator.generated());
        assertEquals("hello".chars().boxed().toList(), script.appended, "the end token is not evaluated");
        assertThrows(NoSuchElementException.class, generator::next);
    }

    @Test
    void endsAfterTheTokensAllowed() {
        var script = new Script("hello");
        var generator = generator(script, GeneratorOptions.defaults().withMaxTokens(2));
        assertEquals("el", text(generator));
        assertEquals(FinishReason.LENGTH, generator.finishReason());
        assertEquals(2, script.appended.size(), "the last token is not evaluated");
    }

    @Test
    void endsBeforeAStopString() {
        var generator = generator(new Script("say END now"), GeneratorOptions.defaults().withStopStrings("END"));
        assertEquals("ay ", text(generator));
        assertEquals(FinishReason.STOP_STRING, generator.finishReason());
        assertEquals("END", generator.stopString());
    }

    @Test
    void releasesHeldTextHoweverItEnds() {
        for (int max = 1; max < 8; max++) {
            var generator = generator(new Script("xENENE"), GeneratorOptions.defaults().withStopStrings("ENDE").withMaxTokens(max));
            assertEquals("ENENE".substring(0, Math.min(5, max)), text(generator));
            assertEquals(max <= 5 ? FinishReason.LENGTH : FinishReason.STOP, generator.finishReason());
        }
        var full = new Script("xENENE");
        full.capacity = 3;
        var generator = generator(full, GeneratorOptions.defaults().withStopStrings("ENDE"));
        assertEquals("ENE", text(generator));
        assertEquals(FinishReason.CONTEXT_FULL, generator.finishReason());
        assertEquals(3, full.appended.size());
    }

    @Test
    void aFullContextElsewhereEndsTheTextAndReleasesWhatWasHeld() {
        var script = new Script("xENENE");
        script.before = length -> {
            if (length == 3) {
                throw new ContextFullException("context full");
            }
        };
        var generator = generator(script, GeneratorOptions.defaults().withStopStrings("NENX"));
        var tokens = new ArrayList<GeneratedToken>();
        generator.forEachRemaining(tokens::add);
        assertEquals(FinishReason.CONTEXT_FULL, generator.finishReason());
        assertEquals(List.of("E", "", "", "NE"), tokens.stream().map(GeneratedToken::text).toList());
        assertEquals(-1, tokens.getLast().token());
    }

    @Test
    void aPromptThatDoesNotFitIsThrown() {
        var script = new Script("x");
        script.before = length -> {
            throw new ContextFullException("context full");
        };
        var generator = generator(script, GeneratorOptions.defaults());
        assertThrows(ContextFullException.class, generator::advance);
        assertEquals(FinishReason.FAILED, generator.finishReason());
        assertFalse(generator.advance());
    }

    @Test
    void cancelEndsItBeforeTheNextTokenAndCloseLikewise() {
        var script = new Script("hello");
        var generator = generator(script, GeneratorOptions.defaults().withStopStrings("elf"));
        assertEquals("", generator.next().text());
        generator.cancel();
        assertTrue(script.cancelled, "a decode in flight is told");
        assertEquals(new GeneratedToken(-1, "e", null), generator.next());
        assertFalse(generator.hasNext());
        assertEquals(FinishReason.CANCELLED, generator.finishReason());

        var closed = generator(new Script("hello"), GeneratorOptions.defaults());
        closed.next();
        closed.close();
        assertFalse(closed.hasNext());
        assertEquals(FinishReason.CANCELLED, closed.finishReason());
    }

    @Test
    void aDecodeCancelledInFlightEndsItAsCancelled() {
        var script = new Script("hello");
        script.before = length -> {
            if (length == 2) {
                throw new DecodeCancelledException("cancelled");
            }
        };
        var generator = generator(script, GeneratorOptions.defaults());
        assertEquals("el", text(generator));
        assertEquals(FinishReason.CANCELLED, generator.finishReason());
    }

    @Test
    void failuresReachTheCallerAndEndIt() {
        var script = new Script("hello");
        script.before = length -> {
            if (length == 2) {
                throw new DecodeException("broken");
            }
        };
        var generator = generator(script, GeneratorOptions.defaults());
        assertTrue(generator.advance());
        assertTrue(generator.advance());
        assertThrows(DecodeException.class, generator::advance);
        assertEquals(FinishReason.FAILED, generator.finishReason());
        assertFalse(generator.hasNext());

        var nan = new Script("hello");
        var bad = generator(nan, new Sampler() {
            @Override
            public int sample(Row row) {
                row.set(3, Float.NaN);
                return Sampler.greedy().sample(row);
            }

            @Override
            public void accept(int token) {
            }

            @Override
            public Sampler fork() {
                return this;
            }

            @Override
            public Sampler fork(long seed) {
                return this;
            }

            @Override
            public void rollback(int tokens) {
            }
        }, GeneratorOptions.defaults());
        assertThrows(SamplingException.class, bad::advance);
        assertEquals(FinishReason.FAILED, bad.finishReason());
    }

    @Test
    void logProbabilitiesAreTheModelsWhateverTheSamplerDoes() {
        var biased = Sampler.of(SamplerOptions.greedy().withLogitBias('q', 100));
        var generator = generator(new Script("hello"), biased, GeneratorOptions.defaults().withLogProbs(1));
        var first = generator.next();
        double denominator = Math.log(127 + Math.exp(5));
        assertEquals('q', first.token());
        assertEquals(-denominator, first.logProbs().chosen().logProbability(), 1e-6);
        assertEquals('e', first.logProbs().top().getFirst().token());
        assertEquals(5 - denominator, first.logProbs().top().getFirst().logProbability(), 1e-6);
        assertNull(generator(new Script("hello"), GeneratorOptions.defaults()).next().logProbs());
    }

    @Test
    void theSamplerHearsOfThePromptAndOfEveryToken() {
        var sampler = Sampler.of(SamplerOptions.greedy().withPresencePenalty(10));
        var generator = generator(new Script("aab"), sampler, GeneratorOptions.defaults().withMaxTokens(3));
        var tokens = new ArrayList<Integer>();
        generator.forEachRemaining(t -> tokens.add(t.token()));
        assertEquals(List.of(END), tokens, "the script says 'a', which is penalised because the prompt held it");
        sampler.rollback(1 + tokens.size());
        assertThrows(IllegalArgumentException.class, () -> sampler.rollback(1));
    }

    @Test
    void anEmptyPromptGoesOnFromTheRow() {
        var script = new Script("hello");
        var row = new Row(128);
        row.set('z', 9);
        var generator = new Generator(script, new int[0], row, Sampler.greedy(), t -> t == END, t -> "" + (char) t, () -> "",
                GeneratorOptions.defaults().withMaxTokens(2));
        assertEquals("ze", text(generator));
        assertArrayEquals(new int[] {'z'}, script.appended.stream().mapToInt(Integer::intValue).toArray());
    }

    @Test
    void optionsOutsideTheirRangeAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> GeneratorOptions.defaults().withMaxTokens(0));
        assertThrows(IllegalArgumentException.class, () -> GeneratorOptions.defaults().withLogProbs(-2));
        assertThrows(IllegalArgumentException.class, () -> GeneratorOptions.defaults().withStopStrings((StopStrings) null));
    }
}
