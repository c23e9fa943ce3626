package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_model_quantize_params;
import io.github.panamallama.bindings.pl_error;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.GgufException;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.runtime.gguf.RandomModel.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class PrunedModelTest {
    private static final Path JAVA_TINY = Path.of("..", "models", "java-tiny-f16.gguf");
    private static final int[] TEXT = {1, 260, 300, 17, 301, 280, 44, 511, 3, 299, 270, 100};

    @TempDir
    Path folder;

    private Path random(Architecture architecture, int layers) {
        var path = folder.resolve("random.gguf");
        RandomModel.tiny(architecture).withLayers(layers).write(path);
        return path;
    }

    /** Logits behind the text, of the model or of one sequence under a plan. */
    private static float[] logits(Path path, LayerPlan plan) {
        try (var model = Model.load(path); var engine = Engine.open(model);
                var sequence = plan == null ? engine.newSequence() : engine.newSequence(plan)) {
            var row = engine.newRow();
            sequence.append(TEXT, row);
            return row.toArray();
        }
    }

    @ParameterizedTest
    @CsvSource(delimiter = ';', value = {"0,2-5", "1-4", "0-1,3,5", "3", "0-4"})
    void computesWhatTheModelComputesUnderThePlan(String text) {
        var plan = LayerPlan.parse(text, 6);
        var model = random(Architecture.LLAMA, 6);
        var pruned = folder.resolve("pruned.gguf");
        PrunedModel.write(model, plan, pruned);
        var expected = logits(model, plan);
        var actual = logits(pruned, null);
        if (plan.runs(5) > 0) {
            assertArrayEquals(expected, actual);
        } else { // a plan without the last block drops tokens behind the blocks, the pruned model within its last: other batch shapes
            assertArrayEquals(expected, actual, 1e-5f);
        }
    }

    @Test
    void computesWhatTheShippedModelComputesUnderThePlan() {
        var plan = LayerPlan.all(8).skip(2, 5);
        var pruned = folder.resolve("pruned.gguf");
        PrunedModel.write(JAVA_TINY, plan, pruned);
        assertArrayEquals(logits(JAVA_TINY, plan), logits(pruned, null));
    }

    @ParameterizedTest
    @EnumSource(names = {"LLAMA", "QWEN3"})
    void hasTheTensorsAndLogitsOfUpstreamsOwnPruning(Architecture architecture) throws IOException {
        var model = random(architecture, 6);
        var ours = folder.resolve("ours.gguf");
        var theirs = folder.resolve("theirs.gguf");
        PrunedModel.write(model, LayerPlan.all(6).skip(1, 3), ours);
        upstream(model, theirs, 1, 3);
        var a = GgufFile.read(ours);
        var b = GgufFile.read(theirs);
        assertEquals(b.tensors().size(), a.tensors().size());
        assertEquals(4, a.metadata().integer(architecture.key() + ".block_count").orElseThrow());
        try (var arena = Arena.ofConfined()) {
            for (var tensor : a.tensors()) {
                var same = b.tensor(tensor.name()).orElseThrow();
                assertEquals(-1, a.map(tensor, arena).mismatch(b.map(same, arena)), tensor.name());
            }
        }
        assertArrayEquals(logits(theirs, null), logits(ours, null));
    }

    /** Prunes with llama_model_quantize; F32 stays F32. */
    private static void upstream(Path in, Path out, int... blocks) {
        Model.devices();    // loads the native library
        try (var arena = Arena.ofConfined()) {
            var params = LlamaH.llama_model_quantize_default_params(arena);
            var list = arena.allocate(ValueLayout.JAVA_INT, blocks.length + 1L);
            for (int i = 0; i < blocks.length; i++) {
                list.setAtIndex(ValueLayout.JAVA_INT, i, blocks[i]);
            }
            list.setAtIndex(ValueLayout.JAVA_INT, blocks.length, -1);
            llama_model_quantize_params.prune_layers(params, list);
            llama_model_quantize_params.ftype(params, 0);
            var error = pl_error.allocate(arena);
            assertEquals(0, LlamaH.pl_model_quantize(arena.allocateFrom(in.toString()), arena.allocateFrom(out.toString()), params, error),
                    () -> pl_error.message(error).getString(0));
        }
    }

    @Test
    void theFileIsSmallerAndSaysWhereItComesFrom() throws IOException {
        var model = random(Architecture.LLAMA, 6);
        var pruned = folder.resolve("pruned.gguf");
        PrunedModel.write(model, LayerPlan.parse("0-2,5", 6), pruned);
        assertEquals("0-2,5", GgufFile.read(pruned).metadata().string(PrunedModel.PLAN).orElseThrow());
        assertTrue(Files.size(pruned) < Files.size(model) * 0.8, Files.size(pruned) + " of " + Files.size(model));
        try (var loaded = Model.load(pruned)) {
            assertEquals(4, loaded.layerCount());
        }
    }

    @Test
    void metadataWithOneValuePerBlockLosesTheSameBlocks() {
        var source = random(Architecture.LLAMA, 6);
        var listed = folder.resolve("listed.gguf");
        GgufWriter.copyOf(GgufFile.read(source))
                .putU32s("llama.feed_forward_length", new int[] {128, 128, 128, 128, 128, 128})
                .putU32s("llama.attention.head_count", new int[] {4, 4, 4, 4, 4, 4})
                .putI32s("llama.attention.head_count_kv", new int[] {2, 2, 2, 2, 2, 2})
                .putF32s("llama.something_else", new float[6])
                .write(listed);
        var plan = LayerPlan.parse("0,3-5", 6);
        var pruned = folder.resolve("pruned.gguf");
        PrunedModel.write(listed, plan, pruned);
        var metadata = GgufFile.read(pruned).metadata();
        assertArrayEquals(new long[] {128, 128, 128, 128}, metadata.integers("llama.feed_forward_length").orElseThrow());
        assertArrayEquals(new long[] {2, 2, 2, 2}, metadata.integers("llama.attention.head_count_kv").orElseThrow());
        assertEquals(GgufFile.read(listed).metadata().elementType("llama.attention.head_count_kv"),
                metadata.elementType("llama.attention.head_count_kv"));
        assertEquals(6, metadata.arrayLength("llama.something_else").orElseThrow());
        assertArrayEquals(logits(source, plan), logits(pruned, null));

        var wrong = folder.resolve("wrong.gguf");
        GgufWriter.copyOf(GgufFile.read(source)).putU32s("llama.feed_forward_length", new int[5]).write(wrong);
        refuse(wrong, plan, "llama.feed_forward_length has 5 elements; the model has 6 blocks");
    }

    @Test
    void partsOfASplitModelBecomeOneFile() {
        var whole = random(Architecture.LLAMA, 6);
        var source = GgufFile.read(whole);
        var names = new ArrayList<>(source.tensors());
        for (int part = 0; part < 2; part++) {
            var writer = new GgufWriter();
            if (part == 0) {
                writer.putAll(source.metadata());
            }
            writer.putU16("split.no", part).putU16("split.count", 2).putI32("split.tensors.count", names.size());
            for (var tensor : names.subList(part * 20, part == 0 ? 20 : names.size())) {
                writer.tensor(tensor.name(), tensor.type(), tensor.shape(), out -> {
                    try (var arena = Arena.ofConfined()) {
                        out.write(source.map(tensor, arena));
                    }
                });
            }
            writer.write(folder.resolve("split-0000" + (part + 1) + "-of-00002.gguf"));
        }
        var plan = LayerPlan.parse("0,3-5", 6);
        var expected = folder.resolve("expected.gguf");
        var pruned = folder.resolve("pruned.gguf");
        PrunedModel.write(whole, plan, expected);
        PrunedModel.write(folder.resolve("split-00001-of-00002.gguf"), plan, pruned);
        assertArrayEquals(logits(expected, null), logits(pruned, null));
        assertFalse(GgufFile.read(pruned).metadata().contains("split.count"));
    }

    @Test
    void plansThatNoFileCanFollowAreRefused() {
        var model = random(Architecture.LLAMA, 4);
        refuse(model, LayerPlan.parse("0,1:attn,3", 4), "block 1 of the plan 0,1:attn,3 is run in part");
        refuse(model, LayerPlan.parse("0,1:ffn,3", 4), "run in part");
        refuse(model, LayerPlan.parse("0,1:kv,3", 4), "run in part");
        refuse(model, LayerPlan.parse("0,1x2,3", 4), "block 1 of the plan 0,1x2,3 is repeated");
        refuse(model, LayerPlan.all(4), "leaves out no block");
        refuse(model, LayerPlan.all(4).skip(0, 1, 2, 3), "keeps no block");
        refuse(model, LayerPlan.all(5).skip(1), "is for 5 blocks");
    }

    @ParameterizedTest
    @EnumSource(names = {"PHI3", "GEMMA3", "MAMBA", "JAMBA", "HY_V3", "QWEN35"})
    void modelsWhoseBlocksDependOnTheirNumberAreRefusedByName(Architecture architecture) {
        int blocks = architecture == Architecture.HY_V3 || architecture == Architecture.QWEN35 ? 5 : 4;
        refuse(random(architecture, 4), LayerPlan.all(blocks).skip(1), "blocks of " + architecture.key() + " may depend on their number");
    }

    @Test
    void otherFilesAreRefused() throws IOException {
        refuse(new GgufWriter().put("general.architecture", "llama"), "llama.block_count is missing");
        refuse(new GgufWriter().put("general.name", "none"), "general.architecture is missing");
        var text = Files.writeString(folder.resolve("text.gguf"), "no model");
        var plan = LayerPlan.all(4).skip(1);
        assertThrows(GgufException.class, () -> PrunedModel.write(text, plan, folder.resolve("out.gguf")));
        assertThrows(GgufException.class, () -> PrunedModel.write(folder.resolve("missing.gguf"), plan, folder.resolve("out.gguf")));
    }

    @Test
    void anExistingFileStays() throws IOException {
        var model = random(Architecture.LLAMA, 4);
        var out = Files.writeString(folder.resolve("there.gguf"), "mine");
        for (var there : List.of(out, model)) {
            var before = Files.readAllBytes(there);
            var refused = assertThrows(LlamaException.class, () -> PrunedModel.write(model, LayerPlan.all(4).skip(1), there));
            assertTrue(refused.getMessage().contains(there + " exists"), refused.getMessage());
            assertArrayEquals(before, Files.readAllBytes(there));
        }
    }

    private void refuse(GgufWriter file, String reason) {
        var path = folder.resolve("odd.gguf");
        file.write(path);
        refuse(path, LayerPlan.all(4).skip(1), reason);
    }

    private void refuse(Path model, LayerPlan plan, String reason) {
        var out = folder.resolve("out.gguf");
        var refused = assertThrows(LayerPlanException.class, () -> PrunedModel.write(model, plan, out));
        assertTrue(refused.getMessage().contains(reason), refused.getMessage());
        assertFalse(Files.exists(out));
    }
}
