/**
 * LoRA adapters around the runtime: their weights in memory, and what makes, changes and merges them.
 */
module panamallama.adapters {
    requires transitive panamallama.runtime;
    requires ejml.core;
    requires ejml.ddense;
    requires tools.jackson.databind;

    exports io.github.panamallama.adapters;
}
