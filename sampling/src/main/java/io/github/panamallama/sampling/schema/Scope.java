package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.schema.Documents.Place;
import io.github.panamallama.sampling.schema.Documents.Resource;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** The dynamic scope of a schema, as far as {@code $dynamicRef} sees it: per dynamic anchor the outermost place entered. */
final class Scope {
    static final Scope EMPTY = new Scope(Map.of());

    private final Map<String, Place> outermost;
    final String key;

    private Scope(Map<String, Place> outermost) {
        this.outermost = outermost;
        var text = new StringBuilder();
        new TreeMap<>(outermost).forEach((name, place) -> text.append(name).append('=').append(place.key()).append(';'));
        key = text.toString();
    }

    Scope enter(Resource resource) {
        if (outermost.keySet().containsAll(resource.dynamicAnchors.keySet())) {
            return this;
        }
        var all = new LinkedHashMap<>(outermost);
        resource.dynamicAnchors.forEach(all::putIfAbsent);
        return new Scope(all);
    }

    /** The outermost place with this dynamic anchor, null if there is none. */
    Place outermost(String anchor) {
        return outermost.get(anchor);
    }
}
