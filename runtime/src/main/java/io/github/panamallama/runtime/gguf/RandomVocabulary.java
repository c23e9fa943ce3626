package io.github.panamallama.runtime.gguf;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/** The vocabulary of a made-up model: three special tokens, 256 bytes, and pieces that differ. */
final class RandomVocabulary {
    private static final String MARK = "▁";

    private RandomVocabulary() {
    }

    /** So many tokens, the pieces made up. */
    static void write(int size, GgufWriter writer) {
        write(IntStream.range(0, size - RandomModel.MIN_VOCABULARY).mapToObj(RandomVocabulary::piece).toList(), writer);
    }

    /** Special tokens, bytes and these pieces. */
    static void write(List<String> normal, GgufWriter writer) {
        int size = RandomModel.MIN_VOCABULARY + normal.size();
        var pieces = new ArrayList<byte[]>(size);
        var scores = new float[size];
        var kinds = new int[size];
        // kinds: 1 normal, 2 unknown, 3 control, 6 byte
        for (var special : List.of("<unk>", "<s>", "</s>")) {
            kinds[pieces.size()] = pieces.isEmpty() ? 2 : 3;
            pieces.add(utf8(special));
        }
        for (int b = 0; b < 256; b++) {
            kinds[pieces.size()] = 6;
            pieces.add(utf8("<0x%02X>".formatted(b)));
        }
        for (int i = 0; i < normal.size(); i++) {
            kinds[pieces.size()] = 1;
            // merges prefer high scores: earlier and so shorter pieces first
            scores[pieces.size()] = -i;
            pieces.add(utf8(normal.get(i)));
        }
        writer.put("tokenizer.ggml.model", "llama")
                .put("tokenizer.ggml.pre", "default")
                .putBytes("tokenizer.ggml.tokens", pieces)
                .putF32s("tokenizer.ggml.scores", scores)
                .putI32s("tokenizer.ggml.token_type", kinds)
                .putU32("tokenizer.ggml.bos_token_id", 1)
                .putU32("tokenizer.ggml.eos_token_id", 2)
                .putU32("tokenizer.ggml.unknown_token_id", 0)
                .put("tokenizer.ggml.add_bos_token", true)
                .put("tokenizer.ggml.add_eos_token", false)
                .put("tokenizer.ggml.add_space_prefix", false);
    }

    /** All different: the blank, printable ASCII without lower-case letters, then letter runs, each plain and after a blank. */
    private static String piece(int index) {
        if (index == 0) {
            return MARK;
        }
        int others = 94 - 26;
        if (index <= others) {
            int c = 0x20 + index;
            return String.valueOf((char) (c < 'a' ? c : c + 26));
        }
        int k = index - others - 1;
        var letters = new StringBuilder();
        for (int rest = k / 2; rest >= 0; rest = rest / 26 - 1) {
            letters.append((char) ('a' + rest % 26));
        }
        return (k % 2 == 0 ? "" : MARK) + letters.reverse();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
