package io.github.panamallama.sampling.schema;

import java.util.function.IntUnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * The formats of the validation vocabulary (section 7.3) as languages of strings. Those that no automaton decides are refused; unknown
 * ones say nothing, as the specification has it.
 */
final class Formats {
    private static final String LEAP_YEAR = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
    private static final String DATE = "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)"
            + "|02-(?:0[1-9]|1\\d|2[0-8]))|" + LEAP_YEAR + "-02-29)";
    private static final String HOUR = "(?:[01]\\d|2[0-3])";
    private static final String MINUTE = "[0-5]\\d";
    private static final String PART = "(?:\\.\\d+)?";
    private static final String TIME = HOUR + ":" + MINUTE + ":" + MINUTE + PART + "(?:[Zz]|[+-]" + HOUR + ":" + MINUTE + ")";

    private static final String OCTET = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
    private static final String IPV4 = OCTET + "(?:\\." + OCTET + "){3}";
    private static final String H16 = "[0-9A-Fa-f]{1,4}";
    private static final String LS32 = "(?:" + H16 + ":" + H16 + "|" + IPV4 + ")";
    private static final String IPV6 = "(?:(?:" + H16 + ":){6}" + LS32
            + "|::(?:" + H16 + ":){5}" + LS32
            + "|(?:" + H16 + ")?::(?:" + H16 + ":){4}" + LS32
            + "|(?:(?:" + H16 + ":){0,1}" + H16 + ")?::(?:" + H16 + ":){3}" + LS32
            + "|(?:(?:" + H16 + ":){0,2}" + H16 + ")?::(?:" + H16 + ":){2}" + LS32
            + "|(?:(?:" + H16 + ":){0,3}" + H16 + ")?::" + H16 + ":" + LS32
            + "|(?:(?:" + H16 + ":){0,4}" + H16 + ")?::" + LS32
            + "|(?:(?:" + H16 + ":){0,5}" + H16 + ")?::" + H16
            + "|(?:(?:" + H16 + ":){0,6}" + H16 + ")?::)";

    private static final String LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    private static final String ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
    private static final String EMAIL = "(?:" + ATEXT + "(?:\\." + ATEXT + ")*|\"(?:[ !#-\\[\\]-~]|\\\\[ -~])*\")@(?:" + LABEL + "(?:\\."
            + LABEL + ")*|\\[(?:" + IPV4 + "|IPv6:" + IPV6 + ")\\])";

    private static final String UUID = "[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}";
    private static final String POINTER = "(?:/(?:[^~/]|~[01])*)*";
    private static final String DURATION = "P(?:\\d+W|(?:\\d+D|\\d+M(?:\\d+D)?|\\d+Y(?:\\d+M(?:\\d+D)?)?)(?:T(?:\\d+H(?:\\d+M(?:\\d+S)?)?"
            + "|\\d+M(?:\\d+S)?|\\d+S))?|T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S))";

