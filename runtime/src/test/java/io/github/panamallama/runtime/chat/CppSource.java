package io.github.panamallama.runtime.chat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads as much of upstream's C++ test sources as their expectations need: tokens with decoded string literals, and the brace initialisers
 * that stand for JSON. The expectations are read where they are, so that none is copied here.
 */
final class CppSource {
    enum Kind { WORD, STRING, NUMBER, PUNCTUATION, END }

    record Token(Kind kind, String text) {
        boolean is(String s) {
            return kind != Kind.STRING && text.equals(s);
        }
    }

    private final List<Token> tokens = new ArrayList<>();
    int at;

    CppSource(String s) {
        int i = 0;
        while (i < s.length()) {
            char c = s.charAt(i);
            if (Character.isWhitespace(c)) {
                i++;
            } else if (s.startsWith("//", i)) {
                i = end(s, "\n", i);
            } else if (s.startsWith("/*", i)) {
                i = end(s, "*/", i);
            } else if (c == '#') {
                i = end(s, "\n", i);
            } else if (s.startsWith("R\"", i) || s.startsWith("u8R\"", i)) {
                int open = s.indexOf('(', i);
                String delimiter = ")" + s.substring(s.indexOf('"', i) + 1, open) + "\"";
                int close = s.indexOf(delimiter, open);
                tokens.add(new Token(Kind.STRING, s.substring(open + 1, close)));
                i = close + delimiter.length();
            } else if (c == '"' || s.startsWith("u8\"", i)) {
                var out = new StringBuilder();
                i = string(s, s.indexOf('"', i) + 1, out);
                tokens.add(new Token(Kind.STRING, out.toString()));
            } else if (c == '\'') {
                int j = i + 1;
                while (s.charAt(j) != '\'') {
                    j += s.charAt(j) == '\\' ? 2 : 1;
                }
                tokens.add(new Token(Kind.NUMBER, s.substring(i, j + 1)));
                i = j + 1;
            } else if (Character.isDigit(c) || c == '-' && Character.isDigit(s.charAt(i + 1))) {
                int j = i + 1;
                while (Character.isLetterOrDigit(s.charAt(j)) || s.charAt(j) == '.') {
                    j++;
                }
                tokens.add(new Token(Kind.NUMBER, s.substring(i, j)));
                i = j;
            } else if (Character.isJavaIdentifierStart(c)) {
                int j = i + 1;
                while (Character.isJavaIdentifierPart(s.charAt(j)) || s.startsWith("::", j)) {
                    j += s.startsWith("::", j) ? 2 : 1;
                }
                tokens.add(new Token(Kind.WORD, s.substring(i, j)));
                i = j;
            } else {
                tokens.add(new Token(Kind.PUNCTUATION, String.valueOf(c)));
                i++;
            }
        }
        tokens.add(new Token(Kind.END, ""));
    }

    static CppSource of(Path file) throws java.io.IOException {
        return new CppSource(Files.readString(file));
    }

    private static int end(String s, String what, int from) {
        int i = s.indexOf(what, from);
        return i < 0 ? s.length() : i + what.length();
    }

    private static int string(String s, int i, StringBuilder out) {
        while (s.charAt(i) != '"') {
            char c = s.charAt(i++);
            if (c != '\\') {
                out.append(c);
                continue;
            }
            char e = s.charAt(i++);
            switch (e) {
                case 'n' -> out.append('\n');
                case 't' -> out.append('\t');
                case 'r' -> out.append('\r');
                case '0' -> out.append('\0');
                case '\n' -> { }
                case 'u' -> {
                    out.append((char) Integer.parseInt(s.substring(i, i + 4), 16));
                    i += 4;
                }
                case 'x' -> {
                    // bytes of a UTF-8 character, one escape after the other
                    var bytes = new java.io.ByteArrayOutputStream();
                    i -= 2;
                    while (s.startsWith("\\x", i)) {
                        bytes.write(Integer.parseInt(s.substring(i + 2, i + 4), 16));
                        i += 4;
                    }
                    out.append(bytes.toString(StandardCharsets.UTF_8));
                }
                default -> out.append(e);
            }
        }
        return i + 1;
    }

    Token peek() {
        return tokens.get(at);
    }

    Token peek(int ahead) {
        return tokens.get(Math.min(at + ahead, tokens.size() - 1));
    }

    Token next() {
        return tokens.get(at++);
    }

    boolean accept(String s) {
        if (peek().is(s)) {
            at++;
            return true;
        }
        return false;
    }

    void expect(String s) {
        if (!accept(s)) {
            throw new IllegalStateException("expected " + s + ", found " + peek() + " after " + tokens.subList(Math.max(0, at - 8), at));
        }
    }

    boolean atEnd() {
        return peek().kind() == Kind.END;
    }

    /** Adjacent literals, joined. */
    String string() {
        if (peek().kind() != Kind.STRING) {
            throw new IllegalStateException("expected a string, found " + peek());
        }
        var out = new StringBuilder();
        while (peek().kind() == Kind.STRING) {
            out.append(next().text());
        }
        return out.toString();
    }

    /** A JSON value as nlohmann's initialisers write it: a brace list of pairs with a string first is an object. */
    Object json() {
        var t = peek();
        switch (t.kind()) {
            case STRING -> {
                return string();
            }
            case NUMBER -> {
                next();
                return t.text().contains(".") ? (Object) Double.parseDouble(t.text()) : (Object) Long.parseLong(t.text());
            }
            case WORD -> {
                next();
                switch (t.text()) {
                    case "true" -> {
                        return true;
                    }
                    case "false" -> {
                        return false;
                    }
                    case "nullptr" -> {
                        return null;
                    }
                    case "json::array" -> {
                        expect("(");
                        Object list = accept(")") ? new ArrayList<>() : list();
                        if (tokens.get(at - 1).is("}")) {
                            expect(")");
                        }
                        return list;
                    }
                    case "json::object" -> {
                        expect("(");
                        if (accept(")")) {
                            return new LinkedHashMap<String, Object>();
                        }
                        Object o = json();
                        expect(")");
                        return o;
                    }
                    case "json" -> {
                        boolean paren = accept("(");
                        Object o = json();
                        if (paren) {
                            expect(")");
                        }
                        return o;
                    }
                    default -> throw new IllegalStateException("no JSON: " + t);
                }
            }
            default -> {
                var list = list();
                if (!list.isEmpty() && list.stream().allMatch(x -> x instanceof List<?> l && l.size() == 2
                        && l.getFirst() instanceof String)) {
                    Map<String, Object> map = new LinkedHashMap<>();
                    list.forEach(x -> map.put((String) ((List<?>) x).get(0), ((List<?>) x).get(1)));
                    return map;
                }
                return list;
            }
        }
    }

    private List<Object> list() {
        expect("{");
        var out = new ArrayList<Object>();
        while (!accept("}")) {
            out.add(json());
            accept(",");
        }
        return out;
    }

    /** Skips to just behind the matching closing bracket of the bracket just read. */
    void skipPast(String open, String close) {
        for (int depth = 1; depth > 0;) {
            var t = next();
            depth += t.is(open) ? 1 : t.is(close) ? -1 : 0;
        }
    }
}
