package io.github.panamallama.sampling.schema;

import com.fasterxml.jackson.annotation.JsonPropertyDescription;
import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.annotation.JsonTypeName;
import java.lang.reflect.AnnotatedElement;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.databind.BeanProperty;
import tools.jackson.databind.JavaType;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationContext;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.jsonFormatVisitors.JsonAnyFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonArrayFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonBooleanFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonFormatTypes;
import tools.jackson.databind.jsonFormatVisitors.JsonFormatVisitable;
import tools.jackson.databind.jsonFormatVisitors.JsonFormatVisitorWrapper;
import tools.jackson.databind.jsonFormatVisitors.JsonIntegerFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonMapFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonNullFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonNumberFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonObjectFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonStringFormatVisitor;
import tools.jackson.databind.jsonFormatVisitors.JsonValueFormat;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.ser.BeanPropertyWriter;

/** Schemas of Java types, from what Jackson says about them. */
public final class TypeSchemas {
    private static final int DEEPEST = 60;
    private static final String DATE = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
            + "|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
    private static final String TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?";
    private static final String OFFSET = "(?:Z|[+-](?:0[0-9]|1[0-7]):[0-5][0-9])";
    /** What the parsers of these types take, which is less than the formats of the same names. */
    private static final Map<Class<?>, String> TEXTS = Map.of(
            java.time.LocalDate.class, DATE,
            java.time.LocalTime.class, TIME,
            java.time.LocalDateTime.class, DATE + "T" + TIME,
            java.time.OffsetDateTime.class, DATE + "T" + TIME + OFFSET,
            java.time.ZonedDateTime.class, DATE + "T" + TIME + OFFSET,
            java.time.Instant.class, DATE + "T" + TIME + "Z",
            java.time.Duration.class, "PT(?:[0-9]{1,9}H(?:[0-9]{1,9}M)?(?:[0-9]{1,9}S)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?|[0-9]{1,9}S)",
            java.util.UUID.class, "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
            java.net.URI.class, "[a-z][a-z0-9+.-]*://[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]*)*"
                    + "(?:\\?[A-Za-z0-9._~=&/-]*)?(?:#[A-Za-z0-9._~/-]*)?",
            char.class, "[\\u0000-\\uffff]");

    private final JsonMapper mapper;
    private final JavaType root;
    private final Map<JavaType, String> names = new HashMap<>();
    private final ObjectNode definitions;
    private final List<String> path = new ArrayList<>();
    /** Jackson hands it over with the first visit. */
    private SerializationContext context;

    private TypeSchemas(JsonMapper mapper, JavaType root) {
        this.mapper = mapper;
        this.root = root;
        definitions = mapper.createObjectNode();
    }

    /**
     * The schema of a type as compact JSON.
     *
     * @throws IllegalArgumentException if a type has none
     */
    public static String of(JsonMapper mapper, JavaType type) {
        var schemas = new TypeSchemas(mapper, type);
        schemas.names.put(type, "#");
        ObjectNode schema = schemas.written(type);
        if (!schemas.definitions.isEmpty()) {
            schema.set("$defs", schemas.definitions);
        }
        return schema.toString();
    }

    private IllegalArgumentException refuse(JavaType type, String why) {
        return new IllegalArgumentException("no JSON schema for " + type.toCanonical()
                + (path.isEmpty() ? "" : " at " + String.join(".", path)) + ": " + why);
    }

    /** A type where it is used: objects by reference, so that they may contain themselves. */
    private JsonNode use(JavaType type, JsonFormatVisitable serializer) {
        if (type.isReferenceType()) {
            return use(type.getContentType(), null);
        }
        String name = names.get(type);
        if (name == null) {
            if (path.size() > DEEPEST) {
                throw refuse(type, "types are nested more than " + DEEPEST + " deep");
            }
            ObjectNode schema = null;
            if (isObject(type)) {
                String base = type.getRawClass().getSimpleName().isEmpty() ? "Type" : type.getRawClass().getSimpleName();
                String unique = base;
                for (int i = 2; definitions.has(unique); i++) {
                    unique = base + i;
                }
                name = "#/$defs/" + unique;
                names.put(type, name);
                definitions.putObject(unique); // keeps the place while the type is read
                schema = written(type);
                definitions.set(unique, schema);
            } else {
                var visitor = new Visitor();
                visit(type, serializer, visitor);
                return visitor.schema(type);
            }
        }
        return mapper.createObjectNode().put("$ref", name);
    }

