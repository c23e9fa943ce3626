package io.github.panamallama.hub;

/** Text from elsewhere in messages. */
final class Names {
    private static final int LONGEST = 200;

    private Names() {
    }

    /** Without control characters, which could write to the terminal, and not too long. */
    static String printable(String text) {
        var plain = text.replaceAll("[\\p{Cntrl}\\p{Cf}\\p{Zl}\\p{Zp}]", "?");
        return plain.length() <= LONGEST ? plain : plain.substring(0, LONGEST) + "...";
    }
}
