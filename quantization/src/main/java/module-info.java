/**
 * Smaller weights chosen by what a model does with a text: statistics of activations, importance matrices, 2:4 sparse models, and
 * the type of each matrix.
 */
module panamallama.quantization {
    requires transitive panamallama.runtime;

    exports io.github.panamallama.quantization;
}
