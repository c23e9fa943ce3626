package io.github.panamallama.layers;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.function.Function;

/** Models with some weights replaced. */
final class Altered {
    private Altered() {
    }

    /** Copies an F32 model; {@code values} gives a tensor's new values by its name, or null to leave it. */
    static void write(Path in, Path out, Function<String, float[]> values) {
        var source = GgufFile.read(in);
        var writer = new GgufWriter().putAll(source.metadata());
        for (var tensor : source.tensors()) {
            var replaced = values.apply(tensor.name());
            if (replaced != null && (tensor.type() != GgmlType.F32 || replaced.length != tensor.elementCount())) {
                throw new IllegalArgumentException(replaced.length + " values for " + tensor);
            }
            writer.tensor(tensor.name(), tensor.type(), tensor.shape(), to -> {
                try (var arena = Arena.ofConfined()) {
                    if (replaced == null) {
                        to.write(source.map(tensor, arena));
                    } else {
                        to.write(MemorySegment.ofArray(replaced).asSlice(0, replaced.length * ValueLayout.JAVA_FLOAT.byteSize()));
                    }
                }
            });
        }
        writer.write(out);
    }
}
