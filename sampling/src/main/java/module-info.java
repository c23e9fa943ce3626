/**
 * Samplers and decoding strategies: plain sequential code over the runtime's sequences and rows.
 */
module panamallama.sampling {
    requires transitive panamallama.runtime;
    requires transitive tools.jackson.databind;

    exports io.github.panamallama.sampling;
    exports io.github.panamallama.sampling.asap;
    exports io.github.panamallama.sampling.grammar;
    exports io.github.panamallama.sampling.strategy;
}
