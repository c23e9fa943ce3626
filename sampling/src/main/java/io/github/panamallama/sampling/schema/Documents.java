package io.github.panamallama.sampling.schema;

import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/**
 * Schema documents, the resources in them ({@code $id}), their anchors, and the resolution of references (core specification,
 * sections 8 and 9). Nothing is ever fetched: what is not given by the caller does not exist.
 */
final class Documents {
    /** Reads numbers exactly and refuses duplicate keys. */
    static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .enable(DeserializationFeature.USE_BIG_INTEGER_FOR_INTS)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    private static final String ROOT = "schema:/";
    private static final Set<String> SCHEMAS = Set.of("not", "if", "then", "else", "items", "additionalItems", "contains",
            "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "contentSchema");
    private static final Set<String> SCHEMA_LISTS = Set.of("allOf", "anyOf", "oneOf", "prefixItems", "items");
    private static final Set<String> SCHEMA_MAPS = Set.of("properties", "patternProperties", "$defs", "definitions", "dependentSchemas",
            "dependencies");

    private final Map<String, Resource> resources = new HashMap<>();
    private final Map<String, String> given;
    private int documents;

    /** @param given documents that references may reach, by absolute URI */
    Documents(Map<String, String> given) {
        this.given = given;
    }

    /** A schema with an own base URI. */
    static final class Resource {
        final int document;
        final String uri;
        final String pointer;
        final JsonNode root;
        final Dialect dialect;
        /** The dialect's vocabularies include validation (types, bounds, lengths). */
        final boolean validation;
        /** The dialect asks for formats to be asserted. */
        final boolean formats;
        final Map<String, Place> anchors = new HashMap<>();
        final Map<String, Place> dynamicAnchors = new LinkedHashMap<>();
        private final Map<String, Resource> inDocument;

        Resource(int document, String uri, String pointer, JsonNode root, Dialect dialect, Vocabularies vocabularies,
                Map<String, Resource> inDocument) {
            this.document = document;
            this.uri = uri;
            this.pointer = pointer;
            this.root = root;
            this.dialect = dialect;
            validation = vocabularies.validation;
            formats = vocabularies.formats;
            this.inDocument = inDocument;
        }

        Place place() {
            return new Place(this, root, pointer);
        }
    }

    /** A schema in a resource; {@code pointer} counts from the root of the document. */
    record Place(Resource resource, JsonNode node, String pointer) {
        Place child(String token) {
            return at(node.get(token), token);
        }

        Place child(String keyword, String token) {
            return at(node.get(keyword).get(token), keyword, token);
        }

        Place child(String keyword, int index) {
            return at(node.get(keyword).get(index), keyword, Integer.toString(index));
        }

        private Place at(JsonNode child, String... tokens) {
            var path = new StringBuilder(pointer);
            for (String token : tokens) {
                path.append('/').append(escape(token));
            }
            String where = path.toString();
            return new Place(resource.inDocument.getOrDefault(where, resource), child, where);
        }

        String key() {
            return resource.document + "#" + pointer;
        }

        /** Where a keyword of this schema stands. */
        String pointer(String keyword) {
            return pointer + "/" + escape(keyword);
        }
    }

    /** The place of the schema to compile. */
    Place load(String text) {
        return add(ROOT, read(text, ""), null).place();
    }

    private static JsonNode read(String text, String what) {
        JsonNode node;
        try {
            node = JSON.readTree(text);
        } catch (JacksonException e) {
            var at = e.getLocation();
            throw new Refusal("", what + "not a JSON document: " + e.getOriginalMessage()
                    + (at == null ? "" : " (line " + at.getLineNr() + ", column " + at.getColumnNr() + ")"));
        } catch (ArithmeticException | NumberFormatException e) {
            throw new Refusal("", what + "a number beyond every limit: " + e.getMessage());
        }
        if (node == null || node.isMissingNode()) {
            throw new Refusal("", what + "empty text is not a schema");
        }
        return node;
    }

    private Resource add(String uri, JsonNode root, Dialect inherited) {
        int document = documents++;
        var inDocument = new HashMap<String, Resource>();
        scan(root, "", null, uri, inherited == null ? Dialect.DRAFT_2020 : inherited, document, inDocument);
        Resource first = inDocument.get("");
        resources.putIfAbsent(uri, first);
        return first;
    }

    private void scan(JsonNode node, String pointer, Resource current, String base, Dialect dialect, int document,
            Map<String, Resource> inDocument) {
        boolean root = current == null;
        String uri = base;
        var vocabularies = root ? Vocabularies.PUBLISHED : new Vocabularies(current.validation, current.formats);
        if (node instanceof ObjectNode schema) {
            JsonNode declared = schema.get("$schema");
            boolean names = schema.get(dialect.idKeyword()) != null && schema.get(dialect.idKeyword()).isString();
            if (declared != null && declared.isString() && (root || names)) {
                dialect = Dialect.of(declared.stringValue());
                vocabularies = Vocabularies.PUBLISHED;
                if (dialect == null) {
                    dialect = Dialect.DRAFT_2020;
                    vocabularies = vocabularies(declared.stringValue(), pointer + "/$schema");
                }
            }
            String anchor = null;
            JsonNode id = schema.get(dialect.idKeyword());
            boolean alone = dialect.refStandsAlone() && schema.has("$ref");
            boolean own = false;
            if (id != null && id.isString() && !alone) {
                String text = id.stringValue();
                int hash = text.indexOf('#');
                if (hash >= 0 && hash < text.length() - 1 && dialect.refStandsAlone()) {
                    anchor = text.substring(hash + 1);
                }
                String name = hash < 0 ? text : text.substring(0, hash);
                if (!name.isEmpty()) {
                    uri = resolve(base, name, pointer + "/" + dialect.idKeyword());
                    own = true;
                }
            }
            if (root || own) {
                current = new Resource(document, uri, pointer, node, dialect, vocabularies, inDocument);
                inDocument.put(pointer, current);
                resources.putIfAbsent(uri, current);
            }
            var place = new Place(current, node, pointer);
            if (anchor != null) {
                current.anchors.putIfAbsent(anchor, place);
            }
            if (schema.get("$anchor") instanceof JsonNode a && a.isString()) {
                current.anchors.putIfAbsent(a.stringValue(), place);
            }
            if (schema.get("$dynamicAnchor") instanceof JsonNode a && a.isString()) {
                current.dynamicAnchors.putIfAbsent(a.stringValue(), place);
            }
            for (var entry : schema.properties()) {
                String keyword = entry.getKey();
                JsonNode value = entry.getValue();
                String where = pointer + "/" + escape(keyword);
                if (value.isObject() && SCHEMAS.contains(keyword)) {
                    scan(value, where, current, uri, dialect, document, inDocument);
                } else if (value.isArray() && SCHEMA_LISTS.contains(keyword)) {
                    for (int i = 0; i < value.size(); i++) {
                        if (value.get(i).isObject()) {
                            scan(value.get(i), where + "/" + i, current, uri, dialect, document, inDocument);
                        }
                    }
                } else if (value.isObject() && SCHEMA_MAPS.contains(keyword)) {
                    for (var inner : value.properties()) {
                        if (inner.getValue().isObject()) {
                            scan(inner.getValue(), where + "/" + escape(inner.getKey()), current, uri, dialect, document, inDocument);
                        }
                    }
                }
            }
        } else if (root) {
            inDocument.put(pointer, new Resource(document, uri, pointer, node, dialect, Vocabularies.PUBLISHED, inDocument));
        }
    }

    private record Vocabularies(boolean validation, boolean formats) {
        /** Those of the published drafts: a format is an annotation. */
        static final Vocabularies PUBLISHED = new Vocabularies(true, false);
    }

    /** What a metaschema that the caller gave asks for. */
    private Vocabularies vocabularies(String uri, String pointer) {
        int hash = uri.indexOf('#');
        String text = given.get(hash < 0 ? uri : uri.substring(0, hash));
        if (text == null) {
            throw new Refusal(pointer, "unknown dialect " + uri + ": use a published draft, or give its metaschema as a document");
        }
        JsonNode vocabulary = read(text, uri + ": ").get("$vocabulary");
        if (vocabulary == null || !vocabulary.isObject()) {
            return Vocabularies.PUBLISHED;
        }
        String published = "https://json-schema.org/draft/2020-12/vocab/";
        for (var entry : vocabulary.properties()) {
            if (!entry.getKey().startsWith(published) && entry.getValue().asBoolean(false)) {
                throw new Refusal(pointer, "the dialect requires a vocabulary that is not known: " + entry.getKey());
            }
        }
        return new Vocabularies(vocabulary.has(published + "validation"), vocabulary.has(published + "format-assertion"));
    }

    /** What {@code $ref} in {@code from} means; {@code keyword} is for the message. */
    Place resolve(Place from, String reference, String keyword) {
        String where = from.pointer(keyword);
        int hash = reference.indexOf('#');
        String name = hash < 0 ? reference : reference.substring(0, hash);
        String fragment = hash < 0 ? "" : reference.substring(hash + 1);
        String uri = name.isEmpty() ? from.resource.uri : resolve(from.resource.uri, name, where);
        Resource resource = resource(uri, where, reference);
        if (fragment.isEmpty()) {
            return resource.place();
        }
        String decoded;
        try {
            decoded = URLDecoder.decode(fragment.replace("+", "%2B"), StandardCharsets.UTF_8);
        } catch (IllegalArgumentException e) {
            throw new Refusal(where, "bad percent-encoding in reference " + reference);
        }
        if (decoded.startsWith("/")) {
            return pointer(resource, decoded, where, reference);
        }
        Place place = resource.anchors.get(decoded);
        if (place == null) {
            place = resource.dynamicAnchors.get(decoded);
        }
        if (place == null) {
            throw new Refusal(where, "reference to anchor " + decoded + ", which " + name(resource) + " does not have");
        }
        return place;
    }

    private static String name(Resource resource) {
        return resource.uri.equals(ROOT) ? "the schema" : resource.uri;
    }

    private Resource resource(String uri, String where, String reference) {
        Resource found = resources.get(uri);
        if (found == null) {
            String text = given.get(uri);
            if (text == null) {
                throw new Refusal(where, "remote reference " + reference + " (" + uri + "): nothing is fetched, give it as a document");
            }
            found = add(uri, read(text, uri + ": "), null);
        }
        return found;
    }

    private static Place pointer(Resource resource, String pointer, String where, String reference) {
        Resource current = resource;
        JsonNode node = resource.root;
        var path = new StringBuilder(resource.pointer);
        for (String token : pointer.substring(1).split("/", -1)) {
            String key = token.replace("~1", "/").replace("~0", "~");
            JsonNode next = null;
            if (node.isObject()) {
                next = node.get(key);
            } else if (node.isArray() && key.matches("0|[1-9][0-9]{0,8}")) {
                next = node.get(Integer.parseInt(key));
            }
            if (next == null) {
                throw new Refusal(where, "reference " + reference + " leads nowhere: " + name(resource) + " has no " + pointer);
            }
            node = next;
            path.append('/').append(escape(key));
            current = resource.inDocument.getOrDefault(path.toString(), current);
        }
        return new Place(current, node, path.toString());
    }

    private static String resolve(String base, String reference, String where) {
        try {
            URI uri = URI.create(reference);
            if (!uri.isAbsolute()) {
                URI from = URI.create(base);
                if (from.isOpaque()) {
                    throw new Refusal(where, "relative reference " + reference + " under the base " + base + ", which has no path");
                }
                uri = from.resolve(uri);
            }
            return uri.normalize().toString();
        } catch (IllegalArgumentException e) {
            throw new Refusal(where, "not a URI reference: " + reference);
        }
    }

    static String escape(String token) {
        return token.replace("~", "~0").replace("/", "~1");
    }
}
