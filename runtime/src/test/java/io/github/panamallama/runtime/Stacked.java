package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Pattern;

/** Models whose blocks stand in another order, or more than once. */
final class Stacked {
    private static final Pattern OF_A_BLOCK = Pattern.compile("blk\\.(\\d+)\\.(.*)");

    private Stacked() {
    }

    /**
     * Copies a model whose metadata have no lists by block to {@code out}: block {@code i} of it is block {@code order[i]} of {@code in},
     * with its sliding window or without.
     */
    static void write(Path in, Path out, int... order) {
        var file = GgufFile.read(in);
        var architecture = file.metadata().string("general.architecture").orElseThrow();
        var writer = new GgufWriter().putAll(file.metadata()).putU32(architecture + ".block_count", order.length);
        var pattern = architecture + ".attention.sliding_window_pattern";
        if (file.metadata().contains(pattern)) {
            int period = (int) file.metadata().integer(pattern).orElseThrow();
            writer.putU32s(pattern, Arrays.stream(order).map(block -> block % period < period - 1 ? 1 : 0).toArray());
        }
        try (var arena = Arena.ofConfined()) {
            for (var tensor : file.tensors()) {
                var name = OF_A_BLOCK.matcher(tensor.name());
                var data = file.map(tensor, arena);
                if (!name.matches()) {
                    writer.tensor(tensor.name(), tensor.type(), tensor.shape(), output -> output.write(data));
                    continue;
                }
                for (int i = 0; i < order.length; i++) {
                    if (order[i] == Integer.parseInt(name.group(1))) {
                        writer.tensor("blk." + i + "." + name.group(2), tensor.type(), tensor.shape(), output -> output.write(data));
                    }
                }
            }
            writer.write(out);
        }
    }
}
