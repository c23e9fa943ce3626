package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.chat.Expr.Args;
import io.github.panamallama.runtime.chat.Expr.Fn;
import java.math.BigDecimal;
import java.time.Clock;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The state of one rendering (scopes and budget) and the operations on its values, with Python's meaning.
 *
 * <p>Values are String, Long, Double, Boolean, null (None), {@link Undefined}, {@link PyList}, {@link PyTuple}, {@link PyDict},
 * {@link Namespace}, {@link Loop} and {@link Fn}: nothing else enters, so that a template can reach no Java object.
 */
final class Render {
    /** Variables of one block; lookups go outwards. */
    static final class Scope {
        final Scope parent;
        final Map<String, Object> variables = new HashMap<>();

        Scope(Scope parent) {
            this.parent = parent;
        }
    }

    /** What {@code namespace()} makes: attributes that inner scopes may set. */
    record Namespace(PyDict attributes) {}

    /** The {@code loop} variable. */
    static final class Loop {
        final List<Object> items;
        final int depth;
        final Fn recurse;
        int index;
        private Object lastChanged;
        private boolean changedBefore;

        Loop(List<Object> items, int depth, Fn recurse) {
            this.items = items;
            this.depth = depth;
            this.recurse = recurse;
        }

        Object attribute(String name) {
            return switch (name) {
                case "index" -> index + 1L;
                case "index0" -> (long) index;
                case "revindex" -> (long) items.size() - index;
                case "revindex0" -> (long) items.size() - index - 1;
                case "first" -> index == 0;
                case "last" -> index == items.size() - 1;
                case "length" -> (long) items.size();
                case "depth" -> depth + 1L;
                case "depth0" -> (long) depth;
                case "previtem" -> index == 0 ? new Undefined("loop.previtem") : items.get(index - 1);
                case "nextitem" -> index == items.size() - 1 ? new Undefined("loop.nextitem") : items.get(index + 1);
                case "cycle" -> (Fn) (r, args) -> {
                    if (args.positional().isEmpty()) {
                        throw new Fault("loop.cycle() needs values");
                    }
                    return args.positional().get(index % args.positional().size());
                };
                case "changed" -> (Fn) (r, args) -> {
                    Object now = new PyTuple(args.positional());
                    boolean changed = !changedBefore || !r.equal(now, lastChanged);
                    changedBefore = true;
                    lastChanged = now;
                    return changed;
                };
                default -> new Undefined("loop." + name);
            };
        }
    }

    final Budget budget;
    final Clock clock;
    Scope scope;
    /** What blocks had written when a break or continue left them. */
    String pending = "";

    Render(Budget budget, Clock clock, Map<String, Object> variables) {
        this.budget = budget;
        this.clock = clock;
        var globals = new Scope(null);
        globals.variables.putAll(Filters.GLOBALS);
        scope = new Scope(globals);
        scope.variables.putAll(variables);
    }

    Object lookup(String name) {
        budget.step();
        for (var s = scope; s != null; s = s.parent) {
            Object v = s.variables.get(name);
            if (v != null || s.variables.containsKey(name)) {
                return v;
            }
        }
        return new Undefined(name);
    }

    /** Charges a string that an operation made, and gives it back. */
    String made(String s) {
        budget.chars(s.length());
        return s;
    }

    PyList made(PyList list) {
        budget.items(list.size());
        return list;
    }

    static String typeName(Object v) {
        return switch (v) {
            case null -> "None";
            case Undefined u -> "undefined";
            case String s -> "a string";
            case Boolean b -> "a boolean";
            case Long l -> "an integer";
            case Double d -> "a float";
            case PyTuple t -> "a tuple";
            case PyList l -> "a list";
            case PyDict d -> "a mapping";
            case Namespace n -> "a namespace";
            case Loop l -> "a loop";
            default -> "a function";
        };
    }

    private static Fault undefined(Undefined u) {
        return new Fault("'" + u.name() + "' is undefined");
    }

    boolean truth(Object v) {
        return switch (v) {
            case null -> false;
            case Undefined u -> false;
            case Boolean b -> b;
            case Long l -> l != 0;
            case Double d -> d != 0;
            case String s -> !s.isEmpty();
            case PyList l -> !l.isEmpty();
            case PyDict d -> d.size() > 0;
            default -> true;
        };
    }

