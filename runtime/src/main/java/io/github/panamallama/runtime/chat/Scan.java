package io.github.panamallama.runtime.chat;

import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/** Finds the ends of values in text that may still grow, and reads the notations that are not JSON. */
final class Scan {
    /** The text ends before the value does. */
    static final int INCOMPLETE = -1;
    static final int WRONG = -2;
    private static final int MAX_DEPTH = 200;

    private Scan() {}

    /** End of the object or array that begins at i. */
    static int jsonEnd(String s, int i) {
        int depth = 0;
        for (; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '"') {
                for (i++; i < s.length() && s.charAt(i) != '"'; i++) {
                    if (s.charAt(i) == '\\') {
                        i++;
                    }
                }
            } else if (c == '{' || c == '[') {
                depth++;
            } else if ((c == '}' || c == ']') && --depth <= 0) {
                return i + 1;
            }
        }
        return INCOMPLETE;
    }

    /** End of the parenthesis at i, with Python's strings. */
    static int pythonEnd(String s, int i) {
        int depth = 0;
        for (; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c == '"' || c == '\'') {
                for (i++; i < s.length() && s.charAt(i) != c; i++) {
                    if (s.charAt(i) == '\\') {
                        i++;
                    }
                }
            } else if (c == '(' || c == '[' || c == '{') {
                depth++;
            } else if ((c == ')' || c == ']' || c == '}') && --depth <= 0) {
                return i + 1;
            }
        }
        return INCOMPLETE;
    }

    private static final String QUOTE = "<|\"|>";

    /** End of the brace at i, with strings between special quotes. */
    static int bracesEnd(String s, int i) {
        int depth = 0;
        for (; i < s.length(); i++) {
            char c = s.charAt(i);
            if (s.startsWith(QUOTE, i)) {
                int end = s.indexOf(QUOTE, i + QUOTE.length());
                if (end < 0) {
                    return INCOMPLETE;
                }
                i = end + QUOTE.length() - 1;
            } else if (c == '{' || c == '[') {
                depth++;
            } else if ((c == '}' || c == ']') && --depth <= 0) {
                return i + 1;
            }
        }
        return INCOMPLETE;
    }

    /** A cursor over a value in another notation; throws IllegalArgumentException where it is none. */
    static final class Reader {
        private final String s;
        private final boolean python;
        private int at;
        private int depth;

        Reader(String s, boolean python) {
            this.s = s;
            this.python = python;
        }

        /** Python's literals, or braces with unquoted keys and special quotes; null where the text is no such value. */
        static JsonNode value(String s, boolean python) {
            try {
                var reader = new Reader(s.strip(), python);
                var node = reader.value();
                reader.blanks();
                return reader.at == reader.s.length() ? node : null;
            } catch (IllegalArgumentException e) {
                return null;
            }
        }

        /** The arguments in the parenthesis that the text is, as an object; null where it is none. */
        static JsonNode keywordArguments(String s) {
            try {
                var reader = new Reader(s, true);
                reader.expect('(');
                var out = Json.MAPPER.createObjectNode();
                while (!reader.accept(')')) {
                    String key = reader.word();
                    reader.expect('=');
                    out.set(key, reader.value());
                    if (!reader.accept(',') && reader.peek() != ')') {
                        return null;
                    }
                }
                return reader.at == s.length() ? out : null;
            } catch (IllegalArgumentException e) {
                return null;
            }
        }

        private void blanks() {
            while (at < s.length() && Character.isWhitespace(s.charAt(at))) {
                at++;
            }
        }

        private char peek() {
            blanks();
            return at < s.length() ? s.charAt(at) : 0;
        }

        private boolean accept(char c) {
            if (peek() == c) {
                at++;
                return true;
            }
            return false;
        }

        private void expect(char c) {
            if (!accept(c)) {
                throw new IllegalArgumentException();
            }
        }

        private String word() {
            blanks();
            int from = at;
            while (at < s.length() && " \t\n:,=(){}[]\"'<".indexOf(s.charAt(at)) < 0) {
                at++;
            }
            if (from == at) {
                throw new IllegalArgumentException();
            }
            return s.substring(from, at);
        }

        private String string() {
            char quote = s.charAt(at++);
            var out = new StringBuilder();
            while (at < s.length() && s.charAt(at) != quote) {
                char c = s.charAt(at++);
                if (c == '\\' && at < s.length()) {
                    char e = s.charAt(at++);
                    switch (e) {
                        case 'n' -> out.append('\n');
                        case 't' -> out.append('\t');
                        case 'r' -> out.append('\r');
                        case 'b' -> out.append('\b');
                        case 'f' -> out.append('\f');
                        case '\\', '\'', '"', '/' -> out.append(e);
                        case 'x', 'u' -> {
                            int digits = e == 'x' ? 2 : 4;
                            if (at + digits > s.length()) {
                                throw new IllegalArgumentException();
                            }
                            out.append((char) Integer.parseInt(s, at, at + digits, 16));
                            at += digits;
                        }
                        default -> out.append('\\').append(e);
                    }
                } else {
                    out.append(c);
                }
            }
            if (at++ >= s.length()) {
                throw new IllegalArgumentException();
            }
            return out.toString();
        }

        private JsonNode value() {
            if (++depth > MAX_DEPTH) {
                throw new IllegalArgumentException();
            }
            try {
                char c = peek();
                if (s.startsWith(QUOTE, at)) {
                    int end = s.indexOf(QUOTE, at + QUOTE.length());
                    if (end < 0) {
                        throw new IllegalArgumentException();
                    }
                    String text = s.substring(at + QUOTE.length(), end);
                    at = end + QUOTE.length();
                    return Json.MAPPER.getNodeFactory().stringNode(text);
                }
                if (c == '"' || c == '\'' && python) {
                    return Json.MAPPER.getNodeFactory().stringNode(string());
                }
                if (c == '[' || c == '(' && python) {
                    at++;
                    char close = c == '[' ? ']' : ')';
                    ArrayNode list = Json.MAPPER.createArrayNode();
                    while (!accept(close)) {
                        list.add(value());
                        if (!accept(',') && peek() != close) {
                            throw new IllegalArgumentException();
                        }
                    }
                    return list;
                }
                if (c == '{') {
                    at++;
                    ObjectNode object = Json.MAPPER.createObjectNode();
                    while (!accept('}')) {
                        String key = peek() == '"' || python && peek() == '\'' ? string()
                                : s.startsWith(QUOTE, at) ? value().stringValue() : word();
                        expect(':');
                        object.set(key, value());
                        if (!accept(',') && peek() != '}') {
                            throw new IllegalArgumentException();
                        }
                    }
                    return object;
                }
                String word = word();
                return switch (word) {
                    case "True", "true" -> Json.MAPPER.getNodeFactory().booleanNode(true);
                    case "False", "false" -> Json.MAPPER.getNodeFactory().booleanNode(false);
                    case "None", "null" -> Json.MAPPER.getNodeFactory().nullNode();
                    default -> {
                        var number = Json.tryParse(word);
                        if (number == null || !number.isNumber()) {
                            throw new IllegalArgumentException();
                        }
                        yield number;
                    }
                };
            } finally {
                depth--;
            }
        }
    }
}
