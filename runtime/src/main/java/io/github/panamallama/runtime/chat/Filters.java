package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.chat.Expr.Args;
import io.github.panamallama.runtime.chat.Expr.Fn;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.TextStyle;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.IntPredicate;

/** Jinja's filters, tests and globals, and the methods of Python's strings, lists and dictionaries that templates call. */
final class Filters {
    @FunctionalInterface
    interface Filter {
        Object apply(Render r, Object value, Args args);
    }

    @FunctionalInterface
    interface Test {
        boolean apply(Render r, Object value, Args args);
    }

    static final Map<String, Filter> FILTERS = new HashMap<>();
    static final Map<String, Test> TESTS = new HashMap<>();
    static final Map<String, Object> GLOBALS = new LinkedHashMap<>();

    private Filters() {}

    // ---- globals

    static {
        GLOBALS.put("range", (Fn) (r, a) -> {
            int n = a.positional().size();
            long start = n > 1 ? r.integer(a.need(0, "start")) : 0;
            long stop = r.integer(a.need(n > 1 ? 1 : 0, "stop"));
            long step = n > 2 ? r.integer(a.need(2, "step")) : 1;
            if (step == 0) {
                throw new Fault("range() step can't be zero");
            }
            double size = Math.ceil((stop - (double) start) / step);
            if (size > Budget.RANGE) {
                throw new Fault("range() of " + (long) size + " elements; at most " + Budget.RANGE + " are allowed");
            }
            var out = new PyList();
            for (long i = start; step > 0 ? i < stop : i > stop; i += step) {
                out.add(i);
            }
            return r.made(out);
        });
        GLOBALS.put("namespace", (Fn) (r, a) -> new Render.Namespace((PyDict) dict(r, a)));
        GLOBALS.put("dict", (Fn) Filters::dict);
        GLOBALS.put("raise_exception", (Fn) (r, a) -> {
            throw new Fault("the template refuses this conversation: " + (a.positional().isEmpty() ? ""
                    : r.str(a.positional().getFirst())));
        });
        GLOBALS.put("strftime_now", (Fn) (r, a) -> strftime(ZonedDateTime.now(r.clock), a.text(0, "format")));
    }

    private static Object dict(Render r, Args a) {
        var out = new PyDict();
        for (Object from : a.positional()) {
            if (from instanceof PyDict d) {
                out.putAll(d);
            } else {
                for (Object pair : r.iterate(from)) {
                    var kv = r.iterate(pair);
                    if (kv.size() != 2) {
                        throw new Fault("dict() needs pairs");
                    }
                    out.put(kv.get(0), kv.get(1));
                }
            }
        }
        a.named().forEach(out::put);
        r.budget.items(out.size());
        return out;
    }

    private static String strftime(ZonedDateTime t, String format) {
        var out = new StringBuilder();
        for (int i = 0; i < format.length(); i++) {
            char c = format.charAt(i);
            if (c != '%' || ++i == format.length()) {
                out.append(c);
                continue;
            }
            boolean unpadded = format.charAt(i) == '-' && i + 1 < format.length();
            char f = unpadded ? format.charAt(++i) : format.charAt(i);
            String s = switch (f) {
                case 'Y' -> String.valueOf(t.getYear());
                case 'y' -> two(t.getYear() % 100);
                case 'm' -> two(t.getMonthValue());
                case 'd' -> two(t.getDayOfMonth());
                case 'e' -> String.format("%2d", t.getDayOfMonth());
                case 'H' -> two(t.getHour());
                case 'I' -> two((t.getHour() + 11) % 12 + 1);
                case 'M' -> two(t.getMinute());
                case 'S' -> two(t.getSecond());
                case 'f' -> String.format("%06d", t.getNano() / 1000);
                case 'j' -> String.format("%03d", t.getDayOfYear());
                case 'p' -> t.getHour() < 12 ? "AM" : "PM";
                case 'B' -> t.getMonth().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
                case 'b', 'h' -> t.getMonth().getDisplayName(TextStyle.SHORT, Locale.ENGLISH);
                case 'A' -> t.getDayOfWeek().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
                case 'a' -> t.getDayOfWeek().getDisplayName(TextStyle.SHORT, Locale.ENGLISH);
                case 'w' -> String.valueOf(t.getDayOfWeek().getValue() % 7);
                case 'u' -> String.valueOf(t.getDayOfWeek().getValue());
                case 'z' -> DateTimeFormatter.ofPattern("xx").format(t);
                case 'Z' -> DateTimeFormatter.ofPattern("zzz", Locale.ENGLISH).format(t);
                case 'F' -> DateTimeFormatter.ISO_LOCAL_DATE.format(t);
                case 'T' -> two(t.getHour()) + ":" + two(t.getMinute()) + ":" + two(t.getSecond());
                case 'R' -> two(t.getHour()) + ":" + two(t.getMinute());
                case 'D' -> two(t.getMonthValue()) + "/" + two(t.getDayOfMonth()) + "/" + two(t.getYear() % 100);
                case 's' -> String.valueOf(t.toEpochSecond());
                case '%' -> "%";
                case 'n' -> "\n";
                case 't' -> "\t";
                default -> throw new Fault("strftime_now: no conversion %" + f);
            };
            out.append(unpadded && s.length() > 1 ? s.replaceFirst("^0+(?=.)", "") : s);
        }
        return out.toString();
    }

