package io.github.panamallama.sampling.grammar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.sampling.ConstraintException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What notations mean, and what is said about grammars that are wrong. */
class GrammarTest {
    private static void accepts(String source, String... texts) {
        var grammar = Grammar.gbnf(source);
        for (var text : texts) {
            assertTrue(grammar.accepts(text), source + " and \"" + text + '"');
        }
    }

    private static void refuses(String source, String... texts) {
        var grammar = Grammar.gbnf(source);
        for (var text : texts) {
            assertFalse(grammar.accepts(text), source + " and \"" + text + '"');
        }
    }

    @Test
    void readsEverythingThatGbnfHas() {
        accepts("root ::= \"a\\x62\\u00e9\\U0001F600\\t\\r\\n\\\\\\\"\\[\\]\\-\"", "abé😀\t\r\n\\\"[]-");
        accepts("root ::= [a-c\\]é-ü-]+ [^x-z\\n] .", "b]é-w\n", "cö語");
        refuses("root ::= [a-c\\]é-ü-]+ [^x-z\\n] .", "bxa", "dw.", "bw");
        accepts("root ::= \"a\"? [b]* \"c\"+ \"d\"{2} \"e\"{1,} \"f\"{0,2} (\"g\" \"h\"){ 2 , 3 }", "cddeghgh", "abbccddeeeffghghgh");
        refuses("root ::= \"a\"{2,3}", "a", "aaaa");
        accepts("# a comment\n\n  root ::= # here too\n  one | # and here\n  two-2 # end\r\none::=\"1\"\rtwo-2 ::= (\n \"2\"\n | # in a group\n \"3\" )",
                "1", "2", "3");
        accepts("root ::= \"ab\"{2} | \"c\" \"d\"*", "abab", "c", "cddd");
        accepts("root ::= \"\" | [] \"x\" | [^] \"y\"", "", "x", "y");
        accepts("root ::= a\na ::= \"1\"\na ::= \"2\"", "2");
        refuses("root ::= a\na ::= \"1\"\na ::= \"2\"", "1");
        accepts("root ::= |\"a\"|", "", "a");
        accepts("root ::= \"a\"{0} \"b\"", "b");
        accepts("root ::= [a-\\UFFFFFFFF] [\\U00110000b]", "\u00ffb", "ab");
        accepts("root ::= [^\\ud800-\\udfff]", "a", "😀");
        accepts("root ::= (\"a\"? \"b\"?)* \"c\"{2,3000}", "abbacc", "c".repeat(3000));
        refuses("root ::= (\"a\"? \"b\"?)* \"c\"{2,3000}", "c".repeat(3001));
    }

    @Test
    void isMadeAgainFromItsDefinition() {
        var options = GrammarOptions.defaults().withDepth(77);
        var json = JsonOptions.DEFAULT.order(JsonOptions.Order.SCHEMA).document("urn:a", "{\"type\":\"integer\"}");
        for (var grammar : List.of(Grammar.gbnf("root ::= \"a\"+", options), Grammar.regex("[0-9]{2}", options),
                Grammar.choices(List.of("a\nb", "c"), options), Grammar.jsonSchema("{\"$ref\":\"urn:a\"}", json, options),
                Grammar.regex("[a-z]+").lazy(Trigger.after("x"), Trigger.at(7)))) {
            var again = Grammar.of(grammar.definition());
            assertEquals(grammar.definition(), again.definition());
            assertEquals(grammar.source(), again.source());
            assertEquals(grammar.options(), again.options());
            for (var text : new String[] {"a", "aa", "12", "123", "a\nb", "c", "word"}) {
                assertEquals(grammar.accepts(text), again.accepts(text), text);
            }
        }
        assertThrows(IllegalArgumentException.class, () -> new GrammarDefinition(GrammarDefinition.Notation.GBNF, List.of(), null,
                options, List.of()));
        assertThrows(IllegalArgumentException.class, () -> new GrammarDefinition(GrammarDefinition.Notation.JSON_SCHEMA, List.of("{}"),
                null, options, List.of()));
    }

    @Test
    void matchesTheWholeText() {
        var number = Grammar.regex("-?(0|[1-9]\\d*)(\\.\\d+)?");
        assertTrue(number.accepts("-12.50"));
        assertFalse(number.accepts("12."));
        assertEquals(2, number.prefix("01".getBytes(StandardCharsets.UTF_8)) + 1);
        var choices = Grammar.choices(List.of("red", "green", "großartig", "red"));
        assertTrue(choices.accepts("großartig"));
        assertFalse(choices.accepts("re"));
        assertEquals(2, choices.prefix("reX".getBytes(StandardCharsets.UTF_8)));
    }

