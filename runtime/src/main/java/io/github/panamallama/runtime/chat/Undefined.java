package io.github.panamallama.runtime.chat;

/** Jinja's default undefined value: prints nothing, is false and empty, and fails on any other use. */
record Undefined(String name) {
    static final Undefined ANONYMOUS = new Undefined("value");

    @Override
    public boolean equals(Object other) {
        return other instanceof Undefined;
    }

    @Override
    public int hashCode() {
        return 1;
    }
}
