package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.Llama;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomEncoder;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class EmbedCommandTest {
    @TempDir
    Path folder;

    private String bert(int pooling, int classes) {
        var path = folder.resolve("bert-" + pooling + ".gguf");
        RandomEncoder.tiny(RandomEncoder.Architecture.BERT).withPooling(pooling).withClasses(classes).write(path);
        return path.toString();
    }

    private static double[] numbers(String line) {
        return Arrays.stream(line.split(" ")).mapToDouble(Double::parseDouble).toArray();
    }

    @Test
    void everyLineIsATextAndHasAVector() throws IOException {
        var model = bert(1, 0);
        var file = Files.writeString(folder.resolve("texts.txt"), "a list\n\na map\n").toString();
        var result = Cli.run("embed", "-m", model, file);
        assertEquals(0, result.code(), result.err());
        var lines = result.out().lines().toList();
        assertEquals(2, lines.size());
        assertEquals(64, numbers(lines.getFirst()).length);
        assertEquals(1, Arrays.stream(numbers(lines.getFirst())).map(x -> x * x).sum(), 1e-4);
        assertEquals(result.out(), Cli.withInput("a list\na map\n", "embed", "-m", model).out());
        assertEquals(result.out(), Cli.run("embed", "-m", model, "-p", "a list", "-p", "a map").out());
        assertEquals(1, Cli.run("embed", "-m", model, "--whole", file).out().lines().count());
        var json = Cli.run("embed", "-m", model, "--json", file).json();
        assertEquals("mean", json.get("pooling").asString());
        assertEquals(2, json.get("data").size());
        assertEquals(numbers(lines.get(1))[7], json.get("data").get(1).get("embedding").get(7).asDouble(), 1e-6);
    }

    @Test
    void poolingAndNormalizationCanBeChosen() {
        var model = bert(1, 0);
        assertTrue(Cli.run("embed", "-m", model, "-p", "a list", "--pooling", "none").out().lines().count() > 2);
        var max = Cli.run("embed", "-m", model, "-p", "a list", "--normalize", "max").out();
        assertEquals(32760, Arrays.stream(numbers(max.strip())).map(Math::abs).max().orElseThrow());
        var taxicab = Cli.run("embed", "-m", model, "-p", "a list", "--normalize", "1", "--pooling", "cls").out();
        assertEquals(1, Arrays.stream(numbers(taxicab.strip())).map(Math::abs).sum(), 1e-4);
        assertEquals(2, Cli.run("embed", "-m", model, "-p", "a", "--normalize", "much").code());
    }

    @Test
    void rerankPrintsTheBestFirst() {
        var model = bert(4, 1);
        var result = Cli.withInput("a list\na map\nanother text\n", "embed", "-m", model, "--rerank", "what is a list?");
        assertEquals(0, result.code(), result.err());
        var scores = result.out().lines().mapToDouble(line -> Double.parseDouble(line.substring(0, line.indexOf('\t')))).toArray();
        assertEquals(3, scores.length);
        assertTrue(scores[0] >= scores[1] && scores[1] >= scores[2], result.out());
        var json = Cli.withInput("a list\na map\nanother text\n", "embed", "-m", model, "--rerank", "what is a list?", "--json").json();
        assertEquals(scores[0], json.get("ranked").get(0).get("score").asDouble(), 1e-3);
    }

    @Test
    void whatCanNotBeEmbeddedIsRefused() throws IOException {
        var none = Cli.run("embed", "-p", "a list");
        assertEquals(1, none.code());
        assertTrue(none.err().contains("no embedding model"), none.err());
        assertEquals(0, Cli.run("embed", "-p", "a list", "--pooling", "last").code());
        var model = bert(1, 0);
        var wrong = Cli.run("embed", "-m", model, "-p", "a", "--rerank", "b");
        assertEquals(1, wrong.code());
        assertTrue(wrong.err().contains("no reranker"), wrong.err());
        var chat = Cli.withInput("Hello\n", "chat", "-m", model);
        assertEquals(1, chat.code());
        assertTrue(chat.err().contains("Embedder or Reranker"), chat.err());
        var tooLong = Cli.run("embed", "-m", model, "-p", "word ".repeat(300));
        assertEquals(1, tooLong.code());
        assertTrue(tooLong.err().contains("at most 256 fit"), tooLong.err());
        assertEquals(0, Cli.run("embed", "-m", model, "-p", "word ".repeat(300), "--truncate").code());
        assertEquals(2, Cli.withInput("\n", "embed", "-m", model).code());
    }

    @Test
    void aTextThatIsWrongIsNamedByFileAndLine() throws IOException {
        var model = bert(1, 0);
        var file = folder.resolve("sch\u00f6ne texte.txt");
        Files.writeString(file, "a\n\nb\n".repeat(300) + "word ".repeat(300) + "\n");
        var tooLong = Cli.run("embed", "-m", model, file.toString());
        assertEquals(1, tooLong.code());
        assertTrue(tooLong.err().contains(file + ":901: the text has 1203 tokens"), tooLong.err());
        assertTrue(tooLong.err().contains("--truncate"), tooLong.err());
        var empty = Files.createFile(folder.resolve("empty.txt"));
        var nothing = Cli.run("embed", "--pooling", "mean", "--whole", empty.toString());
        assertEquals(1, nothing.code());
        assertTrue(nothing.err().contains(empty + ": the text is empty"), nothing.err());
    }

    @Test
    void aRerankerDoesNotChat() {
        var path = folder.resolve("qwen3.gguf");
        RandomModel.tiny(RandomModel.Architecture.QWEN3).writer().putU32("qwen3.pooling_type", 4)
                .tensor("cls.output.weight", GgmlType.F32, List.of(64L, 1L), out -> out.write(MemorySegment.ofArray(new byte[256])))
                .write(path);
        for (var command : new String[][] {{"chat"}, {"generate", "-p", "a"}}) {
            var arguments = new String[command.length + 2];
            System.arraycopy(command, 0, arguments, 0, command.length);
            arguments[command.length] = "-m";
            arguments[command.length + 1] = path.toString();
            var result = Cli.withInput("Hello\n", arguments);
            assertEquals(1, result.code(), result.out());
            assertTrue(result.err().contains("ranks documents and does not write"), result.err());
        }
        try (var llama = Llama.load(path)) {
            Assertions.assertThrows(LlamaException.class, () -> llama.complete("a"));
        }
    }
}
