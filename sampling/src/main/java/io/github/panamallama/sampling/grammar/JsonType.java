package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.schema.TypeSchemas;
import java.util.Objects;
import tools.jackson.core.JacksonException;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.JavaType;
import tools.jackson.databind.json.JsonMapper;

/**
 * A Java type as JSON: the schema that describes its values, and the way back from text to value. Both come from the same Jackson
 * mapper, so that names, formats and enumerations agree.
 *
 * <p>Every property of a record or class is required, but for an {@link java.util.Optional}, which may be absent; a property whose type
 * is annotated {@code @Nullable} (from whatever package) may also be null; nothing else is. Integers stay in the range of their type.
 * Interfaces need {@code @JsonTypeInfo} with a name as a property. {@code @JsonPropertyDescription} becomes {@code description}.
 *
 * @param <T> the Java type
 */
public final class JsonType<T> {
    private static final JsonMapper MAPPER = JsonMapper.builder().build();

    private final JsonMapper mapper;
    private final JavaType type;
    private final String schema;

    private JsonType(JsonMapper mapper, JavaType type) {
        this.mapper = mapper;
        this.type = type;
        schema = TypeSchemas.of(mapper, type);
    }

    /**
     * A record, class, enum, or simple type, with Jackson's defaults.
     *
     * @throws IllegalArgumentException if the type has no schema: the message names the part at fault
     */
    public static <T> JsonType<T> of(Class<T> type) {
        return of(MAPPER, type);
    }

    /** As {@link #of(Class)}, for a type with arguments: {@code new TypeReference<List<City>>() {}}. */
    public static <T> JsonType<T> of(TypeReference<T> type) {
        return of(MAPPER, type);
    }

    /** As {@link #of(Class)}, with a mapper's own settings. */
    public static <T> JsonType<T> of(JsonMapper mapper, Class<T> type) {
        return new JsonType<>(mapper, mapper.constructType(Objects.requireNonNull(type, "type")));
    }

    /** As {@link #of(TypeReference)}, with a mapper's own settings. */
    public static <T> JsonType<T> of(JsonMapper mapper, TypeReference<T> type) {
        return new JsonType<>(mapper, mapper.constructType(Objects.requireNonNull(type, "type").getType()));
    }

    /** The JSON Schema of the type, draft 2020-12, as compact JSON. */
    public String schema() {
        return schema;
    }

    /**
     * The grammar of the type's values, in any order of properties and compact.
     *
     * @throws GrammarException if the schema is beyond a limit
     */
    public Grammar grammar() {
        return grammar(JsonOptions.DEFAULT);
    }

    /** As {@link #grammar()}, written in this way; formats are always asserted. */
    public Grammar grammar(JsonOptions options) {
        return Grammar.jsonSchema(schema, options.formats(true));
    }

    /**
     * The value that a JSON text stands for.
     *
     * @throws IllegalArgumentException if the text is not JSON or no value of the type; the message says where
     */
    public T read(String json) {
        try {
            return mapper.readValue(json, type);
        } catch (JacksonException e) {
            throw new IllegalArgumentException("no " + type.toCanonical() + ": " + e.getOriginalMessage() + " in " + brief(json), e);
        }
    }

    private static String brief(String json) {
        return json == null || json.length() <= 200 ? json : json.substring(0, 200) + "... (" + json.length() + " characters)";
    }

    @Override
    public String toString() {
        return type.toCanonical();
    }
}
