package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.TokenMask;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** However the tokens are chosen, a text with room for n tokens is whole after at most n of them. */
class EndingConstraintTest {
    private static final String EVERY_KIND = """
            {"type": "object", "required": ["name", "tags", "size", "next"], "properties": {
              "name": {"type": "string", "minLength": 3}, "note": {"type": "string"}, "size": {"type": "integer", "minimum": 1000},
              "tags": {"type": "array", "minItems": 2, "items": {"enum": ["red", "green", "blue"]}, "uniqueItems": true},
              "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}""";
    private static final String UNIQUE_KINDS = """
            {"type": "array", "minItems": 4, "uniqueItems": true, "prefixItems": [{"type": "string", "minLength": 1}, {"type": "integer"}],
             "items": {"type": ["string", "number", "null"]}, "contains": {"type": "number"}, "minContains": 3}""";
    private static final String MANY_KEYS = keys(24);

    private static String keys(int n) {
        var names = new StringBuilder();
        var required = new StringBuilder();
        for (int i = 0; i < n; i++) {
            names.append(i == 0 ? "" : ",").append("\"key").append(i).append("\":{\"type\":\"boolean\"}");
            required.append(i == 0 ? "" : ",").append("\"key").append(i).append('"');
        }
        return "{\"type\":\"object\",\"properties\":{" + names + "},\"required\":[" + required + "]}";
    }

