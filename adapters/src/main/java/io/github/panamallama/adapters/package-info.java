/**
 * LoRA adapters as data: read, converted from Hugging Face PEFT, expanded from NOLA, added, merged, compared and written. Everything here
 * works on files and arrays but the registry, which keeps loaded ones within a budget; what adapters do to a sequence belongs to the
 * runtime.
 */
package io.github.panamallama.adapters;
