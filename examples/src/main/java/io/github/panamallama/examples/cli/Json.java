package io.github.panamallama.examples.cli;

import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/** JSON output: maps, lists and records as they are, indented. */
final class Json {
    private static final JsonMapper MAPPER = JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

    private Json() {
    }

    static String write(Object value) {
        return MAPPER.writeValueAsString(value);
    }

    /** Nanoseconds as milliseconds with three digits. */
    static double millis(long nanos) {
        return Math.round(nanos / 1e3) / 1e3;
    }

    /** Tokens per second with two digits; 0 where nothing was timed, because JSON has no infinity. */
    static double perSecond(long tokens, long nanos) {
        return nanos <= 0 ? 0 : Math.round(tokens * 1e11 / nanos) / 1e2;
    }
}
