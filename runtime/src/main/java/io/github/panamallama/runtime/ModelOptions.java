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
 * @param gpuLayers      layers whose weights go to the devices, the output counting as one: a number, {@link #ALL_LAYERS}, or
 *                       {@link #AUTO_LAYERS} for as many as fit into what is free there. Of no effect without a device
 * @param roomFor        with {@link #AUTO_LAYERS}: the engine whose caches and buffers must find room on the devices too; null for
 *                       {@link EngineOptions#defaults}. {@code Llama} takes its own
 * @param devices        names of the devices to use, as {@link Model#devices} lists them; empty means all, {@code none} alone means none
 * @param placement      how weights are shared out among several devices, and on which other machines
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
        EngineOptions roomFor,
        List<String> devices,
        Placement placement,
        boolean repack,
        boolean vocabularyOnly,
        boolean mtp,
        boolean checkTensors,
        DoubleConsumer progress,
        BooleanSupplier cancellation) {

    /** For {@link #gpuLayers}: all of them. */
    public static final int ALL_LAYERS = -1;

    /**
     * For {@link #gpuLayers}: as many as fit beside the engine of {@link #roomFor}, an eighth of each device (at most 1 GiB) being left
     * free. Finding the number reads the vocabulary a few times where not everything fits.
     */
    public static final int AUTO_LAYERS = -2;

    private static final ModelOptions DEFAULTS = new ModelOptions(true, false, AUTO_LAYERS, null, List.of(), Placement.defaults(), true,
            false, false,
            false, null, null);

    public ModelOptions {
        devices = List.copyOf(devices);
        if (placement == null) {
            throw new IllegalArgumentException("placement must be given; Placement.defaults() for the usual one");
        }
        if (gpuLayers < AUTO_LAYERS) {
            throw new IllegalArgumentException("gpuLayers is " + gpuLayers + "; it must be a number of layers, " + ALL_LAYERS
                    + " for all, or " + AUTO_LAYERS + " for as many as fit");
        }
    }

    /** Mapped, not locked, as many layers on the devices there are as fit. */
    public static ModelOptions defaults() {
        return DEFAULTS;
    }

    public ModelOptions withMmap(boolean on) {
        return new ModelOptions(on, mlock, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, mtp, checkTensors, progress,
                cancellation);
    }

    public ModelOptions withMlock(boolean on) {
        return new ModelOptions(mmap, on, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, mtp, checkTensors,
                progress, cancellation);
    }

    public ModelOptions withGpuLayers(int count) {
        return new ModelOptions(mmap, mlock, count, roomFor, devices, placement, repack, vocabularyOnly, mtp, checkTensors,
                progress, cancellation);
    }

    /** Chooses the number of layers so that this engine finds room beside them. */
    public ModelOptions withRoomFor(EngineOptions engine) {
        return new ModelOptions(mmap, mlock, gpuLayers, engine, devices, placement, repack, vocabularyOnly, mtp, checkTensors, progress,
                cancellation);
    }

    public ModelOptions withDevices(String... names) {
        return withDevices(List.of(names));
    }

    public ModelOptions withDevices(List<String> names) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, names, placement, repack, vocabularyOnly, mtp, checkTensors, progress,
                cancellation);
    }

    public ModelOptions withPlacement(Placement where) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, where, repack, vocabularyOnly, mtp, checkTensors,
                progress, cancellation);
    }

    /** Lets devices take layers in these proportions, in the order of the devices. */
    public ModelOptions withTensorSplit(List<Float> shares) {
        return withPlacement(new Placement(placement.splitMode(), shares, placement.mainDevice(), placement.rpcServers()));
    }

    public ModelOptions withSplitMode(SplitMode mode) {
        return withPlacement(new Placement(mode, placement.shares(), placement.mainDevice(), placement.rpcServers()));
    }

    /** The index of the device that takes all with {@link SplitMode#NONE}. */
    public ModelOptions withMainDevice(int index) {
        return withPlacement(new Placement(placement.splitMode(), placement.shares(), index, placement.rpcServers()));
    }

    /** Uses the devices of ggml's RPC servers at these {@code host:port}, before those of this machine. */
    public ModelOptions withRpcServers(List<String> servers) {
        return withPlacement(new Placement(placement.splitMode(), placement.shares(), placement.mainDevice(), servers));
    }

    public ModelOptions withRpcServers(String... servers) {
        return withRpcServers(List.of(servers));
    }

    public ModelOptions withRepack(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, on, vocabularyOnly, mtp, checkTensors,
                progress, cancellation);
    }

    public ModelOptions withVocabularyOnly(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, repack, on, mtp, checkTensors, progress, cancellation);
    }

    public ModelOptions withMtp(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, on, checkTensors, progress,
                cancellation);
    }

    public ModelOptions withCheckTensors(boolean on) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, mtp, on,
                progress, cancellation);
    }

    public ModelOptions withProgress(DoubleConsumer consumer) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, mtp, checkTensors, consumer,
                cancellation);
    }

    public ModelOptions withCancellation(BooleanSupplier cancelled) {
        return new ModelOptions(mmap, mlock, gpuLayers, roomFor, devices, placement, repack, vocabularyOnly, mtp, checkTensors,
                progress, cancelled);
    }
}
