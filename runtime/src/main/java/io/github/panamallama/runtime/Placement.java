package io.github.panamallama.runtime;

import java.util.List;

/**
 * Where the weights of a model go, if there is more than one device. Start from {@link #defaults}.
 *
 * @param splitMode   how they are shared out
 * @param shares      of each device, in the order of the devices and relative to each other; empty for shares by free memory
 * @param mainDevice  index of the device that takes all with {@link SplitMode#NONE}
 * @param rpcServers  {@code host:port} of ggml's RPC servers whose devices are used before those of this machine. Sent there unencrypted:
 *                    only for networks that are trusted. A server serves one process at a time
 */
public record Placement(SplitMode splitMode, List<Float> shares, int mainDevice, List<String> rpcServers) {
    private static final Placement DEFAULTS = new Placement(SplitMode.LAYER, List.of(), 0, List.of());

    public Placement {
        shares = List.copyOf(shares);
        rpcServers = List.copyOf(rpcServers);
        if (splitMode == null) {
            throw new IllegalArgumentException("splitMode must be given");
        }
        if (shares.stream().anyMatch(share -> !(share >= 0 && share < Float.POSITIVE_INFINITY))
                || !shares.isEmpty() && shares.stream().allMatch(share -> share == 0)) {
            throw new IllegalArgumentException("the shares are " + shares + "; they must be numbers of at least 0, not all of them 0");
        }
        if (mainDevice < 0) {
            throw new IllegalArgumentException("mainDevice is " + mainDevice + "; it must be at least 0");
        }
        rpcServers.forEach(RpcServers::parse);
    }

    /** By layers and free memory, on this machine. */
    public static Placement defaults() {
        return DEFAULTS;
    }
}
