package io.github.panamallama.examples.cli;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;

/** Reads text files, with errors that a user can act on. */
final class Sources {
    private Sources() {
    }

    /**
     * These files, and those in these folders that end with {@code suffix}, in the order of their paths.
     *
     * @throws CommandException   when one is missing
     * @throws ParameterException when a folder has none
     */
    static List<Path> find(CommandLine command, List<Path> files, String suffix) throws IOException {
        var sources = new ArrayList<Path>();
        for (var file : files) {
            if (Files.isDirectory(file)) {
                try (var below = Files.walk(file)) {
                    below.filter(f -> f.toString().endsWith(suffix) && Files.isRegularFile(f)).sorted().forEach(sources::add);
                }
            } else if (Files.exists(file)) {
                sources.add(file);
            } else {
                throw new CommandException("no such file: " + file);
            }
        }
        if (sources.isEmpty()) {
            throw new ParameterException(command, "no file that ends with " + suffix + " in " + files.getFirst() + "; see --suffix");
        }
        return sources;
    }

    static String read(Path file) {
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
            throw new CommandException("cannot read " + file + ": " + e.getMessage());
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
