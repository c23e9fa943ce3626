package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** layers trace, search, train-router and prune, and {@code --layers} of every command that has it; on the shipped model. */
class LayersCommandTest {
    /** Of the shipped model. */
    private static final int BLOCKS = 8;

    @TempDir
    static Path folder;
    private static Path text;
    private static Path other;
    private static Path routers;

    @BeforeAll
    static void write() throws IOException {
        var code = new StringBuilder();
        for (var name : List.of("size", "length", "count", "index", "width", "height", "depth", "total", "first", "last", "next",
                "value")) {
            code.append("    /** Returns the %1$s. */\n    public int %1$s() {\n        return this.%1$s;\n    }\n\n".formatted(name));
        }
        text = Files.writeString(folder.resolve("Text.java"), code.toString());
        other = folder.resolve("other.gguf");
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(other);
        routers = folder.resolve("routers");
        var trained = train(routers, "--json");
        assertEquals(0, trained.code(), trained.err());
    }

    /** The command with more options, which replace those of the same name that are in it. */
    private static Cli.Result run(List<String> command, String... more) {
        var args = new ArrayList<>(command);
        for (var option : more) {
            int at = option.startsWith("-") ? args.indexOf(option) : -1;
            if (at >= 0) {
                args.subList(at, at + 2).clear();
            }
        }
        args.addAll(Arrays.asList(more));
        return Cli.withInput("public int ", args.toArray(String[]::new));
    }

    private static Cli.Result trace(String... more) {
        return run(List.of("layers", "trace", text.toString(), "-t", "2", "--tokens", "40"), more);
    }

    private static Cli.Result search(String... more) {
        return run(List.of("layers", "search", text.toString(), "-t", "2", "--window", "32", "--generations", "2", "--offspring", "3"),
                more);
    }

    private static Cli.Result train(Path out, String... more) {
        return run(List.of("layers", "train-router", text.toString(), "-t", "2", "--window", "16", "--prompts", "20", "-o", out.toString()),
                more);
    }

    private static Cli.Result prune(Path out, String... more) {
        return run(List.of("layers", "prune", out.toString()), more);
    }

    private static void assertRefused(int code, String message, Cli.Result result) {
        assertEquals(code, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: ") && result.err().contains(message), result.err());
        assertEquals("", result.out());
    }

    // --- trace --------------------------------------------------------------------------------------------------------------

    @Test
    void traceTellsWhatEachBlockDoesToEachToken() {
        var result = trace("--json");
        assertEquals(0, result.code(), result.err());
        var json = result.json();
        assertEquals(0.8, json.get("alpha").asDouble());
        assertEquals(40, json.get("tokens").size());
        assertEquals(BLOCKS, json.get("blocks").size());
        for (int i = 0; i < BLOCKS; i++) {
            var block = json.get("blocks").get(i);
            assertEquals(i, block.get("block").asInt());
            int active = 0;
            for (var field : List.of("norm", "change", "turn")) {
                var values = block.get(field + "s");
                assertEquals(40, values.size(), field);
                double sum = 0;
                for (int token = 1; token < 40; token++) {
                    double value = values.get(token).asDouble();
                    assertTrue(value > (field.equals("turn") ? -1e-3 : 0) && value < (field.equals("turn") ? 2 : 1e6), field + " " + value);
                    sum += value;
                }
                assertEquals(sum / 39, block.get(field).asDouble(), 1e-9, field + ": a mean over all tokens but the first");
            }
            for (int token = 1; token < 40; token++) {
                active += block.get("flags").get(token).asBoolean() ? 1 : 0;
            }
            assertEquals(active / 39.0, block.get("active").asDouble(), 1e-9);
        }
        var all = trace("--json", "--alpha", "0").json().get("blocks");
        var few = trace("--json", "--alpha", "1").json().get("blocks");
        for (int i = 0; i < BLOCKS; i++) {
            assertTrue(all.get(i).get("active").asDouble() >= few.get(i).get("active").asDouble(),
                    "a higher threshold has no more active blocks");
        }
    }

    @Test
    void traceAsATableHasALinePerBlock() {
        var result = trace();
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("the first 40 of "), result.err());
        var lines = result.out().lines().toList();
        assertEquals(BLOCKS + 1, lines.size(), result.out());
        assertTrue(lines.getFirst().matches("block +norm +change +turn +active"), lines.getFirst());
        for (int i = 0; i < BLOCKS; i++) {
            assertTrue(lines.get(i + 1).matches(" +" + i + " +[\\d.]+ +[\\d.]+ % +-?[\\d.]+ +[\\d.]+ %"), lines.get(i + 1));
        }
    }

