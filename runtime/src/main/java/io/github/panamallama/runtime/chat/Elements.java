package io.github.panamallama.runtime.chat;

import tools.jackson.databind.JsonNode;

/** Values written as nested elements: items make an array, other names an object. */
final class Elements {
    private static final int MAX_DEPTH = 60;

    private Elements() {}

    /** The value, or null where the text is not all elements. */
    static JsonNode read(String s) {
        return read(s, 0);
    }

    private static JsonNode read(String s, int depth) {
        if (depth > MAX_DEPTH) {
            return null;
        }
        var array = Json.MAPPER.createArrayNode();
        var object = Json.MAPPER.createObjectNode();
        int at = 0;
        while (at < s.length()) {
            if (Character.isWhitespace(s.charAt(at))) {
                at++;
                continue;
            }
            int close = s.charAt(at) == '<' ? s.indexOf('>', at) : -1;
            if (close < at + 2 || s.charAt(at + 1) == '/') {
                return null;
            }
            String name = s.substring(at + 1, close);
            int end = end(s, close + 1, name);
            if (end < 0) {
                return null;
            }
            String inner = s.substring(close + 1, end);
            JsonNode value = inner.strip().startsWith("<") ? read(inner, depth + 1) : null;
            if (value == null) {
                value = Json.tryParse(inner);
            }
            if (value == null) {
                value = Json.MAPPER.getNodeFactory().stringNode(inner);
            }
            if (name.equals("item")) {
                array.add(value);
            } else {
                object.set(name, value);
            }
            at = end + name.length() + 3;
        }
        return array.isEmpty() ? object : object.isEmpty() ? array : null;
    }

    /** Where the element's closing tag begins, elements of the same name within counted. */
    private static int end(String s, int from, String name) {
        int depth = 1;
        for (int i = s.indexOf('<', from); i >= 0; i = s.indexOf('<', i + 1)) {
            if (s.startsWith("</" + name + ">", i) && --depth == 0) {
                return i;
            }
            if (s.startsWith("<" + name + ">", i)) {
                depth++;
            }
        }
        return -1;
    }
}
