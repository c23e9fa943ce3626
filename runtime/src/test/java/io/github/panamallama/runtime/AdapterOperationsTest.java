package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.AdapterFile;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * All of {@link AdapterTest} with the operations that adapt weights on devices, which the CPU has, too; and that they agree with its own
 * nodes while their matrices grow.
 */
class AdapterOperationsTest extends AdapterTest {
    /** In products with F16 ggml rounds activations to F16 as well: 11 bits each, of which sums see less; sets of ten add up. */
    private static final double HALVES = 2e-3;
    private static final Predicate<String> PRODUCTS = name -> TestLora.projection(name) || name.equals("output.weight");

    @Override
    int swaps() {
        return 2_000; // operations take their time on the CPU
    }

    @BeforeAll
    static void choose() {
        System.setProperty(AdapterBank.OPERATIONS, "true");
    }

    @AfterAll
    static void chooseNoMore() {
        System.clearProperty(AdapterBank.OPERATIONS);
    }

    /** An engine whose adapters act through nodes of the CPU. */
    private static Engine nodes(Model model, Adapter any) {
        System.clearProperty(AdapterBank.OPERATIONS);
        var engine = Engine.open(model, OPTIONS);
        try {
            engine.newSequence(AdapterSet.of(any)).close(); // which makes the bank
        } finally {
            choose();
        }
        return engine;
    }

    private static void assertAgree(Engine expected, Engine engine, AdapterSet set, double allowed) {
        for (int count : new int[] {1, 24}) {
            var tokens = Evaluation.tokens(engine.model(), count, count);
            var wanted = logits(expected, set, tokens);
            assertClose(wanted, logits(engine, set, tokens), allowed, set + " after " + count + " tokens");
            assertDiffers(wanted, logits(engine, AdapterSet.none(), tokens), "base and " + set);
        }
    }

    /** Which adapter is whose is then an input of the graph, there for the tokens whose logits are wanted alone. */
    @Test
    void theRunsOfARepeatedLastBlockBeforeTheLastAreRefused() {
        var base = llama();
        var lora = TestLora.random(GgufFile.read(base), 4, 3, PRODUCTS);
        try (var model = Model.load(base); var adapter = Adapter.load(model, lora.write(fresh("lora")));
                var engine = Engine.open(model, OPTIONS.withSpareLayers(1))) {
            var row = engine.newRow();
            var tokens = Evaluation.tokens(model, 8, 1);
            try (var sequence = engine.newSequence(AdapterSet.of(adapter), LayerPlan.parse("0-2,3x2", 4))) {
                for (var wanted : new Row[] {row, null}) {
                    var refused = assertThrows(LlamaException.class, () -> sequence.append(tokens, wanted));
                    assertTrue(refused.getMessage().contains("block 3 can't run again"), refused.getMessage());
                }
            }
            try (var sequence = engine.newSequence(AdapterSet.of(adapter), LayerPlan.parse("0-1,2x2,3", 4))) {
                sequence.append(tokens, row);
            }
            assertTrue(Float.isFinite(row.get(0)));
        }
    }

    @Test
    void halvesActAsTheNodesApplyThem() {
        var base = TestLora.mixture(GgufFile.read(llama()), fresh("experts"), 4);
        var file = GgufFile.read(base);
        for (Predicate<String> which : List.<Predicate<String>>of(PRODUCTS, AdapterFile.EMBEDDING::equals)) {
            var lora = TestLora.random(file, 8, 3, which).withAlpha(5);
            try (var model = Model.load(base); var adapter = Adapter.load(model, lora.write(fresh("lora"), GgmlType.F16));
                    var expected = nodes(model, adapter); var engine = Engine.open(model, OPTIONS)) {
                assertAgree(expected, engine, AdapterSet.of(adapter, 0.8f), HALVES);
            }
        }
    }

