package io.github.panamallama.runtime.chat;

import java.util.Arrays;
import java.util.Collection;

/** A Python tuple: a list that prints with parentheses, can be a key and has no methods that change it. */
final class PyTuple extends PyList {
    private static final long serialVersionUID = 1L;

    PyTuple(Collection<?> items) {
        super(items);
    }

    static PyTuple of(Object... items) {
        return new PyTuple(Arrays.asList(items));
    }
}
