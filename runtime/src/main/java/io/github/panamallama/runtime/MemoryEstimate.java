package io.github.panamallama.runtime;

import java.util.List;
import java.util.Locale;

/**
 * The memory that a model and an engine take, in bytes, per device.
 *
 * @param devices the machine's own memory first, then each accelerator
 * @param exact   true: llama.cpp planned it, buffer by buffer; false: a lower bound from the file's metadata, which was too much already
 */
public record MemoryEstimate(List<Device> devices, boolean exact) {
    /**
     * @param name    as the back end calls it, {@code CPU} or {@code CUDA0}
     * @param weights bytes of weights
     * @param mapped  of {@code weights}: read from the mapped file when needed and given back when memory is short; the rest has to fit
     * @param context bytes of the KV cache, of recurrent states and of their bookkeeping
     * @param compute bytes of scratch buffers for graphs, and of outputs
     * @param layers  of the model, the output counting as one; the embedding is always on the host. With {@link SplitMode#ROW} and
     *                {@link SplitMode#TENSOR} those that it has a part of
     */
    public record Device(String name, long weights, long mapped, long context, long compute, int layers) {
        /** Everything, in bytes. */
        public long total() {
            return saturated(saturated(weights, context), compute);
        }

        /** What can't be given back, in bytes. */
        public long needed() {
            return total() - mapped;
        }
    }

    public MemoryEstimate {
        devices = List.copyOf(devices);
    }

    /** The machine's own memory. */
    public Device host() {
        return devices.getFirst();
    }

    /** Weights on all devices, in bytes. */
    public long weights() {
        return devices.stream().mapToLong(Device::weights).sum();
    }

    /** KV caches and recurrent states on all devices, in bytes. */
    public long context() {
        return devices.stream().mapToLong(Device::context).reduce(0, MemoryEstimate::saturated);
    }

    /** Scratch and output buffers on all devices, in bytes. */
    public long compute() {
        return devices.stream().mapToLong(Device::compute).reduce(0, MemoryEstimate::saturated);
    }

    /** Everything on all devices, in bytes. */
    public long total() {
        return devices.stream().mapToLong(Device::total).reduce(0, MemoryEstimate::saturated);
    }

    static long saturated(long a, long b) {
        long sum = a + b;
        return sum < 0 ? Long.MAX_VALUE : sum;
    }

    /** For people: {@code 1.5 GiB}. */
    static String text(long bytes) {
        if (bytes < 1L << 20) {
            return (bytes >> 10) + " KiB";
        }
        return bytes < 1L << 30 ? String.format(Locale.ROOT, "%.1f MiB", bytes / 0x1p20)
                : String.format(Locale.ROOT, "%.1f GiB", bytes / 0x1p30);
    }
}
