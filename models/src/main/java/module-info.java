/** The model that works without downloading one: java-tiny, and where its file lies. */
module panamallama.models {
    exports io.github.panamallama.models;
}