    private boolean isObject(JavaType type) {
        Class<?> raw = type.getRawClass();
        return !type.isContainerType() && !type.isEnumType() && !type.isPrimitive() && raw != Object.class
                && (raw.isRecord() || polymorphic(raw) != null || !raw.getName().startsWith("java."))
                && !JsonNode.class.isAssignableFrom(raw);
    }

    private ObjectNode written(JavaType type) {
        if (type.isReferenceType()) {
            return written(type.getContentType());
        }
        JsonTypeInfo info = polymorphic(type.getRawClass());
        if (info != null) {
            return alternatives(type, info);
        }
        Class<?> raw = type.getRawClass();
        if (isObject(type) && Modifier.isAbstract(raw.getModifiers())) {
            throw refuse(type, "it is abstract; annotate it with @JsonTypeInfo(use = NAME) so that its subtypes can be told apart");
        }
        var visitor = new Visitor();
        visit(type, null, visitor);
        return (ObjectNode) visitor.schema(type);
    }

    private void visit(JavaType type, JsonFormatVisitable serializer, Visitor visitor) {
        try {
            if (serializer != null) {
                visitor.setContext(context);
                serializer.acceptJsonFormatVisitor(visitor, type);
            } else {
                mapper.acceptJsonFormatVisitor(type, visitor);
            }
        } catch (JacksonException e) {
            throw refuse(type, e.getOriginalMessage());
        }
    }

    // ---- subtypes

    private static JsonTypeInfo polymorphic(Class<?> raw) {
        for (Class<?> c = raw; c != null; c = c.getSuperclass()) {
            if (c.getAnnotation(JsonTypeInfo.class) instanceof JsonTypeInfo info) {
                return info;
            }
        }
        return Arrays.stream(raw.getInterfaces()).map(TypeSchemas::polymorphic).filter(i -> i != null).findFirst().orElse(null);
    }

    private ObjectNode alternatives(JavaType type, JsonTypeInfo info) {
        if (info.use() != JsonTypeInfo.Id.NAME && info.use() != JsonTypeInfo.Id.SIMPLE_NAME || info.include() != JsonTypeInfo.As.PROPERTY) {
            throw refuse(type, "of @JsonTypeInfo only names as a property are known here");
        }
        var options = mapper.createArrayNode();
        String property = info.property().isEmpty() ? info.use().getDefaultPropertyName() : info.property();
        for (var entry : subtypes(type, info).entrySet()) {
            var visitor = new Visitor();
            JavaType subtype = mapper.getTypeFactory().constructSpecializedType(type, entry.getKey());
            visit(subtype, null, visitor);
            var schema = (ObjectNode) visitor.schema(subtype);
            var properties = mapper.createObjectNode();
            properties.putObject(property).put("const", entry.getValue());
            if (schema.get("properties") instanceof ObjectNode own) {
                own.properties().forEach(p -> properties.set(p.getKey(), p.getValue()));
                properties.putObject(property).put("const", entry.getValue());
            }
            var required = mapper.createArrayNode().add(property);
            if (schema.get("required") instanceof ArrayNode own) {
                own.forEach(name -> {
                    if (!name.stringValue().equals(property)) {
                        required.add(name);
                    }
                });
            }
            schema.set("properties", properties);
            schema.set("required", required);
            options.add(schema);
        }
        var schema = mapper.createObjectNode();
        schema.set("anyOf", options);
        return schema;
    }

    /** Concrete classes with their names, as Jackson would find them. */
    private Map<Class<?>, String> subtypes(JavaType type, JsonTypeInfo info) {
        var found = new java.util.LinkedHashMap<Class<?>, String>();
        collect(type, type.getRawClass(), null, info, found);
        if (found.isEmpty()) {
            throw refuse(type, "it has no subtypes: seal it, or name them with @JsonSubTypes");
        }
        return found;
    }