    @Test
    void traceDrawsAHeatMapWithAColumnPerToken() throws IOException {
        int narrow = 0;
        for (int tokens : new int[] {40, 150}) {
            var file = folder.resolve(tokens + ".png");
            assertEquals(0, trace("--tokens", "" + tokens, "--plot", file.toString()).code());
            var image = ImageIO.read(file.toFile());
            assertTrue(image.getWidth() >= 700 && image.getWidth() > narrow && image.getWidth() <= 3000, "width " + image.getWidth());
            assertTrue(image.getHeight() >= 420 && image.getHeight() <= 2000, "height " + image.getHeight());
            narrow = image.getWidth();
            var colours = new HashSet<Integer>();
            for (int x = 0; x < image.getWidth(); x++) {
                for (int y = 0; y < image.getHeight(); y++) {
                    colours.add(image.getRGB(x, y));
                }
            }
            assertTrue(colours.size() > 50, colours.size() + " colours of cells that all differ");
        }
    }

    @Test
    void traceRefusesWhatItCannotRead() throws IOException {
        assertRefused(2, "--alpha: alpha is 1.5", trace("--alpha", "1.5"));
        assertRefused(2, "--tokens is 1; at least 2 are needed", trace("--tokens", "1"));
        assertRefused(1, "no such file: nowhere.txt", Cli.run("layers", "trace", "nowhere.txt"));
        var empty = Files.writeString(folder.resolve("empty.txt"), "");
        assertRefused(1, "at least 2 are needed", Cli.run("layers", "trace", empty.toString()));
        assertRefused(1, "nowhere.gguf", Cli.run("layers", "trace", text.toString(), "-m", "nowhere.gguf"));
        assertEquals(1, trace("--plot", folder.resolve("none/x.png").toString()).code());
    }

    // --- search -------------------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @ValueSource(strings = {"evopress", "evopress --halves", "influence", "lac"})
    void searchFindsAPlanThatGenerateAndPerplexityTake(String method) {
        var file = folder.resolve(method.replace(" ", "") + ".json");
        var args = new ArrayList<>(List.of("--json", "-o", file.toString(), "--keep", "0.75", "--method"));
        args.addAll(List.of(method.split(" ")));
        var result = search(args.toArray(String[]::new));
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("written to " + file), result.err());
        var json = result.json();
        var plan = json.get("plan").asString();
        assertEquals(6, LayerPlan.parse(plan, BLOCKS).cost(), plan);
        assertEquals(method.split(" ")[0], json.get("method").asString());
        assertEquals(2, json.get("removed").asInt());
        assertTrue(json.get("held_out_divergence").asDouble() > 0, json.toString());
        assertTrue(json.get("calibration_tokens").asInt() > 128 && json.get("calibration_tokens").asInt() % 32 == 0, json.toString());
        assertTrue(json.get("evaluated_tokens").asInt() >= json.get("calibration_tokens").asInt(), json.toString());

