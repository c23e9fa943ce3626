package io.github.panamallama.bench;

import java.util.regex.Pattern;

/** Finds the brace that closes a method. Braces in literals and comments count for nothing. */
final class MethodEnd {
    private static final Pattern SKIPPED = Pattern.compile(
            "//[^\n]*|/\\*(?s:.*?)\\*/|\"\"\"(?s:(?:\\\\.|.)*?)\"\"\"|\"(?:\\\\.|[^\"\\\\\n])*\"|'(?:\\\\.|[^'\\\\\n])*'");

    private MethodEnd() {
    }

    /** @return where in {@code body}, which begins behind the opening brace, its closing brace is; -1 if it has none */
    static int of(String body) {
        var skipped = SKIPPED.matcher(body);
        int depth = 1;
        int literal = skipped.find() ? skipped.start() : body.length();
        for (int i = 0; i < body.length(); i++) {
            if (i == literal) {
                i = skipped.end() - 1;
                literal = skipped.find() ? skipped.start() : body.length();
            } else if (body.charAt(i) == '{') {
                depth++;
            } else if (body.charAt(i) == '}' && --depth == 0) {
                return i;
            }
        }
        return -1;
    }
}