    static Object[][] mistakes() {
        return new Object[][] {
            {"", 1, 1, "expected a rule"},
            {"# nothing\n", 2, 1, "expected a rule"},
            {"foo ::= \"a\"", 1, 1, "no rule root"},
            {"root = \"a\"", 1, 6, "expected ::= after the rule's name root, found \"=\""},
            {"root ::= \"a\"\n ::= b", 2, 2, "expected a rule's name, found \":\""},
            {"root ::= \"a\" ]", 1, 14, "expected a string, a class, a rule's name, a group, | or the end of the line, found \"]\""},
            {"root ::= \"a\"\n  | \"b\"", 2, 3, "expected a rule's name, found \"|\""},
            {"root ::= \"abc", 1, 14, "expected the end of the string of line 1, column 10, found the end of the grammar"},
            {"root ::= [abc", 1, 14, "expected the end of the character class of line 1, column 10"},
            {"root ::= \"\\q\"", 1, 12, "expected one of x u U t r n"},
            {"root ::= \"\\x4\"", 1, 14, "expected 2 hexadecimal digits, found \"\"\""},
            {"root ::= (\"a\"\n  \"b\" \nx ::= \"c\"", 3, 3, "expected ) to close the group of line 1, column 10, found \":\""},
            {"root ::= *", 1, 10, "expected something to repeat before *, found nothing"},
            {"root ::= \"\"*", 1, 12, "expected something to repeat before *, found an empty item"},
            {"root ::= \"a\"{2", 1, 15, "expected , or } in a repetition, found the end of the grammar"},
            {"root ::= \"a\"{x}", 1, 14, "expected a number in a repetition, found \"x\""},
            {"root ::= \"a\"{3,1}", 1, 13, "a repetition of at least 3 and at most 1"},
            {"root ::= \"a\"{99999999999}", 1, 14, "a repetition count of 11 digits"},
            {"root ::= \"a\"\r\n\r\nb ::= näme", 3, 8, "expected a string"},
            {"root ::= other-rule \"x\"", 1, 10, "rule other-rule is used and not defined"},
            {"root ::= <[12]", 1, 15, "expected > after ], found the end of the grammar"},
            {"root ::= <think", 1, 16, "expected > to close the token of line 1, column 10"},
            {"root ::= !x", 1, 11, "expected < after !"},
            {"root ::= root \"a\" | \"b\"", 1, 1, "left recursion: root begins with root"},
            {"root ::= a\na ::= \"x\"? b\nb ::= c* a \"y\"\nc ::= \"z\"", 1, 10, "left recursion: a begins with b begins with a"},
            {"root ::= \"a\"\nunused ::= unused", 2, 1, "left recursion: unused begins with unused"},
        };
    }

    @ParameterizedTest
    @MethodSource("mistakes")
    void saysWhereAGrammarIsWrongAndWhatItExpected(String source, int line, int column, String message) {
        var e = assertThrows(GrammarException.class, () -> Grammar.gbnf(source));
        assertTrue(e.getMessage().contains(message), e.getMessage());
        assertEquals(line + ":" + column, e.line() + ":" + e.column(), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"root ::= \"a\" root", "root ::= [z-a]", "root ::= a b\na ::= \"x\"\nb ::= \"y\" b", "root ::= \"\\ud800\""})
    void refusesGrammarsThatMatchNothing(String source) {
        var e = assertThrows(GrammarException.class, () -> Grammar.gbnf(source));
        assertTrue(e.getMessage().contains("matches no text at all"), e.getMessage());
    }

