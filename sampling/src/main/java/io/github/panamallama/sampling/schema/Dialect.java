package io.github.panamallama.sampling.schema;

import java.util.Map;

/** The drafts that differ in what keywords mean. What a newer draft renamed is read by its shape. */
enum Dialect {
    DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020;

    private static final Map<String, Dialect> BY_URI = Map.of(
            "http://json-schema.org/draft-04/schema", DRAFT_4,
            "http://json-schema.org/draft-06/schema", DRAFT_6,
            "http://json-schema.org/draft-07/schema", DRAFT_7,
            "https://json-schema.org/draft/2019-09/schema", DRAFT_2019,
            "https://json-schema.org/draft/2020-12/schema", DRAFT_2020);

    /** The dialect of a value of {@code $schema}, null if it is not a published one. */
    static Dialect of(String uri) {
        int hash = uri.indexOf('#');
        return BY_URI.get(hash < 0 ? uri : uri.substring(0, hash));
    }

    /** Before 2019-09 {@code $ref} stood alone: its siblings do not count. */
    boolean refStandsAlone() {
        return compareTo(DRAFT_2019) < 0;
    }

    /** The keyword that names a resource. */
    String idKeyword() {
        return this == DRAFT_4 ? "id" : "$id";
    }
}