    private static String two(int n) {
        return n < 10 ? "0" + n : String.valueOf(n);
    }

    // ---- tests

    static {
        TESTS.put("defined", (r, v, a) -> !(v instanceof Undefined));
        TESTS.put("undefined", (r, v, a) -> v instanceof Undefined);
        TESTS.put("none", (r, v, a) -> v == null);
        TESTS.put("boolean", (r, v, a) -> v instanceof Boolean);
        TESTS.put("true", (r, v, a) -> Boolean.TRUE.equals(v));
        TESTS.put("false", (r, v, a) -> Boolean.FALSE.equals(v));
        TESTS.put("integer", (r, v, a) -> v instanceof Long);
        TESTS.put("float", (r, v, a) -> v instanceof Double);
        TESTS.put("number", (r, v, a) -> Render.isNumber(v));
        TESTS.put("string", (r, v, a) -> v instanceof String);
        TESTS.put("mapping", (r, v, a) -> v instanceof PyDict);
        TESTS.put("iterable", (r, v, a) -> isSequence(v));
        TESTS.put("sequence", (r, v, a) -> isSequence(v));
        TESTS.put("callable", (r, v, a) -> v instanceof Fn);
        TESTS.put("escaped", (r, v, a) -> false);
        TESTS.put("odd", (r, v, a) -> Math.floorMod(r.integer(v), 2) == 1);
        TESTS.put("even", (r, v, a) -> Math.floorMod(r.integer(v), 2) == 0);
        TESTS.put("divisibleby", (r, v, a) -> {
            long by = r.integer(a.need(0, "num"));
            if (by == 0) {
                throw new Fault("division by zero");
            }
            return r.integer(v) % by == 0;
        });
        TESTS.put("lower", (r, v, a) -> cased(r.str(v)) && r.str(v).equals(r.str(v).toLowerCase(Locale.ROOT)));
        TESTS.put("upper", (r, v, a) -> cased(r.str(v)) && r.str(v).equals(r.str(v).toUpperCase(Locale.ROOT)));
        TESTS.put("in", (r, v, a) -> r.contains(a.need(0, "seq"), v));
        TESTS.put("sameas", (r, v, a) -> {
            Object other = a.need(0, "other");
            return v == other || v instanceof Boolean && v.equals(other) || v instanceof Long && v.equals(other);
        });
        TESTS.put("filter", (r, v, a) -> v instanceof String s && FILTERS.containsKey(s));
        TESTS.put("test", (r, v, a) -> v instanceof String s && TESTS.containsKey(s));
        String[][] comparisons = {
            {"==", "eq", "equalto", "=="}, {"!=", "ne", "!="}, {"<", "lt", "lessthan", "<"}, {"<=", "le", "<="},
            {">", "gt", "greaterthan", ">"}, {">=", "ge", ">="},
        };
        for (var names : comparisons) {
            String op = names[0];
            for (int i = 1; i < names.length; i++) {
                TESTS.put(names[i], (r, v, a) -> r.compare(op, v, a.need(0, "other")));
            }
        }
    }

    private static boolean isSequence(Object v) {
        return v instanceof PyList || v instanceof PyDict || v instanceof String || v instanceof Undefined;
    }

    // ---- filters