    private void collect(JavaType type, Class<?> raw, String given, JsonTypeInfo info, Map<Class<?>, String> found) {
        if (!Modifier.isAbstract(raw.getModifiers())) {
            String name = given;
            if (name == null || name.isEmpty()) {
                JsonTypeName own = raw.getAnnotation(JsonTypeName.class);
                name = own != null && !own.value().isEmpty() ? own.value() : info.use() == JsonTypeInfo.Id.SIMPLE_NAME ? raw.getSimpleName()
                        : raw.getName().substring(raw.getName().lastIndexOf('.') + 1);
            }
            found.putIfAbsent(raw, name);
        }
        if (raw.getAnnotation(JsonSubTypes.class) instanceof JsonSubTypes listed) {
            for (var each : listed.value()) {
                collect(type, each.value(), each.name(), info, found);
            }
        } else if (raw.isSealed()) {
            for (Class<?> each : raw.getPermittedSubclasses()) {
                collect(type, each, null, info, found);
            }
        }
    }

    // ---- one type

    private final class Visitor extends JsonFormatVisitorWrapper.Base {
        private ObjectNode schema;
        private Set<String> enumeration;

        JsonNode schema(JavaType type) {
            if (schema == null) {
                throw refuse(type, "Jackson does not describe it");
            }
            if (enumeration != null && !enumeration.isEmpty()) {
                schema.remove("type");
                ArrayNode values = schema.putArray("enum");
                enumeration.forEach(values::add);
            }
            return schema;
        }

        @Override
        public void setContext(SerializationContext given) {
            super.setContext(given);
            context = given;
        }

        private ObjectNode type(String name) {
            schema = mapper.createObjectNode();
            if (name != null) {
                schema.put("type", name);
            }
            return schema;
        }

        @Override
        public JsonObjectFormatVisitor expectObjectFormat(JavaType type) {
            type("object");
            ObjectNode properties = schema.putObject("properties");
            ArrayNode required = schema.putArray("required");
            schema.put("additionalProperties", false);
            return new JsonObjectFormatVisitor.Base(getContext()) {
                @Override
                public void property(BeanProperty property) {
                    add(property);
                }

                @Override
                public void optionalProperty(BeanProperty property) {
                    add(property);
                }

                private void add(BeanProperty property) {
                    if (!belongs(type.getRawClass(), property)) {
                        return;
                    }
                    path.add(property.getName());
                    JavaType valueType = property.getType();
                    var serializer = property instanceof BeanPropertyWriter writer ? writer.getSerializer() : null;
                    JsonNode value = use(valueType, serializer);
                    if (nullable(property)) {
                        var either = mapper.createObjectNode();
                        either.putArray("anyOf").add(value).addObject().put("type", "null");
                        value = either;
                    }
                    JsonPropertyDescription text = property.getAnnotation(JsonPropertyDescription.class);
                    if (text != null && value instanceof ObjectNode object) {
                        object.put("description", text.value());
                    }
                    properties.set(property.getName(), value);
                    if (!valueType.isReferenceType()) {
                        required.add(property.getName());
                    }
                    path.removeLast();
                }
            };
        }

        @Override
        public JsonMapFormatVisitor expectMapFormat(JavaType type) {
            type("object");
            JavaType key = type.getKeyType();
            if (key != null && key.isEnumType()) {
                path.add("{key}");
                schema.set("propertyNames", use(key, null));
                path.removeLast();
            } else if (key != null && key.getRawClass() != String.class && key.getRawClass() != Object.class) {
                throw refuse(type, "keys of a map must be strings or an enum");
            }
            path.add("{}");
            JsonNode value = type.getContentType() == null ? mapper.createObjectNode() : use(type.getContentType(), null);
            path.removeLast();
            schema.set("additionalProperties", value);
            return new JsonMapFormatVisitor.Base(getContext());
        }

        @Override
        public JsonArrayFormatVisitor expectArrayFormat(JavaType type) {
            type("array");
            if (type.isContainerType()) {
                if (type.getRawClass() == byte[].class) {
                    throw refuse(type, "bytes have no schema of their own; use a String, or a list of numbers");
                }
                path.add("[]");
                schema.set("items", use(type.getContentType(), null));
                path.removeLast();
            }
            return new JsonArrayFormatVisitor.Base(getContext()) {
                @Override
                public void itemsFormat(JsonFormatVisitable handler, JavaType elementType) { }

                @Override
                public void itemsFormat(JsonFormatTypes format) {
                    if (!schema.has("items")) {
                        schema.putObject("items").put("type", format.value());
                    }
                }
            };
        }

