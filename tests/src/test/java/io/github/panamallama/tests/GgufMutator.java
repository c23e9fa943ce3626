package io.github.panamallama.tests;

import io.github.panamallama.runtime.gguf.GgmlType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.regex.Pattern;

/**
 * Makes broken files of valid ones: changes that know the format and reach far into a reader, and now and then bytes at random.
 * What keys, tensors, architectures and pre-tokenizers there are comes from upstream's source, so a new version brings its own.
 * The same seed makes the same file.
 */
final class GgufMutator {
    private static final Path SOURCE = Project.HOME.resolve("ggml-src/upstream/src");
    private static final List<String> KEYS = names("llama-arch.cpp", "\\{ LLM_KV_\\w+,\\s*\"([^\"]+)\"");
    private static final List<String> ARCHITECTURES = names("llama-arch.cpp", "\\{ LLM_ARCH_\\w+,\\s*\"([^\"]+)\"");
    private static final List<String> TENSORS = names("llama-arch.cpp", "\\{ LLM_TENSOR_\\w+,\\s*\"([^\"]+)\"");
    private static final List<String> PRE = names("llama-vocab.cpp", "tokenizer_pre == \"([^\"]+)\"");
    private static final List<String> TOKENIZERS = names("llama-vocab.cpp", "tokenizer_model == \"([^\"]+)\"");
    private static final List<String> TEXTS = List.of("", "llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "none", "no_vocab", "adapter",
            "lora", "linear", "yarn", "longrope", "silu", "\u2581", "<0x41>", "<0x4", "<|endoftext|>", "a b", "\0", "x".repeat(5000),
                    "%s%n%d");