    static {
        put((r, v, a) -> upper(r.str(v)), "upper");
        put((r, v, a) -> lower(r.str(v)), "lower");
        put((r, v, a) -> capitalize(r.str(v)), "capitalize");
        put((r, v, a) -> titleFilter(r.str(v)), "title");
        put((r, v, a) -> strip(r.str(v), a.get(0, "chars", null), true, true), "trim");
        put((r, v, a) -> r.str(v), "string", "safe");
        put((r, v, a) -> r.made(r.str(v).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&#34;")
                .replace("'", "&#39;")), "escape", "e", "forceescape");
        put((r, v, a) -> length(r, v), "length", "count");
        put((r, v, a) -> replace(r, r.str(v), r.str(a.need(0, "old")), r.str(a.need(1, "new")), count(r, a, 2, "count")), "replace");
        put((r, v, a) -> {
            var items = r.iterate(v);
            return items.isEmpty() ? new Undefined("first of an empty sequence") : items.getFirst();
        }, "first");
        put((r, v, a) -> {
            var items = r.iterate(v);
            return items.isEmpty() ? new Undefined("last of an empty sequence") : items.getLast();
        }, "last");
        put((r, v, a) -> {
            if (v instanceof String s) {
                return r.made(new StringBuilder(s).reverse().toString());
            }
            return r.made(new PyList(new ArrayList<>(r.iterate(v)).reversed()));
        }, "reverse");
        put((r, v, a) -> r.made(new PyList(r.iterate(v))), "list");
        put((r, v, a) -> {
            Object attribute = a.get(1, "attribute", null);
            String separator = r.str(a.get(0, "d", ""));
            var out = new StringBuilder();
            boolean first = true;
            for (Object item : r.iterate(v)) {
                r.budget.step();
                String s = r.str(attribute == null ? item : path(r, item, attribute));
                r.budget.chars(s.length() + (long) separator.length());
                out.append(first ? "" : separator).append(s);
                first = false;
            }
            return out.toString();
        }, "join");
        put((r, v, a) -> v instanceof Double d ? (Object) Math.abs(d) : (Object) Math.abs(r.integer(v)), "abs");
        put((r, v, a) -> toInt(r, v, a.get(0, "default", 0L), a.get(1, "base", 10L)), "int");
        put((r, v, a) -> {
            if (Render.isNumber(v)) {
                return Render.real(v);
            }
            try {
                return Double.parseDouble(r.str(v).strip());
            } catch (NumberFormatException e) {
                return a.get(0, "default", 0.0);
            }
        }, "float");
        put((r, v, a) -> {
            double x = Render.real(r.number(v));
            int precision = (int) Math.clamp(r.integer(a.get(0, "precision", 0L)), -300, 300);
            var method = switch (r.str(a.get(1, "method", "common"))) {
                case "ceil" -> java.math.RoundingMode.CEILING;
                case "floor" -> java.math.RoundingMode.FLOOR;
                default -> java.math.RoundingMode.HALF_EVEN;
            };
            return Double.isFinite(x) ? new java.math.BigDecimal(x).setScale(precision, method).doubleValue() : x;
        }, "round");
        put((r, v, a) -> v instanceof Undefined || r.truth(a.get(1, "boolean", false)) && !r.truth(v) ? a.get(0, "default_value", "") : v,
                "default", "d");
        put(Filters::tojson, "tojson");
        put((r, v, a) -> {
            r.budget.chars(r.str(v).length());
            var tree = Json.tryParse(r.str(v));
            if (tree == null) {
                throw new Fault("from_json: this is no JSON: " + r.repr(v));
            }
            return PyValues.fromJson(tree);
        }, "from_json", "fromjson");
        put(Filters::indent, "indent");
        put((r, v, a) -> v instanceof Undefined ? new PyList() : items(r, v), "items");
        put(Filters::dictsort, "dictsort");
        put((r, v, a) -> sort(r, r.iterate(v), r.truth(a.get(0, "reverse", false)), r.truth(a.get(1, "case_sensitive", false)),
                a.get(2, "attribute", null)), "sort");
        put((r, v, a) -> pick(r, v, a, true, true), "selectattr");
        put((r, v, a) -> pick(r, v, a, true, false), "rejectattr");
        put((r, v, a) -> pick(r, v, a, false, true), "select");
        put((r, v, a) -> pick(r, v, a, false, false), "reject");
        put(Filters::map, "map");
        put((r, v, a) -> {
            var seen = new PyList();
            var out = new PyList();
            for (Object item : r.iterate(v)) {
                Object key = fold(path(r, item, a.get(1, "attribute", null)), r.truth(a.get(0, "case_sensitive", false)));
                if (!r.contains(seen, key)) {
                    seen.add(key);
                    out.add(item);
                }
            }
            return r.made(out);
        }, "unique");
        put((r, v, a) -> extreme(r, v, a, -1), "min");
        put((r, v, a) -> extreme(r, v, a, 1), "max");
        put((r, v, a) -> {
            Object sum = a.get(1, "start", 0L);
            for (Object item : r.iterate(v)) {
                sum = r.arithmetic("+", sum, path(r, item, a.get(0, "attribute", null)));
            }
            return sum;
        }, "sum");
        put((r, v, a) -> {
            var groups = new PyDict();
            for (Object item : sort(r, r.iterate(v), false, false, a.need(0, "attribute"))) {
                Object key = path(r, item, a.need(0, "attribute"));
                if (!groups.has(key)) {
                    groups.put(key, new PyList());
                }
                ((PyList) groups.get(key)).add(item);
            }
            var out = new PyList();
            groups.entries().forEach(e -> out.add(PyTuple.of(e.getKey(), e.getValue())));
            return r.made(out);
        }, "groupby");
        put((r, v, a) -> {
            long n = r.integer(a.need(0, "linecount"));
            if (n < 1) {
                throw new Fault("batch needs a size above 0");
            }
            var out = new PyList();
            for (Object item : r.iterate(v)) {
                if (out.isEmpty() || ((PyList) out.getLast()).size() == n) {
                    out.add(new PyList());
                }
                ((PyList) out.getLast()).add(item);
            }
            if (!out.isEmpty() && a.has(1, "fill_with")) {
                r.budget.items(n);
                while (((PyList) out.getLast()).size() < n) {
                    ((PyList) out.getLast()).add(a.get(1, "fill_with", null));
                }
            }
            return r.made(out);
        }, "batch");
        put((r, v, a) -> (long) words(r.str(v)).size(), "wordcount");
        put((r, v, a) -> {
            String s = r.str(v);
            int length = (int) Math.clamp(r.integer(a.get(0, "length", 255L)), 0, Integer.MAX_VALUE / 2);
            String end = r.str(a.get(2, "end", "..."));
            long leeway = r.integer(a.get(3, "leeway", 5L));
            if (r.length(s) <= length + leeway) {
                return s;
            }
            String cut = (String) r.slice(s, 0L, (long) Math.max(0, length - end.length()), null);
            if (!r.truth(a.get(1, "killwords", false)) && cut.indexOf(' ') >= 0) {
                cut = cut.substring(0, cut.lastIndexOf(' '));
            }
            return r.made(cut + end);
        }, "truncate");
        put((r, v, a) -> percentFormat(r, r.str(v), new PyTuple(a.positional()), a.named().isEmpty() ? null : PyDict.of(a.named())),
                "format");
        put((r, v, a) -> {
            int width = (int) Math.clamp(r.integer(a.get(0, "width", 80L)), 0, 10_000);
            return pad(r, r.str(v), width, " ", 0);
        }, "center");
        put((r, v, a) -> r.attribute(v, a.text(0, "name")), "attr");
        put((r, v, a) -> r.repr(v), "pprint");
    }

