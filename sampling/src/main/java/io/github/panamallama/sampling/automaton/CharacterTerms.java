package io.github.panamallama.sampling.automaton;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Terms for one character out of a set, by encoding. */
final class CharacterTerms {
    private static final CodePoints RAW_IN_JSON = CodePoints.range(0x20, CodePoints.MAX).minus(CodePoints.of('"', '\\'));
    private static final String SHORT = "\"\\/\b\f\n\r\t";
    private static final String SHORT_NAMES = "\"\\/bfnrt";

    private final RegexPool pool;

    CharacterTerms(RegexPool pool) {
        this.pool = pool;
    }

    int of(CodePoints set, Encoding encoding) {
        return switch (encoding) {
            case UTF8 -> utf8(set);
            case JSON_STRING -> pool.alt(utf8(set.and(RAW_IN_JSON)), shortEscapes(set, SHORT), unicodeEscapes(set));
            case JSON_STRING_SHORTEST -> {
                int options = pool.alt(utf8(set.and(RAW_IN_JSON)), shortEscapes(set, SHORT.replace("/", "")));
                for (int c = 0; c < 0x20; c++) {
                    if (set.contains(c) && SHORT.indexOf(c) < 0) {
                        options = pool.alt(options, pool.literal(String.format("\\u%04x", c)));
                    }
                }
                yield options;
            }
        };
    }

    private int shortEscapes(CodePoints set, String which) {
        var names = ByteSet.NONE;
        for (int i = 0; i < which.length(); i++) {
            if (set.contains(which.charAt(i))) {
                names = names.or(ByteSet.of(SHORT_NAMES.charAt(SHORT.indexOf(which.charAt(i)))));
            }
        }
        return pool.concat(pool.oneByte('\\'), pool.bytes(names));
    }

    // ---- UTF-8

    private int utf8(CodePoints set) {
        var sequences = new ArrayList<int[]>(); // lowest and highest byte of each position
        for (int i = 0; i < set.size(); i++) {
            split(set.first(i), set.last(i), sequences);
        }
        return tree(sequences, 0);
    }

    /** Cuts a range until the code points of each part differ in trailing bytes that take all values or one position's range. */
    private static void split(int first, int last, List<int[]> into) {
        int[] lengths = {0x7f, 0x7ff, 0xffff, CodePoints.MAX};
        for (int limit : lengths) {
            if (first <= limit && last > limit) {
                split(first, limit, into);
                split(limit + 1, last, into);
                return;
            }
        }
        for (int i = 1; i < 4; i++) {
            int mask = (1 << 6 * i) - 1;
            if ((first & ~mask) != (last & ~mask)) {
                if ((first & mask) != 0) {
                    split(first, first | mask, into);
                    split((first | mask) + 1, last, into);
                    return;
                }
                if ((last & mask) != mask) {
                    split(first, (last & ~mask) - 1, into);
                    split(last & ~mask, last, into);
                    return;
                }
            }
        }
        var low = encode(first);
        var high = encode(last);
        var sequence = new int[2 * low.length];
        for (int i = 0; i < low.length; i++) {
            sequence[2 * i] = low[i];
            sequence[2 * i + 1] = high[i];
        }
        into.add(sequence);
    }

    private static int[] encode(int c) {
        if (c < 0x80) {
            return new int[] {c};
        }
        if (c < 0x800) {
            return new int[] {0xc0 | c >> 6, 0x80 | c & 0x3f};
        }
        if (c < 0x10000) {
            return new int[] {0xe0 | c >> 12, 0x80 | c >> 6 & 0x3f, 0x80 | c & 0x3f};
        }
        return new int[] {0xf0 | c >> 18, 0x80 | c >> 12 & 0x3f, 0x80 | c >> 6 & 0x3f, 0x80 | c & 0x3f};
    }

