package io.github.panamallama.runtime.gguf;

import java.lang.reflect.Array;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/**
 * The key-value pairs of a GGUF file, in the file's order. Immutable.
 *
 * <p>The typed getters answer empty when the key is absent and throw {@link GgufException} when it is there with a type that can't
 * be read so: a file that says {@code block_count = "many"} is at fault, not the caller.
 */
public final class GgufMetadata {
    /**
     * @param element null unless {@code type} is ARRAY
     * @param value   boxed scalar of the type's width, the bytes of a string, primitive array or GgufStrings; unsigned values keep
     *                their bits
     */
    record Entry(GgufValueType type, GgufValueType element, Object value, long offset) {
        String typeLabel() {
            return element == null ? type.label() : "array of " + element.label();
        }
    }

    private final Path path;
    private final Map<String, Entry> entries;

    GgufMetadata(Path path, LinkedHashMap<String, Entry> entries) {
        this.path = path;
        this.entries = Collections.unmodifiableMap(entries);
    }

    /** All keys, in the file's order. */
    public Collection<String> keys() {
        return entries.keySet();
    }

    /** The number of pairs. */
    public int size() {
        return entries.size();
    }

    public boolean contains(String key) {
        return entries.containsKey(key);
    }

    /** The type of a value; empty if the key is absent. */
    public Optional<GgufValueType> type(String key) {
        return Optional.ofNullable(entries.get(key)).map(Entry::type);
    }

    /** The type of an array's elements; empty if the key is absent or no array. */
    public Optional<GgufValueType> elementType(String key) {
        return Optional.ofNullable(entries.get(key)).map(Entry::element);
    }

    /** The number of elements of an array; empty if the key is absent or no array. */
    public Optional<Integer> arrayLength(String key) {
        var entry = entries.get(key);
        return entry == null || entry.element == null ? Optional.empty() : Optional.of(length(entry.value));
    }

    /** A string. Bytes that aren't UTF-8 become U+FFFD. */
    public Optional<String> string(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        if (entry.type != GgufValueType.STRING) {
            throw wrongType(key, entry, "a string");
        }
        return Optional.of(decode(entry.value));
    }