    private static void put(Filter filter, String... names) {
        for (var name : names) {
            FILTERS.put(name, filter);
        }
    }

    private static Object length(Render r, Object v) {
        return (long) switch (v) {
            case String s -> r.length(s);
            case PyList l -> l.size();
            case PyDict d -> d.size();
            case Undefined u -> 0;
            case null, default -> throw new Fault(Render.typeName(v) + " has no length");
        };
    }

    /** A value reached by "a.b.0" or an index; the value itself without a path. */
    private static Object path(Render r, Object item, Object attribute) {
        if (attribute == null) {
            return item;
        }
        if (!(attribute instanceof String path)) {
            return r.item(item, attribute);
        }
        for (String part : path.split("\\.")) {
            item = part.matches("\\d{1,9}") ? r.item(item, Long.parseLong(part)) : r.item(item, part);
        }
        return item;
    }

    private static Object toInt(Render r, Object v, Object fallback, Object base) {
        if (v instanceof Double d) {
            return Double.isFinite(d) ? (Object) d.longValue() : fallback;
        }
        if (Render.isNumber(v)) {
            return r.integer(v);
        }
        if (!(v instanceof String s)) {
            return fallback;
        }
        s = s.strip().replace("_", "");
        int radix = (int) Math.clamp(r.integer(base), 2, 36);
        String prefix = radix == 16 ? "0x" : radix == 8 ? "0o" : radix == 2 ? "0b" : null;
        if (prefix != null && s.toLowerCase(Locale.ROOT).startsWith(prefix)) {
            s = s.substring(2);
        }
        try {
            return Long.parseLong(s, radix);
        } catch (NumberFormatException e) {
            try {
                return (long) Double.parseDouble(s);
            } catch (NumberFormatException still) {
                return fallback;
            }
        }
    }

    private static Object tojson(Render r, Object v, Args a) {
        Object indent = a.get(1, "indent", null);
        String unit = switch (indent) {
            case null -> null;
            case String s -> s;
            case Object n -> " ".repeat((int) Math.clamp(r.integer(n), 0, 64));
        };
        String comma = unit == null ? ", " : ",";
        String colon = ": ";
        if (a.get(2, "separators", null) instanceof PyList pair && pair.size() == 2) {
            comma = r.str(pair.get(0));
            colon = r.str(pair.get(1));
        }
        return r.json(v, unit, comma, colon, r.truth(a.get(0, "ensure_ascii", false)), r.truth(a.get(3, "sort_keys", false)));
    }

    private static Object indent(Render r, Object v, Args a) {
        Object width = a.get(0, "width", 4L);
        String unit = width instanceof String s ? s : " ".repeat((int) Math.clamp(r.integer(width), 0, 1000));
        boolean blank = r.truth(a.get(2, "blank", false));
        var out = new StringBuilder();
        boolean first = !r.truth(a.get(1, "first", false));
        for (String line : r.str(v).split("\n", -1)) {
            if (!first && (blank || !line.isEmpty())) {
                r.budget.chars(unit.length());
                out.append(unit);
            }
            out.append(line).append('\n');
            first = false;
        }
        out.setLength(out.length() - 1);
        return r.made(out.toString());
    }

    private static PyList items(Render r, Object v) {
        if (!(v instanceof PyDict d)) {
            throw new Fault("items needs a mapping, not " + Render.typeName(v));
        }
        var out = new PyList();
        d.entries().forEach(e -> out.add(PyTuple.of(e.getKey(), e.getValue())));
        r.budget.items(3L * out.size());
        return out;
    }

    private static Object fold(Object v, boolean caseSensitive) {
        return v instanceof String s && !caseSensitive ? s.toLowerCase(Locale.ROOT) : v;
    }

    private static PyList sort(Render r, List<Object> items, boolean reverse, boolean caseSensitive, Object attribute) {
        Comparator<Object> order = (x, y) -> 0;
        var paths = attribute instanceof String s && s.indexOf(',') >= 0 ? List.<Object>of((Object[]) s.split(","))
                : java.util.Arrays.asList(attribute);
        for (Object path : paths) {
            order = order.thenComparing((x, y) -> r.order(fold(path(r, x, path), caseSensitive), fold(path(r, y, path), caseSensitive)));
        }
        var out = new PyList(items);
        out.sort(reverse ? order.reversed() : order);
        return r.made(out);
    }

    private static Object dictsort(Render r, Object v, Args a) {
        boolean caseSensitive = r.truth(a.get(0, "case_sensitive", false));
        boolean reverse = r.truth(a.get(2, "reverse", false));
        int by = switch (r.str(a.get(1, "by", "key"))) {
            case "key" -> 0;
            case "value" -> 1;
            case String s -> throw new Fault("dictsort: by must be 'key' or 'value', not '" + s + "'");
        };
        return sort(r, items(r, v), reverse, caseSensitive, (long) by);
    }

