package io.github.panamallama;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.chat.ChatMessage;
import java.io.IOException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Objects;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/**
 * The messages of a conversation as a JSON file.
 *
 * @param forgotten turns that went because the context was full
 */
record SavedChat(int format, List<ChatMessage> messages, int forgotten) {
    private static final int FORMAT = 1;
    /** Many times what any context holds. */
    private static final long MAX_BYTES = 1 << 28;

    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(SerializationFeature.INDENT_OUTPUT)
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS, DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();

    SavedChat {
        messages = List.copyOf(Objects.requireNonNull(messages, "messages"));
        if (format != FORMAT) {
            throw new IllegalArgumentException("format " + format + "; this program reads " + FORMAT);
        }
        if (forgotten < 0) {
            throw new IllegalArgumentException("forgotten is " + forgotten + "; it must be 0 or more");
        }
    }

    static SavedChat of(List<ChatMessage> messages, int forgotten) {
        return new SavedChat(FORMAT, messages, forgotten);
    }

    /** The file appears when it is complete. */
    void write(Path file) throws IOException {
        var unfinished = file.resolveSibling("." + file.getFileName() + "." + ProcessHandle.current().pid() + ".part");
        try {
            Files.write(unfinished, JSON.writeValueAsBytes(this));
            try {
                Files.move(unfinished, file, StandardCopyOption.ATOMIC_MOVE);   // replaces
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(unfinished, file, StandardCopyOption.REPLACE_EXISTING);
            }
        } finally {
            Files.deleteIfExists(unfinished);
        }
    }

    static SavedChat read(Path file) {
        try {
            long size = Files.size(file);
            if (size > MAX_BYTES) {
                throw new LlamaException(file + " has " + size + " bytes; conversations have at most " + MAX_BYTES);
            }
            return JSON.readValue(Files.readAllBytes(file), SavedChat.class);
        } catch (IOException e) {
            throw new LlamaException(file + " can't be read: " + LlamaException.reason(e), e);
        } catch (JacksonException e) {
            throw new LlamaException(file + " holds no conversation: " + e.getOriginalMessage(), e);
        }
    }
}
