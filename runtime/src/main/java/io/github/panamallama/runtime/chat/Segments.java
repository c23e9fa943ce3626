package io.github.panamallama.runtime.chat;

import java.util.ArrayList;
import java.util.List;

/**
 * Cuts a template into text, expressions and tags, with Jinja's whitespace rules as Hugging Face sets them: trim_blocks and lstrip_blocks
 * on, the last newline of the template dropped. jinjava's own scanner differs from them: it strips blanks before any tag, also within a
 * line.
 */
final class Segments {
    enum Kind { TEXT, EXPRESSION, TAG }

    /** @param text the text itself, or what stands between the delimiters */
    record Segment(Kind kind, String text, int line) {}

    private final String s;
    private final List<Segment> out = new ArrayList<>();
    private int at;
    private int line = 1;
    private boolean lineStarts = true;

    private Segments(String source) {
        String unix = source.replace("\r\n", "\n").replace('\r', '\n');
        s = unix.endsWith("\n") ? unix.substring(0, unix.length() - 1) : unix;
    }

    static List<Segment> of(String source) {
        var segments = new Segments(source);
        try {
            segments.run();
        } catch (Fault fault) {
            throw fault.at(segments.line);
        }
        return segments.out;
    }

    private void run() {
        while (at < s.length()) {
            int open = open(at);
            if (open < 0) {
                text(s.substring(at));
                return;
            }
            char kind = s.charAt(open + 1);
            char sign = open + 2 < s.length() ? s.charAt(open + 2) : ' ';
            boolean signed = sign == '-' || sign == '+';
            String before = s.substring(at, open);
            text(trimmed(before, sign, kind != '{'));
            advance(open + (signed ? 3 : 2));
            switch (kind) {
                case '#' -> comment();
                case '{' -> code(Kind.EXPRESSION, "}}");
                default -> {
                    int raw = rawBegin();
                    if (raw >= 0) {
                        advance(raw);
                        raw();
                    } else {
                        code(Kind.TAG, "%}");
                    }
                }
            }
            lineStarts = at > 0 && s.charAt(at - 1) == '\n';
        }
    }

    private int open(int from) {
        for (int i = s.indexOf('{', from); i >= 0 && i + 1 < s.length(); i = s.indexOf('{', i + 1)) {
            char c = s.charAt(i + 1);
            if (c == '{' || c == '%' || c == '#') {
                return i;
            }
        }
        return -1;
    }

    private String trimmed(String before, char sign, boolean block) {
        if (sign == '-') {
            return Filters.strip(before, null, false, true);
        }
        if (sign != '+' && block) {
            int start = before.lastIndexOf('\n') + 1;
            if ((start > 0 || lineStarts) && before.substring(start).isBlank()) {
                return before.substring(0, start);
            }
        }
        return before;
    }

    private void text(String text) {
        if (!text.isEmpty()) {
            out.add(new Segment(Kind.TEXT, text, line));
        }
    }

    private void advance(int to) {
        for (int i = at; i < to; i++) {
            if (s.charAt(i) == '\n') {
                line++;
            }
        }
        at = to;
    }

    /** Goes behind a closing delimiter that ends at {@code end} and the blanks that it takes along. */
    private void close(int end, boolean minus, boolean block) {
        int to = end;
        if (minus) {
            while (to < s.length() && Filters.isSpace(s.charAt(to))) {
                to++;
            }
        } else if (block && s.charAt(end - 3) != '+' && to < s.length() && s.charAt(to) == '\n') {
            to++;
        }
        advance(to);
    }

    private void comment() {
        int end = s.indexOf("#}", at);
        if (end < 0) {
            throw new Fault("comment without its closing #}");
        }
        close(end + 2, end > at && s.charAt(end - 1) == '-', true);
    }

    private void code(Kind kind, String closing) {
        int depth = 0;
        int start = at;
        int startLine = line;
        for (int i = at; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '\'' || c == '"') {
                int quote = i++;
                while (i < s.length() && s.charAt(i) != c) {
                    i += s.charAt(i) == '\\' ? 2 : 1;
                }
                if (i >= s.length()) {
                    advance(quote);
                    throw new Fault("string without its closing " + c);
                }
            } else if (depth == 0 && s.startsWith(closing, i)) {
                boolean minus = i > start && s.charAt(i - 1) == '-';
                boolean plus = kind == Kind.TAG && i > start && s.charAt(i - 1) == '+';
                out.add(new Segment(kind, s.substring(start, minus || plus ? i - 1 : i), startLine));
                close(i + 2, minus, kind == Kind.TAG);
                return;
            } else if (c == '(' || c == '[' || c == '{') {
                depth++;
            } else if (c == ')' || c == ']' || c == '}') {
                if (--depth < 0) {
                    advance(i);
                    throw new Fault("unexpected '" + c + "'");
                }
            }
        }
        throw new Fault("tag without its closing " + closing);
    }

    /** Where the text of a raw block begins if the tag here opens one, else -1. */
    private int rawBegin() {
        int i = skipBlanks(at);
        if (!s.startsWith("raw", i)) {
            return -1;
        }
        i = skipBlanks(i + 3);
        if (s.startsWith("-%}", i)) {
            return skipBlanks(i + 3);
        }
        return s.startsWith("%}", i) ? i + 2 : -1;
    }

    private int skipBlanks(int i) {
        while (i < s.length() && Filters.isSpace(s.charAt(i))) {
            i++;
        }
        return i;
    }

    private void raw() {
        lineStarts = at > 0 && s.charAt(at - 1) == '\n';
        for (int open = s.indexOf("{%", at); open >= 0; open = s.indexOf("{%", open + 1)) {
            char sign = open + 2 < s.length() ? s.charAt(open + 2) : ' ';
            int i = skipBlanks(open + (sign == '-' || sign == '+' ? 3 : 2));
            if (!s.startsWith("endraw", i)) {
                continue;
            }
            i = skipBlanks(i + 6);
            boolean minus = s.startsWith("-%}", i);
            if (minus || s.startsWith("+%}", i)) {
                i++;
            }
            if (!s.startsWith("%}", i)) {
                continue;
            }
            text(trimmed(s.substring(at, open), sign, true));
            close(i + 2, minus, true);
            return;
        }
        throw new Fault("raw without endraw");
    }
}
