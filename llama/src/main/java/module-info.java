/**
 * The facade: {@code Llama}, the one dependency that an application adds.
 */
module panamallama {
    requires panamallama.models;
    requires transitive panamallama.runtime;
    requires transitive panamallama.sampling;

    exports io.github.panamallama;

    // messages between processes
    opens io.github.panamallama to tools.jackson.databind;
}
