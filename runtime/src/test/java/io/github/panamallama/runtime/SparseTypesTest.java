package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Models with weights of the 2:4 sparse types: the whole way from a file to logits. */
class SparseTypesTest {
    private static final EngineOptions OPTIONS = EngineOptions.defaults().withContextSize(256).withThreads(1);
    private static final List<GgmlType> TYPES = List.of(GgmlType.S24_Q4, GgmlType.S24_Q8, GgmlType.S24_T);

    @TempDir
    Path folder;

    static Stream<Arguments> architecturesAndTypes() {
        return Arrays.stream(Architecture.values()).flatMap(architecture -> TYPES.stream().map(type -> Arguments.of(architecture, type)));
    }

    /**
     * A model and its twin in floats differ by the rounding of activations alone. The same weights in blocks of Q8_0, against their own
     * twin, set the measure: activations are rounded for them as for Q4_0, 32 with one scale, so that distances are equal but for chance,
     * which 1.1 leaves room for. One scale for 256 gave up to 2.8 times as much.
     */
    @ParameterizedTest
    @MethodSource("architecturesAndTypes")
    void logitsAreThoseOfTheDequantisedModel(Architecture architecture, GgmlType type) {
        var sparse = folder.resolve("sparse.gguf");
        RandomModel.tiny(architecture).withWidth(256).withHeads(4, 2, 64).withFeedForward(512).withType(type).write(sparse);
        var matrices = GgufFile.read(sparse).tensors().stream().filter(tensor -> tensor.type() == type).map(GgufTensor::name).toList();
        assertTrue(matrices.size() > 4, "few tensors are " + type.label());
        var twin = converted(sparse, matrices, GgmlType.F32, "twin.gguf");
        var dense = converted(twin, matrices, GgmlType.Q8_0, "dense.gguf");
        var denseTwin = converted(dense, matrices, GgmlType.F32, "dense-twin.gguf");
        for (boolean singly : new boolean[] {false, true}) {
            double distance = distance(sparse, twin, singly);
            double usual = distance(dense, denseTwin, singly);
            System.out.printf("%s %s, %s: %.5f, q8_0 %.5f%n", architecture, type.label(), singly ? "tokens" : "prompts", distance, usual);
            assertTrue(distance <= 1.1 * usual, architecture + " " + type.label() + (singly ? ", single tokens: " : ", a prompt: ")
                    + distance + " of the rms, q8_0 " + usual);
        }
    }

    /**
     * The rms of the logits' differences in parts of that of the logits, after each of 40 tokens of three texts, evaluated as prompts or
     * as single tokens: the median, since models with a state now and then make much of little for some tokens.
     */
    private static double distance(Path path, Path twin, boolean singly) {
        var distances = new ArrayList<Double>();
        try (var model = Model.load(path, ModelOptions.defaults().withCheckTensors(true)); var other = Model.load(twin)) {
            for (int seed = 1; seed <= 3; seed++) {
                int[] tokens = Evaluation.tokens(model, 40, seed);
                var got = rows(model, tokens, singly);
                var wanted = rows(other, tokens, singly);
                for (int i = 0; i < got.length; i++) {
                    for (int j = 0; j < got[i].length; j++) {
                        got[i][j] -= wanted[i][j];
                    }
                    distances.add(Evaluation.rms(got[i]) / Evaluation.rms(wanted[i]));
                }
            }
        }
        distances.sort(null);
        return distances.get(distances.size() / 2);
    }

    private static float[][] rows(Model model, int[] tokens, boolean singly) {
        try (var engine = Engine.open(model, OPTIONS); var sequence = engine.newSequence()) {
            var rows = Stream.generate(engine::newRow).limit(tokens.length).toArray(Row[]::new);
            if (singly) {
                for (int i = 0; i < tokens.length; i++) {
                    sequence.append(tokens[i], rows[i]);
                }
            } else {
                engine.decode(Append.all(sequence, tokens, rows));
            }
            return Arrays.stream(rows).map(Row::toArray).toArray(float[][]::new);
        }
    }

