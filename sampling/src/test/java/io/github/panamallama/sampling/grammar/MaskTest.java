package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.TokenMask;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Masks hold exactly the tokens that can be read byte by byte, on every state of walks through grammars. */
class MaskTest {
    private static final String JSON = """
            root ::= value
            value ::= object | array | string | number | "true" | "false" | "null"
            object ::= "{" ws (string ws ":" ws value ("," ws string ws ":" ws value)*)? "}"
            array ::= "[" ws (value ("," ws value)*)? "]"
            string ::= "\\"" ([^"\\\\\\x00-\\x1f] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\\""
            number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
            ws ::= [ \\n\\t]*
            """;

    private static final List<String> GRAMMARS = List.of(JSON,
            "root ::= [^\\n]{1,9} \"\\n\" root | \"\"",
            "root ::= (\"é\" | [ß-ü] | \"語\" | [^a-z])+ \"end\"",
            "root ::= \"a\"{3,7} [a-c]{0,40} \"\\\"\" .{0,20}",
            "root ::= word (\" \" word)* [.!?]\nword ::= [a-zA-Z]+ | \"don't\" | word-2\nword-2 ::= \"x\" word-2 \"y\" | \"z\"",
            "root ::= ([a-z]+ \"(\" root \")\")? | \"\\\"\" [^\"]{0,12} \"\\\"\" root");

    private static void assertExact(GrammarConstraint constraint, GrammarVocabulary vocabulary, String place) {
        var mask = constraint.mask();
        var expected = new TokenMask(vocabulary.size());
        var probe = constraint.fork();
        for (int t = 0; t < vocabulary.size(); t++) {
            if (probe.allows(t)) {
                expected.set(t);
            }
        }
        if (!expected.equals(mask)) {
            for (int t = 0; t < vocabulary.size(); t++) {
                assertEquals(expected.get(t), mask.get(t), place + ": token " + t + " \""
                        + new String(vocabulary.bytes(t), StandardCharsets.UTF_8) + "\" " + constraint);
            }
        }
        for (int end : vocabulary.endOfGeneration()) {
            assertEquals(constraint.complete(), mask.get(end), place + ": the end " + constraint);
        }
    }

    /** A random allowed token, the end only if there is nothing else. */
    private static int choose(TokenMask mask, GrammarVocabulary vocabulary, Random random) {
        int from = random.nextInt(vocabulary.size());
        for (int i = 0; i < 3; i++) {
            int token = mask.next(i == 0 ? from : 0);
            if (token >= 0 && !vocabulary.isEndOfGeneration(token)) {
                return token;
            }
        }
        return -1;
    }

    private static int walk(Grammar grammar, GrammarVocabulary vocabulary, Random random, int steps, String place) {
        var constraint = grammar.constraint(vocabulary);
        int checked = 0;
        for (int i = 0; i < steps; i++) {
            assertExact(constraint, vocabulary, place);
            checked++;
            int token = choose(constraint.mask(), vocabulary, random);
            if (token < 0) {
                break;
            }
            constraint.accept(token);
        }
        return checked;
    }

    @Test
    void isExactForMadeUpVocabularies() {
        long seed = new Random().nextLong();
        System.out.println("MaskTest seed " + seed);
        var random = new Random(seed);
        int checked = 0;
        for (int round = 0; round < 40; round++) {
            var vocabulary = Vocabularies.synthetic(random, "aabcxyz\"\"\\{}[]:, \n.01é語😀", 600);
            for (var source : GRAMMARS) {
                checked += walk(Grammar.gbnf(source), vocabulary, random, 12, "seed " + seed + " " + source);
            }
        }
        assertTrue(checked > 1000, checked + " masks");
    }

    @Test
    void isExactForVocabulariesOfModels() {
        long seed = new Random().nextLong();
        System.out.println("MaskTest seed " + seed);
        var random = new Random(seed);
        for (var name : List.of("llama-spm", "gpt-2", "qwen2")) {
            var vocabulary = GrammarVocabulary.of(Vocabularies.vendored(name));
            for (var source : GRAMMARS) {
                walk(Grammar.gbnf(source), vocabulary, random, 8, "seed " + seed + " " + name + " " + source);
            }
        }
    }

    @Test
    void holdsATextsOwnTokensAllTheWay() throws IOException {
        var vocabulary = Vocabularies.vendored("llama-bpe");
        var grammar = Grammar.gbnf(Files.readString(Vocabularies.upstream().resolve("grammars/json.gbnf")));
        var constraint = grammar.constraint(vocabulary);
        for (int token : vocabulary.tokenize("{\"name\": \"Zoë 語 \\\"q\\\"\", \"list\":[1,-2.5e3,true, null], \"o\":{}}", false, false)) {
            assertTrue(constraint.mask().get(token), vocabulary.text(token) + " " + constraint);
            constraint.accept(token);
        }
        assertTrue(constraint.complete());
        constraint.accept(vocabulary.endOfGeneration()[0]);
        assertTrue(constraint.ended());
        assertTrue(constraint.mask().isEmpty());
    }