    // ---- numbers

    Object number(Object v) {
        return switch (v) {
            case Boolean b -> b ? 1L : 0L;
            case Long l -> l;
            case Double d -> d;
            case Undefined u -> throw undefined(u);
            case null, default -> throw new Fault("expected a number, found " + typeName(v));
        };
    }

    static boolean isNumber(Object v) {
        return v instanceof Long || v instanceof Double || v instanceof Boolean;
    }

    long integer(Object v) {
        return switch (v) {
            case Boolean b -> b ? 1 : 0;
            case Long l -> l;
            case Undefined u -> throw undefined(u);
            case null, default -> throw new Fault("expected an integer, found " + typeName(v));
        };
    }

    static double real(Object v) {
        return v instanceof Double d ? d : v instanceof Boolean b ? (b ? 1 : 0) : (Long) v;
    }

    Object arithmetic(String op, Object a, Object b) {
        budget.step();
        if (a instanceof Undefined u) {
            throw undefined(u);
        }
        if (b instanceof Undefined u) {
            throw undefined(u);
        }
        if (op.equals("+")) {
            if (a instanceof String x && b instanceof String y) {
                budget.chars(x.length() + (long) y.length());
                return x.concat(y);
            }
            if (a instanceof PyList x && b instanceof PyList y && (a instanceof PyTuple) == (b instanceof PyTuple)) {
                budget.items(x.size() + (long) y.size());
                var sum = new ArrayList<Object>(x.size() + y.size());
                sum.addAll(x);
                sum.addAll(y);
                return a instanceof PyTuple ? new PyTuple(sum) : new PyList(sum);
            }
        }
        if (op.equals("*")) {
            if (a instanceof String || a instanceof PyList) {
                return repeat(a, b);
            }
            if (b instanceof String || b instanceof PyList) {
                return repeat(b, a);
            }
        }
        if (op.equals("%") && a instanceof String format) {
            return Filters.percentFormat(this, format, b instanceof PyTuple t ? t : PyTuple.of(b), b instanceof PyDict d ? d : null);
        }
        if (!isNumber(a) || !isNumber(b)) {
            throw new Fault("can't compute " + typeName(a) + " " + op + " " + typeName(b));
        }
        if (a instanceof Double || b instanceof Double || op.equals("/")) {
            double x = real(a);
            double y = real(b);
            if (y == 0 && "/%".contains(op.substring(0, 1))) {
                throw new Fault("division by zero");
            }
            return switch (op) {
                case "+" -> x + y;
                case "-" -> x - y;
                case "*" -> x * y;
                case "/" -> x / y;
                case "//" -> Math.floor(x / y);
                case "%" -> x - y * Math.floor(x / y);
                default -> Math.pow(x, y);
            };
        }
        long x = integer(a);
        long y = integer(b);
        try {
            return switch (op) {
                case "+" -> Math.addExact(x, y);
                case "-" -> Math.subtractExact(x, y);
                case "*" -> Math.multiplyExact(x, y);
                case "//" -> Math.floorDiv(x, y);
                case "%" -> (long) Math.floorMod(x, y);
                default -> y < 0 ? (Object) Math.pow(x, y) : (Object) Math.powExact(x, (int) Math.min(y, 100_000));
            };
        } catch (ArithmeticException e) {
            throw new Fault(y == 0 && !op.equals("**") ? "division by zero" : "integer overflow: " + x + " " + op + " " + y);
        }
    }

    private Object repeat(Object what, Object times) {
        long n = Math.max(0, integer(times));
        if (what instanceof String s) {
            budget.chars(n > Integer.MAX_VALUE ? Long.MAX_VALUE / 2 : n * s.length());
            budget.steps(s.isEmpty() ? 0 : n / 16);
            return s.isEmpty() ? "" : s.repeat((int) n);
        }
        var list = (PyList) what;
        budget.items(n > Integer.MAX_VALUE ? Long.MAX_VALUE / 2 : n * list.size());
        var out = new ArrayList<Object>();
        for (long i = 0; i < n && !list.isEmpty(); i++) {
            out.addAll(list);
        }
        return what instanceof PyTuple ? new PyTuple(out) : new PyList(out);
    }