    /** The same model with some tensors in another type. */
    private Path converted(Path from, List<String> names, GgmlType type, String name) {
        var file = GgufFile.read(from);
        var writer = new GgufWriter().putAll(file.metadata());
        for (var tensor : file.tensors()) {
            boolean chosen = names.contains(tensor.name());
            writer.tensor(tensor.name(), chosen ? type : tensor.type(), tensor.shape(), to -> {
                try (var arena = Arena.ofConfined()) {
                    var bytes = file.map(tensor, arena);
                    if (chosen) {
                        int count = (int) tensor.elementCount();
                        int columns = tensor.shape().getFirst().intValue();
                        var values = new float[count];
                        Dequantizer.toFloats(tensor.type(), bytes, values, count);
                        bytes = arena.allocate(type.bytes(count), 32);
                        BlockQuantizer.toBlocks(type, values, count / columns, columns, null, bytes);
                    }
                    to.write(bytes);
                }
            });
        }
        var out = folder.resolve(name);
        writer.write(out);
        return out;
    }

    @ParameterizedTest
    @EnumSource(value = Quantizer.Type.class, names = {"S24_Q4", "S24_Q8", "S24_T"})
    void aQuantizedModelKeepsTwoOfFourAndStaysDenseAtBothEnds(Quantizer.Type type) {
        var path = folder.resolve("f32.gguf");
        RandomModel.llama(2, 256, 4, 4, 512, 512).withType(GgmlType.F32).write(path);
        var out = folder.resolve("sparse.gguf");
        Quantizer.to(type).run(path, out);
        var file = GgufFile.read(out);
        for (var name : List.of("token_embd.weight", "output.weight")) {
            assertTrue(file.tensor(name).orElseThrow().type().label().endsWith("_K"), name);
        }
        var tensor = file.tensor("blk.1.ffn_down.weight").orElseThrow();
        assertEquals(type.name(), tensor.type().name());
        assertEquals(type.id(), file.metadata().integer("general.file_type").orElseThrow());
        assertEquals(GgmlType.S24_VERSION, file.metadata().integer(GgmlType.S24_VERSION_KEY).orElseThrow());
        var values = new float[(int) tensor.elementCount()];
        try (var arena = Arena.ofConfined()) {
            Dequantizer.toFloats(tensor.type(), file.map(tensor, arena), values, values.length);
        }
        int most = 0;
        int all = 0;
        for (int i = 0; i < values.length; i += 4) {
            int kept = 0;
            for (int j = i; j < i + 4; j++) {
                kept += values[j] != 0 ? 1 : 0;
            }
            most = Math.max(most, kept);
            all += kept;
        }
        assertEquals(2, most);
        assertTrue(all > values.length * 0.3, all + " of " + values.length);
        try (var model = Model.load(out, ModelOptions.defaults().withCheckTensors(true))) {
            assertTrue(Evaluation.rms(Evaluation.fresh(model, OPTIONS, Evaluation.tokens(model, 20, 2))) > 0);
        }
    }

    /** Rows of 64 are no whole block: they get the dense type that llama.cpp gives the rows of k-quants. */
    @ParameterizedTest
    @EnumSource(value = Quantizer.Type.class, names = {"S24_Q4", "S24_Q8", "S24_T"})
    void rowsThatAreNoWholeBlocksFallBack(Quantizer.Type type) {
        var path = folder.resolve("f32.gguf");
        RandomModel.tiny(Architecture.LLAMA).write(path);
        var out = folder.resolve("dense.gguf");
        Quantizer.to(type).withPure(true).run(path, out);
        var tensor = GgufFile.read(out).tensor("blk.0.ffn_up.weight").orElseThrow();
        assertEquals(type == Quantizer.Type.S24_Q8 ? GgmlType.Q8_0 : GgmlType.Q4_0, tensor.type());
    }

