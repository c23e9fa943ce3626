package io.github.panamallama.adapters;

import io.github.panamallama.runtime.AdapterException;
import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** JSON objects as files of adapters have them. */
final class JsonFiles {
    /** Configurations have some kilobytes, indexes of many shards some megabytes. */
    private static final long MAX_BYTES = 64 << 20;

    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    private JsonFiles() {
    }

    /** @throws AdapterException if the file can't be read or is no JSON object */
    static JsonNode read(Path path) {
        try {
            long size = Files.size(path);
            if (size > MAX_BYTES) {
                throw new AdapterException(path + ": has " + size + " bytes; at most " + MAX_BYTES + " are read");
            }
            return object(path.toString(), Files.readString(path, StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new AdapterException(path + ": can't be read: " + LlamaException.reason(e), e);
        }
    }

    /** @throws AdapterException if the text is no JSON object, or has a name twice; {@code what} begins the message */
    static JsonNode object(String what, String text) {
        try {
            var node = JSON.readTree(text);
            if (!node.isObject()) {
                throw new AdapterException(what + ": is no JSON object");
            }
            return node;
        } catch (JacksonException e) {
            throw new AdapterException(what + ": broken JSON: " + e.getOriginalMessage(), e);
        }
    }
}
