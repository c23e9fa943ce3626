/**
 * The facade: {@code Llama}, the one dependency that an application adds, and the way to models on the hub.
 */
module panamallama {
    requires java.net.http;
    requires panamallama.models;
    requires transitive panamallama.layers;
    requires transitive panamallama.runtime;
    requires transitive panamallama.sampling;

    exports io.github.panamallama;
    exports io.github.panamallama.hub;

    // messages between processes
    opens io.github.panamallama to tools.jackson.databind;
}
