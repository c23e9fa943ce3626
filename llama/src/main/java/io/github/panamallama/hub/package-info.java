/**
 * Models from Hugging Face or a mirror of it: brings GGUF files into a cache folder, finds and removes them there. Nothing is fetched
 * unless {@link io.github.panamallama.hub.Hub#pull} is called, and nothing here knows how a model is run.
 */
package io.github.panamallama.hub;
