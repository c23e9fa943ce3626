/**
 * What is learned from a calibration text about the inputs of weights, and what it is used for: importance matrices for quantising, and
 * masks of 2:4 sparse weights. Quantising itself is the runtime's.
 */
package io.github.panamallama.quantization;
