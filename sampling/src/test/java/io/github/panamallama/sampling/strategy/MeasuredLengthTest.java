package io.github.panamallama.sampling.strategy;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Lengths for planted acceptance rates and costs; no clock is looked at. */
class MeasuredLengthTest {
    /** A pass over the whole model takes 1000 ns and {@code row} per drafted token, a draft {@code start} and {@code step} per token. */
    private record Machine(double step, double start, double row) {
        long draft(int n) {
            return Math.round(start + n * step);
        }

        long verify(int n) {
            return Math.round(1000 + n * row);
        }

        /** Tokens per nanosecond with drafts of {@code n} tokens. */
        double rate(int n, double acceptance) {
            double tokens = IntStream.rangeClosed(0, n).mapToDouble(i -> Math.pow(acceptance, i)).sum();
            return n == 0 ? 1.0 / verify(0) : tokens / (draft(n) + verify(n));
        }

        int best(int least, int most, double acceptance) {
            int best = least;
            for (int n = least; n <= most; n++) {
                best = rate(n, acceptance) > rate(best, acceptance) ? n : best;
            }
            return best;
        }
    }

    /** Passes on a machine where each token is accepted with the same probability; the rate of the last {@code counted} passes. */
    private static double run(MeasuredLength lengths, Machine machine, double acceptance, int passes, int counted,
            SplittableRandom random) {
        long tokens = 0;
        long nanos = 0;
        for (int i = 0; i < passes; i++) {
            int n = lengths.next();
            int accepted = 0;
            while (accepted < n && random.nextDouble() < acceptance) {
                accepted++;
            }
            lengths.passed(n, accepted, n == 0 ? 0 : machine.draft(n), machine.verify(n));
            if (i >= passes - counted) {
                tokens += accepted + 1;
                nanos += machine.verify(n) + (n == 0 ? 0 : machine.draft(n));
            }
        }
        return (double) tokens / nanos;
    }

    @ParameterizedTest
    @CsvSource({"0.95,300,50,10", "0.95,100,0,0", "0.8,300,100,20", "0.8,500,50,10", "0.6,200,20,10", "0.9,500,500,100", "0.99,700,20,20"})
    void theLengthIsNearlyTheBestOne(double acceptance, double step, double start, double row) {
        var machine = new Machine(step, start, row);
        double best = machine.rate(machine.best(0, 16, acceptance), acceptance);
        System.out.println("MeasuredLengthTest seed 1");
        double reached = run(new MeasuredLength(0, 16), machine, acceptance, 6000, 5000, new SplittableRandom(1));
        assertTrue(reached > 0.92 * best,
                "tokens per ns " + reached + ", the best length " + machine.best(0, 16, acceptance) + " gives " + best);
    }

    @ParameterizedTest
    @CsvSource({"0.1,500,100,50", "0.5,900,100,300", "0,100,0,0"})
    void draftsThatDoNotPayAreRare(double acceptance, double step, double start, double row) {
        var machine = new Machine(step, start, row);
        assertEquals(0, machine.best(0, 16, acceptance));
        double reached = run(new MeasuredLength(0, 16), machine, acceptance, 6000, 5000, new SplittableRandom(2));
        assertTrue(reached > 0.97 * machine.rate(0, acceptance), "tokens per ns " + reached);
    }

    /** Drafts that cost a little too much must not look good because what comes between them is slow. */
    @Test
    void thePassBehindADraftTellsNothingAboutThoseWithout() {
        var machine = new Machine(700, 300, 100);
        assertEquals(0, machine.best(0, 16, 0.7));
        var lengths = new MeasuredLength(0, 16);
        var random = new SplittableRandom(5);
        int withDrafts = 0;
        boolean draftBefore = true;
        for (int i = 0; i < 2000; i++) {
            int n = lengths.next();
            int accepted = 0;
            while (accepted < n && random.nextDouble() < 0.7) {
                accepted++;
            }
            lengths.passed(n, accepted, n == 0 ? 0 : machine.draft(n), machine.verify(n) + (n == 0 && draftBefore ? 4000 : 0));
            draftBefore = n > 0;
            withDrafts += n > 0 ? 1 : 0;
        }
        assertTrue(withDrafts < 200, withDrafts + " of 2000 passes with drafts");
    }

    @Test
    void lengthsFollowWhenTheTextChanges() {
        var machine = new Machine(200, 50, 10);
        var lengths = new MeasuredLength(0, 16);
        var random = new SplittableRandom(3);
        run(lengths, machine, 0.95, 300, 1, random);
        int easy = IntStream.range(0, 40).map(i -> next(lengths, machine, 0.95, random)).max().getAsInt();
        run(lengths, machine, 0.2, 300, 1, random);
        int hard = IntStream.range(0, 40).map(i -> next(lengths, machine, 0.2, random)).max().getAsInt();
        run(lengths, machine, 0.95, 300, 1, random);
        int again = IntStream.range(0, 40).map(i -> next(lengths, machine, 0.95, random)).max().getAsInt();
        assertTrue(easy > 6 && hard < 4 && again > 6, easy + ", " + hard + ", " + again);
    }

    private static int next(MeasuredLength lengths, Machine machine, double acceptance, SplittableRandom random) {
        int n = lengths.next();
        int accepted = 0;
        while (accepted < n && random.nextDouble() < acceptance) {
            accepted++;
        }
        lengths.passed(n, accepted, n == 0 ? 0 : machine.draft(n), machine.verify(n));
        return n;
    }

    @Test
    void boundsHold() {
        var random = new SplittableRandom(4);
        for (int[] bounds : new int[][] {{0, 1}, {1, 3}, {5, 9}, {0, 40}}) {
            for (double acceptance : new double[] {0, 0.5, 1}) {
                var lengths = new MeasuredLength(bounds[0], bounds[1]);
                assertEquals(bounds[1], lengths.most());
                for (int i = 0; i < 200; i++) {
                    int n = next(lengths, new Machine(300, 100, 30), acceptance, random);
                    assertTrue(n >= bounds[0] && n <= bounds[1], n + " of " + bounds[0] + " to " + bounds[1]);
                }
            }
        }
    }

    @Test
    void aPassWithoutTimeOrDraftsIsNoTrouble() {
        var lengths = new MeasuredLength(0, 8);
        for (int i = 0; i < 50; i++) {
            int n = lengths.next();
            assertTrue(n >= 0 && n <= 8);
            lengths.passed(i % 3 == 0 ? 0 : n, 0, 0, 0);
        }
    }
}
