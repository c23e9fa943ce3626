/**
 * Generated bindings of llama.cpp's and ggml's C API and of {@code panama_llama.h}. Only the runtime sees them.
 */
module panamallama.bindings {
    exports io.github.panamallama.bindings to panamallama.runtime;
}
