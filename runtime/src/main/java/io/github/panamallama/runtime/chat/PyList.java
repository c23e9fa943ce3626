package io.github.panamallama.runtime.chat;

import java.util.ArrayList;
import java.util.Collection;

/** A Python list. */
sealed class PyList extends ArrayList<Object> permits PyTuple {
    private static final long serialVersionUID = 1L;

    PyList() {}

    PyList(Collection<?> items) {
        super(items);
    }
}
