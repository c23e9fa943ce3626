package io.github.panamallama.adapters;

import static io.github.panamallama.adapters.RandomAdapters.adapter;
import static io.github.panamallama.adapters.RandomAdapters.distance;
import static io.github.panamallama.adapters.RandomAdapters.norm;
import static io.github.panamallama.adapters.RandomAdapters.shapes;
import static io.github.panamallama.adapters.RandomAdapters.target;
import static io.github.panamallama.adapters.RandomAdapters.update;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.adapters.LoraArithmetic.Term;
import io.github.panamallama.runtime.AdapterException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.ejml.data.DMatrixRMaj;
import org.ejml.dense.row.factory.DecompositionFactory_DDRM;
import org.junit.jupiter.api.Test;

class LoraArithmeticTest {
    private final Random random = new Random(4);

    private final LoraWeights one = adapter("one", 16, target(random, "q", 4, 24, 32, 1), target(random, "up", 4, 24, 48, 1));
    private final LoraWeights two = adapter("two", 3, target(random, "up", 6, 24, 48, 1), target(random, "down", 6, 48, 24, 1));
    private final LoraWeights plain = adapter("plain", 0, target(random, "q", 1, 24, 32, 1));
    private final LoraWeights experts = adapter("experts", 8, target(random, "gate", 5, 12, 20, 3));

    @Test
    void aSumAddsTheUpdatesOfAdaptersWithEqualAndUnequalTargets() {
        var sum = LoraArithmetic.sum(List.of(new Term(one, 0.5f), new Term(two, -2), new Term(plain, 3)));
        assertEquals(List.of("q", "up", "down"), sum.targets().stream().map(LoraWeights.Target::name).toList());
        assertEquals(List.of(5, 10, 6), sum.targets().stream().map(LoraWeights.Target::rank).toList());
        for (var shape : shapes(sum)) {
            var wanted = update(one, shape);
            var second = update(two, shape);
            var third = update(plain, shape);
            for (int i = 0; i < wanted.length; i++) {
                wanted[i] = 0.5 * wanted[i] - 2 * second[i] + 3 * third[i];
            }
            assertTrue(distance(wanted, update(sum, shape)) < 1e-6 * norm(wanted), shape.name());
        }
        assertEquals("0.5 * one + -2.0 * two + 3.0 * plain", sum.name());
    }

    @Test
    void expertsAreAddedSliceBySlice() {
        var sum = LoraArithmetic.sum(List.of(new Term(experts, 1), new Term(experts, 0.25f)));
        var shape = experts.targets().getFirst();
        var wanted = Arrays.stream(update(experts, shape)).map(value -> 1.25 * value).toArray();
        assertTrue(distance(wanted, update(sum, shape)) < 1e-6 * norm(wanted));
    }

    @Test
    void factorsStandSideBySideUnchanged() {
        var sum = LoraArithmetic.sum(List.of(new Term(adapter("x", 2, target(random, "q", 2, 3, 2, 1)), 1)));
        assertEquals(2, sum.alpha());
        var both = LoraArithmetic.sum(List.of(new Term(sum, 1), new Term(sum, 1)));
        var target = sum.targets().getFirst();
        assertArrayEquals(target.a(), Arrays.copyOf(both.targets().getFirst().a(), 6));
        assertArrayEquals(target.a(), Arrays.copyOfRange(both.targets().getFirst().a(), 6, 12));
        assertArrayEquals(Arrays.copyOf(target.b(), 2), Arrays.copyOf(both.targets().getFirst().b(), 2));
    }

    @Test
    void scalingScalesEveryUpdate() {
        var scaled = LoraArithmetic.scale(two, -0.75f);
        assertEquals("two", scaled.name());
        for (var shape : shapes(two)) {
            var wanted = Arrays.stream(update(two, shape)).map(value -> -0.75 * value).toArray();
            assertTrue(distance(wanted, update(scaled, shape)) < 1e-6 * norm(wanted));
        }
        var nothing = LoraArithmetic.scale(two, 0);
        assertEquals(0, norm(update(nothing, two.targets().getFirst())));
    }

    @Test
    void whatTermsAgreeOnIsKept() {
        var left = one.withMetadata(Map.of("llama.block_count", 4L, "general.author", "a", "list", new int[] {1, 2}));
        var right = two.withMetadata(Map.of("llama.block_count", 4L, "general.author", "b", "list", new int[] {1, 2}));
        var metadata = LoraArithmetic.sum(List.of(new Term(left, 1), new Term(right, 1))).metadata();
        assertEquals(4L, metadata.get("llama.block_count"));
        assertEquals(2, metadata.size(), metadata.toString());
    }

    @Test
    void truncationIsTheNearestAdapterOfItsRank() {
        // the dense decomposition of the update as the yardstick
        var shape = target(random, "q", 10, 18, 14, 1);
        var source = adapter("source", 5, shape);
        var update = update(source, shape);
        var svd = DecompositionFactory_DDRM.svd(14, 18, false, false, false);
        assertTrue(svd.decompose(new DMatrixRMaj(14, 18, true, update)));
        var values = Arrays.stream(svd.getSingularValues()).sorted().toArray();
        for (int rank = 1; rank <= 9; rank++) {
            double cut = norm(Arrays.copyOf(values, values.length - rank));
            var truncated = LoraArithmetic.truncate(source, rank);
            assertEquals(rank, truncated.adapter().targets().getFirst().rank());
            assertEquals(cut, distance(update, update(truncated.adapter(), shape)), 1e-5 * norm(update), "rank " + rank);
            assertEquals(cut / norm(update), truncated.error(), 1e-9, "rank " + rank);
            assertEquals(truncated.error(), truncated.errors().get("q"), 1e-12);
        }
    }