    @Test
    void refusesWhatIsBeyondItsLimits() {
        var e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= " + "(".repeat(1_000_000)));
        assertTrue(e.getMessage().contains("groups nested deeper than 200"), e.getMessage());
        e = assertThrows(GrammarException.class, () -> Grammar.gbnf("root ::= \"" + "a".repeat(5_000_000) + '"'));
        assertTrue(e.getMessage().contains("longer than the limit of 4194304"), e.getMessage());
        assertThrows(GrammarException.class, () -> Grammar.choices(List.of()));
        e = assertThrows(GrammarException.class, () -> Grammar.regex("a(?<=b)"));
        assertTrue(e.getMessage().contains("look-behind at char 1"), e.getMessage());

        // as many readings of one text as rules
        var source = new StringBuilder("root ::= a0");
        for (int i = 1; i < 60; i++) {
            source.append(" | a").append(i);
        }
        for (int i = 0; i < 60; i++) {
            source.append("\na").append(i).append(" ::= \"x\" a").append(i).append(" \"").append(i).append("\" | \"y\"");
        }
        assertTrue(Grammar.gbnf(source.toString()).accepts("xxy77"));
        e = assertThrows(GrammarException.class, () -> Grammar.gbnf(source.toString(), GrammarOptions.defaults().withReadings(20)));
        assertTrue(e.getMessage().contains("more than 20 readings of the text at once"), e.getMessage());
    }

    private static GrammarVocabulary bytes() {
        var pieces = new byte[257][];
        for (int b = 0; b < 256; b++) {
            pieces[b] = new byte[] {(byte) b};
        }
        return GrammarVocabulary.of(pieces, 256);
    }

    @Test
    void readsLargeGrammars() {
        // a megabyte of rules in a chain, of choices in one rule, of one string
        var chain = new StringBuilder("root ::= r0\n");
        for (int i = 0; chain.length() < 1_000_000; i++) {
            chain.append("r").append(i).append(" ::= \"").append(i % 10).append("\" r").append(i + 1).append(" | \"end\"\n");
        }
        int last = chain.lastIndexOf("r");
        chain.append(chain.substring(last, chain.indexOf(" ", last))).append(" ::= \"x\"\n");
        accepts(chain.toString(), "0123456789012end", "end");
        var names = new ArrayList<String>();
        for (int i = 0; i < 60_000; i++) {
            names.add("name-" + Integer.toString(i * 7919, 36));
        }
        var choices = "root ::= \"" + String.join("\" | \"", names) + '"';
        accepts(choices, names.get(777), names.getLast());
        refuses(choices, "name-", names.get(5) + "?");
        assertTrue(Grammar.choices(names).accepts(names.get(3)));
        var text = "lorem ipsum ".repeat(90_000);
        accepts("root ::= \"" + text + '"', text);
        // a left-recursive circle of many rules is found too
        var circle = new StringBuilder();
        for (int i = 0; i < 20_000; i++) {
            circle.append(i == 0 ? "root" : "r" + i).append(" ::= r").append(i + 1).append(" \"x\" | \"y\"\n");
        }
        circle.append("r20000 ::= root\n");
        assertTrue(assertThrows(GrammarException.class, () -> Grammar.gbnf(circle.toString())).getMessage().contains("left recursion"));
    }

    @Test
    void doesNotHangOnHardExpressions() {
        var constraint = Grammar.regex("(a|b)*a(a|b){18}(a|b)*c",
                GrammarOptions.defaults().withStates(2000).withMaskTime(Duration.ofMillis(500)))
                .constraint(bytes());
        var random = new Random(5);
        try {
            for (int i = 0; i < 50_000; i++) {
                constraint.accept('a' + random.nextInt(2));
                assertTrue(constraint.mask().get('a'));
            }
        } catch (ConstraintException e) {
            assertTrue(e.getMessage().contains("states") || e.getMessage().contains("took longer"), e.getMessage());
        }
    }

    @Test
    void isSharedByThreads() throws Exception {
        var grammar = Grammar.gbnf("root ::= \"{\" (root (\",\" root)*)? \"}\" | [a-z]{1,8}");
        var vocabulary = Vocabularies.synthetic(new Random(1), "{}{},,abc", 500);
        Callable<List<Integer>> walk = () -> {
            var random = new Random(9);
            var constraint = grammar.constraint(vocabulary);
            var sizes = new ArrayList<Integer>();
            for (int i = 0; i < 60; i++) {
                var mask = constraint.mask();
                sizes.add(mask.cardinality());
                int token = mask.next(random.nextInt(mask.size()));
                token = token < 0 ? mask.next(0) : token;
                if (vocabulary.isEndOfGeneration(token)) {
                    break;
                }
                constraint.accept(token);
            }
            return sizes;
        };
        var expected = walk.call();
        try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
            for (var result : threads.invokeAll(Collections.nCopies(16, walk))) {
                assertEquals(expected, result.get());
            }
        }
    }
}
