package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.models.DefaultModel;
import io.github.panamallama.runtime.gguf.RandomModel;
import io.github.panamallama.sampling.grammar.Grammar;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GenerateCommandTest {
    private static final String SCHEMA = """
            {"type": "object", "required": ["name", "tags"], "properties": {
              "name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}, "next": {"$ref": "#"},
              "size": {"type": "number"}}, "additionalProperties": {"type": "array"}}""";

    @TempDir
    Path folder;

    private static Cli.Result generate(String... more) {
        var args = new ArrayList<>(List.of("generate", "-t", "2"));
        args.addAll(Arrays.asList(more));
        return Cli.run(args.toArray(String[]::new));
    }

    private Path file(String name, String text) throws IOException {
        return Files.writeString(folder.resolve(name), text);
    }

    @Test
    void continuesAPrompt() throws IOException {
        var result = generate("-p", "public static int max(", "-n", "8");
        assertEquals(0, result.code(), result.err());
        assertFalse(result.out().isBlank());
        assertEquals("", result.err());
        assertEquals(result, generate("-p", "public static int max(", "-n", "8"));
        assertEquals(result.out(), generate("-f", file("prompt.txt", "public static int max(").toString(), "-n", "8").out());
        assertEquals(result.out(), Cli.withInput("public static int max(", "generate", "-t", "2", "-f", "-", "-n", "8").out());
    }

    /** Strings, arrays and recursion without bounds, a model that knows nothing, hot draws, and every document is whole. */
    @Test
    void jsonSchemaAlwaysPrintsAValidDocument() throws IOException {
        var schema = file("city.json", SCHEMA);
        var grammar = Grammar.jsonSchema(SCHEMA);
        for (int tokens : new int[] {17, 20, 33, 80}) {
            for (var temperature : List.of("0", "0.8", "2")) {
                for (var more : List.of(List.<String>of(), List.of("--any-order"))) {
                    var args = new ArrayList<>(List.of("-p", "The capital of France: ", "--json-schema", schema.toString(), "-n", ""
                            + tokens,
                            "--temp", temperature, "--seed", "" + tokens));
                    args.addAll(more);
                    var result = generate(args.toArray(String[]::new));
                    assertEquals(0, result.code(), result.err());
                    var document = result.out().substring(0, result.out().length() - 1);
                    assertTrue(grammar.accepts(document), document);
                    assertTrue(result.json().get("name").isString(), document);
                }
            }
        }
    }

    @Test
    void everyFrontEndHoldsTheTextToIt() throws IOException {
        var gbnf = file("answer.gbnf", "root ::= (\"yes\" | \"no\") \"!\"{2,3}\n");
        assertTrue(generate("-p", "Is it? ", "--grammar", gbnf.toString()).out().matches("(yes|no)!!!?\n"));
        assertTrue(generate("-p", "x = ", "--regex", "[0-9]+\\.[0-9]{2}", "-n", "9").out().matches("[0-9]+\\.[0-9]{2}\n"));
        assertTrue(Set.of("red\n", "green\n", "blue\n").contains(generate("-p", "colour: ", "--choices", "red,green,blue").out()));
    }

    @Test
    void tooFewTokensForAnyDocumentAreAnErrorThatSaysHowManyAreNeeded() throws IOException {
        var result = generate("-p", "x", "--json-schema", file("s.json", SCHEMA).toString(), "-n", "3");
        assertEquals(1, result.code());
        assertTrue(result.err().contains("room for 3") && result.err().matches("(?s).*takes \\d+ tokens.*"), result.err());
        assertEquals("", result.out());
    }

    @ParameterizedTest
    @ValueSource(strings = {"greedy", "sample", "beam", "best", "contrastive --alpha 0.4 --candidates 3",
        "adadec --threshold 0.5", "uscd --lame-prompt int", "draft --draft-model MODEL",
        "switch --small-model MODEL --threshold 1", "ngram"})
    void everyStrategyWritesAWholeDocument(String strategy) throws IOException {
        var args = new ArrayList<>(List.of("-p", "The capital of France: ", "--json-schema", file("s.json", SCHEMA).toString(), "-n", "24",
                "--seed", "1", "--json", "--strategy"));
        args.addAll(List.of(strategy.replace("MODEL", DefaultModel.path().toString()).split(" ")));
        var result = generate(args.toArray(String[]::new));
        assertEquals(0, result.code(), result.err());
        var json = result.json();
        assertEquals(strategy.split(" ")[0], json.get("strategy").asString());
        assertTrue(Grammar.jsonSchema(SCHEMA).accepts(json.get("text").asString()), json.get("text").asString());
        var tokens = json.get("tokens");
        assertTrue(tokens.size() > 3 && tokens.size() <= 25, "" + tokens.size());
        for (var token : tokens) {
            assertTrue(token.get("logprob").asDouble() <= 0, token.toString());
            assertTrue(token.get("entropy").asDouble() >= 0, token.toString());
            assertTrue(token.get("margin").asDouble() >= 0, token.toString());
        }
        assertTrue(json.get("work").get("rows").asLong() > 0);
        assertTrue(json.get("confidence").get("mean_logprob").asDouble() < 0);
    }

    @Test
    void draftsLeaveGreedyTextsUnchanged() {
        var greedy = generate("-p", "public final class Point {\\n    private", "-n", "32");
        assertEquals(0, greedy.code(), greedy.err());
        assertEquals(greedy.out(), generate("-p", "public final class Point {\\n    private", "-n", "32", "--strategy", "adadec",
                "--threshold",
                "1e9").out(), "a threshold that is never reached");
    }

    @Test
    void asapDrawsTextsWithTheirWeights() throws IOException {
        var result = generate("-p", "int size = ", "--choices", "1,2,8,64", "--asap", "--draws", "12", "--seed", "3", "--parallel", "3");
        assertEquals(0, result.code(), result.err());
        var lines = result.out().lines().toList();
        assertEquals(12, lines.size());
        for (var line : lines) {
            assertTrue(line.matches("-\\d+\\.\\d{4}\t-?\\d+\\.\\d{4}\t(1|2|8|64)"), line);
        }
        var trie = folder.resolve("learned.trie");
        for (int i = 0; i < 2; i++) {
            var json = generate("-p", "int size = ", "--choices", "1,2,8,64", "--asap", "--draws", "12", "--seed", "3", "--trie",
                    trie.toString(), "--json").json();
            assertEquals(12, json.get("draws").size());
            assertTrue(i == 0 || json.get("work").get("rows").asInt() < 40, "what was learned needs no evaluation: " + json.get("work"));
        }
        var other = generate("-p", "another", "--choices", "1,2,8,64", "--asap", "--trie", trie.toString());
        assertEquals(1, other.code());
        assertTrue(other.err().startsWith("panama-llama: "), other.err());
        for (var method : List.of("constrained", "rejection")) {
            assertEquals(0, generate("-p", "int size = ", "--regex", "[^\\n]{0,40}(\\n[^\\n]*)*", "-n", "6", "--asap", "--method",
                    method).code(), method);
        }
    }

    @Test
    void badGrammarsAreErrorsWithTheirPlace() throws IOException {
        var gbnf = generate("-p", "x", "--grammar", file("bad.gbnf", "root ::= \"a\"\n  | [b-\n").toString());
        assertEquals(1, gbnf.code());
        assertTrue(gbnf.err().matches("(?s).*bad\\.gbnf: line \\d, column \\d+: .*"), gbnf.err());

        var schema = generate("-p", "x", "--json-schema",
                file("bad.json", "{\"items\": {\"$ref\": \"https://example.org/no.json\"}}").toString());
        assertEquals(1, schema.code());
        assertTrue(schema.err().contains("/items/$ref"), schema.err());

        var empty = generate("-p", "x", "--json-schema", file("none.json", "{\"type\": \"string\", \"enum\": [1]}").toString());
        assertEquals(1, empty.code());
        assertTrue(empty.err().contains("none.json"), empty.err());

        assertEquals(1, generate("-p", "x", "--regex", "a(b").code());
        assertEquals(1, generate("-p", "x", "--grammar", folder.resolve("nowhere.gbnf").toString()).code());
    }

    @Test
    void aMissingSecondModelIsAnError() {
        var result = generate("-p", "x", "--strategy", "draft", "--draft-model", folder.resolve("no.gguf").toString());
        assertEquals(1, result.code());
        assertTrue(result.err().contains("no.gguf"), result.err());
    }

    @Test
    void withoutASecondModelTheModelsOwnHeadDrafts() {
        var model = folder.resolve("head.gguf").toString();
        RandomModel.tiny(RandomModel.Architecture.HY_V3).write(Path.of(model));
        var greedy = generate("-m", model, "-p", "int max(", "-n", "24");
        assertEquals(0, greedy.code(), greedy.err());
        var drafted = generate("-m", model, "-p", "int max(", "-n", "24", "--strategy", "draft", "--draft-tokens", "3", "--json");
        assertEquals(0, drafted.code(), drafted.err());
        assertEquals(greedy.out().strip(), drafted.json().get("text").asString().strip());
        assertTrue(drafted.json().get("work").get("events").get("drafted").asLong() > 0, drafted.out());
        assertEquals(2, generate("-m", model, "-p", "x", "--strategy", "draft", "--draft-tokens", "0").code());

        var without = generate("-p", "x", "--strategy", "draft");
        assertEquals(2, without.code());
        assertTrue(without.err().contains("has no head of its own") && without.err().contains("--draft-model"), without.err());
    }

    @Test
    void aPartOfTheModelDraftsForTheWhole() {
        var model = folder.resolve("whole.gguf").toString();
        RandomModel.tiny(RandomModel.Architecture.LLAMA).write(Path.of(model));
        var greedy = generate("-m", model, "-p", "int max(", "-n", "24");
        assertEquals(0, greedy.code(), greedy.err());
        var drafted = generate("-m", model, "-p", "int max(", "-n", "24", "--self-draft", "0,2-3", "--json");
        assertEquals(0, drafted.code(), drafted.err());
        assertEquals(greedy.out().strip(), drafted.json().get("text").asString().strip());
        assertEquals("self-draft", drafted.json().get("strategy").asString());
        assertTrue(drafted.json().get("work").get("events").get("drafted").asLong() > 0, drafted.out());
        for (var wrong : List.of("0-9", "2,1", "most")) {
            var refused = generate("-m", model, "-p", "x", "--self-draft", wrong);
            assertEquals(2, refused.code(), refused.err());
            assertTrue(refused.err().startsWith("panama-llama: --self-draft: ") && refused.err().contains("'" + wrong + "'"),
                    refused.err());
        }

        var completed = Cli.run("complete", "--stdin", "-n", "6", "-t", "2", "--self-draft", "0-3,5,7", "--json");
        assertEquals(0, completed.code(), completed.err());
        assertEquals("self-draft", completed.json().get("strategy").asString());
    }

    @Test
    void withoutALearnedThresholdAdadecSaysWhatToDo() {
        var result = generate("-p", "x", "--strategy", "adadec", "--thresholds", folder.resolve("none.json").toString());
        assertEquals(1, result.code());
        assertTrue(result.err().contains("panama-llama learn-threshold"), result.err());
    }

    @Test
    void aThresholdIsLearnedOnceAndUsed() throws IOException {
        var source = new StringBuilder();
        for (int i = 0; i < 60; i++) {
            source.append("    /** The value ").append(i * 37 % 101).append(". */\n    public int field").append(i).append("() {\n        return ")
                    .append(i * i).append(" + other.").append((char) ('a' + i % 26)).append("(this);\n    }\n\n");
        }
        file("A.java", "class A {\n" + source + "}\n");
        var thresholds = folder.resolve("thresholds.json");
        var learned = Cli.run("learn-threshold", "-t", "2", folder.toString(), "--thresholds", thresholds.toString(), "--json");
        assertEquals(0, learned.code(), learned.err());
        assertTrue(learned.json().get("threshold_nats").asDouble() > 0);
        assertTrue(learned.json().get("slope").asDouble() < 0);
        var result = generate("-p", "int max(", "-n", "12", "--strategy", "adadec", "--thresholds", thresholds.toString(), "--json");
        assertEquals(0, result.code(), result.err());
        assertTrue(result.json().get("work").get("events").has("pauses"), result.out());
        var completed = Cli.run("complete", folder.resolve("A.java") + ":4", "-n", "6", "-t", "2", "--strategy", "adadec", "--thresholds",
                thresholds.toString(), "--json");
        assertEquals(0, completed.code(), completed.err());
        assertEquals("adadec", completed.json().get("strategy").asString());
        assertTrue(completed.json().get("tokens").size() > 0);

        assertEquals(1, Cli.run("learn-threshold", folder.resolve("none").toString()).code());
        assertEquals(2, Cli.run("learn-threshold", folder.toString(), "--suffix", ".rs").code());
        var little = Cli.run("learn-threshold", file("B.txt", "int x;").toString(), "--thresholds", thresholds.toString());
        assertEquals(1, little.code());
        assertTrue(little.err().contains("more"), little.err());
    }

    @Test
    void wrongNumbersAreNamedByTheirOption() {
        for (var line : List.of("--strategy beam --beams -1", "--strategy beam --beams 2147483647", "--strategy best --best-of 300",
                "--strategy adadec --threshold NaN", "--strategy contrastive --alpha 1.5", "--strategy contrastive --candidates 0",
                "--strategy adadec --threshold 1 --candidates 0",
                "--strategy ngram --draft-nodes 2147483647",
                "--strategy switch --small-model MODEL --dwell -1", "--strategy draft --draft-model MODEL --draft-tokens 0",
                "--asap --choices a --parallel 300")) {
            var words = line.split(" ");
            var result = generate(("-p x " + line).split(" "));
            assertEquals(2, result.code(), line + ": " + result.err());
            assertTrue(result.err().startsWith("panama-llama: " + words[words.length - 2] + " is " + words[words.length - 1]),
                    result.err());
        }
    }

    @Test
    void aSecondPromptThatIsTheFirstIsPointedOutAndLineEndsAreTheSameInBoth() {
        var same = generate("-p", "int a;\\nint b", "-n", "4", "--strategy", "uscd", "--lame-prompt", "int a;\\nint b");
        assertEquals(0, same.code(), same.err());
        assertTrue(same.err().contains("nothing to contrast"), same.err());
        var plain = generate("-p", "int a;\\nint b", "-n", "4");
        assertEquals(plain.out(), same.out());
        var other = generate("-p", "int a;\\nint b", "-n", "4", "--strategy", "uscd", "--lame-prompt", "int b");
        assertEquals("", other.err());
    }

    @Test
    void placesThatCantBeWrittenAreRefusedBeforeTheWork() throws IOException {
        var trie = generate("-p", "x", "--choices", "a,b", "--asap", "--trie", folder.resolve("none/x").toString());
        assertEquals(1, trie.code());
        assertEquals("", trie.out());
        assertTrue(trie.err().contains("no such folder"), trie.err());
        var thresholds = Cli.run("learn-threshold", file("X.java", "class X {}").toString(), "--thresholds", folder.toString());
        assertEquals(1, thresholds.code());
        assertTrue(thresholds.err().contains("is a directory; --thresholds needs a file"), thresholds.err());
    }

    @Test
    void everySamplerCanBeAskedForAndItsSeedRepeatsIt() {
        for (var options : List.of("--temp 1 --dry-multiplier 0.8 --dry-sequence-breaker \\n",
                "--temp 1 --xtc-probability 0.5 --xtc-threshold 0.05",
                "--temp 0.8 --dynatemp-range 0.5 --dynatemp-exp 1.5", "--temp 1 --typical-p 0.9 --top-n-sigma 1.5",
                "--mirostat 2 --mirostat-ent 3",
                "--temp 1 --samplers top_k;dry;infill;temperature --dry-multiplier 1 --top-k 20",
                "--dry-multiplier 2 --dry-penalty-last-n 200")) {
            var args = new ArrayList<>(List.of("-p", "public static int max(int a, int b) {\\n", "-n", "24", "--seed", "5"));
            args.addAll(List.of(options.split(" ")));
            var result = generate(args.toArray(String[]::new));
            assertEquals(0, result.code(), options + ": " + result.err());
            assertEquals(result.out(), generate(args.toArray(String[]::new)).out(), options);
        }
        var schema = generate("-p", "int size = ", "--regex", "[0-9]{1,3};", "--temp", "1", "--mirostat", "2", "--seed", "2");
        assertTrue(schema.out().strip().matches("[0-9]{1,3};"), schema.out());
    }

    @Test
    void devicesAreListedAndLayersWithoutADeviceStayOnTheProcessorWithOneWarning() {
        var listed = Cli.run("devices", "--json", "-m", DefaultModel.path().toString(), "-c", "512");
        assertEquals(0, listed.code(), listed.err());
        assertEquals("CPU", listed.json().get("devices").get(0).get("name").asString());
        assertEquals("cpu", listed.json().get("devices").get(0).get("type").asString());
        assertTrue(listed.json().get("estimate").get(0).get("weights").asLong() > 1_000_000, listed.out());
        assertTrue(Cli.run("devices").out().startsWith("CPU "), "a table");
        var warned = generate("-p", "x", "-n", "1", "-ngl", "8");
        assertEquals(0, warned.code());
        assertEquals(1, warned.err().lines().count(), warned.err());
        assertTrue(warned.err().contains("no device takes layers here"), warned.err());
        var nowhere = generate("-p", "x", "--device", "CUDA9");
        assertEquals(1, nowhere.code());
        assertTrue(nowhere.err().contains("there is no device \"CUDA9\""), nowhere.err());
    }

    @Test
    void anInterruptEndsItWith130() {
        var interrupts = new Interrupts();
        interrupts.raise();
        assertEquals(130, Cli.withInterrupts(interrupts, "", "generate", "-p", "x", "-n", "100000").code());
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "generate", "generate -p x -f y", "generate -p x -n 0", "generate -p x --strategy fastest", "generate -p x --beams 3",
        "generate -p x --strategy beam --beams 0", "generate -p x --strategy draft", "generate -p x --strategy switch",
                "generate -p x --strategy uscd",
        "generate -p x --strategy greedy --temp 1", "generate -p x --strategy best --temp 0",
                "generate -p x --strategy adadec --threshold -1",
        "generate -p x --regex a --choices b", "generate -p x --asap", "generate -p x --draws 3",
                "generate -p x --asap --choices a --strategy beam",
        "generate -p x --asap --choices a --temp 0", "generate -p x --asap --choices a --draws 0", "generate -p x --any-order",
        "generate -p x --regex a --whitespace 1", "generate -p x --choices ,", "generate -p x --asap --choices a --method fast",
                "complete X.java --strategy uscd --lame-prompt y",
        "complete X.java --strategy beam --top-logprobs 2", "complete X.java --self-draft 0-3 --top-logprobs 2",
        "generate -p x --alpha 0.5", "generate -p x --typical-p 2", "generate -p x --xtc-threshold 0.1", "generate -p x --dry-base 2",
        "generate -p x --dry-multiplier 1 --dry-base 0.5", "generate -p x --dynatemp-exp 2", "generate -p x --mirostat 1",
        "generate -p x --mirostat-ent 4", "generate -p x --mirostat 2 --top-k 3", "generate -p x --top-n-sigma -2",
        "generate -p x --samplers top_k;best", "generate -p x --temp 1 --samplers infill",
        "generate -p x --asap --choices a --xtc-probability 0.1",
        "generate -p x --asap --choices a --mirostat 2", "generate -p x --prio 4", "generate -p x --cpu-range 3-1",
        "generate -p x --cpu-mask zz",
        "generate -p x --cpu-strict 1", "generate -p x --polite --poll 10", "generate -p x --rpc nowhere",
        "generate -p x --tensor-split 0,0",
        "generate -p x --main-gpu 1", "rpc-server -t -1", "rpc-server -t 513",
        "generate -p x --self-draft 0-3 --strategy beam", "generate -p x --asap --choices a --self-draft 0-3",
        "grammar", "grammar check", "grammar check x.txt", "grammar check x.gbnf --type pdf",
        "grammar check x.gbnf --formats", "grammar check x.gbnf --accept a --accept-file b", "learn-threshold"})
    void wrongArgumentsEndWithExitCode2AndAHint(String line) {
        var result = Cli.run(line.split(" "));
        assertEquals(2, result.code(), result.err());
        assertTrue(result.err().startsWith("panama-llama: "), result.err());
        assertEquals("", result.out());
    }
}
