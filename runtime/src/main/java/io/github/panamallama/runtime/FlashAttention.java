package io.github.panamallama.runtime;

/** When attention is computed by the fused kernel, which changes results within rounding and needs less memory. */
public enum FlashAttention {
    /** As llama.cpp decides for the device. */
    AUTO,
    ON,
    OFF
}
