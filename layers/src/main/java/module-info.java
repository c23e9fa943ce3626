/**
 * Choosing layer plans: how much each block of a model matters, which blocks a text can do without, and routers that decide it by the
 * prompt.
 */
module panamallama.layers {
    requires transitive panamallama.runtime;
    requires tools.jackson.databind;

    exports io.github.panamallama.layers;
    opens io.github.panamallama.layers to tools.jackson.databind;
}
