package io.github.panamallama.layers;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.layers.PlanFile.Found;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PlanFileTest {
    @TempDir
    static Path models;
    private static Model model;
    private static Model other;

    @TempDir
    Path folder;
    private Path file;

    @BeforeAll
    static void load() {
        model = random(1, 4);
        other = random(2, 4);
    }

    @AfterAll
    static void close() {
        model.close();
        other.close();
    }

    private static Model random(long seed, int layers) {
        var file = models.resolve(seed + "-" + layers + ".gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).withLayers(layers).withSeed(seed).write(file);
        return Model.load(file);
    }

    @BeforeEach
    void name() {
        file = folder.resolve("plan.json");
    }

    private static final Found SEARCHED = new Found("PlanSearch", OptionalLong.of(7), OptionalDouble.of(0.1 + 0.2), "heldout", 4096);

    @Test
    void isReadAsItWasWritten() {
        for (var text : new String[] {"0,2-3", "0:attn,1:ffn,2x3,3:kv", "0-3"}) {
            for (var found : List.of(SEARCHED, new Found("by hand", OptionalLong.empty(), OptionalDouble.empty(), "", 0))) {
                var written = PlanFile.of(model, LayerPlan.parse(text, 4), found);
                written.write(file);
                assertEquals(written, PlanFile.read(file, model));
            }
        }
    }

    @Test
    void saysWhatAReaderWantsToKnow() throws IOException {
        PlanFile.of(model, LayerPlan.parse("0,2-3", 4), SEARCHED).write(file);
        var text = Files.readString(file);
        for (var part : new String[] {"\"format\" : 1", model.fingerprint(), model.description(), "\"blocks\" : 4",
                "\"plan\" : \"0,2-3\"", "\"method\" : \"PlanSearch\"", "\"removed\" : 1.0", "\"seed\" : 7",
                "\"fitness\" : 0.30000000000000004", "\"tokens\" : 4096"}) {
            assertTrue(text.contains(part), part + " in " + text);
        }
    }

    @Test
    void severalPlansAreReadAsTheyWereWrittenAndAreNoSinglePlan() {
        var choices = List.of(new PlanFile.Choice(LayerPlan.parse("0,3", 4), SEARCHED), new PlanFile.Choice(LayerPlan.parse("0,2-3", 4),
                new Found("by hand", OptionalLong.empty(), OptionalDouble.empty(), "", 0)));
        var written = PlanFile.of(model, choices);
        written.write(file);
        var read = PlanFile.read(file, model);
        assertEquals(written, read);
        assertEquals(choices.stream().map(PlanFile.Choice::plan).toList(), read.plans());
        assertTrue(assertThrows(LayerPlanException.class, read::plan).getMessage().contains("holds 2 plans"));
        assertThrows(IllegalArgumentException.class, () -> PlanFile.of(model, choices.reversed()));
        assertThrows(IllegalArgumentException.class, () -> PlanFile.of(model, List.of()));
    }

    @Test
    void brokenListsOfPlansAreRefusedWithAReason() throws IOException {
        PlanFile.of(model, List.of(new PlanFile.Choice(LayerPlan.parse("0,3", 4), SEARCHED),
                new PlanFile.Choice(LayerPlan.parse("0,2-3", 4), SEARCHED))).write(file);
        var good = Files.readString(file);
        refuse(good.replace("\"plans\"", "\"plan\""), "\"plans\" must be an array of objects, it is null");
        refuse(good.replaceAll("(?s)\"plans\" : \\[.*\\]", "\"plans\" : []"), "without a plan");
        refuse(good.replaceAll("(?s)\"plans\" : \\[.*\\]", "\"plans\" : [5]"), "\"plans\" must be an array of objects, it is [5]");
        refuse(good.replace("\"0,2-3\"", "\"0,2\""), "each dearer than the one before");
        refuse(good.replace("\"0,2-3\"", "\"0,9\""), "block 9 in the plan");
    }

    @Test
    void replacesTheFileThatIsThereAndLeavesNothingElse() throws IOException {
        Files.writeString(file, "old");
        PlanFile.of(model, LayerPlan.all(4), SEARCHED).write(file);
        assertTrue(PlanFile.read(file, model).plan().isFull());
        try (var files = Files.list(folder)) {
            assertEquals(List.of(file), files.toList());
        }
        var nowhere = folder.resolve("missing").resolve("plan.json");
        assertThrows(LlamaException.class, () -> PlanFile.of(model, LayerPlan.all(4), SEARCHED).write(nowhere));
    }

    @Test
    void isRefusedForAnotherModelAndNamesBoth() {
        PlanFile.of(model, LayerPlan.parse("0,2-3", 4), SEARCHED).write(file);
        var refused = assertThrows(LayerPlanException.class, () -> PlanFile.read(file, other));
        for (var part : new String[] {model.fingerprint(), other.fingerprint(), other.path().toString()}) {
            assertTrue(refused.getMessage().contains(part), refused.getMessage());
        }
    }

    @Test
    void aPlanForAnotherNumberOfBlocksIsRefused() throws IOException {
        assertThrows(LayerPlanException.class, () -> PlanFile.of(model, LayerPlan.all(5), SEARCHED));
        PlanFile.of(model, LayerPlan.parse("0,2-3", 4), SEARCHED).write(file);
        Files.writeString(file, Files.readString(file).replace("\"blocks\" : 4", "\"blocks\" : 5"));
        var refused = assertThrows(LayerPlanException.class, () -> PlanFile.read(file, model));
        assertTrue(refused.getMessage().contains("is for 5 blocks") && refused.getMessage().contains("has 4"), refused.getMessage());
    }

    @Test
    void brokenFilesAreRefusedWithAReason() throws IOException {
        PlanFile.of(model, LayerPlan.parse("0,2-3", 4), SEARCHED).write(file);
        var good = Files.readString(file);
        refuse(good.replace("\"0,2-3\"", "\"0,2-4\""), "block 4 in the plan");
        refuse(good.replace("\"0,2-3\"", "\"\""), "is not a block");
        refuse(good.replace("\"0,2-3\"", "5"), "\"plan\" must be a string, it is 5");
        refuse(good.replace("\"plan\"", "\"plam\""), "\"plan\" must be a string, it is null");
        refuse(good.replace("\"format\" : 1", "\"format\" : 3"), "is of format 3; this version reads formats 1 and 2");
        refuse(good.replace("\"format\" : 1", "\"format\" : 1.5"), "\"format\" must be an integer");
        refuse(good.replace("\"blocks\" : 4", "\"blocks\" : 99999999999999999999"), "\"blocks\" must be an integer");
        refuse(good.replace("\"seed\" : 7", "\"seed\" : \"7\""), "\"seed\" must be an integer");
        refuse(good.replace("0.30000000000000004", "1e999"), "must be finite");
        refuse(good.replace("\"tokens\" : 4096", "\"tokens\" : -1"), "tokens is -1");
        refuse(good.replaceAll("(?s)\"found\" : \\{.*?\\}", "\"found\" : []"), "\"found\" must be an object");
        refuse(good.replace("\"format\" : 1,", "\"format\" : 1, \"format\" : 1,"), "broken JSON");
        refuse(good + "{}", "broken JSON");
        refuse(good.substring(0, 40), "broken JSON");
        refuse("[]", "is no JSON object");
        refuse("", "is no JSON object");
        refuse(" ".repeat(1 << 20) + good, "at most 1048576 are read");
        Files.delete(file);
        assertTrue(assertThrows(LayerPlanException.class, () -> PlanFile.read(file, model)).getMessage().contains("can't be read"));
        assertThrows(LayerPlanException.class, () -> PlanFile.read(folder, model));
        assertThrows(IllegalArgumentException.class, () ->
                new Found("PlanSearch", OptionalLong.empty(), OptionalDouble.of(Double.NaN), "", 0));
    }

    private void refuse(String text, String reason) throws IOException {
        Files.writeString(file, text);
        var refused = assertThrows(LayerPlanException.class, () -> PlanFile.read(file, model), text);
        assertTrue(refused.getMessage().contains(reason), refused.getMessage());
        assertTrue(refused.getMessage().startsWith(file.toString()), refused.getMessage());
    }
}