        @Override
        public JsonStringFormatVisitor expectStringFormat(JavaType type) {
            type("string");
            String text = TEXTS.get(type.getRawClass() == Character.class ? char.class : type.getRawClass());
            if (text != null) {
                schema.put("pattern", "^(?:" + text + ")$");
            }
            return new JsonStringFormatVisitor.Base() {
                @Override
                public void format(JsonValueFormat format) {
                    if (text == null) {
                        schema.put("format", format.toString());
                    }
                }

                @Override
                public void enumTypes(Set<String> enums) {
                    enumeration = enums;
                }
            };
        }

        @Override
        public JsonIntegerFormatVisitor expectIntegerFormat(JavaType type) {
            type("integer");
            Class<?> raw = type.getRawClass();
            if (raw == byte.class || raw == Byte.class) {
                range(Byte.MIN_VALUE, Byte.MAX_VALUE);
            } else if (raw == short.class || raw == Short.class) {
                range(Short.MIN_VALUE, Short.MAX_VALUE);
            } else if (raw == int.class || raw == Integer.class) {
                range(Integer.MIN_VALUE, Integer.MAX_VALUE);
            } else if (raw == long.class || raw == Long.class) {
                range(Long.MIN_VALUE, Long.MAX_VALUE);
            }
            return new JsonIntegerFormatVisitor.Base() {
                @Override
                public void numberType(JsonParser.NumberType number) { }
            };
        }

        private void range(long min, long max) {
            schema.put("minimum", min).put("maximum", max);
        }

        @Override
        public JsonNumberFormatVisitor expectNumberFormat(JavaType type) {
            type("number");
            Class<?> raw = type.getRawClass();
            if (raw == double.class || raw == Double.class || raw == float.class || raw == Float.class) {
                // beyond lies infinity, which JSON cannot write
                var most = new BigDecimal(raw == double.class || raw == Double.class ? Double.MAX_VALUE : Float.MAX_VALUE);
                schema.put("minimum", most.negate()).put("maximum", most);
            }
            return new JsonNumberFormatVisitor.Base();
        }

        @Override
        public JsonBooleanFormatVisitor expectBooleanFormat(JavaType type) {
            type("boolean");
            return new JsonBooleanFormatVisitor.Base();
        }

        @Override
        public JsonNullFormatVisitor expectNullFormat(JavaType type) {
            type("null");
            return new JsonNullFormatVisitor.Base();
        }

        @Override
        public JsonAnyFormatVisitor expectAnyFormat(JavaType type) {
            type(null);
            return new JsonAnyFormatVisitor.Base();
        }
    }

    /** A record is made of its components, whatever other getters it has. */
    private static boolean belongs(Class<?> raw, BeanProperty property) {
        if (!raw.isRecord() || property.getMember() == null) {
            return true;
        }
        var components = new TreeSet<String>();
        for (RecordComponent c : raw.getRecordComponents()) {
            components.add(c.getName());
        }
        return components.contains(property.getMember().getName());
    }

    private static boolean nullable(BeanProperty property) {
        if (property.getMember() == null || property.getMember().getMember() == null) {
            return false;
        }
        var elements = new ArrayList<AnnotatedElement>();
        switch (property.getMember().getMember()) {
            case Method m -> {
                elements.add(m);
                elements.add(m.getAnnotatedReturnType());
                if (m.getDeclaringClass().isRecord()) {
                    for (RecordComponent c : m.getDeclaringClass().getRecordComponents()) {
                        if (c.getName().equals(m.getName())) {
                            elements.add(c);
                            elements.add(c.getAnnotatedType());
                        }
                    }
                }
            }
            case Field f -> {
                elements.add(f);
                elements.add(f.getAnnotatedType());
            }
            default -> { }
        }
        return elements.stream().flatMap(e -> Stream.of(e.getAnnotations()))
                .anyMatch(a -> a.annotationType().getSimpleName().equals("Nullable"));
    }
}
