package io.github.panamallama.runtime;

/** How a model is shared out among several devices, under llama.cpp's names. */
public enum SplitMode {
    /** All on {@link Placement#mainDevice}. */
    NONE,
    /** Whole layers, with their part of the KV cache. */
    LAYER,
    /** Rows of the matrices, where the devices can do that. */
    ROW,
    /** All of a layer on every device at the same time; experimental in llama.cpp. */
    TENSOR
}
