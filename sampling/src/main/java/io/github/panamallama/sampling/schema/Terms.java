package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.Encoding;
import io.github.panamallama.sampling.automaton.RegexPool;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** The regular languages of one schema: contents of strings in one encoding, texts of numbers, and their complements. */
final class Terms {
    final RegexPool pool;
    final Encoding encoding;
    final int none = RegexPool.NOTHING;
    /** Everything between the quotes of a string. */
    final int anyString;
    final Numbers numbers;
    final int anyNumber;

    /** Stands for null among values. */
    static final Object NULL = List.of();

    private final Map<String, Integer> literals = new HashMap<>();
    private final Map<Long, Boolean> matched = new HashMap<>();
    private final Map<String, Integer> numbered = new HashMap<>();
    private final Map<Integer, Optional<List<String>>> words = new HashMap<>();
    private final Map<Integer, Integer> sizes = new HashMap<>();
    private final List<byte[]> spelled = new ArrayList<>();

    Terms(RegexPool pool, Encoding encoding) {
        this.pool = pool;
        this.encoding = encoding;
        anyString = pool.text(encoding);
        numbers = new Numbers(pool);
        anyNumber = numbers.plain;
    }

    int or(int a, int b) {
        return a == none ? b : b == none ? a : a == anyString || b == anyString ? anyString
                : a == anyNumber || b == anyNumber ? anyNumber : pool.alt(a, b);
    }

    int and(int a, int b) {
        return a == none || b == none ? none : a == anyString || a == anyNumber ? b : b == anyString || b == anyNumber ? a : pool.and(a, b);
    }

    int notString(int a) {
        return a == none ? anyString : a == anyString ? none : pool.minus(anyString, a);
    }

    int notNumber(int a) {
        return a == none ? anyNumber : a == anyNumber ? none : pool.minus(anyNumber, a);
    }

    boolean isEmpty(int a) {
        return pool.isEmpty(a);
    }

    /** Exactly this text. */
    int literal(String text) {
        return literals.computeIfAbsent(text, t -> {
            for (int i = 0; i < t.length(); i++) {
                if (Character.isSurrogate(t.charAt(i)) && !(Character.isHighSurrogate(t.charAt(i)) && i + 1 < t.length()
                        && Character.isLowSurrogate(t.charAt(i + 1)) && i++ >= 0)) {
                    return none; // half a character: no text has it
                }
            }
            return pool.literal(t, encoding);
        });
    }

    int names(Collection<String> names) {
        return pool.alt(names.stream().mapToInt(this::literal).toArray());
    }

    /** Whether the text is in a language of string contents. */
    boolean matches(int term, String text) {
        if (term == anyString) {
            return true;
        }
        int number = numbered.computeIfAbsent(text, t -> {
            spelled.add(bytes(t));
            return spelled.size() - 1;
        });
        return matched.computeIfAbsent((long) term << 32 | number, k -> pool.matches(term, spelled.get(number)));
    }

    /** The texts of a language of string contents, null if there are more than {@code limit}. */
    List<String> words(int term, int limit) {
        if (term == anyString) {
            return null;
        }
        return words.computeIfAbsent(term, t -> {
            // one spelling each
            var found = pool.words(and(t, pool.text(Encoding.JSON_STRING_SHORTEST)), limit);
            return Optional.ofNullable(found).map(list -> list.stream().map(Terms::text).toList());
        }).orElse(null);
    }

    /** How many texts a language of string contents has; one more than {@code limit} if there are more. */
    int size(int term, int limit) {
        return sizes.computeIfAbsent(term, t -> {
            var found = t == anyString ? null : pool.words(and(t, pool.text(Encoding.JSON_STRING_SHORTEST)), limit);
            return found == null ? limit + 1 : found.size();
        });
    }

    /** The name in the text of a property up to its value. */
    static String name(byte[] word) {
        var text = new String(word, StandardCharsets.UTF_8);
        return Documents.JSON.readValue(text.substring(text.indexOf('"'), text.lastIndexOf('"') + 1), String.class);
    }

    /** The value in the text of an item: a string, an exact number without zeros at its end, a boolean, or another object for null. */
    static Object value(byte[] word) {
        var text = new String(word, StandardCharsets.UTF_8).stripLeading();
        var node = Documents.JSON.readTree(text.startsWith(",") ? text.substring(1) : text);
        return switch (node.getNodeType()) {
            case STRING -> node.stringValue();
            case NUMBER -> Numbers.check(node.decimalValue());
            case BOOLEAN -> node.booleanValue();
            default -> NULL;
        };
    }

    private static String text(byte[] content) {
        return Documents.JSON.readValue('"' + new String(content, StandardCharsets.UTF_8) + '"', String.class);
    }

    /** The shortest spelling: what every encoding accepts. */
    static byte[] bytes(String text) {
        var out = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            int escape = "\b\f\n\r\t\"\\".indexOf(c);
            if (escape >= 0) {
                out.append('\\').append("bfnrt\"\\".charAt(escape));
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.toString().getBytes(StandardCharsets.UTF_8);
    }
}
