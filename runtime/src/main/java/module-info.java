/**
 * Models, the engine that decodes, sequences, vocabularies, chat templates and the GGUF reader.
 */
module panamallama.runtime {
    requires panamallama.bindings;
    requires jinjava;
    // jinjava is an automatic module and can't name what it needs itself
    requires com.fasterxml.jackson.databind;
    requires com.fasterxml.jackson.dataformat.yaml;
    requires com.fasterxml.jackson.datatype.jdk8;
    requires org.apache.commons.lang3;
    requires org.slf4j;
    requires jdk.management;
    requires tools.jackson.databind;

    exports io.github.panamallama.runtime;
    exports io.github.panamallama.runtime.gguf;
    exports io.github.panamallama.runtime.chat;
    exports io.github.panamallama.runtime.search;
    // headers of files
    opens io.github.panamallama.runtime to tools.jackson.databind;
}
