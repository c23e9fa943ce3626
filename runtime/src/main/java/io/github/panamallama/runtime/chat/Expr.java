package io.github.panamallama.runtime.chat;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A compiled expression. */
@FunctionalInterface
interface Expr {
    Object eval(Render r);

    /** Something a template can call. */
    @FunctionalInterface
    interface Fn {
        Object call(Render r, Args args);
    }

    /** Evaluated arguments of a call, filter or test. */
    record Args(List<Object> positional, Map<String, Object> named) {
        static final Args NONE = new Args(List.of(), Map.of());

        static Args of(Object... positional) {
            return new Args(java.util.Arrays.asList(positional), new LinkedHashMap<>());
        }

        boolean has(int i, String name) {
            return i < positional.size() || named.containsKey(name);
        }

        Object get(int i, String name, Object fallback) {
            if (i >= 0 && i < positional.size()) {
                return positional.get(i);
            }
            return named.containsKey(name) ? named.get(name) : fallback;
        }

        Object need(int i, String name) {
            if (!has(i, name)) {
                throw new Fault("missing argument '" + name + "'");
            }
            return get(i, name, null);
        }

        String text(int i, String name) {
            return switch (need(i, name)) {
                case String s -> s;
                case Object o -> throw new Fault("argument '" + name + "' must be a string, not " + Render.typeName(o));
                case null -> throw new Fault("argument '" + name + "' must be a string, not None");
            };
        }

        Args skip(int n) {
            return new Args(positional.subList(Math.min(n, positional.size()), positional.size()), named);
        }
    }
}