    // ---- comparison

    boolean equal(Object a, Object b) {
        budget.step();
        if (a == b) {
            return true;
        }
        if (isNumber(a) && isNumber(b)) {
            return a instanceof Double || b instanceof Double ? real(a) == real(b) : integer(a) == integer(b);
        }
        if (a instanceof String x && b instanceof String y) {
            budget.steps(Math.min(x.length(), y.length()) / 64);
            return x.equals(y);
        }
        if (a instanceof Undefined && b instanceof Undefined) {
            return true;
        }
        if (a instanceof PyList x && b instanceof PyList y) {
            if (x.size() != y.size() || (a instanceof PyTuple) != (b instanceof PyTuple)) {
                return false;
            }
            budget.enter();
            try {
                for (int i = 0; i < x.size(); i++) {
                    if (!equal(x.get(i), y.get(i))) {
                        return false;
                    }
                }
                return true;
            } finally {
                budget.leave();
            }
        }
        if (a instanceof PyDict x && b instanceof PyDict y) {
            if (x.size() != y.size()) {
                return false;
            }
            budget.enter();
            try {
                for (var e : x.entries()) {
                    if (!y.has(e.getKey()) || !equal(e.getValue(), y.get(e.getKey()))) {
                        return false;
                    }
                }
                return true;
            } finally {
                budget.leave();
            }
        }
        return false;
    }

    int order(Object a, Object b) {
        budget.step();
        if (isNumber(a) && isNumber(b)) {
            return a instanceof Double || b instanceof Double
                    ? Double.compare(real(a), real(b))
                    : Long.compare(integer(a), integer(b));
        }
        if (a instanceof String x && b instanceof String y) {
            budget.steps(Math.min(x.length(), y.length()) / 64);
            return x.compareTo(y);
        }
        if (a instanceof PyList x && b instanceof PyList y) {
            budget.enter();
            try {
                for (int i = 0; i < Math.min(x.size(), y.size()); i++) {
                    if (!equal(x.get(i), y.get(i))) {
                        return order(x.get(i), y.get(i));
                    }
                }
                return Integer.compare(x.size(), y.size());
            } finally {
                budget.leave();
            }
        }
        throw new Fault("can't order " + typeName(a) + " and " + typeName(b));
    }

    boolean compare(String op, Object a, Object b) {
        return switch (op) {
            case "==" -> equal(a, b);
            case "!=" -> !equal(a, b);
            case "in" -> contains(b, a);
            case "not in" -> !contains(b, a);
            case "<" -> order(a, b) < 0;
            case "<=" -> order(a, b) <= 0;
            case ">" -> order(a, b) > 0;
            default -> order(a, b) >= 0;
        };
    }

    boolean contains(Object in, Object what) {
        budget.step();
        return switch (in) {
            case String s -> {
                if (!(what instanceof String w)) {
                    throw new Fault("'in' on a string needs a string, not " + typeName(what));
                }
                yield find(s, w, 0) >= 0;
            }
            case PyDict d -> !(what instanceof Undefined) && d.has(what);
            case PyList l -> {
                for (Object item : l) {
                    if (equal(item, what)) {
                        yield true;
                    }
                }
                yield false;
            }
            case Undefined u -> false;
            case null, default -> throw new Fault("'in' needs a string, list or mapping, not " + typeName(in));
        };
    }

    /** indexOf in linear time, its cost charged: String's own takes hours on periodic megabytes. */
    int find(String s, String what, int from) {
        if ((long) what.length() * (s.length() - from) < 100_000) {
            budget.step();
            return s.indexOf(what, from);
        }
        return search(s, what, from, false);
    }

    /** Likewise lastIndexOf; {@code to} is where the match may begin at most. */
    int findLast(String s, String what, int to) {
        if ((long) what.length() * s.length() < 100_000) {
            budget.step();
            return s.lastIndexOf(what, to);
        }
        return search(s.substring(0, (int) Math.clamp((long) to + what.length(), 0, s.length())), what, 0, true);
    }