    private static final long[] INTEGERS = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 257, 299,
        300, 301, 511, 512, 513, 1023, 1024, 1025, 4096, 65535, 65536, 1 << 20, 1 << 24, Integer.MAX_VALUE, 0x8000_0000L, 0xFFFF_FFFFL,
        1L << 32, 1L << 62, Long.MAX_VALUE, Long.MIN_VALUE, -1, -2, -32};
    private static final double[] NUMBERS = {0, -0.0, 1, -1, 0.5, 1e-30, 1e30, Float.MAX_VALUE, Double.NaN, Double.POSITIVE_INFINITY,
        Double.NEGATIVE_INFINITY};

    private final SplittableRandom random;
    private final RawGguf file;
    private final List<String> done = new ArrayList<>();

    private GgufMutator(RawGguf valid, SplittableRandom random) {
        this.file = valid.copy();
        this.random = random;
    }

    /** A broken file and what was done to it. */
    record Mutant(byte[] bytes, List<String> changes) {
    }

    static Mutant mutant(RawGguf valid, long seed) {
        var mutator = new GgufMutator(valid, new SplittableRandom(seed));
        return new Mutant(mutator.make(), mutator.done);
    }

    private byte[] make() {
        boolean whole = random.nextInt(8) > 0;
        int changes = 1 + (random.nextInt(3) == 0 ? random.nextInt(4) : 0);
        for (int i = 0; i < changes; i++) {
            change();
        }
        if (whole) {
            file.layOut();
        } else {
            broken();
        }
        var bytes = file.bytes();
        return random.nextInt(16) == 0 ? damaged(bytes) : bytes;
    }

    private void change() {
        if (file.pairs.isEmpty()) { // all removed: a control vector has only two
            addKey();
            return;
        }
        switch (random.nextInt(20)) {
            case 0, 1, 2, 3, 4, 5 -> value(key());
            case 6 -> type(key());
            case 7 -> array(key());
            case 8 -> element();
            case 9 -> removeKey();
            case 10, 11, 12 -> addKey();
            case 13 -> vocabulary();
            case 14 -> shape();
            case 15 -> tensorType();
            case 16 -> addTensor();
            case 17 -> tensorName();
            case 18 -> weights();
            default -> architecture();
        }
    }

    /** Faults of places and counts, which readers look at first. */
    private void broken() {
        file.layOut();
        var tensor = file.tensors.get(random.nextInt(file.tensors.size()));
        switch (random.nextInt(8)) {
            case 0 -> tensor.offset = note("offset of " + tensor.name, integer());
            case 1 -> file.tensorCount = note("tensor count", near(file.tensors.size()));
            case 2 -> file.pairCount = note("pair count", near(file.pairs.size()));
            case 3 -> file.version = (int) note("version", random.nextInt(6)).longValue();
            case 4 -> {
                if (file.pairs.isEmpty()) {
                    return;
                }
                var pair = any(file.pairs);
                pair.count = note("count of " + pair.key, near(pair.elements.size()));
            }
            case 5 -> {
                done.add("tensors before pairs");
                file.tensorsFirst = true;
            }
            case 6 -> {
                done.add("tensors shuffled");
                Collections.shuffle(file.tensors, new Random(random.nextLong()));
            }
            default -> {
                int alignment = 1 << random.nextInt(32);
                file.pairs.add(new RawGguf.Pair("general.alignment", 4, RawGguf.number(4, 0, note("alignment", (long) alignment))));
                if (alignment >= 1 && alignment <= 4096) {
                    file.alignment = alignment;
                    file.layOut();
                }
            }
        }
    }

    private byte[] damaged(byte[] bytes) {
        if (random.nextInt(3) == 0) {
            done.add("truncated");
            return Arrays.copyOf(bytes, random.nextInt(bytes.length));
        }
        for (int i = random.nextInt(4); i >= 0; i--) {
            int at = random.nextInt(random.nextBoolean() ? bytes.length : Math.min(bytes.length, 16_000));
            bytes[at] = (byte) random.nextInt(256);
            done.add("byte " + at);
        }
        return bytes;
    }

    /** Mostly those of the architecture: there are few, and most of the code depends on them. */
    private RawGguf.Pair key() {
        var own = file.pairs.stream().filter(pair -> !pair.key.startsWith("general.") && !pair.key.startsWith("tokenizer.")).toList();
        return any(random.nextInt(4) == 0 || own.isEmpty() ? file.pairs : own);
    }

    private void value(RawGguf.Pair pair) {
        if (pair.elements.isEmpty()) {
            return;
        }
        int at = random.nextInt(pair.elements.size());
        int type = pair.isArray() ? pair.element : pair.type;
        pair.elements.set(at, scalar(pair.key, type));
    }

    private byte[] scalar(String key, int type) {
        if (type == RawGguf.STRING) {
            return text(note("text of " + key, any(random.nextInt(3) == 0 ? PRE : random.nextInt(3) == 0 ? ARCHITECTURES : TEXTS)));
        }
        if (type == 6 || type == 12) {
            return RawGguf.number(type, note(key, NUMBERS[random.nextInt(NUMBERS.length)]), 0);
        }
        return RawGguf.number(type, 0, note(key, type == 7 ? Long.valueOf(random.nextInt(2)) : integer()));
    }

    private void type(RawGguf.Pair pair) {
        pair.type = random.nextInt(13) == 0 ? random.nextInt(20) : new int[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}[random.nextInt(12)];
        done.add("type of " + pair.key + " is " + pair.type);
        pair.elements = new ArrayList<>(List.of(scalar(pair.key, pair.type)));
    }

    private void array(RawGguf.Pair pair) {
        if (pair.elements.isEmpty()) {
            return;
        }
        if (!pair.isArray()) {
            done.add("array of " + pair.key);
            pair.element = pair.type;
            pair.type = RawGguf.ARRAY;
            int length = new int[] {0, 1, 2, 3, 4, 5, 512, 513}[random.nextInt(8)];
            var value = pair.elements.getFirst();
            pair.elements = new ArrayList<>(Collections.nCopies(length, value));
            for (int i = 0; i < length && i < 4; i++) {
                if (random.nextBoolean()) {
                    pair.elements.set(i, scalar(pair.key, pair.element));
                }
            }
            return;
        }
        int length = (int) Math.clamp(near(pair.elements.size()), 0L, 1000L);
        done.add("length of " + pair.key + " is " + length);
        while (pair.elements.size() > length) {
            pair.elements.removeLast();
        }
        while (pair.elements.size() < length) {
            pair.elements.add(scalar(pair.key, pair.element));
        }
    }

    /** Another type of elements, with values that fit it. */
    private void element() {
        var arrays = file.pairs.stream().filter(RawGguf.Pair::isArray).toList();
        if (arrays.isEmpty()) {
            return;
        }
        var pair = arrays.get(random.nextInt(arrays.size()));
        pair.element = random.nextInt(14);
        done.add("elements of " + pair.key + " are " + pair.element);
        int length = pair.elements.size();
        pair.elements = new ArrayList<>(Collections.nCopies(length, pair.element == 13 ? new byte[4] : scalar(pair.key, pair.element)));
    }

    private void removeKey() {
        var pair = key();
        done.add("without " + pair.key);
        file.pairs.remove(pair);
    }

    private void addKey() {
        var name = any(KEYS);
        if (name.contains("%s")) {
            var architecture = file.pair("general.architecture");
            name = name.replace("%s", architecture == null || architecture.elements.isEmpty() ? "llama"
                    : new String(architecture.elements.getFirst(), StandardCharsets.UTF_8));
        }
        int type = random.nextInt(3) == 0 ? random.nextInt(13) : 4;
        if (name.endsWith("scale") || name.endsWith("epsilon") || name.contains("freq_base") || name.contains("factor")) {
            type = 6;
        }
        var pair = new RawGguf.Pair(name, type);
        if (type == RawGguf.ARRAY || random.nextInt(4) == 0) {
            pair.element = type == RawGguf.ARRAY ? 5 : type;
            pair.type = RawGguf.ARRAY;
            for (int n = random.nextInt(6); n > 0; n--) {
                pair.elements.add(scalar(name, pair.element));
            }
            done.add("array added");
        } else {
            pair.elements.add(scalar(name, type));
        }
        if (random.nextInt(20) > 0) {
            file.pairs.removeIf(other -> other.key.equals(pair.key));
        }
        file.pairs.add(pair);
    }

    /** The tokenizer's own faults: another kind over the same tokens, ids and types that don't fit, merges, odd pieces. */
    private void vocabulary() {
        switch (random.nextInt(7)) {
            case 0 -> put("tokenizer.ggml.model", RawGguf.STRING,
                    text(note("tokenizer", any(TOKENIZERS))));
            case 6 -> {
                put("tokenizer.ggml.model", RawGguf.STRING, text("t5"));
                var map = new RawGguf.Pair("tokenizer.ggml.precompiled_charsmap", RawGguf.ARRAY);
                map.element = random.nextInt(2);
                int length = random.nextInt(60);
                for (int i = 0; i < length; i++) {
                    map.elements.add(new byte[] {(byte) (i == 0 ? near(length - 8) : i < 4 ? 0 : random.nextInt(256))});
                }
                done.add("charsmap of " + length);
                file.pairs.removeIf(other -> other.key.equals(map.key));
                file.pairs.add(map);
            }
            case 1 -> {
                var key = any(KEYS.stream().filter(name -> name.endsWith("_token_id")).toList());
                put(key, 4, RawGguf.number(4, 0, note(key, integer())));
            }
            case 2 -> {
                put("tokenizer.ggml.model", RawGguf.STRING, text("gpt2"));
                put("tokenizer.ggml.pre", RawGguf.STRING, text(any(PRE)));
                var merges = new RawGguf.Pair("tokenizer.ggml.merges", RawGguf.ARRAY);
                merges.element = random.nextInt(10) == 0 ? 4 : RawGguf.STRING;
                for (var merge : List.of("a b", "", " ", "x", "a  b", "\u0120 a", "nothere atall", "b a ")) {
                    if (random.nextBoolean()) {
                        merges.elements.add(merges.element == 4 ? new byte[4] : text(merge));
                    }
                }
                done.add("gpt2 with merges");
                file.pairs.removeIf(other -> other.key.equals(merges.key));
                file.pairs.add(merges);
            }
            case 3, 4 -> {
                var tokens = file.pair("tokenizer.ggml.tokens");
                if (tokens != null && !tokens.elements.isEmpty() && tokens.element == RawGguf.STRING) {
                    int at = random.nextInt(tokens.elements.size());
                    tokens.elements.set(at, random.nextInt(3) == 0 ? new byte[] {(byte) 0xFF, (byte) random.nextInt(256), (byte) 0xC0}
                            : text(note("token " + at, any(TEXTS))));
                }
            }
            default -> {
                var types = file.pair("tokenizer.ggml.token_type");
                if (types != null && !types.elements.isEmpty() && types.element == 5) {
                    int kind = random.nextInt(9);
                    for (int i = random.nextInt(20); i >= 0; i--) {
                        int at = random.nextInt(types.elements.size());
                        types.elements.set(at, RawGguf.number(5, 0, note("type of token " + at, (long) kind)));
                    }
                }
            }
        }
        if (random.nextInt(3) == 0) {
            var key = any(KEYS.stream().filter(name -> name.startsWith("tokenizer.ggml.")).toList());
            int type = key.contains(".add_") || key.contains("remove_") ? 7 : random.nextInt(13) == 0 ? 10 : 4;
            put(key, type, scalar(key, type));
        }
    }

    private void put(String key, int type, byte[] value) {
        file.pairs.removeIf(pair -> pair.key.equals(key));
        file.pairs.add(new RawGguf.Pair(key, type, value));
    }

    private void shape() {
        var tensor = tensor();
        int d = random.nextInt(tensor.shape.length);
        switch (random.nextInt(6)) {
            case 0 -> tensor.shape[d] = note(tensor.name + "[" + d + "]", integer());
            case 1 -> tensor.shape[d] = note(tensor.name + "[" + d + "]", Math.max(1, near(tensor.shape[d])));
            case 2 -> tensor.shape[d] *= note(tensor.name + "[" + d + "] times", 2L);
            case 3 -> {
                done.add("a dimension more in " + tensor.name);
                tensor.shape = Arrays.copyOf(tensor.shape, tensor.shape.length + 1);
                tensor.shape[tensor.shape.length - 1] = 1 + random.nextInt(3);
            }
            case 4 -> {
                done.add("turned " + tensor.name);
                for (int i = 0, k = tensor.shape.length - 1; i < k; i++, k--) {
                    long other = tensor.shape[i];
                    tensor.shape[i] = tensor.shape[k];
                    tensor.shape[k] = other;
                }
            }
            default -> {
                done.add("flat " + tensor.name);
                tensor.shape = Arrays.copyOf(tensor.shape, Math.max(1, tensor.shape.length - 1));
            }
        }
        fit(tensor);
    }

    private void tensorType() {
        var tensor = tensor();
        var types = GgmlType.values();
        tensor.type = random.nextInt(20) == 0 ? random.nextInt(300) - 5 : types[random.nextInt(types.length)].id();
        done.add("type of " + tensor.name + " is " + tensor.type);
        fit(tensor);
    }

    /** As many bytes as shape and type take, if that's not too many. */
    private void fit(RawGguf.Tensor tensor) {
        var type = GgmlType.byId(tensor.type);
        long elements = 1;
        for (long size : tensor.shape) {
            if (size <= 0 || size > 1 << 20 || elements * size > 1 << 22) {
                return;
            }
            elements *= size;
        }
        if (type.isPresent() && elements % type.get().blockSize() == 0) {
            int old = tensor.data.length;
            tensor.data = Arrays.copyOf(tensor.data, (int) type.get().bytes(elements));
            for (int i = old; i < tensor.data.length; i++) {
                tensor.data[i] = (byte) random.nextInt(60); // as f32 small numbers
            }
        }
    }

    private void addTensor() {
        var like = tensor();
        var name = any(TENSORS).replaceFirst("%d", String.valueOf(random.nextInt(3))).replace("%d", "0")
                + any(List.of(".weight", ".weight", ".bias", ".scale", ".input_scale", ""));
        if (random.nextInt(3) == 0) {
            int dot = like.name.lastIndexOf('.');
            name = (dot < 0 ? like.name : like.name.substring(0, dot))
                    + any(List.of(".bias", ".scale", ".input_scale", ".lora_a", ".lora_b"));
        }
        var shape = random.nextBoolean() ? like.shape.clone() : new long[] {new long[] {1, 2, 8, 16, 32, 64, 128, 300}[random.nextInt(8)]};
        var tensor = new RawGguf.Tensor(name, shape, random.nextInt(5) == 0 ? like.type : 0, new byte[0]);
        done.add("tensor " + name + " " + Arrays.toString(shape));
        fit(tensor);
        if (random.nextInt(10) > 0) {
            file.tensors.removeIf(other -> other.name.equals(tensor.name));
        }
        file.tensors.add(tensor);
    }

    private void tensorName() {
        var tensor = tensor();
        switch (random.nextInt(4)) {
            case 0 -> {
                done.add("without " + tensor.name);
                file.tensors.remove(tensor);
                if (file.tensors.isEmpty()) {
                    file.tensors.add(tensor);
                }
            }
            case 1 -> {
                var other = tensor();
                done.add(tensor.name + " and " + other.name + " exchanged");
                var name = tensor.name;
                tensor.name = other.name;
                other.name = name;
            }
            case 2 -> tensor.name = note("name of " + tensor.name, tensor.name.replace("blk.0", "blk." + integer()));
            default -> tensor.name = note("name of " + tensor.name,
                    any(List.of("", "x", "x".repeat(63), "x".repeat(64), "blk.0.", "token_embd.weight")));
        }
    }

    /** Numbers that are none, in one matrix. */
    private void weights() {
        var tensor = tensor();
        done.add("weights of " + tensor.name);
        tensor.data = tensor.data.clone();
        byte fill = new byte[] {(byte) 0xFF, 0x7F, (byte) 0x80, 0}[random.nextInt(4)];
        int part = 1 + random.nextInt(4);
        for (int i = 0; i < tensor.data.length; i++) {
            if (i % part == 0) {
                tensor.data[i] = random.nextInt(8) == 0 ? (byte) random.nextInt(256) : fill;
            }
        }
    }

    /** Another architecture for the same weights, its keys renamed and often all others there: loading fails late, for tensors it lacks. */
    private void architecture() {
        var pair = file.pair("general.architecture");
        if (pair == null || pair.elements.isEmpty()) {
            return;
        }
        var old = new String(pair.elements.getFirst(), StandardCharsets.UTF_8) + ".";
        var name = note("architecture", any(ARCHITECTURES));
        pair.elements.set(0, text(name));
        for (var other : file.pairs) {
            if (other.key.startsWith(old)) {
                other.key = name + "." + other.key.substring(old.length());
            }
        }
        if (random.nextInt(3) > 0) {
            done.add("every key");
            for (var key : KEYS) {
                var full = key.replace("%s", name);
                if (key.startsWith("%s.") && file.pair(full) == null) {
                    file.pairs.add(plausible(full));
                }
            }
        }
        for (int n = random.nextInt(4); n > 0; n--) {
            value(key());
        }
    }

    private RawGguf.Pair plausible(String key) {
        if (key.matches(".*(scale|epsilon|freq_base|factor|alpha|_bias|softcapping|beta|eps|clamp|logit|mul|rate)\\w*")) {
            return new RawGguf.Pair(key, 6, RawGguf.number(6, 1, 0));
        }
        if (key.matches(".*(causal|norm_w|weights_norm|parallel_residual|finetuned|swin_norm|before_residual)")) {
            return new RawGguf.Pair(key, 7, new byte[] {1});
        }
        return new RawGguf.Pair(key, 4, RawGguf.number(4, 0, new long[] {1, 1, 2, 2, 4, 8, 16}[random.nextInt(7)]));
    }

    private RawGguf.Tensor tensor() {
        return file.tensors.get(random.nextInt(file.tensors.size()));
    }

    private Long integer() {
        return INTEGERS[random.nextInt(INTEGERS.length)];
    }

    private Long near(long value) {
        return switch (random.nextInt(4)) {
            case 0 -> value - 1;
            case 1 -> value + 1;
            case 2 -> value / 2;
            default -> integer();
        };
    }

    private <T> T any(List<T> all) {
        return all.get(random.nextInt(all.size()));
    }

    private <T> T note(String what, T value) {
        var text = String.valueOf(value);
        done.add(what + " = " + (text.length() > 40 ? text.substring(0, 40) + "..." : text));
        return value;
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static List<String> names(String source, String pattern) {
        try {
            var found = Pattern.compile(pattern).matcher(Files.readString(SOURCE.resolve(source))).results().map(match -> match.group(1))
                    .distinct().toList();
            if (found.size() < 8) {
                throw new IllegalStateException("only " + found + " in " + source + " look like " + pattern);
            }
            return found;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
