/**
 * The GGUF file format in plain Java: a reader that checks a file before native code opens it, a writer, the element types, and
 * models with weights that are random, or set by hand. Nothing here calls native code, and nothing here knows what a model does with its
 * tensors.
 */
package io.github.panamallama.runtime.gguf;
