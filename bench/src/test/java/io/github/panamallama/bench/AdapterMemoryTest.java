package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** An adapter takes what it says, and gives it back. */
class AdapterMemoryTest {
    private static final int LOADS = 21;
    /** So large that the objects of its header and what the JVM takes meanwhile hardly count: some MB. */
    private static final int RANK = 128;

    @TempDir
    private Path folder;

    private GgufFile model() {
        var path = folder.resolve("model.gguf");
        RandomModel.llama(4, 512, 8, 8, 1024, 512).write(path);
        return GgufFile.read(path);
    }

    @ParameterizedTest
    @EnumSource(value = GgmlType.class, names = {"F16", "F32"})
    void sizeBytesIsWhatItsTensorsTakeAndWhatIsAllocated(GgmlType type) throws IOException {
        assumeTrue(MemoryInUse.bytes().isPresent(), "skipped: only glibc says what was allocated");
        var base = model();
        var file = new RandomAdapter(RANK, 1, type, 1).write(base, folder.resolve("adapter.gguf"));
        long tensors = GgufFile.read(file).tensors().stream().mapToLong(GgufTensor::byteSize).sum();
        var open = new ArrayList<Adapter>();
        try (var model = Model.load(base.path())) {
            var taken = new double[LOADS];
            long before = MemoryInUse.bytes().orElseThrow();
            for (int i = 0; i < LOADS; i++) {
                open.add(Adapter.load(model, file));
                long after = MemoryInUse.bytes().orElseThrow();
                taken[i] = after - before;
                before = after;
            }
            long size = open.getLast().sizeBytes();
            assertEquals(tensors, size, 64.0 * open.getLast().targets().size() * 2, "beside what aligns matrices");
            assertEquals(size, Statistics.median(taken), 0.02 * size, "allocated");
        } finally {
            open.forEach(Adapter::close);
        }
    }

    @Test
    void aClosedAdapterTakesNothing() throws IOException {
        assumeTrue(MemoryInUse.bytes().isPresent(), "skipped: only glibc says what was allocated");
        var base = model();
        var file = new RandomAdapter(RANK, 1, GgmlType.F16, 1).write(base, folder.resolve("adapter.gguf"));
        try (var model = Model.load(base.path())) {
            var kept = new double[LOADS];
            for (int i = 0; i < LOADS; i++) {
                long before = MemoryInUse.bytes().orElseThrow();
                Adapter.load(model, file).close();
                kept[i] = MemoryInUse.bytes().orElseThrow() - before;
            }
            assertEquals(0, Statistics.median(kept), 0.02 * Files.size(file));
        }
    }
}
