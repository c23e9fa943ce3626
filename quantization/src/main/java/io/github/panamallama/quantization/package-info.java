/**
 * What is learned from a calibration text about the inputs of weights, and what it is used for: importance matrices for quantising, masks
 * of 2:4 sparse weights, and the type that each matrix gets ({@link io.github.panamallama.quantization.TypeSearch}, and
 * {@link io.github.panamallama.quantization.PlannedQuantizer}, which writes the model). ggml's quantisers, and quantising by llama.cpp's
 * rules about types, are the runtime's.
 */
package io.github.panamallama.quantization;