    /**
     * An integer of any width.
     *
     * @throws GgufException if the value is no integer or above {@link Long#MAX_VALUE}
     */
    public OptionalLong integer(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return OptionalLong.empty();
        }
        if (!entry.type.isInteger()) {
            throw wrongType(key, entry, "an integer");
        }
        long value = widen(entry.type, ((Number) entry.value).longValue());
        if (entry.type == GgufValueType.UINT64 && value < 0) {
            throw new GgufException(path, entry.offset, key + " is " + Long.toUnsignedString(value) + ", larger than " + Long.MAX_VALUE);
        }
        return OptionalLong.of(value);
    }

    /** An integer or floating-point number. */
    public OptionalDouble number(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return OptionalDouble.empty();
        }
        if (entry.type.isFloat()) {
            return OptionalDouble.of(((Number) entry.value).doubleValue());
        }
        if (!entry.type.isInteger()) {
            throw wrongType(key, entry, "a number");
        }
        return OptionalDouble.of(integer(key).getAsLong());
    }

    /** A boolean. */
    public Optional<Boolean> bool(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        if (entry.type != GgufValueType.BOOL) {
            throw wrongType(key, entry, "a boolean");
        }
        return Optional.of((Boolean) entry.value);
    }

    /** An array of strings, decoded on access. */
    public Optional<List<String>> strings(String key) {
        return array(key, "an array of strings", GgufStrings.class).map(strings -> strings);
    }

    /** The bytes of one element of an array of strings, as the file has them. */
    public Optional<byte[]> stringBytes(String key, int index) {
        return array(key, "an array of strings", GgufStrings.class).map(strings -> strings.bytes(index));
    }

    /**
     * An array of integers of any width, widened.
     *
     * @throws GgufException if it is no array of integers or holds a value above {@link Long#MAX_VALUE}
     */
    public Optional<long[]> integers(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        if (entry.element == null || !entry.element.isInteger()) {
            throw wrongType(key, entry, "an array of integers");
        }
        var result = new long[length(entry.value)];
        for (int i = 0; i < result.length; i++) {
            long value = switch (entry.value) {
                case byte[] a -> a[i];
                case short[] a -> a[i];
                case int[] a -> a[i];
                default -> ((long[]) entry.value)[i];
            };
            result[i] = widen(entry.element, value);
            if (entry.element == GgufValueType.UINT64 && result[i] < 0) {
                throw new GgufException(path, entry.offset,
                        key + "[" + i + "] is " + Long.toUnsignedString(result[i]) + ", larger than " + Long.MAX_VALUE);
            }
        }
        return Optional.of(result);
    }

    /** An array of 32-bit floats, a copy. */
    public Optional<float[]> floats(String key) {
        return array(key, "an array of f32", float[].class).map(float[]::clone);
    }

    /** An array of booleans, a copy. */
    public Optional<boolean[]> booleans(String key) {
        return array(key, "an array of booleans", boolean[].class).map(boolean[]::clone);
    }

    /**
     * A value of any type: a boxed scalar, a String, a primitive array (a copy; unsigned elements keep their bits) or a list of
     * strings. Unsigned scalars are widened to the next Java type, u64 above {@link Long#MAX_VALUE} keeps its bits.
     */
    public Optional<Object> get(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        return Optional.of(switch (entry.type) {
            case UINT8 -> (short) widen(entry.type, ((Number) entry.value).longValue());
            case UINT16 -> (int) widen(entry.type, ((Number) entry.value).longValue());
            case UINT32 -> widen(entry.type, ((Number) entry.value).longValue());
            case ARRAY -> entry.value instanceof GgufStrings ? entry.value : copy(entry.value);
            case STRING -> decode(entry.value);
            default -> entry.value;
        });
    }

    /** A value as text: scalars and strings as they are, arrays as {@code array of i32, 32000 elements}; empty if absent. */
    public Optional<String> text(String key) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        if (entry.element != null) {
            return Optional.of(entry.typeLabel() + ", " + length(entry.value) + " elements");
        }
        if (entry.type == GgufValueType.UINT64) {
            return Optional.of(Long.toUnsignedString((Long) entry.value));
        }
        return get(key).map(Object::toString);
    }

    Entry entry(String key) {
        return entries.get(key);
    }

    /** The value's place in the file, for messages; -1 if absent. */
    long offset(String key) {
        var entry = entries.get(key);
        return entry == null ? -1 : entry.offset;
    }

    private <T> Optional<T> array(String key, String wanted, Class<T> type) {
        var entry = entries.get(key);
        if (entry == null) {
            return Optional.empty();
        }
        if (!type.isInstance(entry.value)) {
            throw wrongType(key, entry, wanted);
        }
        return Optional.of(type.cast(entry.value));
    }

    private GgufException wrongType(String key, Entry entry, String wanted) {
        return new GgufException(path, entry.offset, key + " is of type " + entry.typeLabel() + "; " + wanted + " is needed");
    }

    private static long widen(GgufValueType type, long bits) {
        return switch (type) {
            case UINT8 -> bits & 0xFF;
            case UINT16 -> bits & 0xFFFF;
            case UINT32 -> bits & 0xFFFF_FFFFL;
            default -> bits;
        };
    }

    private static String decode(Object bytes) {
        return new String((byte[]) bytes, StandardCharsets.UTF_8);
    }

    static int length(Object array) {
        return array instanceof GgufStrings strings ? strings.size() : Array.getLength(array);
    }

    private static Object copy(Object array) {
        int length = Array.getLength(array);
        var copy = Array.newInstance(array.getClass().getComponentType(), length);
        System.arraycopy(array, 0, copy, 0, length);
        return copy;
    }
}
