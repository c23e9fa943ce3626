package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.LlamaException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/** Text files and places for results, with errors that a user can act on. */
final class Sources {
    private Sources() {
    }

    static String read(Path file) {
        if (file.toString().isEmpty()) {
            throw new CommandException("the name of a file is empty");
        }
        if (Files.isDirectory(file)) {
            throw new CommandException(file + " is a directory, not a file");
        }
        try {
            return decode(Files.readAllBytes(file), file.toString());
        } catch (NoSuchFileException e) {
            throw new CommandException("no such file: " + file);
        } catch (AccessDeniedException e) {
            throw new CommandException("not allowed to read " + file);
        } catch (IOException e) {
            throw new CommandException("cannot read " + file + ": " + LlamaException.reason(e));
        }
    }

    /** Before long work whose result is to be written. */
    static void requireWritable(Path out) {
        var folder = out.toAbsolutePath().getParent();
        if (Files.isDirectory(out)) {
            throw new CommandException(out + " is a directory; name the file to write");
        }
        if (folder == null || !Files.isDirectory(folder)) {
            throw new CommandException("no such folder for the output: " + folder);
        }
        if (!Files.isWritable(Files.exists(out) ? out : folder)) {
            throw new CommandException("not allowed to write " + out);
        }
    }

    /** UTF-8 without a byte order mark; anything else is refused, because a replaced character would change the text. */
    static String decode(byte[] bytes, String name) {
        var source = ByteBuffer.wrap(bytes);
        var decoder = StandardCharsets.UTF_8.newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT)
                .onUnmappableCharacter(CodingErrorAction.REPORT);
        try {
            var text = decoder.decode(source).toString();
            return text.startsWith("\uFEFF") ? text.substring(1) : text;
        } catch (CharacterCodingException e) {
            throw new CommandException(name + " is not UTF-8 text: invalid bytes at offset " + source.position());
        }
    }
}