    private static Object pick(Render r, Object v, Args a, boolean byAttribute, boolean keep) {
        Object attribute = byAttribute ? a.need(0, "attribute") : null;
        var rest = byAttribute ? a.skip(1) : a;
        Test test;
        Args testArgs;
        if (rest.positional().isEmpty()) {
            test = (rr, value, aa) -> rr.truth(value);
            testArgs = Args.NONE;
        } else {
            String name = rest.text(0, "test");
            test = TESTS.get(name);
            if (test == null) {
                throw new Fault("no test named '" + name + "'");
            }
            testArgs = rest.skip(1);
        }
        var out = new PyList();
        for (Object item : r.iterate(v)) {
            r.budget.step();
            if (test.apply(r, path(r, item, attribute), testArgs) == keep) {
                out.add(item);
            }
        }
        return r.made(out);
    }

    private static Object map(Render r, Object v, Args a) {
        var out = new PyList();
        if (a.positional().isEmpty()) {
            Object attribute = a.need(-1, "attribute");
            for (Object item : r.iterate(v)) {
                r.budget.step();
                Object value = path(r, item, attribute);
                out.add(value instanceof Undefined ? a.get(-1, "default", value) : value);
            }
        } else {
            String name = a.text(0, "filter");
            var filter = FILTERS.get(name);
            if (filter == null) {
                throw new Fault("no filter named '" + name + "'");
            }
            for (Object item : r.iterate(v)) {
                r.budget.step();
                out.add(filter.apply(r, item, a.skip(1)));
            }
        }
        return r.made(out);
    }

    private static Object extreme(Render r, Object v, Args a, int sign) {
        boolean caseSensitive = r.truth(a.get(0, "case_sensitive", false));
        Object attribute = a.get(1, "attribute", null);
        Object best = new Undefined("extreme of an empty sequence");
        boolean first = true;
        for (Object item : r.iterate(v)) {
            if (first || sign * r.order(fold(path(r, item, attribute), caseSensitive), fold(path(r, best, attribute), caseSensitive)) > 0) {
                best = item;
            }
            first = false;
        }
        return best;
    }

    // ---- strings

    private static String upper(String s) {
        return s.toUpperCase(Locale.ROOT);
    }

    private static String lower(String s) {
        return s.toLowerCase(Locale.ROOT);
    }

    private static String capitalize(String s) {
        if (s.isEmpty()) {
            return s;
        }
        int first = s.offsetByCodePoints(0, 1);
        return upper(s.substring(0, first)) + lower(s.substring(first));
    }

    /** str.title(): a capital after every character that is no letter. */
    private static String title(String s) {
        var out = new StringBuilder();
        boolean inWord = false;
        for (int c : s.codePoints().toArray()) {
            out.appendCodePoint(inWord ? Character.toLowerCase(c) : Character.toTitleCase(c));
            inWord = Character.isLetter(c);
        }
        return out.toString();
    }

    /** The filter: a capital after blanks, hyphens and opening brackets. */
    private static String titleFilter(String s) {
        var out = new StringBuilder();
        boolean start = true;
        for (int c : s.codePoints().toArray()) {
            out.appendCodePoint(start ? Character.toUpperCase(c) : Character.toLowerCase(c));
            start = isSpace(c) || "-({[<".indexOf(c) >= 0;
        }
        return out.toString();
    }

    static boolean isSpace(int c) {
        return Character.isWhitespace(c) || Character.isSpaceChar(c) || c == 0x85;
    }

    private static boolean cased(String s) {
        return s.codePoints().anyMatch(c -> Character.isUpperCase(c) || Character.isLowerCase(c));
    }

    static String strip(String s, Object chars, boolean left, boolean right) {
        IntPredicate drop = chars instanceof String set ? c -> set.indexOf(c) >= 0 : Filters::isSpace;
        int from = 0;
        int to = s.length();
        while (left && from < to && drop.test(s.codePointAt(from))) {
            from += Character.charCount(s.codePointAt(from));
        }
        while (right && to > from && drop.test(s.codePointBefore(to))) {
            to -= Character.charCount(s.codePointBefore(to));
        }
        return s.substring(from, to);
    }

    private static long count(Render r, Args a, int i, String name) {
        Object n = a.get(i, name, null);
        return n == null || r.integer(n) < 0 ? Long.MAX_VALUE : r.integer(n);
    }

    private static String replace(Render r, String s, String old, String with, long count) {
        var out = new StringBuilder();
        int from = 0;
        if (old.isEmpty()) {
            for (; count > 0 && from <= s.length(); count--) {
                r.budget.chars(with.length() + 1);
                out.append(with);
                if (from == s.length()) {
                    return out.toString();
                }
                int to = s.offsetByCodePoints(from, 1);
                out.append(s, from, to);
                from = to;
            }
            return out.append(s, from, s.length()).toString();
        }
        for (; count > 0; count--) {
            int at = r.find(s, old, from);
            if (at < 0) {
                break;
            }
            r.budget.step();
            r.budget.chars(with.length() + (long) at - from);
            out.append(s, from, at).append(with);
            from = at + old.length();
        }
        return from == 0 ? s : r.made(out.append(s, from, s.length()).toString());
    }

    private static List<String> words(String s) {
        var out = new ArrayList<String>();
        int start = -1;
        for (int i = 0; i <= s.length(); i++) {
            boolean space = i == s.length() || isSpace(s.charAt(i));
            if (!space && start < 0) {
                start = i;
            } else if (space && start >= 0) {
                out.add(s.substring(start, i));
                start = -1;
            }
        }
        return out;
    }