    /** RFC 6570, section 2. */
    private static final String TEMPLATE = "(?:[!#$&-;=?-\\[\\]_a-z~\\xa0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{10fffd}]"
            + "|%[0-9A-Fa-f]{2}|\\{[+#./;?&=,!@|]?VAR(?:,VAR)*\\})*";
    private static final String VARCHAR = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})";
    private static final String VARIABLE = VARCHAR + "(?:\\.?" + VARCHAR + ")*(?::[1-9]\\d{0,3}|\\*)?";

    private static final String UCS = "\\xa0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef" + IntStream.rangeClosed(1, 14)
            .mapToObj(p -> String.format("\\u{%x}-\\u{%x}", p == 14 ? 0xe1000 : p << 16, (p << 16) + 0xfffd)).collect(Collectors.joining());
    private static final String PRIVATE = "\\ue000-\\uf8ff\\u{f0000}-\\u{ffffd}\\u{100000}-\\u{10fffd}";

    private Formats() { }

    /** The contents of strings in the format, null if the name is unknown. */
    static Integer term(String format, Terms terms, String pointer) {
        String pattern = switch (format) {
            case "date" -> DATE;
            case "ipv4" -> IPV4;
            case "ipv6" -> IPV6;
            case "email" -> EMAIL;
            case "uuid" -> UUID;
            case "uri" -> uri("", "", false);
            case "uri-reference" -> uri("", "", true);
            case "iri" -> uri(UCS, PRIVATE, false);
            case "iri-reference" -> uri(UCS, PRIVATE, true);
            case "uri-template" -> TEMPLATE.replace("VAR", VARIABLE);
            case "json-pointer" -> POINTER;
            case "relative-json-pointer" -> "(?:0|[1-9]\\d*)(?:#|" + POINTER + ")";
            case "duration" -> DURATION;
            case "time", "date-time" -> TIME;
            case "hostname", "idn-hostname", "idn-email", "regex" ->
                    throw new Refusal(pointer, "format " + format + " cannot be enforced: no finite automaton decides it");
            default -> null;
        };
        if (pattern == null) {
            return null;
        }
        int term = match(pattern, terms);
        if (format.equals("time") || format.equals("date-time")) {
            term = terms.pool.alt(term, leapSecond(terms));
            if (format.equals("date-time")) {
                term = terms.pool.concat(match(DATE, terms), match("[Tt]", terms), term);
            }
        }
        return term;
    }

    private static int match(String pattern, Terms terms) {
        return terms.pool.match(pattern, terms.encoding);
    }

    /** Second 60 is only at 23:59 UTC (RFC 3339, section 5.7): the offset follows from the local time, hours and minutes apart. */
    private static int leapSecond(Terms terms) {
        int utc = match("23:59:60" + PART + "[Zz]", terms);
        int west = terms.pool.and(match(pairs(24, "(?:", ":..:60" + PART + "-", ":..", h -> 23 - h), terms),
                match(pairs(60, "(?:..:", ":60" + PART + "-..:", "", m -> 59 - m), terms));
        int east = terms.pool.and(match(pairs(24, "(?:", ":..:60" + PART + "\\+", ":..", h -> h), terms),
                match(pairs(59, "(?:..:", ":60" + PART + "\\+..:", "", m -> m + 1), terms));
        int carried = match(pairs(24, "(?:", ":59:60" + PART + "\\+", ":00", h -> (h + 1) % 24), terms);
        return terms.pool.alt(utc, west, east, carried);
    }

    private static String pairs(int n, String before, String between, String after, IntUnaryOperator other) {
        return IntStream.range(0, n).mapToObj(i -> before + String.format("%02d", i) + between + String.format("%02d", other.applyAsInt(i))
                + after + ")").collect(Collectors.joining("|"));
    }

    /** RFC 3986, appendix A; RFC 3987 with more characters. */
    private static String uri(String ucs, String secret, boolean relative) {
        String plain = "A-Za-z0-9._~!$&'()*+,;=" + ucs;
        String escaped = "%[0-9A-Fa-f]{2}";
        String pchar = "(?:[" + plain + ":@-]|" + escaped + ")";
        String segments = "(?:/" + pchar + "*)*";
        String userinfo = "(?:(?:[" + plain + ":-]|" + escaped + ")*@)?";
        String host = "(?:\\[(?:" + IPV6 + "|[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]|(?:[" + plain + "-]|" + escaped + ")*)";
        String authority = "//" + userinfo + host + "(?::\\d*)?" + segments;
        String absolute = "/(?:" + pchar + "+" + segments + ")?";
        String tail = "(?:\\?(?:" + pchar + "|[/?" + secret + "])*)?(?:#(?:" + pchar + "|[/?])*)?";
        String full = "[A-Za-z][A-Za-z0-9+.-]*:(?:" + authority + "|" + absolute + "|" + pchar + "+" + segments + "|)" + tail;
        if (!relative) {
            return full;
        }
        String first = "(?:[" + plain + "@-]|" + escaped + ")+";
        return full + "|(?:" + authority + "|" + absolute + "|" + first + segments + "|)" + tail;
    }
}
