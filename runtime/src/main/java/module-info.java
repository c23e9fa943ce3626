/**
 * Models, the engine that decodes, sequences, vocabularies, chat templates and the GGUF reader.
 */
module panamallama.runtime {
    requires panamallama.bindings;
    requires jinjava;
    requires jdk.management;
    requires tools.jackson.databind;

    exports io.github.panamallama.runtime;
    exports io.github.panamallama.runtime.gguf;
    exports io.github.panamallama.runtime.chat;
}
