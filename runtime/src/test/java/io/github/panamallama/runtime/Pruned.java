package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_quantize_params;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;

/** Models without some of their blocks, made by upstream's own tool. */
final class Pruned {
    private Pruned() {
    }

    /** Copies an F32 model to {@code out} without the given blocks, which are ascending. */
    static void write(Path in, Path out, int... blocks) {
        Natives.load();
        try (var arena = Arena.ofConfined()) {
            var params = LlamaH.llama_model_quantize_default_params(arena);
            llama_model_quantize_params.ftype(params, LlamaH.LLAMA_FTYPE_ALL_F32());
            llama_model_quantize_params.nthread(params, 1);
            var list = Arrays.copyOf(blocks, blocks.length + 1);
            list[blocks.length] = -1;
            llama_model_quantize_params.prune_layers(params, arena.allocateFrom(ValueLayout.JAVA_INT, list));
            assertEquals(0, LlamaH.llama_model_quantize(arena.allocateFrom(in.toString()), arena.allocateFrom(out.toString()), params));
        }
    }
}