        var generate = List.of("generate", "-p", "public int ", "-t", "2", "-n", "8", "--json");
        var byFile = run(generate, "--layers", file.toString());
        assertEquals(0, byFile.code(), byFile.err());
        assertEquals(plan, byFile.json().get("layers").asString());
        assertEquals(run(generate, "--layers", plan).json().get("text"), byFile.json().get("text"));
        var perplexity = List.of("perplexity", text.toString(), "-t", "2", "-c", "64", "--json");
        var scored = run(perplexity, "--layers", file.toString()).json();
        assertEquals(plan, scored.get("layers").asString());
        assertEquals(run(perplexity, "--layers", plan).json().get("ppl"), scored.get("ppl"));
        assertNotEquals(run(perplexity).json().get("ppl"), scored.get("ppl"));
    }

    @Test
    void theSameSeedFindsTheSamePlanAndTheFileTellsIt() throws IOException {
        var file = folder.resolve("seed.json");
        var first = search("--seed", "7", "-o", file.toString());
        assertEquals(0, first.code(), first.err());
        assertEquals(first.out(), search("--seed", "7").out());
        var lines = first.out().lines().toList();
        assertEquals(6, LayerPlan.parse(lines.getFirst(), BLOCKS).cost());
        assertTrue(lines.get(1).matches("\\d+\\.\\d{4} nats per token from the whole model, on held-out text"), lines.get(1));
        var root = JsonMapper.builder().build().readTree(Files.readString(file));
        assertEquals(lines.getFirst(), root.get("plan").asString());
        assertEquals(BLOCKS, root.get("blocks").asInt());
        assertEquals(7, root.get("found").get("seed").asInt());
        assertEquals("evopress", root.get("found").get("method").asString());
        assertEquals("Text.java", root.get("found").get("text").asString());
    }

    /** The whole model's logits on 131,072 tokens of its 4,096 are what there is room for. */
    @Test
    void searchTakesOfALongTextWhatThereIsRoomFor() throws IOException {
        var lines = IntStream.range(0, 30_000).mapToObj(i -> "int x" + i + " = " + 7 * i + ";\n").collect(Collectors.joining());
        var file = Files.writeString(folder.resolve("Long.java"), lines);
        var result = Cli.run("layers", "search", file.toString(), "-t", "2", "--generations", "1", "--offspring", "2", "--json");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("320 of ") && result.err().contains(" windows of the text are used"), result.err());
        assertEquals(256 * 512, result.json().get("calibration_tokens").asInt(), "four fifths of them");
    }

    @Test
    void searchRefusesWhatItCannotDo() throws IOException {
        for (var keep : List.of("0", "1", "-0.5", "1.5", "NaN")) {
            assertRefused(2, "it must be above 0 and below 1", search("--keep", keep));
        }
        assertRefused(2, "leaves out 0 of 8 blocks; 1 to 7 can go", search("--keep", "0.99"));
        assertRefused(2, "leaves out 8 of 8 blocks", search("--keep", "0.01"));
        assertRefused(2, "--window is 1", search("--window", "1"));
        assertRefused(2, "--halves is for evopress", search("--halves", "--method", "lac"));
        assertRefused(1, "the first and the last stay, so 0 to 6 can go", search("--keep", "0.1", "--method", "influence"));
        assertRefused(1, "Give more text, or a smaller --window", search("--window", "512"));
        assertRefused(1, "no such file: nowhere", Cli.run("layers", "search", "nowhere"));
        var bare = Files.createDirectory(folder.resolve("bare"));
        assertRefused(2, "no file that ends with .txt", Cli.run("layers", "search", bare.toString(), "--suffix", ".txt"));
        // before anything is loaded, let alone searched
        var nowhere = folder.resolve("none/plan.json").toString();
        assertRefused(1, "no such folder for the output", search("-o", nowhere, "-m", "no-model.gguf"));
        assertRefused(1, "is a directory; name the file to write", search("-o", folder.toString(), "-m", "no-model.gguf"));
    }

    // --- train-router -------------------------------------------------------------------------------------------------------

    @Test
    void routersAreTrainedAndTellHowOftenTheyAgreeWithTheLabels() {
        var result = train(folder.resolve("again"), "--json");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("for --layers"), result.err());
        var json = result.json();
        assertEquals("first", json.get("kind").asString());
        assertEquals(16, json.get("examples").asInt());
        assertEquals(4, json.get("held_out").asInt());
        for (var share : List.of("agreement", "agreement_of_the_usual")) {
            assertTrue(json.get(share).asDouble() > 0.5 && json.get(share).asDouble() <= 1, json.toString());
        }
        long decisions = 0;
        for (var row : json.get("counts")) {
            for (var count : row) {
                decisions += count.asLong();
            }
        }
        assertEquals(4 * BLOCKS, decisions, json.toString());
        for (var blocks : List.of("blocks_chosen", "blocks_of_labels")) {
            assertTrue(json.get(blocks).asDouble() >= 2 && json.get(blocks).asDouble() <= BLOCKS, json.toString());
        }
        assertTrue(train(folder.resolve("table")).out().contains("% of the decisions are the labels'"));
    }

    @Test
    void routersChooseThePlanOfAPrompt() {
        for (var command : List.of(List.of("complete", "--stdin", "-t", "2", "-n", "8", "--json"),
                List.of("generate", "-p", "public int ", "-t", "2", "-n", "8", "--json"))) {
            var result = run(command, "--layers", routers.toString());
            assertEquals(0, result.code(), result.err());
            var plan = result.json().get("layers").asString();
            assertEquals(run(command, "--layers", plan).json().get("text"), result.json().get("text"), plan);
        }
        var chat = run(List.of("chat", "-t", "2", "--temp", "0", "-n", "8"), "--layers", routers.toString());
        assertEquals(0, chat.code(), chat.err());
        assertFalse(chat.out().isBlank());
    }

    @Test
    void drLlmRoutersLearnFromASearchAndMayRepeatBlocks() {
        var file = folder.resolve("drllm");
        var result = train(file, "--kind", "drllm", "--answer", "1", "--simulations", "6", "--prompts", "30", "--json");
        assertEquals(0, result.code(), result.err());
        assertEquals("drllm", result.json().get("kind").asString());
        assertTrue(result.json().get("examples").asInt() >= 4, result.out());
        var completed = run(List.of("complete", "--stdin", "-t", "2", "-n", "8", "--json"), "--layers", file.toString(),
                "--spare-layers", "8");
        assertEquals(0, completed.code(), completed.err());
        assertTrue(LayerPlan.parse(completed.json().get("layers").asString(), BLOCKS).cost() >= 1);
    }

    @Test
    void trainRouterRefusesWhatItCannotDo() {
        var out = folder.resolve("none");
        assertRefused(2, "--keep is 1.0", train(out, "--keep", "1"));
        assertRefused(2, "--prompts is 9; it must be at least 10", train(out, "--prompts", "9"));
        assertRefused(2, "--window is 1", train(out, "--window", "1"));
        assertRefused(2, "--simulations is 0", train(out, "--simulations", "0"));
        assertRefused(2, "--answer is 0", train(out, "--answer", "0"));
        assertRefused(1, "Give more text, or a smaller --window", train(out, "--window", "200"));
        assertRefused(1, "no such file: nowhere", Cli.run("layers", "train-router", "nowhere", "-o", out.toString()));
        assertRefused(1, "no such folder for the output", train(folder.resolve("none/routers"), "-m", "no-model.gguf"));
        assertRefused(1, "is a directory; name the file to write", train(folder, "-m", "no-model.gguf"));
        assertRefused(2, "-o", Cli.run("layers", "train-router", text.toString()));
        assertFalse(Files.exists(out));
    }

    // --- prune --------------------------------------------------------------------------------------------------------------

    @Test
    void aPrunedModelWritesWhatTheModelWritesUnderThePlan() {
        var out = folder.resolve("pruned.gguf");
        var result = prune(out, "--layers", "0-2,4-5,7");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.err().contains("written to " + out), result.err());
        var generate = List.of("generate", "-p", "public int size() {", "-t", "2", "-n", "16");
        var pruned = run(generate, "-m", out.toString());
        assertEquals(0, pruned.code(), pruned.err());
        assertEquals(run(generate, "--layers", "0-2,4-5,7").out(), pruned.out());
        assertNotEquals(run(generate).out(), pruned.out());
    }

    @Test
    void pruneRefusesWhatIsNoSmallerModel() throws IOException {
        var out = folder.resolve("small.gguf");
        assertRefused(2, "--layers is needed", prune(out));
        assertRefused(1, "", prune(out, "--layers", "all"));
        assertRefused(1, "", prune(out, "--layers", "0-6x2"));
        assertRefused(1, "", prune(out, "--layers", "0-6,7:ffn"));
        assertRefused(2, "routers choose by a prompt", prune(out, "--layers", routers.toString()));
        assertFalse(Files.exists(out));
        Files.writeString(out, "mine");
        assertRefused(1, out.toString(), prune(out, "--layers", "0-6"));
        assertEquals("mine", Files.readString(out));
    }

    // --- --layers -----------------------------------------------------------------------------------------------------------

    /** Commands that print something, always the same. */
    static Stream<List<String>> commands() {
        return Stream.of(List.of("complete", "--stdin", "-t", "2", "-n", "8"),
                List.of("generate", "-p", "public int ", "-t", "2", "-n", "8"),
                List.of("chat", "-t", "2", "--temp", "0", "-n", "8"), List.of("perplexity", text.toString(), "-t", "2", "-c", "64"));
    }

    @ParameterizedTest
    @MethodSource("commands")
    void plansActAndThatOfAllBlocksIsTheModelAsItIs(List<String> command) {
        var whole = run(command);
        assertEquals(0, whole.code(), whole.err());
        assertEquals(whole.out(), run(command, "--layers", "all").out());
        assertEquals(whole.out(), run(command, "--layers", "0-7").out());
        var outputs = new HashSet<String>(List.of(whole.out()));
        for (var plan : List.of("0,7", "0-6,7:attn", "0-2,3x2,4-7")) {
            var result = run(command, "--layers", plan);
            assertEquals(0, result.code(), result.err());
            outputs.add(result.out());
        }
        assertTrue(outputs.size() > 1, "no plan changed " + whole.out());
    }

    @ParameterizedTest
    @MethodSource("commands")
    void badPlansAreRefusedWithAReason(List<String> command) throws IOException {
        for (var bad : List.of("0-3,2", "3-1", "0,,2", "5:all", "7x9", "0x0", "1.5", "0-99999999999")) {
            assertRefused(2, "--layers: ", run(command, "--layers", bad));
        }
        assertRefused(2, "the model has blocks 0 to 7", run(command, "--layers", "0-8"));
        assertRefused(2, "--spare-layers is -1", run(command, "--spare-layers", "-1"));
        assertRefused(1, "nofile.json", run(command, "--layers", "nofile.json"));
        assertRefused(1, "foreign.json: is for", run(command, "--layers", foreignPlan().toString()));
        var broken = Files.writeString(folder.resolve("broken.json"), "{");
        assertRefused(1, "broken.json: broken JSON", run(command, "--layers", broken.toString()));
    }

    /** A plan for another model. */
    private static Path foreignPlan() throws IOException {
        var file = folder.resolve("foreign.json");
        if (!Files.exists(file)) {
            var searched = search("-m", other.toString(), "--keep", "0.5", "--method", "influence", "-o", file.toString());
            assertEquals(0, searched.code(), searched.err());
        }
        return file;
    }

    @Test
    void filesOfRoutersAreCheckedAndOnlyForPrompts() throws IOException {
        for (var command : commands().limit(3).toList()) {
            assertRefused(1, "nofile", run(command, "--layers", "nofile"));
            assertRefused(1, text.toString(), run(command, "--layers", text.toString()));
            assertRefused(1, "", run(command, "-m", other.toString(), "--layers", routers.toString()));
        }
        assertRefused(2, "routers choose by a prompt, which there is none of here", run(commands().toList().getLast(), "--layers",
                routers.toString()));
        assertRefused(2, "routers choose by a prompt", Cli.run("bench", "-p", "8", "-n", "2", "-r", "1", "--layers", routers.toString()));
    }

    // --- --budget and --token-time ------------------------------------------------------------------------------------------

    /** Plans of 4 and 6 blocks. */
    private static Path ladder() {
        var file = folder.resolve("ladder.json");
        if (!Files.exists(file)) {
            var searched = search("--keep", "0.75,0.5", "--method", "influence", "--json", "-o", file.toString());
            assertEquals(0, searched.code(), searched.err());
            assertEquals(2, searched.json().size());
            assertEquals(4, searched.json().get(0).get("removed").asInt());
            assertEquals(2, searched.json().get(1).get("removed").asInt());
        }
        return file;
    }

    /** Tokens by the number of blocks that they were evaluated with, from a JSON document. */
    private static Map<Integer, Long> tokensByBlocks(JsonNode document) {
        assertEquals("budget", document.get("strategy").asString());
        var tokens = new TreeMap<Integer, Long>();
        document.get("work").get("events").properties().stream().filter(event -> !event.getKey().equals("changes"))
                .forEach(event -> tokens.merge((int) LayerPlan.parse(event.getKey(), BLOCKS).cost(), event.getValue().asLong(), Long::sum));
        return tokens;
    }

    @Test
    void aBudgetOfWorkIsKeptByChangingPlans() {
        var generate = List.of("generate", "-p", "public int ", "-t", "2", "-n", "300", "--temp", "0.8", "-s", "5", "--json");
        var result = run(generate, "--layers", ladder().toString(), "--budget", "0.85");
        assertEquals(0, result.code(), result.err());
        var tokens = tokensByBlocks(result.json());
        double work = 0;
        long all = 0;
        for (var entry : tokens.entrySet()) {
            work += entry.getKey() * entry.getValue();
            all += entry.getValue();
        }
        assertTrue(work / all <= 0.85 * BLOCKS && tokens.keySet().stream().allMatch(List.of(4, 6, 8)::contains), tokens.toString());
        assertEquals(all + 1, result.json().get("tokens").size(), "the last token is not evaluated");
        assertTrue(tokens.size() > 1 && result.json().get("work").get("events").get("changes").asLong() > 0, tokens.toString());
    }

    @Test
    void aBudgetOfTimeEndsWithThePlanThatTheMachineAllows() {
        var command = List.of("complete", "--stdin", "-t", "2", "-n", "150", "--temp", "1", "-s", "1", "--json", "--layers",
                ladder().toString());
        var slow = run(command, "--token-time", "10s");
        assertEquals(0, slow.code(), slow.err());
        assertEquals(Set.of(8), tokensByBlocks(slow.json()).keySet());
        var quick = run(command, "--token-time", "0.01us");
        assertEquals(0, quick.code(), quick.err());
        var tokens = tokensByBlocks(quick.json());
        assertTrue(tokens.get(8) == 64 && tokens.get(6) == 64, "64 tokens under each plan on the way down: " + tokens);
        assertEquals(0, run(List.of("chat", "-t", "2", "--temp", "0", "-n", "8"), "--layers", ladder().toString(), "--budget",
                "0.7").code());
    }

    @Test
    void theWholeBudgetIsTheModelAsItIs() {
        var generate = List.of("generate", "-p", "public int ", "-t", "2", "-n", "40");
        assertEquals(run(generate).out(), run(generate, "--layers", ladder().toString(), "--budget", "1").out());
    }

    @Test
    void budgetsThatCannotBeKeptAreRefused() {
        var generate = List.of("generate", "-p", "public int ", "-t", "2", "-n", "8");
        var file = ladder().toString();
        assertRefused(1, "ladder.json holds 2 plans", run(generate, "--layers", file));
        assertRefused(1, "ladder.json holds 2 plans", Cli.run("bench", "-p", "8", "-n", "2", "-r", "1", "--layers", file));
        assertRefused(2, "--layers must name a file", run(generate, "--budget", "0.8"));
        assertRefused(2, "--layers must name a file", run(generate, "--layers", "0-6", "--token-time", "1ms"));
        assertRefused(2, "--layers must name a file", run(generate, "--layers", routers.toString(), "--budget", "0.8"));
        assertRefused(2, "exclude each other", run(generate, "--layers", file, "--budget", "0.8", "--token-time", "1ms"));
        assertRefused(2, "exclude each other", run(generate, "--layers", file, "--budget", "0.8", "--self-draft", "0-6"));
        assertRefused(2, "leave out --strategy beam", run(generate, "--layers", file, "--budget", "0.8", "--strategy", "beam"));
        assertRefused(2, "leave --budget", run(generate, "--layers", file, "--budget", "0.8", "--asap", "--choices", "a,b"));
        for (var share : List.of("0", "-1", "1.1", "NaN")) {
            assertRefused(2, "it must be above 0 and at most 1", run(generate, "--layers", file, "--budget", share));
        }
        assertRefused(2, "--budget 0.3 can't be kept: the cheapest plan", run(generate, "--layers", file, "--budget", "0.3"));
        for (var time : List.of("20", "0ms", "-1ms", "ms", "1h", "0.0001us")) {
            assertRefused(2, "is no time above 0 with a unit", run(generate, "--layers", file, "--token-time", time));
        }
        assertRefused(2, "leaves out 2 blocks, as another share does", search("--keep", "0.75,0.76"));
        assertRefused(2, "it must be above 0 and below 1", search("--keep", "0.5,1"));
    }

    // --- --self-draft of bench and perplexity -------------------------------------------------------------------------------

    @Test
    void benchTellsWhatSelfDraftsGainOnAText() {
        var bench = List.of("bench", "-p", "0", "-n", "24", "-r", "2", "-t", "2");
        var all = run(bench, "--self-draft", "0-7", "--json");
        assertEquals(0, all.code(), all.err());
        assertEquals(2, all.json().size(), "random tokens one by one, and the text");
        var draft = all.json().get(1).get("self_draft");
        assertEquals("0-7", draft.get("layers").asString());
        assertEquals(1, draft.get("acceptance").asDouble(), 0.1, "all blocks draft what all blocks accept, but for near-ties");
        assertTrue(draft.get("drafted").asLong() > 0 && draft.get("passes").asLong() > 0, all.out());
        assertTrue(draft.get("speed_up").asDouble() > 0 && draft.get("greedy_ts").asDouble() > 0, all.out());
        assertTrue(all.json().get(1).get("n_gen").asInt() >= 1 && all.json().get(1).get("samples_ns").size() == 2);

        var table = run(bench, "--self-draft", "0-2,4-5,7", "-f", text.toString());
        assertEquals(0, table.code(), table.err());
        assertTrue(table.out().contains(" sd") && table.out().contains("drafts by blocks 0-2,4-5,7: "), table.out());

        assertRefused(2, "--self-draft: ", run(bench, "--self-draft", "0-8", "--no-warmup"));
        assertRefused(2, "-f is for --self-draft", run(bench, "-f", text.toString()));
        assertRefused(2, "-n is 0", Cli.run("bench", "-p", "8", "-n", "0", "--self-draft", "0-6"));
        assertRefused(1, "no such file: nowhere", run(bench, "--self-draft", "0-6", "-f", "nowhere"));
    }

    @Test
    void perplexityTellsHowManyDraftsWouldBeAccepted() {
        var perplexity = List.of("perplexity", text.toString(), "-t", "2", "-c", "64", "--json");
        var without = run(perplexity).json();
        double last = 1.1;
        for (var plan : List.of("0-7", "0-2,4-7", "0,7")) {
            var with = run(perplexity, "--self-draft", plan);
            assertEquals(0, with.code(), with.err());
            assertEquals(without.get("ppl").asDouble(), with.json().get("ppl").asDouble(), 1e-3, "the text is scored as without");
            assertEquals(plan, with.json().get("self_draft").get("layers").asString());
            double acceptance = with.json().get("self_draft").get("acceptance").asDouble();
            assertTrue(acceptance < last && (!plan.equals("0-7") || acceptance > 0.97), plan + ": " + acceptance + " after " + last);
            last = acceptance;
        }
        var told = Cli.run("perplexity", text.toString(), "-t", "2", "-c", "64", "--self-draft", "0-2,4-7");
        assertTrue(told.out().lines().toList().get(1).matches("Self-draft 0-2,4-7: [\\d.]+ % \\+/- [\\d.]+ of the drafted tokens would be "
                + "accepted"), told.out());
        assertRefused(2, "--self-draft: ", run(perplexity, "--self-draft", "7,3"));
        assertRefused(1, "reads keys and values of block 3", run(perplexity, "--layers", "0-2,4-7", "--self-draft", "0-4,7"));
    }

    @Test
    void benchRunsUnderAPlan() {
        var result = Cli.run("bench", "-p", "8", "-n", "4", "-r", "1", "-t", "2", "--layers", "0,7", "--json");
        assertEquals(0, result.code(), result.err());
        for (var test : result.json()) {
            assertEquals("0,7", test.get("layers").asString());
        }
        assertEquals(2, result.json().size());
    }

    @ParameterizedTest
    @ValueSource(strings = {"layers", "layers trace", "layers search", "layers train-router", "layers prune", "layers drop x",
        "layers search x.java --method fastest", "layers train-router x.java -o y --kind third",
        "layers train-router x.java -o y --prefill some"})
    void wrongArgumentsEndWithExitCode2AndAHint(String line) {
        var result = Cli.run(line.split(" "));
        assertEquals(2, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: "), result.err());
        assertEquals("", result.out());
    }
}