    /** Knuth, Morris and Pratt. */
    private int search(String s, String what, int from, boolean last) {
        budget.steps((s.length() - from) / 16 + what.length() / 16);
        budget.chars(2L * what.length());
        int[] borders = new int[what.length() + 1];
        borders[0] = -1;
        for (int i = 0, k = -1; i < what.length(); borders[++i] = ++k) {
            while (k >= 0 && what.charAt(i) != what.charAt(k)) {
                k = borders[k];
            }
        }
        int found = -1;
        for (int i = from, k = 0; i < s.length(); i++) {
            while (k >= 0 && s.charAt(i) != what.charAt(k)) {
                k = borders[k];
            }
            if (++k == what.length()) {
                found = i + 1 - k;
                if (!last) {
                    return found;
                }
                k = borders[k];
            }
        }
        return found;
    }

    // ---- members

    Object attribute(Object of, String name) {
        budget.step();
        return switch (of) {
            case Undefined u -> throw new Fault("'" + u.name() + "' is undefined, so it has no '" + name + "'");
            case PyDict d -> {
                Fn method = Filters.dictMethod(d, name);
                yield method != null ? method : d.get(name, new Undefined(name));
            }
            case String s -> orUndefined(Filters.stringMethod(s, name), name);
            case PyList l -> orUndefined(Filters.listMethod(l, name), name);
            case Namespace n -> n.attributes.get(name, new Undefined(name));
            case Loop l -> l.attribute(name);
            case null, default -> new Undefined(name);
        };
    }

    private static Object orUndefined(Object v, String name) {
        return v == null ? new Undefined(name) : v;
    }

    Object item(Object of, Object key) {
        budget.step();
        return switch (of) {
            case Undefined u -> throw new Fault("'" + u.name() + "' is undefined, so it has no item " + repr(key));
            case PyDict d -> {
                if (key instanceof PyDict || key instanceof PyList && !(key instanceof PyTuple)) {
                    yield new Undefined("item");
                }
                if (d.has(key)) {
                    yield d.get(key);
                }
                Fn method = key instanceof String name ? Filters.dictMethod(d, name) : null;
                yield method != null ? method : new Undefined(key instanceof String s ? s : repr(key));
            }
            case PyList l -> switch (key) {
                case Long i -> element(l.size(), i) < 0 ? new Undefined("item " + i) : l.get(element(l.size(), i));
                case Boolean b -> item(of, b ? 1L : 0L);
                case String name -> orUndefined(Filters.listMethod(l, name), name);
                case null, default -> new Undefined("item");
            };
            case String s -> switch (key) {
                case Long i -> {
                    int n = length(s);
                    int at = element(n, i);
                    yield at < 0 ? new Undefined("item " + i) : codePoints(s, at, at + 1);
                }
                case String name -> orUndefined(Filters.stringMethod(s, name), name);
                case null, default -> new Undefined("item");
            };
            case null, default -> key instanceof String name ? attribute(of, name) : new Undefined("item");
        };
    }

    private static int element(int size, long i) {
        long at = i < 0 ? i + size : i;
        return at < 0 || at >= size ? -1 : (int) at;
    }

    /** Length in characters as Python counts them: code points. */
    int length(String s) {
        budget.steps(s.length() / 64);
        return s.codePointCount(0, s.length());
    }

    private static String codePoints(String s, int from, int to) {
        if (s.codePointCount(0, s.length()) == s.length()) {
            return s.substring(from, to);
        }
        int a = s.offsetByCodePoints(0, from);
        return s.substring(a, s.offsetByCodePoints(a, to - from));
    }

    Object slice(Object of, Object from, Object to, Object by) {
        budget.step();
        if (of instanceof Undefined u) {
            throw undefined(u);
        }
        long step = by == null ? 1 : integer(by);
        if (step == 0) {
            throw new Fault("slice step can't be zero");
        }
        int size;
        if (of instanceof String s) {
            size = length(s);
        } else if (of instanceof PyList l) {
            size = l.size();
        } else {
            throw new Fault("can't slice " + typeName(of));
        }
        long lo = step > 0 ? 0 : -1;
        long hi = step > 0 ? size : size - 1L;
        long start = from == null ? (step > 0 ? lo : hi) : clamp(integer(from), size, lo, hi);
        long stop = to == null ? (step > 0 ? hi : lo) : clamp(integer(to), size, lo, hi);
        if (of instanceof String s) {
            if (step == 1) {
                return made(start >= stop ? "" : codePoints(s, (int) start, (int) stop));
            }
            int[] points = s.codePoints().toArray();
            budget.chars(points.length);
            var out = new StringBuilder();
            for (long i = start; step > 0 ? i < stop : i > stop; i += step) {
                out.appendCodePoint(points[(int) i]);
            }
            return made(out.toString());
        }
        var l = (PyList) of;
        var out = new ArrayList<Object>();
        for (long i = start; step > 0 ? i < stop : i > stop; i += step) {
            out.add(l.get((int) i));
        }
        budget.items(out.size());
        return of instanceof PyTuple ? new PyTuple(out) : new PyList(out);
    }

