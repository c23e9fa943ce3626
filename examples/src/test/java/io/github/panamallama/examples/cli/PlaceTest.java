package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PlaceTest {
    private static Place.Cut cut(String place, String text) {
        return Place.parse(place).cut(text);
    }

    @Test
    void aFileAloneMeansItsEnd() {
        assertEquals(new Place(Path.of("Foo.java"), 0, 0), Place.parse("Foo.java"));
        assertEquals(new Place.Cut("a\nb\n", ""), cut("Foo.java", "a\nb\n"));
    }

    @Test
    void aLineMeansItsEnd() {
        assertEquals(new Place.Cut("one\ntwo", "\nthree"), cut("f:2", "one\ntwo\nthree"));
        assertEquals(new Place.Cut("one\r\ntwo", "\r\nthree"), cut("f:2", "one\r\ntwo\r\nthree"));
        assertEquals(new Place.Cut("one\n", ""), cut("f:2", "one\n"));
    }

    @Test
    void aColumnIsThePlaceBeforeThatCharacter() {
        assertEquals(new Place.Cut("one\n", "two\n"), cut("f:2:1", "one\ntwo\n"));
        assertEquals(new Place.Cut("one\ntw", "o\n"), cut("f:2:3", "one\ntwo\n"));
        assertEquals(new Place.Cut("one\ntwo", "\n"), cut("f:2:4", "one\ntwo\n"));
    }

    @Test
    void columnsCountCharactersAndNotUtf16Units() {
        assertEquals(new Place.Cut("\uD83D\uDE00", "x"), cut("f:1:2", "\uD83D\uDE00x"));
    }

    @Test
    void aTrailingColonAsCompilersPrintItIsAccepted() {
        assertEquals(new Place(Path.of("Foo.java"), 12, 5), Place.parse("Foo.java:12:5:"));
    }

    @Test
    void aNameWithColonsIsANameFirst(@TempDir Path folder) throws Exception {
        var file = Files.createFile(folder.resolve("a:3"));
        assertEquals(new Place(file, 0, 0), Place.parse(file.toString()));
    }

    @Test
    void placesOutsideTheTextAreRefusedWithWhatThereIs() {
        assertEquals("f has 2 lines; there is no line 3", refused("f:3", "a\nb"));
        assertEquals("f has 1 line; there is no line 2", refused("f:2", ""));
        assertEquals("line 1 of f has 3 characters; there is no column 5", refused("f:1:5", "abc\n"));
        for (var place : new String[] {"f:0", "f:1:0", "f:-1", "f:1:-99999999999"}) {
            assertEquals(place + ": lines and columns count from 1", assertThrows(IllegalArgumentException.class,
                    () -> Place.parse(place)).getMessage());
        }
        assertEquals("f:2147483648: no file has a line or column 2147483648", assertThrows(IllegalArgumentException.class,
                () -> Place.parse("f:2147483648")).getMessage());
        assertEquals("f has 1 line; there is no line 2147483647", refused("f:2147483647", ""));
    }

    private static String refused(String place, String text) {
        return assertThrows(IllegalArgumentException.class, () -> cut(place, text)).getMessage();
    }
}