    @Test
    void matricesGrowInSlotsRankTypeAndStackUnderOpenSequences() {
        var base = TestLora.mixture(GgufFile.read(llama()), fresh("experts"), 4);
        var file = GgufFile.read(base);
        var open = new ArrayList<Adapter>();
        try (var model = Model.load(base);
                var first = Adapter.load(model, TestLora.random(file, 4, 1, PRODUCTS).write(fresh("first"), GgmlType.F16));
                var expected = nodes(model, first); var engine = Engine.open(model, OPTIONS);
                var sequence = engine.newSequence(AdapterSet.of(first)); var reference = expected.newSequence(AdapterSet.of(first))) {
            var tokens = Evaluation.tokens(model, 20, 9);
            var row = engine.newRow();
            var wanted = engine.newRow();
            var set = AdapterSet.of(first);
            for (int i = 0; i < 10; i++) {
                sequence.append(tokens[i], row);
                reference.append(tokens[i], wanted);
                assertClose(wanted.toArray(), row.toArray(), HALVES, "token " + i);
                Predicate<String> which = i % 3 == 0 ? PRODUCTS : i % 3 == 1 ? name -> name.contains("ffn_") : name ->
                        name.contains("attn_v");
                var lora = TestLora.random(file, 3 + 5 * i, 50 + i, which).withAlpha(2 + i);
                var adapter = Adapter.load(model, lora.write(fresh("lora"), i < 5 ? GgmlType.F16 : GgmlType.F32));
                open.add(adapter);
                assertAgree(expected, engine, AdapterSet.of(adapter), HALVES);
                set = set.with(adapter, 0.1f * i - 0.35f);
                assertAgree(expected, engine, set, HALVES);
            }
            for (var adapter : open) {
                assertAgree(expected, engine, AdapterSet.of(adapter), HALVES);
            }
            sequence.append(tokens[10], row);
            reference.append(tokens[10], wanted);
            assertClose(wanted.toArray(), row.toArray(), HALVES, "the first sequence goes on");
        }
        open.forEach(Adapter::close);
    }

    @Test
    void aSlotIsUsedAgainWithoutTracesOfTheOneBefore() {
        var base = TestLora.mixture(GgufFile.read(llama()), fresh("experts"), 4);
        var file = GgufFile.read(base);
        var tokens = new int[] {300, 301, 302};
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS);
                var narrow = Adapter.load(model, TestLora.random(file, 2, 2, name -> name.equals("blk.1.attn_q.weight"))
                        .write(fresh("narrow")))) {
            var alone = logits(engine, AdapterSet.of(narrow), tokens);
            try (var other = Engine.open(model, OPTIONS)) {
                var wide = Adapter.load(model, TestLora.random(file, 20, 1, PRODUCTS).write(fresh("wide")));
                assertDiffers(alone, logits(other, AdapterSet.of(wide), tokens), "wide and narrow");
                wide.close();
                assertArrayEquals(alone, logits(other, AdapterSet.of(narrow), tokens));
            }
        }
    }

    @Test
    void whatADeviceCantHoldIsRefusedAndOthersGoOn() {
        var base = llama();
        var file = GgufFile.read(base);
        var many = new ArrayList<Adapter>();
        try (var model = Model.load(base); var engine = Engine.open(model, OPTIONS); var bystander = engine.newSequence()) {
            var large = TestLora.random(file, 4, 1, name -> name.equals("blk.1.attn_q.weight"));
            large.parts().getFirst().a()[7] = 1e6f;
            try (var adapter = Adapter.load(model, large.write(fresh("large")))) {
                assertRefused(AdapterException.class, () -> engine.newSequence(AdapterSet.of(adapter)), "blk.1.attn_q.weight", "F16");
            }
            var set = AdapterSet.none();
            for (int i = 0; i < 17; i++) {
                many.add(Adapter.load(model, TestLora.random(file, 1, i, name -> name.equals("blk.1.attn_q.weight"))
                        .write(fresh("small"))));
                set = set.with(many.getLast(), 1);
            }
            var tooMany = set;
            assertRefused(RuntimeException.class, () -> engine.newSequence(tooMany), "17", "16");
            bystander.append(new int[] {300, 301}, engine.newRow());
            assertEquals(2, bystander.length());
        }
        many.forEach(Adapter::close);
    }
}
