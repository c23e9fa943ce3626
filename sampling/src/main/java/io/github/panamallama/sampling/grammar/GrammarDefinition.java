package io.github.panamallama.sampling.grammar;

import java.util.List;
import java.util.Objects;

/**
 * What a {@link Grammar} is made from, as data: it can be written down, and sent to another process.
 *
 * @param notation what the texts are
 * @param texts    the source, one text; of choices all of them
 * @param json     how JSON is written; null unless the notation is a JSON Schema
 * @param options  limits
 * @param triggers what wakes the grammar; empty for one that is always awake
 */
public record GrammarDefinition(Notation notation, List<String> texts, JsonOptions json, GrammarOptions options, List<Trigger> triggers) {
    /** What a grammar is written in. */
    public enum Notation {
        GBNF,
        REGEX,
        CHOICES,
        JSON_SCHEMA
    }

    public GrammarDefinition {
        Objects.requireNonNull(notation, "notation");
        Objects.requireNonNull(options, "options");
        texts = List.copyOf(texts);
        triggers = List.copyOf(triggers);
        if (notation != Notation.CHOICES && texts.size() != 1) {
            throw new IllegalArgumentException(texts.size() + " texts in " + notation + "; expected one");
        }
        if (notation == Notation.JSON_SCHEMA == (json == null)) {
            throw new IllegalArgumentException("JSON options belong to a JSON Schema, and to nothing else");
        }
    }

    GrammarDefinition withTriggers(List<Trigger> triggers) {
        return new GrammarDefinition(notation, texts, json, options, triggers);
    }
}