    private static List<Grammar> grammars() {
        return List.of(
                Grammar.json(), Grammar.json(JsonOptions.DEFAULT.whitespace(2)),
                Grammar.jsonSchema(EVERY_KIND), Grammar.jsonSchema(EVERY_KIND, JsonOptions.DEFAULT.order(JsonOptions.Order.SCHEMA)),
                Grammar.jsonSchema(MANY_KEYS), Grammar.jsonSchema("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":20}}"),
                Grammar.jsonSchema("{\"type\":\"object\",\"minProperties\":3}"), Grammar.jsonSchema("{\"type\":\"array\",\"minItems\":7}"),
                Grammar.jsonSchema("{\"type\":\"array\",\"minItems\":3,\"uniqueItems\":true,\"items\":{\"type\":\"string\"}}"),
                Grammar.jsonSchema(UNIQUE_KINDS, JsonOptions.DEFAULT.whitespace(1)),
                Grammar.jsonSchema("{\"type\":\"object\",\"minProperties\":4,\"propertyNames\":{\"maxLength\":2}}",
                        JsonOptions.DEFAULT.spelling(JsonOptions.Spelling.SHORTEST)),
                Grammar.gbnf("root ::= \"(\" root \")\" root | \"x\"{3} | \"\""),
                Grammar.gbnf("root ::= \"a\" | \"b\" [0-9]{40}"), Grammar.gbnf("root ::= ([a-z]+ \"é\" \" \"?){2,}"),
                Grammar.regex("\"([^\"\\\\]|\\\\u[0-9a-f]{4})*\"(,\\d{3})*!"), Grammar.choices(List.of("red", "ultramarine", "ult")));
    }

    /** A random allowed token; the end of the text only if there is no other. */
    private static int choose(TokenMask mask, GrammarVocabulary vocabulary, Random random) {
        int from = random.nextInt(vocabulary.size());
        int token = mask.next(from);
        token = token < 0 || vocabulary.isEndOfGeneration(token) ? mask.next(0) : token;
        return token >= 0 && vocabulary.isEndOfGeneration(token) && mask.cardinality() > 1 ? -2 : token;
    }

    private static void walk(Grammar grammar, GrammarVocabulary vocabulary, int room, Random random, String place) {
        var plain = grammar.constraint(vocabulary);
        var constraint = plain.within(room);
        var text = new ByteArrayOutputStream();
        for (int i = 0; i < room; i++) {
            int token = choose(constraint.mask(), vocabulary, random);
            assertTrue(token != -1, place + ": nothing is allowed after " + text);
            if (token < 0 || vocabulary.isEndOfGeneration(token)) {
                break;
            }
            assertTrue(plain.mask().get(token), place + ": more is allowed than by the grammar alone");
            assertTrue(constraint.allows(token), place);
            constraint.accept(token);
            plain.accept(token);
            text.writeBytes(vocabulary.bytes(token));
        }
        assertTrue(constraint.complete(), () -> place + ": not whole within " + room + ": " + text.toString(StandardCharsets.UTF_8));
        assertTrue(grammar.accepts(text.toString(StandardCharsets.UTF_8)), () -> place + ": " + text.toString(StandardCharsets.UTF_8));
        var mask = constraint.mask();
        assertTrue(mask.get(vocabulary.size() - 1), place + ": the end");
    }

    private static int least(Grammar grammar, GrammarVocabulary vocabulary) {
        return grammar.constraint(vocabulary).endingCost();
    }

    @Test
    void whateverIsChosenTheTextIsWholeInTime() {
        long seed = Long.getLong("panamallama.seed", new Random().nextLong());
        System.out.println("EndingConstraintTest seed " + seed);
        var random = new Random(seed);
        var vocabulary = Vocabularies.synthetic(random, "abcdefknorstuxyz01239\"\":,,{}[]é ", 700);
        for (var grammar : grammars()) {
            int least = least(grammar, vocabulary);
            for (int room : new int[] {least, least + 1, least + 2, least + 5, least + 12, least + 60}) {
                for (int i = 0; i < 12; i++) {
                    walk(grammar, vocabulary, Math.max(1, room), random, "seed " + seed + ", " + grammar.source() + ", room " + room);
                }
            }
        }
    }

    @Test
    void realVocabulariesToo() {
        long seed = Long.getLong("panamallama.seed", new Random().nextLong());
        System.out.println("EndingConstraintTest seed " + seed);
        var random = new Random(seed);
        for (var name : List.of("qwen2", "llama-spm")) {
            var vocabulary = GrammarVocabulary.of(Vocabularies.vendored(name));
            for (var grammar : grammars()) {
                int least = least(grammar, vocabulary);
                for (int room : new int[] {least, least + 3, least + 20}) {
                    whole(grammar, vocabulary, room, random, "seed " + seed + ", " + name + ", " + grammar.source() + ", room " + room);
                }
            }
        }
    }

    private static void whole(Grammar grammar, GrammarVocabulary vocabulary, int room, Random random, String place) {
        var constraint = grammar.constraint(vocabulary).within(room);
        for (int i = 0; i < room; i++) {
            int token = choose(constraint.mask(), vocabulary, random);
            assertTrue(token != -1, place);
            if (token < 0 || vocabulary.isEndOfGeneration(token)) {
                break;
            }
            constraint.accept(token);
        }
        assertTrue(constraint.complete(), place + ": " + constraint);
    }

    @Test
    void withPlentyOfRoomNothingIsRefused() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "abc\"{}:,", 100);
        var plain = Grammar.json().constraint(vocabulary);
        var constraint = plain.within(1000);
        for (byte token : "[{\"a\":[[\"bcbcbc\"]],\"c\":{}},\"".getBytes(StandardCharsets.US_ASCII)) {
            assertEquals(plain.mask(), constraint.mask());
            plain.accept(token);
            constraint.accept(token);
        }
    }

    @Test
    void aBranchThatTakesTooLongIsNotTaken() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "q", 0);
        var grammar = Grammar.gbnf("root ::= \"a\" | \"b\" [0-9]{40}");
        assertFalse(grammar.constraint(vocabulary).within(40).allows('b'));
        assertTrue(grammar.constraint(vocabulary).within(41).allows('b'));
        assertTrue(grammar.constraint(vocabulary).within(40).allows('a'));
    }

    @Test
    void tooLittleRoomForAnyTextIsAnErrorThatTellsHowMuchIsNeeded() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "q", 0);
        var error = assertThrows(ConstraintException.class, () -> Grammar.regex("[a-z]{12}").constraint(vocabulary).within(11));
        assertTrue(error.getMessage().contains("12 tokens") && error.getMessage().contains("room for 11"), error.getMessage());
        var missing = GrammarVocabulary.of(new byte[][] {{'a'}, {}}, 1);
        var never = assertThrows(ConstraintException.class, () -> Grammar.regex("a|ab*c").constraint(missing).fork().within(0));
        assertTrue(never.getMessage().contains("room for 0"), never.getMessage());
        assertThrows(ConstraintException.class, () -> Grammar.regex("b").constraint(missing).within(5));
    }

    /** Each of its parts holds all names before it: looking for a short text among them would take minutes. */
    @Test
    void aSearchForAShortTextThatTakesTooLongIsAnError() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "q", 0);
        var grammar = Grammar.jsonSchema("""
                {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"minProperties": 311111111111111111111111}}}""");
        var error = assertThrows(ConstraintException.class, () -> grammar.constraint(vocabulary).within(20));
        assertTrue(error.getMessage().contains("no short text of the grammar was found"), error.getMessage());
    }

    @Test
    void forksAndRollbacksKeepTheirOwnRoom() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "q", 0);
        Constraint constraint = Grammar.regex("\"[a-z]*\"").constraint(vocabulary).within(4);
        constraint.accept('"');
        var fork = constraint.fork();
        assertEquals(constraint.state(), fork.state());
        for (int b : "ab".getBytes(StandardCharsets.US_ASCII)) {
            constraint.accept(b);
        }
        assertEquals('"', constraint.mask().only());
        assertThrows(ConstraintException.class, () -> constraint.accept('c'));
        assertTrue(fork.allows('c'));
        constraint.rollback(1);
        assertTrue(constraint.allows('c'));
        constraint.rollback(2);
        assertEquals('"', constraint.mask().only());
        assertThrows(IllegalArgumentException.class, () -> constraint.rollback(1));
        assertSame(constraint.mask(), constraint.mask());
    }

    @Test
    void aLazyGrammarIsLedToItsEndOnceItIsAwake() {
        var vocabulary = Vocabularies.synthetic(new Random(1), "q", 0);
        var constraint = Grammar.regex("[a-z]{3}>").lazy(Trigger.after("<")).constraint(vocabulary).within(6);
        constraint.accept('x');
        assertTrue(constraint.allows('<'));
        constraint.accept('x');
        assertFalse(constraint.allows('<'), "four more tokens would be needed, there is room for three");
        assertTrue(constraint.allows('y'));
        constraint.rollback(1);
        constraint.accept('<');
        for (int b : "abc".getBytes(StandardCharsets.US_ASCII)) {
            constraint.accept(b);
        }
        assertEquals('>', constraint.mask().only());
    }

    @Test
    void namedTokensCountAsOne() {
        var pieces = new byte[260][];
        Arrays.setAll(pieces, i -> i < 256 ? new byte[] {(byte) i} : new byte[0]);
        var vocabulary = GrammarVocabulary.of(pieces, 259);
        var grammar = Grammar.gbnf("root ::= <[257]> [a-z]* <[258]>");
        var constraint = grammar.constraint(vocabulary).within(3);
        assertEquals(257, constraint.mask().only());
        constraint.accept(257);
        assertTrue(constraint.allows('a'));
        constraint.accept('a');
        assertEquals(258, constraint.mask().only());
        assertThrows(ConstraintException.class, () -> grammar.constraint(vocabulary).within(1));
    }
}
