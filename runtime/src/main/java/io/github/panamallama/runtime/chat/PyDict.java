package io.github.panamallama.runtime.chat;

import java.util.LinkedHashMap;
import java.util.Map;

/** An insertion-ordered dictionary in which, as in Python, 1, 1.0 and true are one key. Keys keep the form they were first given. */
final class PyDict {
    private final LinkedHashMap<Object, Map.Entry<Object, Object>> entries = new LinkedHashMap<>();

    static PyDict of(Object... keysAndValues) {
        var dict = new PyDict();
        for (int i = 0; i < keysAndValues.length; i += 2) {
            dict.put(keysAndValues[i], keysAndValues[i + 1]);
        }
        return dict;
    }

    static PyDict of(Map<String, ?> map) {
        var dict = new PyDict();
        map.forEach(dict::put);
        return dict;
    }

    private static Object key(Object key) {
        return switch (key) {
            case null -> None.KEY;
            case Boolean b -> b ? 1L : 0L;
            case Double d when d == Math.rint(d) && Math.abs(d) < 0x1p62 -> d.longValue();
            case PyTuple t -> t.stream().map(PyDict::element).toList();
            case PyList l -> throw new Fault("unhashable type: 'list'");
            case PyDict d -> throw new Fault("unhashable type: 'dict'");
            default -> key;
        };
    }

    private static Object element(Object item) {
        if (item instanceof PyTuple) {
            throw new Fault("a tuple of tuples can't be a key here");
        }
        return key(item);
    }

    boolean has(Object key) {
        return entries.containsKey(key(key));
    }

    /** The value, or the fallback where the key is absent; null is Python's None. */
    Object get(Object key, Object fallback) {
        var entry = entries.get(key(key));
        return entry == null ? fallback : entry.getValue();
    }

    Object get(Object key) {
        return get(key, null);
    }

    void put(Object key, Object value) {
        Object k = key(key);
        var old = entries.get(k);
        entries.put(k, new java.util.AbstractMap.SimpleImmutableEntry<>(old == null ? key : old.getKey(), value));
    }

    Object remove(Object key) {
        var entry = entries.remove(key(key));
        return entry == null ? Undefined.ANONYMOUS : entry.getValue();
    }

    void putAll(PyDict other) {
        for (var e : other.entries()) {
            put(e.getKey(), e.getValue());
        }
    }

    java.util.Collection<Map.Entry<Object, Object>> entries() {
        return entries.values();
    }

    PyList keys() {
        var keys = new PyList();
        entries.values().forEach(e -> keys.add(e.getKey()));
        return keys;
    }

    PyList values() {
        var values = new PyList();
        entries.values().forEach(e -> values.add(e.getValue()));
        return values;
    }

    int size() {
        return entries.size();
    }

    private enum None {
        KEY
    }
}