    static Stream<Arguments> faults() {
        return Stream.of(
                Arguments.of(GgmlType.S24_Q4, 64, new byte[] {3, 0}, "two positions in a group of 4 do not rise"),
                Arguments.of(GgmlType.S24_Q4, 64, new byte[] {2, 2}, "two positions in a group of 4 do not rise"),
                Arguments.of(GgmlType.S24_Q4, 96 + 6, new byte[] {0x01, 0x7E}, "a scale is not finite"),                // NaN
                Arguments.of(GgmlType.S24_Q8, 128, new byte[] {1, 0}, "two positions in a group of 4 do not rise"),
                Arguments.of(GgmlType.S24_Q8, 127, new byte[] {-128}, "a value is -128"),
                Arguments.of(GgmlType.S24_Q8, 160, new byte[] {0x00, (byte) 0xFC}, "a scale is not finite"),            // -infinity
                Arguments.of(GgmlType.S24_T, 0, new byte[] {3, 2}, "two positions in a group of 4 do not rise"),
                Arguments.of(GgmlType.S24_T, 48 + 3, new byte[] {-128}, "a scale is above 127"),
                Arguments.of(GgmlType.S24_T, 52, new byte[] {0x01, 0x7E}, "a scale is not finite"));
    }

    @ParameterizedTest
    @MethodSource("faults")
    void aDamagedBlockIsRefusedByTensorAndNumber(GgmlType type, int offset, byte[] bytes, String fault) throws IOException {
        var path = random(type);
        overwrite(path, "blk.0.ffn_up.weight", 7L * type.blockBytes() + offset, bytes);
        var refused = assertThrows(ModelLoadException.class, () -> Model.load(path, ModelOptions.defaults().withCheckTensors(true)));
        var wanted = "\"blk.0.ffn_up.weight\" has invalid data: ";
        assertTrue(refused.getMessage().contains(wanted) && refused.getMessage().endsWith(type.label() + " block 7: " + fault),
                refused.getMessage());
    }

    @Test
    void aTensorThatIsCutOffIsRefusedByName() throws IOException {
        var path = random(GgmlType.S24_Q4);
        var last = GgufFile.read(path).tensors().getLast();
        try (var channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            channel.truncate(channel.size() - 40);
        }
        var refused = assertThrows(GgufException.class, () -> Model.load(path));
        assertTrue(refused.getMessage().contains(last.name()), refused.getMessage());
    }

    @Test
    void aLayoutOfAnotherVersionIsRefused() {
        var path = random(GgmlType.S24_T);
        var source = GgufFile.read(path);
        assertTrue(source.metadata().integer(GgmlType.S24_VERSION_KEY).isEmpty(), "files that say nothing are of version 1");
        var versioned = folder.resolve("versioned.gguf");
        GgufWriter.copyOf(source).putU32(GgmlType.S24_VERSION_KEY, GgmlType.S24_VERSION).write(versioned);
        Model.load(versioned).close();
        GgufWriter.copyOf(source).putU32(GgmlType.S24_VERSION_KEY, 2).write(versioned);
        var refused = assertThrows(GgufException.class, () -> Model.load(versioned));
        for (var part : List.of("\"token_embd.weight\" is of type s24_t", "version 2 here (general.s24_version)", "reads version 1")) {
            assertTrue(refused.getMessage().contains(part), refused.getMessage());
        }
        GgufWriter.copyOf(source).put(GgmlType.S24_VERSION_KEY, "1").write(versioned);
        var text = assertThrows(GgufException.class, () -> Model.load(versioned));
        assertTrue(text.getMessage().contains("general.s24_version is of type string"), text.getMessage());
        // without such tensors it says nothing
        GgufWriter.copyOf(GgufFile.read(Path.of("..", "models", "java-tiny-f16.gguf"))).putU32(GgmlType.S24_VERSION_KEY,
                2).write(versioned);
        Model.load(versioned).close();
    }

    private Path random(GgmlType type) {
        var path = folder.resolve("random.gguf");
        RandomModel.llama(1, 256, 4, 4, 512, 512).withType(type).write(path);
        return path;
    }

    private static void overwrite(Path path, String name, long offset, byte[] bytes) throws IOException {
        var file = GgufFile.read(path);
        try (var channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(bytes), file.position(file.tensor(name).orElseThrow()) + offset);
        }
    }
}
