package io.github.panamallama.tests;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Collectors;

/** Text of the kind that the shipped model was trained on. */
final class JavaText {
    private JavaText() {
    }

    /** The Java files below a folder, in the order of their names, without what stands before the package. */
    static String below(Path folder) throws IOException {
        try (var files = Files.walk(folder)) {
            return files.filter(file -> file.toString().endsWith(".java") && !file.endsWith("module-info.java")).sorted()
                    .map(JavaText::withoutHeader).collect(Collectors.joining("\n"));
        }
    }

    private static String withoutHeader(Path file) {
        try {
            var text = Files.readString(file);
            int start = text.indexOf("package ");
            return start < 0 ? text : text.substring(start);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
