/**
 * LoRA adapters as data: read, converted from Hugging Face PEFT, changed and written. Everything here works on files and arrays;
 * using an adapter in a running model belongs to the runtime.
 */
package io.github.panamallama.adapters;
