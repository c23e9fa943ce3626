package io.github.panamallama.quantization;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.quantization.TypeSwitches.Choice;
import io.github.panamallama.runtime.search.Slice;
import io.github.panamallama.runtime.search.Stage;
import io.github.panamallama.runtime.search.Tournament;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TypeSwitchesTest {
    private static final double[] BITS = {1.6875, 2.625, 3.25, 3.4375, 4.5, 4.5, 6.5625, 8.5};

    private final long seed = new SplittableRandom().nextLong();

    /** Units of very different sizes, each with some of the levels. */
    private record Problem(long[] elements, long[][] bytes, long budget) {
        static Problem random(int units, int mostLevels, SplittableRandom random) {
            var elements = new long[units];
            var bytes = new long[units][];
            long least = 0;
            long most = 0;
            for (int i = 0; i < units; i++) {
                elements[i] = 256L << random.nextInt(7);
                int levels = 1 + random.nextInt(mostLevels);
                int first = random.nextInt(BITS.length - levels + 1);
                bytes[i] = new long[levels];
                for (int j = 0; j < levels; j++) {
                    bytes[i][j] = (long) (elements[i] * BITS[first + j] / 8);
                }
                least += bytes[i][0];
                most += bytes[i][levels - 1];
            }
            return new Problem(elements, bytes, random.nextLong(least, most + 1));
        }

        TypeSwitches switches() {
            return new TypeSwitches(elements, bytes, budget);
        }

        void check(TypeSwitches switches, Choice choice) {
            long taken = switches.bytes(choice);
            assertTrue(taken <= budget, choice + " takes " + taken + " of " + budget);
            for (int i = 0; i < bytes.length; i++) {
                for (long larger : bytes[i]) {
                    long now = bytes[i][choice.level(i)];
                    assertTrue(larger <= now || larger - now > budget - taken, choice + " leaves room to raise unit " + i);
                }
            }
        }
    }

    @RepeatedTest(20)
    void choicesUseTheBudgetAndNoMore() {
        System.out.println("seed " + seed);
        var random = new SplittableRandom(seed);
        var problem = Problem.random(2 + random.nextInt(40), BITS.length, random);
        var switches = problem.switches();
        var parent = switches.first(random);
        problem.check(switches, parent);
        for (int i = 0; i < 200; i++) {
            problem.check(switches, switches.first(random));
            var child = switches.child(parent, random);
            problem.check(switches, child);
            parent = child;
        }
    }

    @Test
    void childrenTradeBetweenFewUnits() {
        var elements = new long[30];
        Arrays.fill(elements, 4096);
        var bytes = new long[30][];
        Arrays.setAll(bytes, i -> Arrays.stream(BITS).mapToLong(bits -> (long) (4096 * bits / 8)).toArray());
        var switches = new TypeSwitches(elements, bytes, (long) (30 * 4096 * 3.4375 / 8));
        var random = new SplittableRandom(5);
        var parent = switches.first(random);
        int changes = 0;
        for (int i = 0; i < 1000; i++) {
            var child = switches.child(parent, random);
            for (int unit = 0; unit < 30; unit++) {
                changes += child.level(unit) != parent.level(unit) ? 1 : 0;
            }
        }
        assertTrue(changes > 1000 && changes < 8000, changes / 1000.0 + " units change");
    }

    /** Errors of levels and, as large, of pairs of levels that go together: units can't be judged one by one. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5})
    void aTournamentFindsTheBestOfAllChoices(long landscape) {
        var random = new SplittableRandom(landscape);
        var problem = Problem.random(7, 4, random);
        var switches = problem.switches();
        var error = new double[7][7][4][4];
        for (int i = 0; i < 7; i++) {
            for (int j = 0; j <= i; j++) {
                for (var row : error[i][j]) {
                    Arrays.setAll(row, k -> random.nextDouble());
                }
            }
        }
        var fitness = new Tournament.Fitness<Choice>() {
            @Override
            public List<Integer> lengths() {
                return List.of(10, 10);
            }

            @Override
            public double of(Choice choice, List<Slice> sample) {
                double sum = 0;
                for (int i = 0; i < 7; i++) {
                    for (int j = 0; j <= i; j++) {
                        sum += error[i][j][choice.level(i)][choice.level(j)];
                    }
                }
                return sum;
            }
        };
        double best = Double.POSITIVE_INFINITY;
        var seen = new HashSet<Choice>();
        for (int i = 0; i < 20_000; i++) {  // first choices of few units come everywhere
            var choice = switches.first(random);
            if (seen.add(choice)) {
                best = Math.min(best, fitness.of(choice, List.of()));
            }
        }
        var found = new Tournament(40, 12, 8, 10, List.of(new Stage(3, 10), new Stage(1, 20)), landscape)
                .run(switches, fitness, step -> { });
        System.out.println(seen.size() + " choices, " + found.steps().size() + " evaluations");
        assertTrue(found.fitness() <= best + 1e-12, found.fitness() + ", the best of " + seen.size() + " is " + best);
    }

    @Test
    void theSameSeedGivesTheSameLog() {
        var problem = Problem.random(12, 6, new SplittableRandom(3));
        var logs = new ArrayList<List<?>>();
        for (long of : new long[] {7, 7, 8}) {
            var fitness = new Tournament.Fitness<Choice>() {
                @Override
                public List<Integer> lengths() {
                    return List.of(30);
                }

                @Override
                public double of(Choice choice, List<Slice> sample) {
                    return choice.hashCode() % 1000;
                }
            };
            logs.add(new Tournament(5, 6, 6, 10, List.of(new Stage(1, 20)), of).run(problem.switches(), fitness, step -> { }).steps());
        }
        assertEquals(logs.get(0), logs.get(1));
        assertNotEquals(logs.get(0), logs.get(2));
    }

    @Test
    void aBudgetBelowTheSmallestLevelsIsRefused() {
        var refused = assertThrows(IllegalArgumentException.class,
                () -> new TypeSwitches(new long[] {256, 256}, new long[][] {{54, 104}, {84}}, 137));
        assertTrue(refused.getMessage().contains("the smallest levels take 138"), refused.getMessage());
    }
}