    private static long clamp(long i, int size, long lo, long hi) {
        long at = i < 0 ? i + size : i;
        return Math.clamp(at, lo, hi);
    }

    Object call(Object f, Args args) {
        budget.step();
        return switch (f) {
            case Fn fn -> fn.call(this, args);
            case Loop l when l.recurse != null -> l.recurse.call(this, args);
            case Undefined u -> throw new Fault("'" + u.name() + "' is undefined, so it can't be called");
            case null, default -> throw new Fault(typeName(f) + " can't be called");
        };
    }

    List<Object> iterate(Object v) {
        return switch (v) {
            case PyList l -> l;
            case PyDict d -> made(d.keys());
            case String s -> {
                budget.items(s.length());
                yield s.codePoints().<Object>mapToObj(Character::toString).toList();
            }
            case Undefined u -> List.of();
            // Python refuses; templates that set missing tools to none rely on upstream's leniency
            case null -> List.of();
            default -> throw new Fault("can't loop over " + typeName(v));
        };
    }

    // ---- text

    String str(Object v) {
        if (v instanceof String s) {
            return s;
        }
        var out = new StringBuilder();
        print(out, v, false);
        return made(out.toString());
    }

    String repr(Object v) {
        var out = new StringBuilder();
        print(out, v, true);
        return made(out.toString());
    }

    private void print(StringBuilder out, Object v, boolean quoted) {
        budget.step();
        budget.chars(8);
        switch (v) {
            case null -> out.append("None");
            case Boolean b -> out.append(b ? "True" : "False");
            case Long l -> out.append(l.longValue());
            case Double d -> out.append(real(d));
            case String s -> {
                if (quoted) {
                    budget.chars(s.length());
                    quote(out, s);
                } else {
                    out.append(s);
                }
            }
            case Undefined u -> out.append(quoted ? "Undefined" : "");
            case PyList l -> {
                boolean tuple = l instanceof PyTuple;
                budget.enter();
                out.append(tuple ? '(' : '[');
                for (int i = 0; i < l.size(); i++) {
                    out.append(i == 0 ? "" : ", ");
                    print(out, l.get(i), true);
                }
                out.append(tuple ? l.size() == 1 ? ",)" : ")" : "]");
                budget.leave();
            }
            case PyDict d -> {
                budget.enter();
                out.append('{');
                boolean first = true;
                for (var e : d.entries()) {
                    out.append(first ? "" : ", ");
                    first = false;
                    print(out, e.getKey(), true);
                    out.append(": ");
                    print(out, e.getValue(), true);
                }
                out.append('}');
                budget.leave();
            }
            case Namespace n -> out.append("<Namespace>");
            default -> out.append('<').append(typeName(v)).append('>');
        }
    }

