package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class LayerPlanTest {
    private static final int BLOCKS = 8;

    @ParameterizedTest
    @CsvSource(delimiter = ';', value = {"all; 0-7", "0-7; 0-7", " 0 - 3 , 5 ; 0-3,5", "0,1,2,3; 0-3", "0-3x2; 0-3x2", "2x1; 2", "7x8; 7x8",
        "0:attn,1:attn,2; 0-1:attn,2", "0-7:kv; 0-7:kv", "0:ffn,3-4:kv,7x2; 0:ffn,3-4:kv,7x2", "00-03; 0-3"})
    void isPrintedAsItIsRead(String text, String printed) {
        var plan = LayerPlan.parse(text, BLOCKS);
        assertEquals(printed, plan.toString());
        assertEquals(plan, LayerPlan.parse(printed, BLOCKS));
        assertEquals(plan.hashCode(), LayerPlan.parse(printed, BLOCKS).hashCode());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", " ", ",", "0,", ",0", "0,,1", "-1", "0-", "-", "3-1", "8", "0-8", "0,0", "1,0", "0-3,2", "0x", "0x0", "0x9",
            "0x-1",
        "0xx2", "0x2x2", "0:", "0:attention", "0:ATTN", "0:kvx2", "0x2:kv", "0:attn:ffn", "a", "all,0", "0,all", "1.5", "+1", "0..3", "0;1",
        "0x2147483648", "99999999999", "0-99999999999", "\u0661"})
    void whatIsNoPlanIsRefusedWithItsText(String text) {
        var refusal = assertThrows(IllegalArgumentException.class, () -> LayerPlan.parse(text, BLOCKS));
        assertTrue(refusal.getMessage().contains("'" + text + "'") || refusal.getMessage().contains("times"), refusal.getMessage());
    }

    @Test
    void everyPlanThatCanBeMadeCanBeReadAgain() {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        for (int n = 0; n < 1000; n++) {
            var plan = LayerPlan.all(1 + random.nextInt(40));
            double cost = 0;
            int spares = 0;
            for (int i = 0; i < plan.blocks(); i++) {
                switch (random.nextInt(6)) {
                    case 0 -> plan = plan.skip(i);
                    case 1 -> plan = plan.skipKeepingCache(i);
                    case 2 -> plan = plan.skipAttention(i);
                    case 3 -> plan = plan.skipFeedForward(i);
                    case 4 -> plan = plan.repeat(i, 1 + random.nextInt(LayerPlan.MAX_RUNS));
                    default -> plan = plan.run(i);
                }
                spares += Math.max(0, plan.runs(i) - 1);
                cost += plan.runs(i) + (plan.attention(i) != plan.feedForward(i) ? 0.5 : 0);
                assertTrue(plan.cached(i) || !plan.attention(i), "attention reads what is kept");
            }
            assertEquals(spares, plan.spareLayers());
            assertEquals(cost, plan.cost());
            if (!plan.toString().isEmpty()) { // nothing at all has no text
                assertEquals(plan, LayerPlan.parse(plan.toString(), plan.blocks()));
            }
            assertEquals(plan.equals(LayerPlan.all(plan.blocks())), plan.isFull());
        }
    }

    @Test
    void plansOfOtherLengthsDiffer() {
        assertNotEquals(LayerPlan.all(3), LayerPlan.all(4));
        assertNotEquals(LayerPlan.parse("0-2", 3), LayerPlan.parse("0-2", 4));
        assertTrue(LayerPlan.keeping(new boolean[] {true, true}).isFull());
        assertFalse(LayerPlan.keeping(new boolean[] {true, false}).isFull());
    }

    @Test
    void blocksThatAreNotThereAreRefused() {
        var plan = LayerPlan.all(BLOCKS);
        for (int block : new int[] {-1, BLOCKS, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
            for (Runnable change : new Runnable[] {() -> plan.skip(block), () -> plan.skipKeepingCache(block),
                    () -> plan.skipAttention(block),
                () -> plan.skipFeedForward(0, block), () -> plan.run(block), () -> plan.repeat(block, 2), () -> plan.runs(block),
                () -> plan.attention(block), () -> plan.feedForward(block), () -> plan.cached(block)}) {
                var refusal = assertThrows(IllegalArgumentException.class, change::run);
                assertTrue(refusal.getMessage().contains("blocks 0 to 7"), refusal.getMessage());
            }
        }
        for (int times : new int[] {0, -1, LayerPlan.MAX_RUNS + 1, 257, Integer.MAX_VALUE}) {
            assertThrows(IllegalArgumentException.class, () -> plan.repeat(1, times));
        }
        assertThrows(IllegalArgumentException.class, () -> LayerPlan.all(0));
        assertThrows(IllegalArgumentException.class, () -> LayerPlan.keeping(new boolean[0]));
        assertThrows(IllegalArgumentException.class, () -> LayerPlan.parse("all", 0));
        assertEquals(LayerPlan.all(BLOCKS), plan, "a plan does not change");
    }
}