    private static PyList split(Render r, String s, Args a, boolean fromRight) {
        Object separator = a.get(0, "sep", null);
        long max = count(r, a, 1, "maxsplit");
        var out = new PyList();
        r.budget.chars(s.length());
        if (separator == null) {
            // runs of blanks separate
            String rest = strip(s, null, true, true);
            while (!rest.isEmpty() && out.size() < max) {
                int i = fromRight ? lastSpace(rest) : firstSpace(rest);
                if (i < 0) {
                    break;
                }
                r.budget.step();
                out.add(fromRight ? rest.substring(i + 1) : rest.substring(0, i));
                rest = fromRight ? strip(rest.substring(0, i), null, false, true) : strip(rest.substring(i), null, true, false);
                r.budget.steps(rest.length() / 64);
            }
            if (!rest.isEmpty()) {
                out.add(rest);
            }
            return r.made(fromRight ? new PyList(out.reversed()) : out);
        }
        String sep = a.text(0, "sep");
        if (sep.isEmpty()) {
            throw new Fault("split: empty separator");
        }
        if (fromRight) {
            int to = s.length();
            while (out.size() < max) {
                int i = r.findLast(s, sep, to - sep.length());
                if (i < 0 || to < sep.length()) {
                    break;
                }
                r.budget.step();
                out.add(s.substring(i + sep.length(), to));
                to = i;
            }
            out.add(s.substring(0, to));
            return r.made(new PyList(out.reversed()));
        }
        int from = 0;
        while (out.size() < max) {
            int i = r.find(s, sep, from);
            if (i < 0) {
                break;
            }
            r.budget.step();
            out.add(s.substring(from, i));
            from = i + sep.length();
        }
        out.add(s.substring(from));
        return r.made(out);
    }

    private static int firstSpace(String s) {
        for (int i = 0; i < s.length(); i++) {
            if (isSpace(s.charAt(i))) {
                return i;
            }
        }
        return -1;
    }

    private static int lastSpace(String s) {
        for (int i = s.length() - 1; i >= 0; i--) {
            if (isSpace(s.charAt(i))) {
                return i;
            }
        }
        return -1;
    }

    private static String pad(Render r, String s, long width, String fill, int side) {
        if (fill.codePointCount(0, fill.length()) != 1) {
            throw new Fault("the fill must be one character, not '" + fill + "'");
        }
        long missing = width - r.length(s);
        if (missing <= 0) {
            return s;
        }
        r.budget.chars(missing + s.length());
        int left = (int) (side < 0 ? 0 : side > 0 ? missing : missing / 2);
        return fill.repeat(left) + s + fill.repeat((int) missing - left);
    }

    private static boolean affix(Render r, Args a, java.util.function.Predicate<String> matches) {
        if (a.need(0, "prefix") instanceof PyTuple t) {
            return t.stream().anyMatch(x -> x instanceof String s && matches.test(s));
        }
        return matches.test(a.text(0, "prefix"));
    }

    private static boolean all(String s, IntPredicate p) {
        return !s.isEmpty() && s.codePoints().allMatch(p);
    }