    private static void quote(StringBuilder out, String s) {
        char q = s.indexOf('\'') >= 0 && s.indexOf('"') < 0 ? '"' : '\'';
        out.append(q);
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            switch (c) {
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\\' -> out.append("\\\\");
                default -> {
                    if (c == q) {
                        out.append('\\').append(c);
                    } else if (c < 32 || c == 127) {
                        out.append(String.format("\\x%02x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append(q);
    }

    /** Python's repr of a float: shortest digits, exponent below 1e-4 and from 1e16. */
    static String real(Double d) {
        if (d.isNaN()) {
            return "nan";
        }
        if (d.isInfinite()) {
            return d > 0 ? "inf" : "-inf";
        }
        if (d == 0) {
            return 1 / d < 0 ? "-0.0" : "0.0";
        }
        var decimal = new BigDecimal(Double.toString(d)).stripTrailingZeros();
        String digits = decimal.unscaledValue().abs().toString();
        int exponent = digits.length() - decimal.scale() - 1;
        String sign = d < 0 ? "-" : "";
        if (exponent < -4 || exponent >= 16) {
            String mantissa = digits.length() == 1 ? digits : digits.charAt(0) + "." + digits.substring(1);
            return sign + mantissa + "e" + (exponent < 0 ? "-" : "+") + (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
        }
        String plain = decimal.abs().toPlainString();
        return sign + (plain.indexOf('.') < 0 ? plain + ".0" : plain);
    }

    /**
     * Python's json.dumps.
     *
     * @param indent text of one level, or null for one line
     */
    String json(Object v, String indent, String itemSeparator, String keySeparator, boolean ascii, boolean sort) {
        var out = new StringBuilder();
        json(out, v, indent, 0, itemSeparator, keySeparator, ascii, sort);
        return made(out.toString());
    }

    String json(Object v) {
        return json(v, null, ", ", ": ", false, false);
    }

    private void json(StringBuilder out, Object v, String indent, int level, String comma, String colon, boolean ascii, boolean sort) {
        budget.step();
        budget.chars(8);
        switch (v) {
            case null -> out.append("null");
            case Boolean b -> out.append(b.booleanValue());
            case Long l -> out.append(l.longValue());
            case Double d -> out.append(d.isNaN() ? "NaN" : d.isInfinite() ? (d > 0 ? "Infinity" : "-Infinity") : real(d));
            case String s -> {
                budget.chars(s.length());
                jsonString(out, s, ascii);
            }
            case PyList l -> {
                if (l.isEmpty()) {
                    out.append("[]");
                    return;
                }
                budget.enter();
                out.append('[');
                for (int i = 0; i < l.size(); i++) {
                    out.append(i == 0 ? "" : comma);
                    newline(out, indent, level + 1);
                    json(out, l.get(i), indent, level + 1, comma, colon, ascii, sort);
                }
                newline(out, indent, level);
                out.append(']');
                budget.leave();
            }
            case PyDict d -> {
                if (d.size() == 0) {
                    out.append("{}");
                    return;
                }
                budget.enter();
                out.append('{');
                var entries = new ArrayList<>(d.entries());
                if (sort) {
                    entries.sort((a, b) -> order(a.getKey(), b.getKey()));
                }
                boolean first = true;
                for (var e : entries) {
                    out.append(first ? "" : comma);
                    first = false;
                    newline(out, indent, level + 1);
                    jsonString(out, switch (e.getKey()) {
                        case null -> "null";
                        case Boolean b -> b.toString();
                        case String s -> s;
                        case PyTuple t -> throw new Fault("a tuple can't be a key in JSON");
                        case Object k -> str(k);
                    }, ascii);
                    out.append(colon);
                    json(out, e.getValue(), indent, level + 1, comma, colon, ascii, sort);
                }
                newline(out, indent, level);
                out.append('}');
                budget.leave();
            }
            case Undefined u -> throw new Fault("'" + u.name() + "' is undefined, so it can't be written as JSON");
            default -> throw new Fault(typeName(v) + " can't be written as JSON");
        }
    }

    private void newline(StringBuilder out, String indent, int level) {
        if (indent != null) {
            budget.chars((long) indent.length() * level);
            out.append('\n').repeat(indent, level);
        }
    }

    private static void jsonString(StringBuilder out, String s, boolean ascii) {
        out.append('"');
        for (int i = 0; i < s.length(); i++) {
            char c = s.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                case '\b' -> out.append("\\b");
                case '\f' -> out.append("\\f");
                default -> {
                    if (c < 32 || ascii && c > 126) {
                        out.append(String.format("\\u%04x", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }

    /** Binds a target of set, for or call: one name, or several to unpack into. */
    void assign(List<String> names, boolean unpack, Object value) {
        if (!unpack) {
            scope.variables.put(names.getFirst(), value);
            return;
        }
        var items = iterate(value);
        if (items.size() != names.size()) {
            throw new Fault("can't unpack " + items.size() + " values into " + names.size() + " names");
        }
        for (int i = 0; i < names.size(); i++) {
            scope.variables.put(names.get(i), items.get(i));
        }
    }

}
