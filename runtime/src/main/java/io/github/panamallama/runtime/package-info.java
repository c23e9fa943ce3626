/**
 * Models, engines, sequences and vocabularies: everything that touches native code, and nothing that chooses tokens.
 * Decoding strategies belong to the sampling module, file formats to {@code runtime.gguf}, prompts to {@code runtime.chat}.
 */
package io.github.panamallama.runtime;