    static Fn stringMethod(String s, String name) {
        return switch (name) {
            case "upper" -> (r, a) -> r.made(upper(s));
            case "lower", "casefold" -> (r, a) -> r.made(lower(s));
            case "title" -> (r, a) -> r.made(title(s));
            case "capitalize" -> (r, a) -> r.made(capitalize(s));
            case "swapcase" -> (r, a) -> {
                var out = new StringBuilder();
                s.codePoints().forEach(c -> out.appendCodePoint(Character.isUpperCase(c) ? Character.toLowerCase(c)
                        : Character.toUpperCase(c)));
                return r.made(out.toString());
            };
            case "strip" -> (r, a) -> r.made(strip(s, a.get(0, "chars", null), true, true));
            case "lstrip" -> (r, a) -> r.made(strip(s, a.get(0, "chars", null), true, false));
            case "rstrip" -> (r, a) -> r.made(strip(s, a.get(0, "chars", null), false, true));
            case "startswith" -> (r, a) -> affix(r, a, s::startsWith);
            case "endswith" -> (r, a) -> affix(r, a, s::endsWith);
            case "removeprefix" -> (r, a) -> s.startsWith(a.text(0, "prefix")) ? s.substring(a.text(0, "prefix").length()) : s;
            case "removesuffix" -> (r, a) -> s.endsWith(a.text(0, "suffix")) ? s.substring(0,
                    s.length() - a.text(0, "suffix").length()) : s;
            case "split" -> (r, a) -> split(r, s, a, false);
            case "rsplit" -> (r, a) -> split(r, s, a, true);
            case "splitlines" -> (r, a) -> {
                r.budget.chars(s.length());
                boolean keep = r.truth(a.get(0, "keepends", false));
                var out = new PyList();
                int from = 0;
                for (int i = 0; i < s.length(); i++) {
                    if ("\n\r\u000b\f\u001c\u001d\u001e\u0085\u2028\u2029".indexOf(s.charAt(i)) >= 0) {
                        int end = i + (s.charAt(i) == '\r' && i + 1 < s.length() && s.charAt(i + 1) == '\n' ? 2 : 1);
                        out.add(s.substring(from, keep ? end : i));
                        i = end - 1;
                        from = end;
                    }
                }
                if (from < s.length()) {
                    out.add(s.substring(from));
                }
                return r.made(out);
            };
            case "partition" -> (r, a) -> {
                String sep = a.text(0, "sep");
                int i = r.find(s, sep, 0);
                return r.made(i < 0 ? PyTuple.of(s, "", "") : PyTuple.of(s.substring(0, i), sep, s.substring(i + sep.length())));
            };
            case "rpartition" -> (r, a) -> {
                String sep = a.text(0, "sep");
                int i = r.findLast(s, sep, s.length());
                return r.made(i < 0 ? PyTuple.of("", "", s) : PyTuple.of(s.substring(0, i), sep, s.substring(i + sep.length())));
            };
            case "replace" -> (r, a) -> replace(r, s, a.text(0, "old"), a.text(1, "new"), count(r, a, 2, "count"));
            case "format" -> (r, a) -> braceFormat(r, s, a);
            case "join" -> (r, a) -> FILTERS.get("join").apply(r, a.need(0, "iterable"), Args.of(s));
            case "find" -> (r, a) -> {
                int i = r.find(s, a.text(0, "sub"), 0);
                return i < 0 ? -1L : (long) s.codePointCount(0, i);
            };
            case "rfind" -> (r, a) -> {
                int i = r.findLast(s, a.text(0, "sub"), s.length());
                return i < 0 ? -1L : (long) s.codePointCount(0, i);
            };
            case "index" -> (r, a) -> {
                int i = r.find(s, a.text(0, "sub"), 0);
                if (i < 0) {
                    throw new Fault("substring not found");
                }
                return (long) s.codePointCount(0, i);
            };
            case "count" -> (r, a) -> {
                String what = a.text(0, "sub");
                if (what.isEmpty()) {
                    return r.length(s) + 1L;
                }
                long n = 0;
                for (int i = r.find(s, what, 0); i >= 0; i = r.find(s, what, i + what.length())) {
                    r.budget.step();
                    n++;
                }
                return n;
            };
            case "isdigit", "isdecimal", "isnumeric" -> (r, a) -> all(s, Character::isDigit);
            case "isalpha" -> (r, a) -> all(s, Character::isLetter);
            case "isalnum" -> (r, a) -> all(s, Character::isLetterOrDigit);
            case "isspace" -> (r, a) -> all(s, Filters::isSpace);
            case "isascii" -> (r, a) -> s.codePoints().allMatch(c -> c < 128);
            case "isupper" -> (r, a) -> cased(s) && s.equals(upper(s));
            case "islower" -> (r, a) -> cased(s) && s.equals(lower(s));
            case "zfill" -> (r, a) -> {
                boolean signed = s.startsWith("-") || s.startsWith("+");
                long width = r.integer(a.need(0, "width"));
                return signed ? s.charAt(0) + pad(r, s.substring(1), width - 1, "0", 1) : pad(r, s, width, "0", 1);
            };
            case "ljust" -> (r, a) -> pad(r, s, r.integer(a.need(0, "width")), r.str(a.get(1, "fillchar", " ")), -1);
            case "rjust" -> (r, a) -> pad(r, s, r.integer(a.need(0, "width")), r.str(a.get(1, "fillchar", " ")), 1);
            case "center" -> (r, a) -> pad(r, s, r.integer(a.need(0, "width")), r.str(a.get(1, "fillchar", " ")), 0);
            default -> null;
        };
    }

