package io.github.panamallama.runtime;

import java.io.File;
import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Another JVM that runs a class of these tests, with the same natives. */
final class ChildJvm {
    private ChildJvm() {
    }

    static List<String> command(Class<?> main, String... arguments) {
        var path = Stream.of("java.class.path", "jdk.module.path", "jdk.module.main.path").map(System::getProperty).filter(Objects::nonNull)
                .collect(Collectors.joining(File.pathSeparator));
        var command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Xmx1g", "-cp", path + File.pathSeparator + classes(main)));
        for (var name : List.of("panamallama.natives", "panamallama.upstream")) {
            if (System.getProperty(name) != null) {
                command.add("-D" + name + "=" + System.getProperty(name));
            }
        }
        command.add(main.getName());
        command.addAll(List.of(arguments));
        return command;
    }

    private static String classes(Class<?> main) {
        try {
            return Path.of(main.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
    }
}