    /** Disjoint sequences of byte ranges as one term, sharing equal tails. */
    private int tree(List<int[]> sequences, int position) {
        var byHead = new LinkedHashMap<Long, List<int[]>>();
        boolean ends = false;
        for (var s : sequences) {
            if (s.length == 2 * position) {
                ends = true;
            } else {
                byHead.computeIfAbsent((long) s[2 * position] << 32 | s[2 * position + 1], _ -> new ArrayList<>()).add(s);
            }
        }
        var byTail = new LinkedHashMap<Integer, ByteSet>();
        byHead.forEach((head, rest) -> byTail.merge(tree(rest, position + 1),
                ByteSet.range((int) (head >> 32), (int) (long) head), ByteSet::or));
        return join(byTail, ends);
    }

    private int join(Map<Integer, ByteSet> byTail, boolean ends) {
        var options = new ArrayList<Integer>();
        if (ends) {
            options.add(RegexPool.EMPTY);
        }
        byTail.forEach((tail, set) -> options.add(pool.concat(pool.bytes(set), tail)));
        return pool.alt(options.stream().mapToInt(Integer::intValue).toArray());
    }

    // ---- backslash, u, four hexadecimal digits

    private int unicodeEscapes(CodePoints set) {
        var basic = set.and(CodePoints.range(0, 0xffff)).minus(CodePoints.SURROGATE);
        var options = new ArrayList<Integer>();
        for (int i = 0; i < basic.size(); i++) {
            options.add(hex(basic.first(i), basic.last(i), 4));
        }
        int one = pool.concat(pool.literal("\\u"), pool.alt(options.stream().mapToInt(Integer::intValue).toArray()));

        // surrogate pairs: 10 bits each
        var pairs = new LinkedHashMap<Integer, Integer>(); // low escapes to high escapes before them
        for (int i = 0; i < set.size(); i++) {
            int first = Math.max(set.first(i), 0x10000) - 0x10000;
            int last = set.last(i) - 0x10000;
            while (first <= last) {
                int end;
                if ((first & 0x3ff) != 0 || last - first < 0x3ff) {
                    end = Math.min(last, first | 0x3ff);
                } else {
                    end = (last + 1 & ~0x3ff) - 1;
                }
                int low = hex(0xdc00 | first & 0x3ff, 0xdc00 | end & 0x3ff, 4);
                pairs.merge(low, hex(0xd800 | first >> 10, 0xd800 | end >> 10, 4), pool::alt);
                first = end + 1;
            }
        }
        int two = RegexPool.NOTHING;
        for (var e : pairs.entrySet()) {
            two = pool.alt(two, pool.concat(pool.literal("\\u"), e.getValue(), pool.literal("\\u"), e.getKey()));
        }
        return pool.alt(one, two);
    }

    /** Numbers from {@code first} to {@code last} in exactly {@code digits} hexadecimal digits of either case. */
    private int hex(int first, int last, int digits) {
        if (digits == 0) {
            return RegexPool.EMPTY;
        }
        int shift = 4 * (digits - 1);
        int mask = (1 << shift) - 1;
        int high = first >> shift;
        int highEnd = last >> shift;
        if (high == highEnd) {
            return pool.concat(pool.bytes(digit(high, high)), hex(first & mask, last & mask, digits - 1));
        }
        var options = new ArrayList<Integer>();
        if ((first & mask) != 0) {
            options.add(pool.concat(pool.bytes(digit(high, high)), hex(first & mask, mask, digits - 1)));
            high++;
        }
        int lastPart = RegexPool.NOTHING;
        if ((last & mask) != mask) {
            lastPart = pool.concat(pool.bytes(digit(highEnd, highEnd)), hex(0, last & mask, digits - 1));
            highEnd--;
        }
        if (high <= highEnd) {
            options.add(pool.concat(pool.bytes(digit(high, highEnd)), hex(0, mask, digits - 1)));
        }
        options.add(lastPart);
        return pool.alt(options.stream().mapToInt(Integer::intValue).toArray());
    }

    private static ByteSet digit(int first, int last) {
        var set = ByteSet.NONE;
        for (int d = first; d <= last; d++) {
            char c = Character.forDigit(d, 16);
            set = set.or(ByteSet.of(c)).or(ByteSet.of(Character.toUpperCase(c)));
        }
        return set;
    }
}
