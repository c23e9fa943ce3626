package io.github.panamallama.runtime;

import java.util.List;
import java.util.function.BooleanSupplier;
import java.util.function.DoubleConsumer;

/**
 * How a {@link Model} is loaded. Start from {@link #defaults} and change what matters:
 * {@code ModelOptions.defaults().withMmap(false).withProgress(p -> bar.set(p))}.
 *
 * @param mmap           whether the file is mapped instead of read: faster to load, and weights can be dropped when memory is short.
 *                       Not used where a back end can't, or where the file's alignment is below 32
 * @param mlock          whether weights are locked in memory; where the system refuses that, a warning is logged
 * @param gpuLayers      layers whose weights go to the devices, -1 for all; of no effect without a device
 * @param devices        names of the devices to use, as {@link Model#devices} lists them; empty means all
 * @param repack         whether weights may be copied into layouts that this processor's fastest kernels want. Such copies can't be
 *                       mapped
 * @param vocabularyOnly whether weights are left out: the model can tokenize, but no engine can be opened with it
 * @param mtp            whether the head for multi-token prediction is loaded that some models carry ({@link Model#mtpHeads}), so that
 *                       {@link Sequence#draft} can ask it. Every engine of the model then evaluates it with each token (one block more)
 *                       and keeps a hidden state per token in Java memory; models that can't forget single tokens evaluate their
 *                       sequences one after the other instead of in one batch
 * @param checkTensors   whether all weights are checked for NaN and invalid blocks, which reads the whole file
 * @param progress       told the loaded part, 0 to 1 and never less than before: 0 before anything is read and 1 at the end on the
 *                       loading thread, what is between on another one, every 50 ms. What it throws cancels the load and is thrown by
 *                       it. Null for none
 * @param cancellation   asked every 50 ms; when it says true the load ends with a {@link ModelLoadException}. Null for none.
 *                       Interrupting the loading thread does the same
 */
public record ModelOptions(
        boolean mmap,
        boolean mlock,
        int gpuLayers,
        List<String> devices,
        boolean repack,
        boolean vocabularyOnly,
        boolean mtp,
        boolean checkTensors,
        DoubleConsumer progress,
        BooleanSupplier cancellation) {

    private static final ModelOptions DEFAULTS = new ModelOptions(true, false, -1, List.of(), true, false, false, false, null, null);

    public ModelOptions {
        devices = List.copyOf(devices);
        if (gpuLayers < -1) {
            throw new IllegalArgumentException("gpuLayers is " + gpuLayers + "; it must be a number of layers, or -1 for all");
        }
    }

    /** Mapped, not locked, everything on the devices there are. */
    public static ModelOptions defaults() {
        return DEFAULTS;
    }

    public ModelOptions withMmap(boolean on) {
        return new ModelOptions(on, mlock, gpuLayers, devices, repack, vocabularyOnly, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withMlock(boolean on) {
        return new ModelOptions(mmap, on, gpuLayers, devices, repack, vocabularyOnly, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withGpuLayers(int count) {
        return new ModelOptions(mmap, mlock, count, devices, repack, vocabularyOnly, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withDevices(String... names) {
        return withDevices(List.of(names));
    }

    public ModelOptions withDevices(List<String> names) {
        return new ModelOptions(mmap, mlock, gpuLayers, names, repack, vocabularyOnly, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withRepack(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, on, vocabularyOnly, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withVocabularyOnly(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, repack, on, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withMtp(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, repack, vocabularyOnly, on, checkTensors, progress, cancellation);
    }

    public ModelOptions withCheckTensors(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, repack, vocabularyOnly, mtp, on, progress, cancellation);
    }

    public ModelOptions withProgress(DoubleConsumer consumer) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, repack, vocabularyOnly, mtp, checkTensors, consumer, cancellation);
    }

    public ModelOptions withCancellation(BooleanSupplier cancelled) {
        return new ModelOptions(mmap, mlock, gpuLayers, devices, repack, vocabularyOnly, mtp, checkTensors, progress, cancelled);
    }
}
