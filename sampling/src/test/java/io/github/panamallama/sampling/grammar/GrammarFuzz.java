package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.TokenMask;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/**
 * One run of a fuzzer: bytes become a grammar in some notation and tokens for it. Whatever they are, a grammar is refused with a
 * {@link GrammarException} or made; a token is refused with a {@link ConstraintException} or accepted; masks say the same as tokens
 * tried one by one; going back leads to where one was. {@link #fuzzerTestOneInput} is where Jazzer comes in.
 */
public final class GrammarFuzz {
    public static final GrammarOptions LIMITS = GrammarOptions.defaults().withSourceChars(1 << 14).withReadings(2_000).withStates(1 << 14)
            .withCompileTime(Duration.ofSeconds(2)).withMaskTime(Duration.ofSeconds(1));
    public static final GrammarVocabulary VOCABULARY = vocabulary();

    private GrammarFuzz() {}

    private static GrammarVocabulary vocabulary() {
        var words = new String[] {"\"", "\":", "\",\"", "{\"", "\"}", "}}", "[[", "]]", "true", "false", "null", "aa", "ab", "abc",
                "ba", "00",
            "01", "1.", "e+", "\\u00", "\\n", "é", "éa", "語", "😀", "  ", "\n ", "<a>", "name", "\"name\":", "type"};
        var pieces = new byte[256 + words.length + 8][];
        for (int b = 0; b < 256; b++) {
            pieces[b] = new byte[] {(byte) b};
        }
        for (int i = 0; i < words.length; i++) {
            pieces[256 + i] = words[i].getBytes(StandardCharsets.UTF_8);
        }
        pieces[256 + words.length] = new byte[] {(byte) 0xf0, (byte) 0x9f};
        pieces[256 + words.length + 1] = new byte[] {(byte) 0x98, (byte) 0x80, 'a'};
        pieces[256 + words.length + 2] = new byte[] {'a', (byte) 0xc3};
        return GrammarVocabulary.of(pieces, pieces.length - 1);
    }

    /**
     * @param data first byte: notation; then the grammar; after the last 0xff, if there is one: two bytes for each token
     */
    public static void fuzzerTestOneInput(byte[] data) {
        if (data.length < 2) {
            return;
        }
        int end = data.length;
        for (int i = data.length - 1; i > 0; i--) {
            if (data[i] == (byte) 0xff) {
                end = i;
                break;
            }
        }
        var source = new String(data, 1, end - 1, StandardCharsets.UTF_8);
        GrammarConstraint constraint;
        try {
            var grammar = switch (Math.floorMod(data[0], 4)) {
                case 0 -> Grammar.gbnf(source, LIMITS);
                case 1 -> Grammar.regex(source, LIMITS);
                case 2 -> Grammar.jsonSchema(source, JsonOptions.DEFAULT, LIMITS);
                default -> Grammar.gbnf(source, LIMITS).lazy(Trigger.after("<a>"), Trigger.after(259));
            };
            constraint = grammar.constraint(VOCABULARY);
        } catch (GrammarException e) {
            if (e.getMessage() == null || e.getMessage().isBlank()) {
                throw new AssertionError("an error without a message", e);
            }
            return;
        }
        try {
            walk(constraint, data, end + 1);
        } catch (ConstraintException e) {
            if (!isLimit(e)) {
                throw e;
            }
        }
    }

    /** Whether a limit was reached, which is no defect. */
    public static boolean isLimit(ConstraintException e) {
        return e.getMessage().contains("more than") || e.getMessage().contains("longer than") || e.getMessage().contains("left recursion")
                || e.getMessage().contains("not found within");
    }

    private static void walk(GrammarConstraint constraint, byte[] data, int from) {
        int accepted = 0;
        int choice = 12345;
        for (int step = 0; step < 24; step++) {
            choice = choice * 1103515245 + 12345;
            int given = from + 2 * step + 1 < data.length ? (data[from + 2 * step] & 0xff) << 8 | data[from + 2 * step + 1] & 0xff
                    : choice >>> 8;
            var before = constraint.state();
            var mask = new TokenMask(VOCABULARY.size());
            mask.copyFrom(constraint.mask());
            var fork = constraint.fork();
            for (int t = 0; t < VOCABULARY.size(); t += 1 + (given & 7)) {
                if (fork.allows(t) != mask.get(t)) {
                    throw new AssertionError("token " + t + " in the mask " + mask.get(t) + " " + constraint);
                }
            }
            int token = mask.next(given % VOCABULARY.size());
            token = token < 0 ? mask.next(0) : token;
            if (token < 0) {
                return;
            }
            constraint.accept(token);
            accepted++;
            if (constraint.ended()) {
                return;
            }
            if ((given & 31) == 0) {
                constraint.rollback(1);
                accepted--;
                if (!constraint.state().equals(before)) {
                    throw new AssertionError("not back where it was: " + constraint);
                }
            }
        }
        constraint.rollback(accepted);
        if (!constraint.mask().equals(constraint.fork().mask())) {
            throw new AssertionError("a fork differs");
        }
    }
}
