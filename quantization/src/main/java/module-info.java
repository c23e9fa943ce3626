/**
 * Smaller weights chosen by what a model does with a text: statistics of activations, importance matrices, and 2:4 sparse models.
 */
module panamallama.quantization {
    requires transitive panamallama.runtime;
    requires ejml.core;
    requires ejml.ddense;

    exports io.github.panamallama.quantization;
}
