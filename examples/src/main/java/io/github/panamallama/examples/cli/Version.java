package io.github.panamallama.examples.cli;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Properties;
import picocli.CommandLine.IVersionProvider;

/** The versions that the build wrote down; asking costs no native code. */
final class Version implements IVersionProvider {
    private static final Properties BUILD = read("version.properties");
    private static final Properties UPSTREAM = read("upstream.properties");

    @Override
    public String[] getVersion() {
        return new String[] {
            "panama-llama " + program() + " (llama.cpp " + llamaCpp() + ")",
            "Java " + Runtime.version() + ", " + System.getProperty("os.name") + " " + System.getProperty("os.arch"),
        };
    }

    static String program() {
        return BUILD.getProperty("version");
    }

    static String llamaCpp() {
        return UPSTREAM.getProperty("version");
    }

    private static Properties read(String resource) {
        try (var in = Version.class.getResourceAsStream(resource)) {
            var properties = new Properties();
            properties.load(in);
            return properties;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
