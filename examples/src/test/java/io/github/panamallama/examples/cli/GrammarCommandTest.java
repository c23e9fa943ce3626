package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GrammarCommandTest {
    @TempDir
    Path folder;

    private Cli.Result check(String name, String source, String... more) throws IOException {
        var args = new ArrayList<>(List.of("grammar", "check", Files.writeString(folder.resolve(name), source).toString()));
        args.addAll(Arrays.asList(more));
        return Cli.run(args.toArray(String[]::new));
    }

    @Test
    void aGoodGrammarIsGood() throws IOException {
        assertEquals(new Cli.Result(0, "good\n", ""), check("g.gbnf", "root ::= \"a\"+"));
        assertEquals(new Cli.Result(0, "good\n", ""), check("s.json", "{\"type\": \"string\"}"));
        assertEquals(new Cli.Result(0, "good\n", ""), check("r.txt", "a|b\n", "--type", "regex"));
    }

    @Test
    void whatIsWrongIsSaidWithItsPlace() throws IOException {
        var gbnf = check("g.gbnf", "root ::= \"a\"\nother ::= [x");
        assertEquals(1, gbnf.code());
        assertTrue(gbnf.err().contains("g.gbnf: line 2, column "), gbnf.err());
        assertEquals("", gbnf.out());
        var schema = check("s.json", "{\"properties\": {\"a\": {\"pattern\": \"(?=x)\\\\1\"}}}", "--json");
        assertEquals(1, schema.code());
        assertFalse(schema.json().get("good").asBoolean());
        assertEquals("/properties/a/pattern", schema.json().get("pointer").asString());
        var json = check("g.gbnf", "root ::= other", "--json").json();
        assertFalse(json.get("good").asBoolean());
        assertTrue(json.get("error").asString().contains("other"), json.toString());
        assertEquals(1, check("s.json", "{\"type\": ").code());
        assertEquals(1, check("s.json", "{\"not\": {}}").code());
    }

    @Test
    void aTextIsAcceptedOrRefusedAtAPlace() throws IOException {
        var schema = "{\"type\": \"object\", \"required\": [\"n\"], \"properties\": {\"n\": {\"type\": \"integer\", \"minimum\": 0}}}";
        assertEquals(new Cli.Result(0, "accepted\n", ""), check("s.json", schema, "--accept", "{\"n\":12}"));
        var refused = check("s.json", schema, "--accept", "{\"n\":-1}");
        assertEquals(1, refused.code());
        assertEquals("refused: line 1, column 6 (byte 5): '-' can't stand there\n", refused.out());
        var part = check("s.json", schema, "--accept", "{\"n\":1", "--json");
        assertEquals(1, part.code());
        assertTrue(part.json().get("good").asBoolean());
        assertFalse(part.json().get("accepted").asBoolean());
        assertTrue(part.json().get("refused").asString().contains("not whole"));
        var text = Files.writeString(folder.resolve("text"), "é\nüx");
        var lines = check("g.gbnf", "root ::= \"é\\nü\" [0-9]", "--accept-file", text.toString());
        assertEquals("refused: line 2, column 2 (byte 5): 'x' can't stand there\n", lines.out());
        assertEquals(0, check("w.json", schema, "--accept", "{ \"n\" : 1 }", "--whitespace", "1").code());
        assertEquals(1, check("w.json", schema, "--accept", "{ \"n\" : 1 }").code());
    }
}
