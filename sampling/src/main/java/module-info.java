/**
 * Samplers and decoding strategies: plain sequential code over the runtime's sequences and rows.
 */
module panamallama.sampling {
    requires transitive panamallama.runtime;

    exports io.github.panamallama.sampling;
}
