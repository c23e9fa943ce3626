/**
 * Where strategies evaluate tokens: the engine's sequences behind an interface narrow enough for tests to put a table in its place.
 * Nothing here chooses a token. Not exported.
 */
package io.github.panamallama.sampling.track;