    /** str.format with fields that are numbers or names; attribute access and most format specifications are refused. */
    private static String braceFormat(Render r, String s, Args a) {
        var out = new StringBuilder();
        int automatic = 0;
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if ((c == '{' || c == '}') && i + 1 < s.length() && s.charAt(i + 1) == c) {
                out.append(c);
                i++;
            } else if (c == '{') {
                int end = s.indexOf('}', i);
                if (end < 0) {
                    throw new Fault("format: '{' without '}'");
                }
                String field = s.substring(i + 1, end);
                int colon = field.indexOf(':');
                String spec = colon < 0 ? "" : field.substring(colon + 1);
                field = colon < 0 ? field : field.substring(0, colon);
                Object value = field.isEmpty() ? a.need(automatic++, "{}")
                        : field.matches("\\d{1,6}") ? a.need(Integer.parseInt(field), field) : a.need(-1, field);
                String text = spec.isEmpty() ? r.str(value) : percent(r, spec.matches("[0-9.]*[dfsxX]") ? spec : spec + "s", value);
                r.budget.chars(text.length());
                out.append(text);
                i = end;
            } else if (c == '}') {
                throw new Fault("format: '}' without '{'");
            } else {
                out.append(c);
            }
        }
        return r.made(out.toString());
    }

    /** Python's % operator. */
    static String percentFormat(Render r, String s, PyList values, PyDict named) {
        var out = new StringBuilder();
        int next = 0;
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            if (c != '%') {
                out.append(c);
                continue;
            }
            if (i + 1 < s.length() && s.charAt(i + 1) == '%') {
                out.append('%');
                i++;
                continue;
            }
            Object value = null;
            boolean byName = false;
            if (i + 1 < s.length() && s.charAt(i + 1) == '(') {
                int end = s.indexOf(')', i);
                if (end < 0 || named == null) {
                    throw new Fault("format: a named field needs ')' and a mapping");
                }
                String name = s.substring(i + 2, end);
                if (!named.has(name)) {
                    throw new Fault("format: no value for '" + name + "'");
                }
                value = named.get(name);
                byName = true;
                i = end;
            }
            int from = i + 1;
            int to = from;
            while (to < s.length() && "0123456789.-+ #".indexOf(s.charAt(to)) >= 0) {
                to++;
            }
            if (to == s.length()) {
                throw new Fault("format: incomplete field");
            }
            if (!byName) {
                if (next == values.size()) {
                    throw new Fault("format: not enough values");
                }
                value = values.get(next++);
            }
            String text = percent(r, s.substring(from, to + 1), value);
            r.budget.chars(text.length());
            out.append(text);
            i = to;
        }
        if (named == null && next < values.size()) {
            throw new Fault("format: not all values used");
        }
        return r.made(out.toString());
    }

    private static String percent(Render r, String spec, Object value) {
        var m = java.util.regex.Pattern.compile("([-+ 0#]*)(\\d{0,3})(?:\\.(\\d{1,3}))?([sdifrxXeg])").matcher(spec);
        if (!m.matches()) {
            throw new Fault("format: no support for '" + spec + "'");
        }
        String flags = m.group(1);
        String precision = m.group(3) == null ? "" : "." + m.group(3);
        return switch (m.group(4)) {
            case "s" -> String.format(Locale.ROOT, "%" + (flags.contains("-") ? "-" : "") + m.group(2) + precision + "s", r.str(value));
            case "r" -> r.repr(value);
            case "d", "i" -> String.format(Locale.ROOT, "%" + flags + m.group(2) + "d", value instanceof Double d ? d.longValue()
                    : r.integer(value));
            case "x", "X" -> String.format(Locale.ROOT, "%" + flags + m.group(2) + m.group(4), r.integer(value));
            default -> String.format(Locale.ROOT, "%" + flags + m.group(2) + precision + (m.group(4).equals("g") ? "s" : m.group(4)),
                    Render.real(r.number(value)));
        };
    }

    // ---- lists and dictionaries

    static Fn listMethod(PyList l, String name) {
        boolean tuple = l instanceof PyTuple;
        return switch (name) {
            case "index" -> (r, a) -> {
                for (int i = 0; i < l.size(); i++) {
                    if (r.equal(l.get(i), a.need(0, "value"))) {
                        return (long) i;
                    }
                }
                throw new Fault(r.repr(a.need(0, "value")) + " is not in the list");
            };
            case "count" -> (r, a) -> l.stream().filter(x -> r.equal(x, a.need(0, "value"))).count();
            case "append" -> tuple ? null : (r, a) -> {
                r.budget.items(1);
                l.add(a.need(0, "object"));
                return null;
            };
            case "extend" -> tuple ? null : (r, a) -> {
                var more = new PyList(r.iterate(a.need(0, "iterable")));
                r.budget.items(more.size());
                l.addAll(more);
                return null;
            };
            case "insert" -> tuple ? null : (r, a) -> {
                r.budget.items(1);
                r.budget.steps(l.size() / 64);
                long i = r.integer(a.need(0, "index"));
                l.add((int) Math.clamp(i < 0 ? i + l.size() : i, 0, l.size()), a.need(1, "object"));
                return null;
            };
            case "pop" -> tuple ? null : (r, a) -> {
                long i = r.integer(a.get(0, "index", -1L));
                i = i < 0 ? i + l.size() : i;
                if (i < 0 || i >= l.size()) {
                    throw new Fault(l.isEmpty() ? "pop from an empty list" : "pop index out of range");
                }
                r.budget.steps((l.size() - i) / 64);
                return l.remove((int) i);
            };
            case "remove" -> tuple ? null : (r, a) -> {
                for (int i = 0; i < l.size(); i++) {
                    if (r.equal(l.get(i), a.need(0, "value"))) {
                        l.remove(i);
                        return null;
                    }
                }
                throw new Fault("remove: the value is not in the list");
            };
            case "clear" -> tuple ? null : (r, a) -> {
                l.clear();
                return null;
            };
            case "copy" -> tuple ? null : (r, a) -> r.made(new PyList(l));
            case "reverse" -> tuple ? null : (r, a) -> {
                r.budget.steps(l.size());
                java.util.Collections.reverse(l);
                return null;
            };
            case "sort" -> tuple ? null : (r, a) -> {
                var sorted = sort(r, l, r.truth(a.get(-1, "reverse", false)), true, null);
                l.clear();
                l.addAll(sorted);
                return null;
            };
            default -> null;
        };
    }

    static Fn dictMethod(PyDict d, String name) {
        return switch (name) {
            case "get" -> (r, a) -> d.get(a.need(0, "key"), a.get(1, "default", null));
            case "items" -> (r, a) -> items(r, d);
            case "keys" -> (r, a) -> r.made(d.keys());
            case "values" -> (r, a) -> r.made(d.values());
            case "copy" -> (r, a) -> dict(r, Args.of(d));
            case "pop" -> (r, a) -> {
                Object key = a.need(0, "key");
                if (!d.has(key)) {
                    if (!a.has(1, "default")) {
                        throw new Fault("no key " + r.repr(key));
                    }
                    return a.get(1, "default", null);
                }
                return d.remove(key);
            };
            case "update" -> (r, a) -> {
                d.putAll((PyDict) dict(r, a));
                return null;
            };
            case "setdefault" -> (r, a) -> {
                if (!d.has(a.need(0, "key"))) {
                    r.budget.items(1);
                    d.put(a.need(0, "key"), a.get(1, "default", null));
                }
                return d.get(a.need(0, "key"));
            };
            default -> null;
        };
    }

}
