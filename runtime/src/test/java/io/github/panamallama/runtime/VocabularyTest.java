package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufWriter;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class VocabularyTest {
    private static final byte[] BYTES = new byte[] {(byte) 0xff, 'a', (byte) 0xe4, (byte) 0xb8, 'b', (byte) 0x80};

    @TempDir
    Path folder;

    private static VocabularyFile open(String name) {
        return VocabularyFile.open(VocabularyFile.vendored(name));
    }

    @Test
    void shippedModelNamesItsSpecialTokens() {
        try (var open = VocabularyFile.open(VocabularyFile.shipped())) {
            var vocabulary = open.vocabulary();
            assertEquals(4096, vocabulary.size());
            assertEquals(Vocabulary.Type.SPM, vocabulary.type());
            assertEquals("<|fim_prefix|>", vocabulary.text(vocabulary.fimPrefix()));
            assertEquals("<|fim_suffix|>", vocabulary.text(vocabulary.fimSuffix()));
            assertEquals("<|fim_middle|>", vocabulary.text(vocabulary.fimMiddle()));
            assertEquals(-1, vocabulary.fimRepo());
            assertEquals(-1, vocabulary.mask());
            assertFalse(vocabulary.addsBos());
            assertFalse(vocabulary.addsEos());
            var end = vocabulary.tokenize("<|im_end|>", false, true);
            assertEquals(1, end.length);
            assertTrue(vocabulary.isEndOfGeneration(end[0]));
            assertTrue(vocabulary.isControl(end[0]));
            assertArrayEquals("<|im_end|>".getBytes(StandardCharsets.UTF_8), vocabulary.bytes(end[0]));
            assertTrue(Arrays.stream(vocabulary.endOfGeneration()).anyMatch(t -> t == vocabulary.eos()));
        }
    }

    @Test
    void specialTokensAreReadFromTheTextOnlyOnRequest() {
        try (var open = open("qwen2")) {
            var vocabulary = open.vocabulary();
            var text = "<|im_start|>user";
            var parsed = vocabulary.tokenize(text, false, true);
            var plain = vocabulary.tokenize(text, false, false);
            assertTrue(vocabulary.isControl(parsed[0]));
            assertTrue(Arrays.stream(plain).noneMatch(vocabulary::isControl));
            assertEquals(text, vocabulary.detokenize(plain));
            assertEquals("user", vocabulary.detokenize(parsed));
            assertEquals(text, vocabulary.detokenize(parsed, true));
        }
    }

    @Test
    void beginningAndEndAreAddedAsTheModelWants() {
        try (var open = open("llama-spm")) {
            var vocabulary = open.vocabulary();
            assertTrue(vocabulary.addsBos());
            var tokens = vocabulary.tokenize("a", true, false);
            assertEquals(vocabulary.bos(), tokens[0]);
            assertArrayEquals(new int[] {vocabulary.bos()}, vocabulary.tokenize("", true, false));
            assertArrayEquals(new int[0], vocabulary.tokenize("", false, false));
        }
        try (var open = open("bert-bge")) {
            var vocabulary = open.vocabulary();
            assertArrayEquals(new int[] {vocabulary.bos(), vocabulary.sep()}, vocabulary.tokenize("", true, false));
        }
    }

    @Test
    void nulBytesAreText() {
        for (var name : List.of("llama-spm", "gpt-2", "qwen2", "deepseek-llm")) {
            try (var open = open(name)) {
                var text = "a\0b\0\0c";
                assertEquals(text, open.vocabulary().detokenize(open.vocabulary().tokenize(text, false, true)), name);
            }
        }
    }

    @Test
    void unpairedSurrogateCountsAsTheReplacementCharacter() {
        for (var name : List.of("llama-spm", "gpt-2", "bert-bge")) {
            try (var open = open(name)) {
                var vocabulary = open.vocabulary();
                for (var text : List.of("\ud83d", "a\ud83d", "\ude00a", "\ude00\ud83d", "😀\ud83d\ud83d\ude00")) {
                    var repaired = text.replaceAll("(?<![\ud800-\udbff])[\udc00-\udfff]|[\ud800-\udbff](?![\udc00-\udfff])", "\ufffd");
                    assertArrayEquals(vocabulary.tokenize(repaired, false, false), vocabulary.tokenize(text, false, false), name);
                }
            }
        }
    }

    @Test
    void bytesThatAreNotUtf8AreKeptByByteTokensAndReplacedByOthers() {
        try (var open = open("llama-spm")) {
            var vocabulary = open.vocabulary();
            var kept = new ByteArrayOutputStream();
            for (var token : vocabulary.tokenize(BYTES, false, false)) {
                kept.writeBytes(vocabulary.bytes(token));
            }
            assertEquals(' ', kept.toByteArray()[0]); // what the vocabulary puts before a text
            assertArrayEquals(BYTES, Arrays.copyOfRange(kept.toByteArray(), 1, kept.size()));
        }
        try (var open = open("gpt-2")) {
            var vocabulary = open.vocabulary();
            assertEquals("\ufffda\ufffd\ufffdb\ufffd", vocabulary.detokenize(vocabulary.tokenize(BYTES, false, false)));
            var beyond = new byte[] {'x', (byte) 0xf4, (byte) 0x90, (byte) 0x80, (byte) 0x80, (byte) 0xf7, 'y'};
            assertEquals("x\ufffd\ufffd\ufffd\ufffd\ufffdy", vocabulary.detokenize(vocabulary.tokenize(beyond, false, false)));
        }
    }

    /** CVE-2025-52566: a number of tokens that turns negative is far above this limit. */
    @Test
    void textBeyondTheLimitIsRefusedWithItsSize() {
        try (var open = open("llama-spm")) {
            var e = assertThrows(TokenizationException.class, () -> open.vocabulary().tokenize(new byte[Vocabulary.MAX_TEXT_BYTES + 1],
                    false, false));
            assertTrue(e.getMessage().contains(Integer.toString(Vocabulary.MAX_TEXT_BYTES + 1)), e.getMessage());
        }
    }

    @Test
    void tokensOutsideTheVocabularyAreRefused() {
        try (var open = open("llama-spm")) {
            var vocabulary = open.vocabulary();
            for (var token : new int[] {-1, vocabulary.size(), Integer.MIN_VALUE, Integer.MAX_VALUE}) {
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.bytes(token));
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.text(token));
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.score(token));
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.isEndOfGeneration(token));
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.isControl(token));
                assertThrows(IndexOutOfBoundsException.class, () -> vocabulary.detokenize(1, token));
            }
        }
    }

    @Test
    void modelWithoutVocabularyRefusesTextAndGivesNone() {
        var file = folder.resolve("none.gguf");
        copy("llama-spm").put("tokenizer.ggml.model", "none").putU32("llama.vocab_size", 10).write(file);
        try (var open = VocabularyFile.open(file)) {
            var vocabulary = open.vocabulary();
            assertEquals(Vocabulary.Type.NONE, vocabulary.type());
            assertThrows(TokenizationException.class, () -> vocabulary.tokenize("a", false, false));
            assertEquals(-1, vocabulary.bos());
            assertArrayEquals(new int[0], vocabulary.endOfGeneration());
            if (vocabulary.size() > 0) {
                assertThrows(TokenizationException.class, () -> vocabulary.text(0));
                assertEquals("", vocabulary.detokenize(0));
                assertEquals("", vocabulary.decoder().push(0));
            }
        }
    }

    @Test
    void vocabularyThatWouldNeverEndIsRefused() {
        var file = folder.resolve("rwkv.gguf");
        copy("llama-spm").put("tokenizer.ggml.model", "rwkv").putStrings("tokenizer.ggml.tokens", List.of("a", "bc", "\\n"))
                .remove("tokenizer.ggml.scores").putI32s("tokenizer.ggml.token_type", new int[] {1, 1, 1}).write(file);
        try (var open = VocabularyFile.open(file)) {
            var e = assertThrows(TokenizationException.class, () -> open.vocabulary().tokenize("abcb", false, false));
            assertTrue(e.getMessage().contains("byte 98"), e.getMessage());
        }
    }

    @Test
    void closedVocabularyStillGivesTextAndRefusesToTokenize() {
        var open = open("llama-spm");
        var vocabulary = open.vocabulary();
        var tokens = vocabulary.tokenize("still here", false, false);
        open.close();
        vocabulary.close();
        assertEquals("still here", vocabulary.detokenize(tokens));
        assertThrows(ClosedException.class, () -> vocabulary.tokenize("a", false, false));
        assertThrows(ClosedException.class, () -> vocabulary.text(0));
    }

    @Test
    void sixteenThreadsGetWhatOneGets() throws Exception {
        var seed = new Random().nextLong();
        System.out.println("seed " + seed);
        var random = new Random(seed);
        var texts = new ArrayList<String>();
        for (var i = 0; i < 40; i++) {
            texts.add(TextSamples.random(random, random.nextInt(5000), List.of("<|im_start|>", "</s>", "<|endoftext|>")));
        }
        for (var name : List.of("deepseek-llm", "falcon", "llama-spm", "qwen2")) {
            try (var open = open(name); var threads = Executors.newFixedThreadPool(16)) {
                var vocabulary = open.vocabulary();
                var serial = texts.stream().map(t -> vocabulary.tokenize(t, true, true)).toList();
                var tasks = new ArrayList<Callable<List<int[]>>>();
                for (var i = 0; i < 16; i++) {
                    tasks.add(() -> texts.stream().map(t -> vocabulary.tokenize(t, true, true)).toList());
                }
                for (var result : threads.invokeAll(tasks)) {
                    for (var i = 0; i < serial.size(); i++) {
                        assertArrayEquals(serial.get(i), result.get().get(i), name);
                    }
                }
            }
        }
    }

    @Test
    void longRunNeedsNoMoreStackThanAShortOne() throws InterruptedException {
        var run = "=".repeat(1 << 20);
        for (var name : List.of("falcon", "gpt-neox", "aquila", "deepseek-coder")) {
            try (var open = open(name)) {
                var text = new AtomicReference<String>();
                var thread = new Thread(null, () -> {
                    var vocabulary = open.vocabulary();
                    text.set(vocabulary.detokenize(vocabulary.tokenize(run, false, true)));
                }, "small stack", 256 << 10);
                thread.start();
                thread.join();
                assertEquals(run, text.get(), name);
                var virtual = Thread.ofVirtual().start(() -> text.set(open.vocabulary().detokenize(open.vocabulary().tokenize(run + "a",
                        false, true))));
                virtual.join();
                assertEquals(run + "a", text.get(), name);
            }
        }
    }


    private static GgufWriter copy(String name) {
        return GgufWriter.copyOf(GgufFile.read(VocabularyFile.vendored(name)));
    }
}