    @Test
    void goesBackAndForksWithoutATrace() {
        var random = new Random(7);
        var vocabulary = Vocabularies.synthetic(random, "ab\"\\{}[]:, 01", 300);
        var constraint = Grammar.gbnf(JSON).constraint(vocabulary);
        var masks = new TokenMask[20];
        var states = new Object[20];
        for (int i = 0; i < 20; i++) {
            masks[i] = new TokenMask(vocabulary.size());
            masks[i].copyFrom(constraint.mask());
            states[i] = constraint.state();
            var fork = constraint.fork();
            int token = choose(fork.mask(), vocabulary, random);
            fork.accept(token);
            assertEquals(masks[i], constraint.mask());
            constraint.accept(token);
            assertEquals(fork.state(), constraint.state());
            assertEquals(fork.mask(), constraint.mask());
        }
        for (int i = 19; i >= 0; i -= 3) {
            constraint.rollback(i == 19 ? 1 : 3);
            assertEquals(masks[i], constraint.mask());
            assertEquals(states[i], constraint.state());
        }
        assertThrows(IllegalArgumentException.class, () -> constraint.rollback(100));
        assertThrows(IllegalArgumentException.class, () -> constraint.rollback(-1));
    }

    @Test
    void startsAfreshWhenStatesRunOut() {
        var random = new Random(3);
        var vocabulary = Vocabularies.synthetic(random, "ab\"\\{}[]:, 01", 300);
        var roomy = Grammar.gbnf(JSON).constraint(vocabulary);
        var tight = Grammar.gbnf(JSON, GrammarOptions.defaults().withStates(40)).constraint(vocabulary);
        for (int i = 0; i < 300; i++) {
            assertEquals(roomy.mask(), tight.mask());
            int token = choose(roomy.mask(), vocabulary, random);
            if (token < 0) {
                roomy.rollback(1);
                tight.rollback(1);
                continue;
            }
            roomy.accept(token);
            tight.accept(token);
        }
        assertEquals(roomy.tokens(), tight.tokens());
    }

    @Test
    void refusesTokensAndSaysWhatItExpected() {
        var vocabulary = GrammarVocabulary.of(new byte[][] {{'a'}, {'b'}, {'c'}, null, {'d'}}, 4);
        var constraint = Grammar.gbnf("root ::= \"a\" [bc]").constraint(vocabulary);
        constraint.accept(0);
        var before = constraint.state();
        var e = assertThrows(ConstraintException.class, () -> constraint.accept(0));
        assertEquals("token 0 \"a\" is not allowed after \"a\": expected \"b\", \"c\"", e.getMessage());
        e = assertThrows(ConstraintException.class, () -> constraint.accept(4));
        assertEquals("the text can't end after \"a\": expected \"b\", \"c\"", e.getMessage());
        for (int token : new int[] {-1, 5, Integer.MAX_VALUE}) {
            assertFalse(constraint.allows(token));
            e = assertThrows(ConstraintException.class, () -> constraint.accept(token));
            assertEquals("token " + token + " is outside the vocabulary of 5", e.getMessage());
        }
        assertEquals(before, constraint.state());
        constraint.accept(2);
        constraint.accept(4);
        e = assertThrows(ConstraintException.class, () -> constraint.accept(4));
        assertEquals("token 4 after the end of the text", e.getMessage());
    }

    @Test
    void isEmptyWhereTheVocabularyHasNoToken() {
        var vocabulary = GrammarVocabulary.of(new byte[][] {{'a'}, {'b'}, "</s>".getBytes(StandardCharsets.UTF_8)}, 2);
        var constraint = Grammar.gbnf("root ::= \"ax\"").constraint(vocabulary);
        constraint.accept(0);
        assertTrue(constraint.mask().isEmpty());
        assertFalse(constraint.complete());
    }

    @Test
    void allowsTheOnlyTokenAndKnowsTheForcedText() {
        var pieces = new byte[300][];
        for (int b = 0; b < 256; b++) {
            pieces[b] = new byte[] {(byte) b};
        }
        pieces[299] = new byte[] {'x'};
        var vocabulary = GrammarVocabulary.of(pieces, 299);
        var constraint = Grammar.gbnf("root ::= \"größe: \" [0-9]").constraint(vocabulary);
        assertEquals("größe: ", constraint.forcedText());
        assertEquals('g', constraint.mask().only());
        for (byte b : "größe: ".getBytes(StandardCharsets.UTF_8)) {
            assertEquals(b & 0xff, constraint.mask().only());
            constraint.accept(b & 0xff);
        }
        assertEquals("", constraint.forcedText());
        assertEquals(10, constraint.mask().cardinality());
        constraint.accept('7');
        assertEquals(299, constraint.mask().only());
    }

