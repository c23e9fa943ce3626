package io.github.panamallama.layers;

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
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongSupplier;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BudgetedSequenceTest {
    private static final LayerPlan ALL = LayerPlan.all(8);
    /** Of 4, 6 and 8 blocks, each with the keys and values of all. */
    private static final List<LayerPlan> PLANS = List.of(ALL.skipKeepingCache(2, 3, 4, 5), ALL.skipKeepingCache(3, 4), ALL);
    private static final int[] PROMPT = {5, 17, 40, 3, 9};

    @TempDir
    static Path folder;
    private static Model model;
    private static Engine engine;

    @BeforeAll
    static void load() {
        var file = folder.resolve("tiny.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(8).write(file);
        model = Model.load(file);
        engine = Engine.open(model, EngineOptions.defaults().withContextSize(2048).withSpareLayers(2));
    }

    @AfterAll
    static void close() {
        engine.close();
        model.close();
    }

    /** A machine on which each block of a token takes so many milliseconds, and nothing else takes any time. */
    private static final class Machine implements LongSupplier {
        private BudgetedSequence sequence;
        private long millis = 1;
        private long now;

        @Override
        public long getAsLong() {
            now += (long) (millis * 1_000_000 * sequence.sequence().plan().cost());
            return now;
        }
    }

    private static BudgetedSequence open(BudgetControl control, Machine machine) {
        machine.sequence = new BudgetedSequence(engine, control, machine);
        return machine.sequence;
    }

    /** The plan of each token that is generated. */
    private static List<LayerPlan> generate(BudgetedSequence sequence, int tokens) {
        var plans = new ArrayList<LayerPlan>();
        for (int i = 0; i < tokens; i++) {
            sequence.append(10 + i % 50, null);
            plans.add(sequence.sequence().plan());
        }
        return plans;
    }

    @Test
    void tokensKeepToTheTimeWhereTheMachineBecomesSlowAndQuickAgain() {
        var machine = new Machine();
        try (var sequence = open(BudgetControl.ofTime(PLANS, Duration.ofMillis(10)), machine)) {
            sequence.append(PROMPT, null);
            assertEquals(List.of(ALL), generate(sequence, 200).stream().distinct().toList());
            assertEquals(0, sequence.changes());
            machine.millis = 2;     // 8, 12 and 16 ms
            var down = generate(sequence, 300);
            assertEquals(PLANS.reversed(), down.stream().distinct().toList());
            assertEquals(PLANS.getFirst(), down.getLast());
            machine.millis = 1;
            var up = generate(sequence, 300);
            assertEquals(PLANS, up.stream().distinct().toList());
            assertEquals(4, sequence.changes());
            assertEquals(PROMPT.length + 800, sequence.sequence().length());
        }
        assertEquals(0, engine.stats().sequenceIds());
    }

    @Test
    void tokensSpendTheShareOfTheWorkThatIsAllowed() {
        try (var sequence = open(BudgetControl.ofWork(PLANS, 0.6), new Machine())) {
            sequence.append(PROMPT, null);
            double mean = generate(sequence, 1600).stream().mapToDouble(plan -> plan.cost() / 8).average().orElseThrow();
            assertTrue(mean > 0.55 && mean <= 0.6, "mean work " + mean);
            assertTrue(sequence.changes() > 2 && sequence.changes() <= 1600 / BudgetControl.DWELL, sequence.changes() + " changes");
        }
    }

    @Test
    void logitsAreThoseOfForksByHandAndTheHistoryTellsTheSpans() {
        var machine = new Machine();
        machine.millis = 2;
        var row = engine.newRow();
        var rows = new ArrayList<float[]>();
        List<LayerPlan> plans;
        List<Sequence.Span> spans;
        try (var sequence = open(BudgetControl.ofTime(PLANS, Duration.ofMillis(13)), machine)) {
            sequence.append(PROMPT, row);
            plans = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                sequence.append(10 + i, row);
                rows.add(row.toArray());
                plans.add(sequence.sequence().plan());
            }
            spans = sequence.sequence().spans();
        }
        assertEquals(List.of(ALL, PLANS.get(1)), plans.stream().distinct().toList());
        assertEquals(2, spans.size(), spans.toString());
        assertEquals(PROMPT.length + plans.indexOf(PLANS.get(1)), spans.get(1).from());
        assertEquals(PLANS.get(1), spans.get(1).plan());
        var sequence = engine.newSequence(ALL);
        sequence.append(PROMPT, row);
        for (int i = 0; i < plans.size(); i++) {
            var next = sequence.fork(plans.get(i), CacheReuse.APPROXIMATE);
            sequence.close();
            sequence = next;
            sequence.append(10 + i, row);
            assertArrayEquals(row.toArray(), rows.get(i), 1e-3f, "token " + i);
        }
        sequence.close();
    }

    @Test
    void aPromptIsNotTimed() {
        var control = BudgetControl.ofTime(PLANS, Duration.ofMillis(1));
        try (var sequence = open(control, new Machine())) {
            for (int i = 0; i < 200; i++) {
                sequence.append(PROMPT, null);
            }
            assertEquals(ALL, control.plan(), "no time was told");
        }
    }

    @Test
    void plansWithHolesForOneAnotherAndPlansForOtherModelsAreRefused() {
        refused("reads keys and values of block 4, and tokens under '0-3,5-7' have none; keep them there", ALL.skip(4), ALL);
        refused("reads keys and values of block 5", ALL.skipAttention(5), ALL);
        refused("the repetitions of block 2", ALL, ALL.repeat(2, 2));
        refused("for 4 blocks", LayerPlan.all(4));
        // what all leave out and what all repeat is no hole
        try (var sequence = new BudgetedSequence(engine, BudgetControl.ofWork(List.of(ALL.skip(4).repeat(2, 2).skipKeepingCache(6),
                ALL.skip(4).repeat(2, 2)), 0.9))) {
            sequence.append(PROMPT, null);
            assertEquals(PROMPT.length, sequence.sequence().length());
        }
        assertEquals(0, engine.stats().sequenceIds());
    }

    private static void refused(String message, LayerPlan... plans) {
        var e = assertThrows(LayerPlanException.class, () -> new BudgetedSequence(engine, BudgetControl.ofWork(List.of(plans), 1)));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }
}
