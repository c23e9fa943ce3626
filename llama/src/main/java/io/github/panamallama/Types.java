package io.github.panamallama;

import io.github.panamallama.sampling.grammar.Grammar;
import io.github.panamallama.sampling.grammar.JsonOptions;
import io.github.panamallama.sampling.grammar.JsonType;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The grammars of the Java types that were asked for, each made once. */
final class Types {
    private final Map<Class<?>, Typed<?>> known = new ConcurrentHashMap<>();

    /** A type as a grammar, and the way back. */
    record Typed<T>(JsonType<T> type, Grammar grammar) {
        T read(String json) {
            return type.read(json);
        }
    }

    @SuppressWarnings("unchecked")      // put there under its own class
    <T> Typed<T> of(Class<T> type) {
        return (Typed<T>) known.computeIfAbsent(type, t -> {
            var json = JsonType.of(t);
            return new Typed<>(json, Grammar.jsonSchema(json.schema(),
                    JsonOptions.DEFAULT.order(JsonOptions.Order.SCHEMA).spelling(JsonOptions.Spelling.SHORTEST)));
        });
    }
}
