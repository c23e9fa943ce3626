package io.github.panamallama.runtime.natives;

import java.util.Locale;

/** The {@code <os>-<arch>} under which natives jars are named. */
final class Platform {
    private Platform() {}

    static String current() {
        return of(System.getProperty("os.name"), System.getProperty("os.arch"));
    }

    static String of(String osName, String osArch) {
        var name = osName.toLowerCase(Locale.ROOT);
        var os = name.startsWith("mac") || name.startsWith("darwin") ? "macos" : name.startsWith("win") ? "windows"
                : name.replace(' ', '_');
        var arch = switch (osArch.toLowerCase(Locale.ROOT)) {
            case "amd64", "x86_64", "x64" -> "x86_64";
            case "aarch64", "arm64" -> "aarch64";
            case String other -> other;
        };
        return os + "-" + arch;
    }
}