    @Test
    void takesNamedTokensForWhatTheyAre() {
        var pieces = new byte[][] {{'a'}, {'b'}, "<think>".getBytes(StandardCharsets.UTF_8), null, null, {'!'}};
        var vocabulary = GrammarVocabulary.of(pieces, 5);
        var constraint = Grammar.gbnf("root ::= <think> (!<[3]>)* <[3]> [ab]").constraint(vocabulary);
        assertEquals(2, constraint.mask().only());
        constraint.accept(2);
        assertEquals(new HashSet<>(List.of(0, 1, 2, 3, 4)), tokens(constraint.mask()));
        constraint.accept(4);
        constraint.accept(2);
        constraint.accept(3);
        assertEquals(new HashSet<>(List.of(0, 1)), tokens(constraint.mask()));
        constraint.accept(1);
        assertEquals(5, constraint.mask().only());

        var e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= \"a\"\n  <[6]>".replace("\n",
                "")).constraint(vocabulary));
        assertEquals("line 1, column 15: token 6 is outside the vocabulary of 6", e.getMessage());
        e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= <nope>").constraint(vocabulary));
        assertTrue(e.getMessage().startsWith("line 1, column 10: the vocabulary has no token spelled <nope>"), e.getMessage());
        e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= <[5]>").constraint(vocabulary));
        assertTrue(e.getMessage().contains("token 5 ends the generation"), e.getMessage());
    }

    private static HashSet<Integer> tokens(TokenMask mask) {
        var tokens = new HashSet<Integer>();
        for (int t = mask.next(0); t >= 0; t = mask.next(t + 1)) {
            tokens.add(t);
        }
        return tokens;
    }

    @Test
    void sleepsUntilATriggerShowsUpWhateverTheTokens() {
        long seed = new Random().nextLong();
        System.out.println("MaskTest seed " + seed);
        var random = new Random(seed);
        for (int round = 0; round < 30; round++) {
            var vocabulary = Vocabularies.synthetic(random, "<<call>>[]01,x", 400);
            int n = vocabulary.size();
            var grammar = Grammar.gbnf("root ::= \"[\" [01]+ \"]\"")
                    .lazy(Trigger.after("<call>"), Trigger.after("<<c>"), Trigger.at("[0"), Trigger.after(n - 2));
            var constraint = grammar.constraint(vocabulary);
            assertTrue(constraint.asleep() && constraint.complete());
            for (int i = 0; i < 15 && !constraint.ended(); i++) {
                assertExact(constraint, vocabulary, "seed " + seed);
                int token = i == 12 ? n - 2 : choose(constraint.mask(), vocabulary, random);
                if (token < 0 || !constraint.allows(token)) {
                    break;
                }
                constraint.accept(token);
                if (constraint.asleep()) {
                    // nothing that was said so far holds a trigger, as far as no control token cut it
                    var text = new StringBuilder();
                    for (int t : constraint.tokens()) {
                        text.append(new String(vocabulary.bytes(t), StandardCharsets.ISO_8859_1));
                    }
                    assertFalse(text.toString().contains("<call>") || text.toString().contains("[0"), text.toString());
                }
            }
        }
        var e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= \"a\"").lazy(Trigger.at("b"))
                .constraint(GrammarVocabulary.of(new byte[][] {{'a'}})));
        assertTrue(e.getMessage().startsWith("no text of the grammar begins with its trigger \"b\""), e.getMessage());
    }

    @Test
    void nestsToItsLimitAndSaysSo() {
        var pieces = new byte[257][];
        for (int b = 0; b < 256; b++) {
            pieces[b] = new byte[] {(byte) b};
        }
        pieces[256] = "[[[[".getBytes(StandardCharsets.UTF_8);
        var vocabulary = GrammarVocabulary.of(pieces);
        var constraint = Grammar.gbnf("root ::= \"[\" root* \"]\"", GrammarOptions.defaults().withDepth(6)).constraint(vocabulary);
        while (constraint.mask().get('[')) {
            constraint.accept('[');
        }
        assertEquals(']', constraint.mask().only());
        var e = assertThrows(ConstraintException.class, () -> constraint.accept(256));
        assertTrue(e.getMessage().contains("nests as deep as the limit of 6"), e.getMessage());
        assertTrue(constraint.allows(']'));
    }
}
