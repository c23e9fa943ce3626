package io.github.panamallama.examples.cli;

import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.regex.Pattern;

/**
 * A place in a file as {@code FILE[:LINE[:COL]]}. Lines and columns count from 1; a column counts characters (code points) and
 * is the place before that character.
 *
 * @param file   the file
 * @param line   line, or 0 for the end of the file
 * @param column column, or 0 for the end of the line
 */
record Place(Path file, int line, int column) {
    private static final Pattern SUFFIX = Pattern.compile("(.+?):(-?\\d+)(?::(-?\\d+))?:?");

    /** The text on both sides of a place. */
    record Cut(String prefix, String suffix) { }

    /** @throws IllegalArgumentException when LINE or COL is no number that counts from 1, or {@code argument} is no path */
    static Place parse(String argument) {
        try {
            var whole = Path.of(argument);
            var match = SUFFIX.matcher(argument);
            if (Files.exists(whole) || !match.matches()) {
                return new Place(whole, 0, 0);      // a name with colons in it is a name first
            }
            return new Place(Path.of(match.group(1)), number(match.group(2), argument),
                    match.group(3) == null ? 0 : number(match.group(3), argument));
        } catch (InvalidPathException e) {
            throw new IllegalArgumentException(argument + " is not a path: " + e.getReason());
        }
    }

    private static int number(String digits, String argument) {
        var number = new BigInteger(digits);
        if (number.signum() <= 0) {
            throw new IllegalArgumentException(argument + ": lines and columns count from 1");
        }
        if (number.bitLength() >= Integer.SIZE) {
            throw new IllegalArgumentException(argument + ": no file has a line or column " + number);
        }
        return number.intValue();
    }

    /** @throws IllegalArgumentException when {@code text} has no such place */
    Cut cut(String text) {
        if (line == 0) {
            return new Cut(text, "");
        }
        int start = 0;
        for (int i = 1; i < line; i++) {
            int end = text.indexOf('\n', start);
            if (end < 0) {
                throw new IllegalArgumentException(file + " has " + i + (i == 1 ? " line" : " lines") + "; there is no line " + line);
            }
            start = end + 1;
        }
        int end = text.indexOf('\n', start);
        end = end < 0 ? text.length() : end;
        if (end > start && text.charAt(end - 1) == '\r') {
            end--;
        }
        int at = end;
        if (column > 0) {
            int length = text.codePointCount(start, end);
            if (column > length + 1) {
                throw new IllegalArgumentException(
                        "line " + line + " of " + file + " has " + length + " characters; there is no column " + column);
            }
            at = text.offsetByCodePoints(start, column - 1);
        }
        return new Cut(text.substring(0, at), text.substring(at));
    }
}
