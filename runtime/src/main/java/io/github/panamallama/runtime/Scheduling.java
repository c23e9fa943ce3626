package io.github.panamallama.runtime;

import java.math.BigInteger;
import java.util.List;
import java.util.stream.IntStream;

/**
 * When and where the threads of an {@link Engine} run. With anything but {@link #usual} it evaluates on threads of its own alone, and
 * callers wait for them with their own priority and processors, which costs some microseconds per call.
 *
 * @param cpus     numbers of the processors that threads may run on; empty for any
 * @param strict   whether each thread gets one of them for itself, in order; else all may run on all. An engine refuses more threads than
 *                 processors then
 * @param priority against other processes
 * @param polite   for programs in the background: priority {@link Priority#LOW}, no spinning while idle, and fewer threads while other
 *                 processes keep the processors busy, at least one. Results may differ in the last bits with the number of threads
 */
public record Scheduling(List<Integer> cpus, boolean strict, Priority priority, boolean polite) {
    /** Priorities, under llama.cpp's names. Above {@link #NORMAL} they are real-time priorities, which systems refuse to most users. */
    public enum Priority {
        /** Niceness 10 and the policy for batch work on Linux, below normal on Windows. */
        LOW,
        NORMAL,
        MEDIUM,
        HIGH,
        REALTIME;

        int code() {
            return ordinal() - 1;
        }
    }

    /** Processors have numbers below this (GGML_MAX_N_THREADS). */
    static final int MOST_CPUS = 512;
    private static final Scheduling USUAL = new Scheduling(List.of(), false, Priority.NORMAL, false);

    public Scheduling {
        cpus = cpus.stream().distinct().sorted().toList();
        if (priority == null) {
            throw new IllegalArgumentException("priority must be given");
        }
        if (!cpus.isEmpty() && (cpus.getFirst() < 0 || cpus.getLast() >= MOST_CPUS)) {
            throw new IllegalArgumentException("cpus are " + cpus + "; they must be from 0 to " + (MOST_CPUS - 1));
        }
        if (strict && cpus.isEmpty()) {
            throw new IllegalArgumentException("strict places threads on single processors; name them with cpus");
        }
        if (polite && priority.code() > Priority.NORMAL.code()) {
            throw new IllegalArgumentException("polite and priority " + priority + " contradict each other");
        }
    }

    /** Anywhere, with the process's priority. */
    public static Scheduling usual() {
        return USUAL;
    }

    public Scheduling withCpus(List<Integer> cpus) {
        return new Scheduling(cpus, strict, priority, polite);
    }

    /** As {@link #withCpus(List)}, from numbers and ranges: {@code 0-3,6}. */
    public Scheduling withCpus(String ranges) {
        return withCpus(ranges(ranges));
    }

    public Scheduling withStrict(boolean on) {
        return new Scheduling(cpus, on, priority, polite);
    }

    public Scheduling withPriority(Priority priority) {
        return new Scheduling(cpus, strict, priority, polite);
    }

    public Scheduling withPolite(boolean on) {
        return new Scheduling(cpus, strict, priority, on);
    }

    /** Threads where none are asked for: one per physical core, and no more than there are processors for them. */
    int usualThreads() {
        return cpus.isEmpty() ? Cores.physical() : Math.min(Cores.physical(), cpus.size());
    }

    /** @throws IllegalArgumentException if there are too few processors for them */
    void requireRoomFor(int threads) {
        if (strict && threads > cpus.size()) {
            throw new IllegalArgumentException(threads + " threads can't each have a processor of " + cpus + " for itself; lower threads, "
                    + "or name more cpus");
        }
    }

    /** What native code is told. */
    int nativePriority() {
        return polite ? Priority.LOW.code() : priority.code();
    }

    int niceness() {
        return polite || priority == Priority.LOW ? 10 : 0;
    }

    /** {@code 0-3,6} as numbers. */
    public static List<Integer> ranges(String text) {
        try {
            return List.of(text.split(",")).stream().flatMapToInt(part -> {
                int dash = part.indexOf('-');
                int from = Integer.parseInt(part.substring(0, dash < 0 ? part.length() : dash).strip());
                int to = dash < 0 ? from : Integer.parseInt(part.substring(dash + 1).strip());
                if (from < 0 || to < from || to >= MOST_CPUS) {
                    throw new NumberFormatException();
                }
                return IntStream.rangeClosed(from, to);
            }).boxed().toList();
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("'" + text + "' are no processors; give numbers from 0 to " + (MOST_CPUS - 1)
                    + " and ranges of them, as in 0-3,6");
        }
    }

    /** The bits of a hexadecimal number, the lowest being processor 0. */
    public static List<Integer> mask(String hexadecimal) {
        try {
            var bits = new BigInteger(hexadecimal.replaceFirst("^0[xX]", ""), 16);
            if (bits.signum() > 0 && bits.bitLength() <= MOST_CPUS) {
                return IntStream.range(0, bits.bitLength()).filter(bits::testBit).boxed().toList();
            }
        } catch (NumberFormatException e) {
            // refused below
        }
        throw new IllegalArgumentException("'" + hexadecimal + "' is no mask of processors; give a hexadecimal number with a bit for "
                + "each, of at most " + MOST_CPUS + " bits");
    }
}
