package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.UnaryOperator;
import java.util.zip.CRC32;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RouterFileTest {
    private static final RandomModel LLAMA = RandomModel.tiny(RandomModel.Architecture.LLAMA);

    @TempDir
    Path folder;
    private Path file;
    private Model model;

    @BeforeEach
    void open() {
        file = folder.resolve("routers.bin");
        model = load(LLAMA);
    }

    @AfterEach
    void close() {
        model.close();
    }

    private Model load(RandomModel random) {
        var path = folder.resolve(random.layers() + "-" + random.width() + "-" + random.seed() + ".gguf");
        random.write(path);
        return Model.load(path);
    }

    private static FirstRouter first() {
        var random = new SplittableRandom(1);
        var weights = new float[LLAMA.layers()][LLAMA.width()];
        var biases = new float[LLAMA.layers()];
        for (int block = 0; block < weights.length; block++) {
            for (int j = 0; j < LLAMA.width(); j++) {
                weights[block][j] = (float) random.nextGaussian();
            }
            biases[block] = (float) random.nextGaussian();
        }
        return new FirstRouter(weights, biases, 0.625, Prefill.FULL);
    }

    private static DrLlmRouter drLlm() {
        var random = new SplittableRandom(2);
        var parameters = new float[LLAMA.layers()][Mlp.size(LLAMA.width(), 5)];
        for (float[] block : parameters) {
            for (int i = 0; i < block.length; i++) {
                block[i] = (float) random.nextGaussian();
            }
        }
        return new DrLlmRouter(parameters, LLAMA.width(), 5, 6);
    }

    @Test
    void routersOfFirstComeBackAsTheyWere() {
        var router = first();
        RouterFile.write(file, router, model);
        var read = assertInstanceOf(FirstRouter.class, RouterFile.read(file, model));
        for (int block = 0; block < LLAMA.layers(); block++) {
            assertArrayEquals(router.weights()[block], read.weights()[block]);
        }
        assertArrayEquals(router.biases(), read.biases());
        assertEquals(0.625, read.tau());
        assertEquals(Prefill.FULL, read.prefill());
    }

    @Test
    void routersOfDrLlmComeBackAsTheyWere() {
        var router = drLlm();
        RouterFile.write(file, router, model);
        var read = RouterFile.read(file, model, 6);
        for (int block = 0; block < LLAMA.layers(); block++) {
            assertArrayEquals(router.parameters()[block], read.parameters()[block]);
        }
        assertEquals(6, read.windows());
        assertEquals(5, read.hidden());
        assertEquals(LLAMA.width(), read.width());
    }

    private void refused(String... parts) {
        var refused = assertThrows(LayerPlanException.class, () -> RouterFile.read(file, model));
        for (var part : parts) {
            assertTrue(refused.getMessage().contains(part), refused.getMessage());
        }
    }

    @Test
    void anotherModelIsRefusedWithBothFingerprints() {
        try (var other = load(LLAMA.withSeed(2))) {
            RouterFile.write(file, first(), other);
            refused(other.fingerprint(), model.fingerprint());
        }
    }

    @Test
    void anotherNumberOfBlocksIsRefusedWithBoth() {
        RouterFile.write(file, first(), model);
        try (var other = load(LLAMA.withLayers(5))) {
            var refused = assertThrows(LayerPlanException.class, () -> RouterFile.read(file, other));
            assertTrue(refused.getMessage().contains("4 blocks") && refused.getMessage().contains("has 5"), refused.getMessage());
            assertThrows(LayerPlanException.class, () -> RouterFile.write(file, first(), other));
        }
    }

    @Test
    void anotherWidthIsRefusedWithBoth() {
        RouterFile.write(file, first(), model);
        try (var other = load(LLAMA.withWidth(96))) {
            var refused = assertThrows(LayerPlanException.class, () -> RouterFile.read(file, other));
            assertTrue(refused.getMessage().contains("width 64") && refused.getMessage().contains("has 96"), refused.getMessage());
        }
    }

    @Test
    void anotherNumberOfWindowsIsRefusedWithBoth() {
        RouterFile.write(file, drLlm(), model);
        var refused = assertThrows(LayerPlanException.class, () -> RouterFile.read(file, model, 8));
        assertTrue(refused.getMessage().contains("6 windows") && refused.getMessage().contains("for 8"), refused.getMessage());
        RouterFile.write(file, first(), model);
        assertThrows(LayerPlanException.class, () -> RouterFile.read(file, model, 8));
    }

    @Test
    void weightsThatAreNoNumbersAreNeitherWrittenNorRead() throws IOException {
        RouterFile.write(file, first(), model);
        byte[] before = Files.readAllBytes(file);
        var broken = first();
        broken.weights()[2][7] = Float.NaN;
        var refused = assertThrows(LayerPlanException.class, () -> RouterFile.write(file, broken, model));
        assertTrue(refused.getMessage().contains("block 2 is NaN"), refused.getMessage());
        assertArrayEquals(before, Files.readAllBytes(file), "the file that was there stays");

        change(bytes -> {
            bytes.putFloat(bytes.capacity() - 8, Float.POSITIVE_INFINITY);
            return bytes;
        });
        refused("block 3 is Infinity");
    }

    /** Changes the file, and makes its checksum right again. */
    private void change(UnaryOperator<ByteBuffer> change) throws IOException {
        var bytes = change.apply(ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN));
        var sum = new CRC32();
        sum.update(bytes.array(), 0, bytes.capacity() - 4);
        bytes.putInt(bytes.capacity() - 4, (int) sum.getValue());
        Files.write(file, bytes.array());
    }

    private void changeHeader(String from, String to) throws IOException {
        change(bytes -> {
            var text = new String(bytes.array(), StandardCharsets.ISO_8859_1);
            assertTrue(text.contains(from), text.substring(0, 400));
            assertEquals(from.length(), to.length());
            return ByteBuffer.wrap(text.replaceFirst(from, to).getBytes(StandardCharsets.ISO_8859_1)).order(ByteOrder.LITTLE_ENDIAN);
        });
    }

    @Test
    void aFileThatWasCutShortIsRefusedWherever() throws IOException {
        RouterFile.write(file, first(), model);
        byte[] whole = Files.readAllBytes(file);
        for (int length = 0; length < whole.length; length += length < 600 ? 1 : 97) {
            Files.write(file, Arrays.copyOf(whole, length));
            refused(file.toString());
        }
        Files.write(file, Arrays.copyOf(whole, whole.length + 1));
        refused("bytes where its header announces");
    }

    @Test
    void aChangedByteIsRefusedWherever() throws IOException {
        RouterFile.write(file, first(), model);
        byte[] whole = Files.readAllBytes(file);
        for (int at = 0; at < whole.length; at += at < 600 ? 1 : 97) {
            byte[] changed = whole.clone();
            changed[at] ^= 0x20;
            Files.write(file, changed);
            refused(file.toString());
        }
    }

    @Test
    void headersWithoutSenseAreRefused() throws IOException {
        RouterFile.write(file, first(), model);
        byte[] whole = Files.readAllBytes(file);
        changeHeader("\"version\":1", "\"version\":2");
        refused("version 2", "reads 1");
        Files.write(file, whole);
        changeHeader("\"tau\":0.625", "\"tau\":1.625");
        refused("tau=1.625");
        Files.write(file, whole);
        changeHeader("\"tau\":0.625", "\"tao\":0.625");
        refused("can't be read", "tau");
        Files.write(file, whole);
        changeHeader("\"FIRST\"", "\"FEAST\"");
        refused("can't be read");
        Files.write(file, whole);
        change(bytes -> bytes.putInt(8, -1));
        refused("a header of -1 bytes");
    }

    @Test
    void whatIsNoFileOfRoutersIsRefused() throws IOException {
        refused("can't be read");
        Files.writeString(file, "{\"version\":1, \"kind\":\"FIRST\"}");
        refused("holds no routers");
        try (var huge = new RandomAccessFile(file.toFile(), "rw")) {
            huge.setLength(3L << 30);    // a hole, which takes no room
        }
        refused("has 3221225472 bytes");
    }

    @Test
    void aFolderThatIsNotThereCanNotBeWrittenTo() throws IOException {
        assertThrows(LlamaException.class, () -> RouterFile.write(folder.resolve("none/routers.bin"), first(), model));
        RouterFile.write(file, first(), model);
        try (var files = Files.list(folder)) {
            assertTrue(files.noneMatch(path -> path.toString().endsWith(".part")));
        }
    }
}