    @Test
    void truncationToTheRankOfTheUpdateLosesNothing() {
        var twice = LoraArithmetic.sum(List.of(new Term(one, 1), new Term(one, 0.5f)));
        var truncated = LoraArithmetic.truncate(twice, 4);
        assertEquals(0, truncated.error(), 1e-6);
        for (var shape : shapes(one)) {
            var wanted = Arrays.stream(update(one, shape)).map(value -> 1.5 * value).toArray();
            assertTrue(distance(wanted, update(truncated.adapter(), shape)) < 1e-6 * norm(wanted), shape.name());
        }
    }

    @Test
    void aRankAboveTheMatrixIsCutInTheSpaceOfTheMatrix() {
        var wide = adapter("wide", 0, target(random, "small", 30, 6, 5, 1));
        var shape = wide.targets().getFirst();
        var truncated = LoraArithmetic.truncate(wide, 8);
        assertEquals(0, truncated.error(), 1e-9);
        assertTrue(distance(update(wide, shape), update(truncated.adapter(), shape)) < 1e-6 * norm(update(wide, shape)));
    }

    @Test
    void onlyTargetsAboveTheRankAreCutAndTheOthersKeepTheirUpdate() {
        var sum = LoraArithmetic.sum(List.of(new Term(one, 1), new Term(two, 1)));
        var truncated = LoraArithmetic.truncate(sum, 5);
        assertEquals(0, truncated.errors().get("q"));
        assertTrue(truncated.errors().get("up") > 0);
        var shape = sum.targets().getFirst();
        assertTrue(distance(update(sum, shape), update(truncated.adapter(), shape)) < 1e-6 * norm(update(sum, shape)));
        double all = 0;
        double lost = 0;
        for (var each : shapes(sum)) {
            all += Math.pow(norm(update(sum, each)), 2);
            lost += Math.pow(distance(update(sum, each), update(truncated.adapter(), each)), 2);
        }
        assertEquals(Math.sqrt(lost / all), truncated.error(), 1e-6);
        assertSame(sum, LoraArithmetic.truncate(sum, 10).adapter());
    }

    @Test
    void expertsAreCutSliceBySlice() {
        var shape = experts.targets().getFirst();
        var truncated = LoraArithmetic.truncate(experts, 3);
        assertEquals(truncated.error(), distance(update(experts, shape), update(truncated.adapter(), shape)) / norm(update(experts, shape)),
                1e-6);
        assertTrue(truncated.error() > 0 && truncated.error() < 0.7, "" + truncated.error());
    }

    @Test
    void anAdapterThatDoesNothingStaysSo() {
        var zero = LoraArithmetic.scale(one, 0);
        var truncated = LoraArithmetic.truncate(zero, 2);
        assertEquals(0, truncated.error());
        assertEquals(0, norm(update(truncated.adapter(), one.targets().getFirst())));
        // half of the columns of B are zero
        var half = LoraArithmetic.truncate(LoraArithmetic.sum(List.of(new Term(one, 0), new Term(one, 2))), 4);
        assertEquals(0, half.error(), 1e-9);
        var shape = one.targets().getFirst();
        var wanted = Arrays.stream(update(one, shape)).map(value -> 2 * value).toArray();
        assertTrue(distance(wanted, update(half.adapter(), shape)) < 1e-6 * norm(wanted));
    }

    @Test
    void theNormOfAnUpdateIsThatOfTheProduct() {
        for (var adapter : List.of(one, two, plain, experts)) {
            for (var target : adapter.targets()) {
                double wanted = norm(update(adapter, target));
                assertEquals(wanted, LoraArithmetic.norm(target, target.scale(adapter.alpha())), 1e-6 * wanted);
            }
        }
    }

    @Test
    void whatCanNotBeAddedIsRefused() {
        refuses("no adapters", List.of());
        refuses("NaN", List.of(new Term(one, Float.NaN)));
        refuses("Infinity", List.of(new Term(one, Float.POSITIVE_INFINITY)));
        refuses("24 x 32", List.of(new Term(one, 1), new Term(adapter("other", 1, target(random, "q", 4, 32, 24, 1)), 1)));
        refuses("qwen3", List.of(new Term(one, 1), new Term(new LoraWeights("qwen3", "other", 1, new int[0], Map.of(), one.targets()), 1)));
        refuses("[7, 8]", List.of(new Term(one, 1),
                new Term(new LoraWeights("llama", "alora", 1, new int[] {7, 8}, Map.of(), one.targets()), 1)));
        // a product beyond the floats
        refuses("Infinity", List.of(new Term(one, Float.MAX_VALUE), new Term(one, 1)));
        var e = assertThrows(AdapterException.class, () -> LoraArithmetic.truncate(one, 0));
        assertTrue(e.getMessage().contains("rank is 0"), e.getMessage());
    }

    private static void refuses(String part, List<Term> terms) {
        var e = assertThrows(AdapterException.class, () -> LoraArithmetic.sum(terms));
        assertTrue(e.getMessage().contains(part), e.getMessage());
    }
}
