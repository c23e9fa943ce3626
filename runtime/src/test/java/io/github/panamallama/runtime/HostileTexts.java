package io.github.panamallama.runtime;

import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The process that {@link HostileTextTest} starts: tokenizes each class of hostile text with one vocabulary and prints a line for it:
 * {@code class tokens cpuMillis roundTrip}, where roundTrip is {@code same}, {@code differs} or {@code -}.
 */
final class HostileTexts {
    private HostileTexts() {}

    static final Map<String, byte[]> CLASSES = new LinkedHashMap<>();

    static {
        text("digits", "7");
        text("counting", "0123456789");
        text("letter", "a");
        text("upper", "A");
        text("consonants", "qzxvkw");
        text("mixedCase", "aBcDeFG");
        text("spaces", " ");
        text("tabs", "\t");
        text("newlines", "\n");
        text("crLf", "\r\n");
        text("spaceNewline", " \n");
        text("noBreakSpaces", "\u00a0");
        text("equals", "=");
        text("lessThan", "<");
        text("punctuation", ".,;:!?");
        text("apostrophes", "'");
        text("contractions", "it's we'll ");
        text("emoji", "😀");
        text("zeroWidthJoiners", "👨\u200d");
        text("cjk", "中");
        text("kana", "ア");
        text("hangul", "한");
        text("hebrew", "שלום");
        text("arabic", "مرحبا ");
        text("combiningMarks", "\u0301");
        text("accentedLetters", "e\u0301");
        text("metaspaces", "\u2581");
        text("nul", "\0");
        text("control", "\u0001\u0002\u001b\u007f");
        text("imStart", "<|im_start|>");
        text("imStartLetter", "<|im_start|>a");
        text("endOfText", "<|endoftext|>");
        text("endTag", "</s>");
        text("endTagLetter", "</s>a");
        text("pad", "[PAD]");
        text("dna", "<dna>ACGT");
        text("java", "    public static int max(int a, int b) {\n        return a > b ? a : b; // the larger\n    }\n");
        CLASSES.put("invalid", new byte[] {(byte) 0xff, (byte) 0xfe, (byte) 0xc3});
        CLASSES.put("continuation", new byte[] {(byte) 0x80});
        CLASSES.put("beyondUnicode", new byte[] {(byte) 0xf7, (byte) 0xbf, (byte) 0xbf, (byte) 0xbf});
    }

    private static void text(String name, String unit) {
        CLASSES.put(name, unit.getBytes(StandardCharsets.UTF_8));
    }

    /** At least {@code size} bytes of the class; of "spaces" the last is followed by a letter, which some patterns look back from. */
    static byte[] make(String name, int size) {
        var unit = CLASSES.get(name);
        var n = (size + unit.length - 1) / unit.length;
        var text = new byte[n * unit.length + (name.equals("spaces") ? 1 : 0)];
        for (var i = 0; i < n; i++) {
            System.arraycopy(unit, 0, text, i * unit.length, unit.length);
        }
        if (name.equals("spaces")) {
            text[text.length - 1] = 'x';
        }
        return text;
    }

    /** Arguments: vocabulary, bytes per class. */
    public static void main(String[] arguments) {
        var threads = ManagementFactory.getThreadMXBean();
        try (var open = VocabularyFile.open(Path.of(arguments[0]))) {
            var vocabulary = open.vocabulary();
            for (var name : CLASSES.keySet()) {
                var text = make(name, Integer.parseInt(arguments[1]));
                var start = threads.getCurrentThreadCpuTime();
                try {
                    var tokens = vocabulary.tokenize(text, false, true);
                    var millis = (threads.getCurrentThreadCpuTime() - start) / 1_000_000;
                    System.out.println(name + " " + tokens.length + " " + millis + " " + roundTrip(vocabulary, text, tokens));
                } catch (TokenizationException e) {
                    System.out.println(name + " refused " + e.getMessage());
                }
            }
        }
        System.out.println("end");
    }

    private static String roundTrip(Vocabulary vocabulary, byte[] text, int[] tokens) {
        var lossless = switch (vocabulary.type()) {
            case SPM, BPE, RWKV -> true;
            default -> false;
        };
        if (!lossless) {
            return "-";
        }
        // Special tokens may swallow space around them; SPM writes a meta space and a space alike.
        var whole = new String(text, StandardCharsets.UTF_8);
        var decoded = vocabulary.detokenize(tokens, true);
        if (Arrays.stream(tokens).distinct().anyMatch(t -> vocabulary.isControl(t)) || whole.indexOf('\u2581') >= 0
                || whole.indexOf('\ufffd') >= 0) {
            return "-";
        }
        return decoded.equals(whole) ? "same" : "differs";
    }
}
