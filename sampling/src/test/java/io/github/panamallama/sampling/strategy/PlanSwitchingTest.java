package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.CacheReuse;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.PlanControl;
import io.github.panamallama.runtime.RowMath;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.sampling.FinishReason;
import io.github.panamallama.sampling.IncompleteException;
import io.github.panamallama.sampling.SamplerOptions;
import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.GrammarVocabulary;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Texts of the shipped model under plans that change while they are written. */
@Timeout(300)
class PlanSwitchingTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(512).withMaxSequences(4).withThreads(1);

    private static final Grammar ENDLESS = Grammar.regex("[a-z ]{5000,9000}\\.");

    private static Model model;
    private static Engine engine;
    private static int[] code;

    @BeforeAll
    static void load() {
        model = Model.load(Path.of("..", "models", "java-tiny-f16.gguf"));
        engine = Engine.open(model, OPTIONS);
        code = model.vocabulary().tokenize("public final class Range {\n    private final int start;\n", true, false);
    }

    @AfterAll
    static void unload() {
        engine.close();
        model.close();
    }

    private static LayerPlan plan(String text) {
        return LayerPlan.parse(text, model.layerCount());
    }

    /** Goes through a list of plans, each for some tokens. */
    private static final class Turns implements PlanControl {
        private final List<LayerPlan> plans;
        private final int each;
        private int told;

        Turns(int each, String... plans) {
            this.plans = Stream.of(plans).map(PlanSwitchingTest::plan).toList();
            this.each = each;
        }

        @Override
        public List<LayerPlan> plans() {
            return plans;
        }

        @Override
        public LayerPlan plan() {
            return plans.get(told / each % plans.size());
        }

        @Override
        public void took(long nanoseconds) {
            assertTrue(nanoseconds >= 0);
            told++;
        }
    }

    private static Decoding decode(Strategy strategy, StrategyOptions options) {
        try (var sequence = engine.newSequence(); var decoding = strategy.start(sequence, code, options)) {
            while (decoding.advance()) {
            }
            return decoding;
        }
    }

    private static StrategyOptions tokens(int most) {
        return StrategyOptions.defaults().withMaxTokens(most);
    }

    @Test
    void underTheWholePlanTextsAreThoseWithoutControl() {
        var control = new Turns(1, "all");
        var decoding = decode(new PlanSwitching(() -> control), tokens(40));
        assertArrayEquals(decode(new Plain(), tokens(40)).tokens(), decoding.tokens());
        assertEquals(decoding.tokens().length - 1, control.told, "the last token was not evaluated, the others were told of");
        assertEquals(control.told, decoding.work().count("0-7"));
        assertEquals(0, decoding.work().count("changes"));
        assertEquals(code.length, decoding.work().rows());
        assertEquals(control.told, decoding.work().helperRows());
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void eachTokenIsEvaluatedUnderThePlanThatItsControlChose() {
        var turns = new String[] {"all", "0-2,3-4:kv,5-7", "0-5,6:attn,7"};
        var decoding = decode(new PlanSwitching(() -> new Turns(5, turns)), tokens(30));
        var row = engine.newRow();
        var text = new ArrayList<Integer>();
        var hand = engine.newSequence();
        hand.append(code, row);
        for (int i = 0; i < decoding.tokens().length; i++) {
            text.add(RowMath.argmax(row));
            var next = hand.fork(plan(turns[i / 5 % 3]), CacheReuse.APPROXIMATE);
            hand.close();
            hand = next;
            hand.append(text.getLast(), row);
        }
        hand.close();
        assertArrayEquals(text.stream().mapToInt(Integer::intValue).toArray(), decoding.tokens());
        assertEquals(decoding.tokens().length - 1, decoding.work().count("0-7") + decoding.work().count(turns[1])
                + decoding.work().count(turns[2]));
        assertEquals((decoding.tokens().length - 2) / 5, decoding.work().count("changes"));
    }

    @Test
    void theSequenceKeepsItsPromptAndItsPlan() {
        var row = engine.newRow();
        var expected = engine.newRow();
        try (var sequence = engine.newSequence(); var plain = engine.newSequence()) {
            plain.append(code, expected);
            try (var decoding = new PlanSwitching(() -> new Turns(2, "0,1-6:kv,7", "all")).start(sequence, code, tokens(12))) {
                while (decoding.advance()) {
                }
            }
            assertEquals(code.length, sequence.length());
            assertTrue(sequence.plan().isFull());
            assertEquals(1, sequence.spans().size());
            plain.append(40, expected);
            sequence.append(40, row);
            assertArrayEquals(expected.toArray(), row.toArray(), 1e-3f);
        }
    }

    @Test
    void eachTextHasAControlOfItsOwn() {
        var made = new ArrayList<Turns>();
        var strategy = new PlanSwitching(() -> {
            made.add(new Turns(3, "all", "0-2,3:kv,4-7"));
            return made.getLast();
        });
        assertArrayEquals(decode(strategy, tokens(20)).tokens(), decode(strategy, tokens(20)).tokens());
        assertEquals(2, made.size());
    }

    @Test
    void aGrammarHoldsAndForcedTokensAreToldOf() {
        var grammar = Grammar.regex("(int|long) [a-z]{2,9}\\(\\);");
        for (int seed = 0; seed < 6; seed++) {
            var control = new Turns(2, "all", "0-2,3-4:kv,5-7");
            var decoding = decode(new PlanSwitching(() -> control), tokens(60).withConfidence(false).withFastForward(seed % 2 == 0)
                    .withConstraint(grammar.constraint(GrammarVocabulary.of(model.vocabulary())))
                    .withSampling(SamplerOptions.defaults().withSeed(seed)));
            assertTrue(grammar.accepts(decoding.wholeText()), decoding.wholeText());
            assertEquals(control.told, decoding.work().helperRows());
        }
    }

    @Test
    void aFullContextEndsTheText() {
        try (var small = Engine.open(model, OPTIONS.withContextSize(64)); var sequence = small.newSequence();
                var decoding = new PlanSwitching(() -> new Turns(4, "all", "0-2,3:kv,4-7")).start(sequence, code,
                        tokens(1000).withConstraint(ENDLESS.constraint(GrammarVocabulary.of(model.vocabulary()))))) {
            assertThrows(IncompleteException.class, () -> {
                while (decoding.advance()) {
                }
            });
            assertEquals(FinishReason.CONTEXT_FULL, decoding.finishReason());
            assertEquals(small.contextSize() - code.length + 1, decoding.tokens().length, "the last token has no room to be evaluated");
        }
    }

    @Test
    void cancellingEndsItBetweenTwoTokens() {
        try (var sequence = engine.newSequence();
                var decoding = new PlanSwitching(() -> new Turns(4, "all")).start(sequence, code, tokens(50))) {
            for (int i = 0; i < 5; i++) {
                assertTrue(decoding.advance());
            }
            decoding.cancel();
            while (decoding.advance()) {
            }
            assertEquals(FinishReason.CANCELLED, decoding.finishReason());
            assertEquals(5, decoding.tokens().length);
        }
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void plansThatCannotFollowOneAnotherAreRefusedBeforeAnythingIsEvaluated() {
        assertThrows(IllegalArgumentException.class, () -> new PlanSwitching(null));
        try (var sequence = engine.newSequence()) {
            refused(sequence, "reads keys and values of block 4", new Turns(1, "0-3,5-7", "all"));
            refused(sequence, "spare layers", new Turns(1, "all", "0-1,2x2,3-7"));
            assertEquals(0, sequence.length());
        }
        try (var two = Engine.open(model, OPTIONS.withMaxSequences(2)); var sequence = two.newSequence()) {
            var e = assertThrows(IllegalArgumentException.class,
                    () -> new PlanSwitching(() -> new Turns(1, "all")).start(sequence, code, tokens(3)));
            assertTrue(e.getMessage().contains("raise EngineOptions.maxSequences"), e.getMessage());
        }
        // the prompt's own plan is seen when it has been evaluated
        try (var sequence = engine.newSequence(plan("0-3,5-7"));
                var decoding = new PlanSwitching(() -> new Turns(1, "all")).start(sequence, code, tokens(3))) {
            assertTrue(decoding.advance());
            assertThrows(LayerPlanException.class, decoding::advance);
        }
    }

    private static void refused(Sequence sequence, String message, PlanControl control) {
        var e = assertThrows(LayerPlanException.class, () -> new PlanSwitching(() -> control).start(sequence, code, tokens(3)));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }
}
