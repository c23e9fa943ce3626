package io.github.panamallama.examples.cli;

import java.util.Locale;

/** Numbers for people. */
final class Units {
    private static final String[] BINARY = {"B", "KiB", "MiB", "GiB", "TiB"};
    private static final String[] DECIMAL = {"", " K", " M", " B", " T"};

    private Units() {
    }

    /** For instance {@code 5.93 MiB}. */
    static String bytes(long bytes) {
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < BINARY.length - 1) {
            value /= 1024;
            unit++;
        }
        return String.format(Locale.ROOT, unit == 0 ? "%.0f %s" : "%.2f %s", value, BINARY[unit]);
    }

    /** For instance {@code 5.77 M}. */
    static String count(long count) {
        double value = count;
        int unit = 0;
        while (value >= 1000 && unit < DECIMAL.length - 1) {
            value /= 1000;
            unit++;
        }
        return String.format(Locale.ROOT, unit == 0 ? "%.0f%s" : "%.2f%s", value, DECIMAL[unit]);
    }
}
