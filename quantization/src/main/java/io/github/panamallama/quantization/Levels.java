package io.github.panamallama.quantization;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Matrices in each type that they may get, rounded once. They lie in a file that is mapped, so that memory holds what is in use and the
 * system may drop the rest; it is gone when this is closed, or the process ends.
 */
final class Levels implements AutoCloseable {
    private static final int ALIGNMENT = 64;

    /** @param blocks native memory, until {@link #close} */
    record Level(GgmlType type, MemorySegment blocks) {
    }

    /** @param levels the smallest first */
    record Unit(SourceModel.Tensor matrix, List<Level> levels) {
    }

    /** @param types that it may get, the smallest first */
    record Choice(SourceModel.Tensor matrix, List<GgmlType> types) {
        Choice {
            var of = Comparator.<GgmlType>comparingLong(type -> type.bytes(matrix.info().elementCount())).thenComparing(type -> type);
            types = types.stream().sorted(of).toList();
        }

        long bytes(int level) {
            return types.get(level).bytes(matrix.info().elementCount());
        }
    }

    private final Arena arena = Arena.ofShared();
    private final List<Unit> units = new ArrayList<>();
    private Path file;

    /**
     * Rounds matrices.
     *
     * @param folder for the file
     * @throws LlamaException if there is no room, or it can't be written
     */
    static Levels round(List<Choice> choices, Rounding rounding, Path folder, Progress progress) {
        var levels = new Levels();
        try {
            levels.fill(choices, rounding, folder, progress);
            return levels;
        } catch (IOException e) {
            levels.close();
            throw new LlamaException("can't write the matrices in other types to " + folder + ": " + LlamaException.reason(e), e);
        } catch (RuntimeException | Error e) {
            levels.close();
            throw e;
        }
    }

    private void fill(List<Choice> choices, Rounding rounding, Path folder, Progress progress) throws IOException {
        long bytes = 0;
        int count = 0;
        for (var choice : choices) {
            for (int i = 0; i < choice.types.size(); i++) {
                if (choice.types.get(i) != choice.matrix.info().type()) {
                    bytes += padded(choice.bytes(i));
                    count++;
                }
            }
        }
        SourceModel.requireSpace(folder, bytes, "matrices in other types");
        file = Files.createTempFile(folder, "levels", ".bin");
        file.toFile().deleteOnExit();
        try (var channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            int done = 0;
            for (var choice : choices) {
                var matrix = choice.matrix;
                var own = new ArrayList<Level>();
                for (var type : choice.types) {
                    if (type == matrix.info().type()) {
                        own.add(new Level(type, matrix.file().map(matrix.info(), arena)));
                        continue;
                    }
                    progress.update(matrix.name() + " as " + type.label(), done++, count);
                    long start = padded(channel.position());
                    channel.position(start);
                    rounding.write(matrix, type, piece -> {
                        for (var buffer = piece.asByteBuffer(); buffer.hasRemaining(); ) {
                            channel.write(buffer);
                        }
                    });
                    own.add(new Level(type, channel.map(FileChannel.MapMode.READ_ONLY, start, channel.position() - start, arena)));
                }
                units.add(new Unit(matrix, List.copyOf(own)));
            }
            progress.update("matrices in other types", count, count);
        }
    }

    private static long padded(long bytes) {
        return Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
    }

    List<Unit> units() {
        return units;
    }

    @Override
    public void close() {
        arena.close();
        if (file != null) {
            try {
                Files.deleteIfExists(file);
            } catch (IOException e) {
                throw new LlamaException("can't delete " + file + ": " + LlamaException.reason(e), e);
            }
        }
    }
}
