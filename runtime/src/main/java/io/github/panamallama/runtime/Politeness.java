package io.github.panamallama.runtime;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.function.DoubleSupplier;

/** How many threads leave other processes what they use. Looks at the machine twice a second at most; one thread at a time. */
final class Politeness {
    private static final long INTERVAL_NANOS = 500_000_000;

    private final int processors;
    private final DoubleSupplier others;
    private long looked;
    private double busy;

    /** @param others processors that other processes keep busy, 0 to {@code processors}; negative if unknown */
    Politeness(int processors, DoubleSupplier others) {
        this.processors = processors;
        this.others = others;
        looked = System.nanoTime() - INTERVAL_NANOS;
    }

    static Politeness ofThisMachine() {
        var system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
        int processors = system.getAvailableProcessors();
        return new Politeness(processors, () -> {
            double all = system.getCpuLoad();
            double own = system.getProcessCpuLoad();
            return all < 0 || own < 0 ? -1 : Math.max(0, all - own) * processors;
        });
    }

    /** Looks again if it has been a while; whether it did. */
    boolean look(long nanoTime) {
        if (nanoTime - looked < INTERVAL_NANOS) {
            return false;
        }
        looked = nanoTime;
        busy = Math.max(0, others.getAsDouble());
        return true;
    }

    /** Of so many threads, 1 to {@code most}. */
    int threads(int most) {
        return (int) Math.clamp(Math.round(processors - busy), 1, most);
    }
}
