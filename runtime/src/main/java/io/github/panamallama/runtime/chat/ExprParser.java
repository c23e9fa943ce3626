package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.chat.Expr.Args;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Parses Jinja's expression language into {@link Expr}s, with the precedences of Jinja 3. One parser reads the inside of one tag.
 */
final class ExprParser {
    /** Nested brackets and operators that a stack of 512 KB bears many times over. */
    private static final int MAX_DEPTH = 200;

    enum Kind { NAME, INT, FLOAT, STRING, OP, END }

    record Token(Kind kind, String text) {
        boolean is(String op) {
            return kind == Kind.OP && text.equals(op);
        }

        boolean isName(String name) {
            return kind == Kind.NAME && text.equals(name);
        }
    }

    private final List<Token> tokens;
    private int at;
    private int depth;

    ExprParser(String source) {
        tokens = lex(source);
    }

    // ---- tokens

    private static List<Token> lex(String s) {
        var out = new ArrayList<Token>();
        int i = 0;
        int n = s.length();
        while (i < n) {
            char c = s.charAt(i);
            if (Character.isWhitespace(c)) {
                i++;
            } else if (Character.isUnicodeIdentifierStart(c) || c == '_') {
                int j = i + 1;
                while (j < n && (Character.isUnicodeIdentifierPart(s.charAt(j)) || s.charAt(j) == '_')) {
                    j++;
                }
                out.add(new Token(Kind.NAME, s.substring(i, j)));
                i = j;
            } else if (c >= '0' && c <= '9') {
                boolean afterDot = !out.isEmpty() && out.getLast().is(".");
                int j = i;
                boolean real = false;
                while (j < n && (digit(s.charAt(j)) || s.charAt(j) == '_')) {
                    j++;
                }
                if (!afterDot && j + 1 < n && s.charAt(j) == '.' && digit(s.charAt(j + 1))) {
                    real = true;
                    j++;
                    while (j < n && (digit(s.charAt(j)) || s.charAt(j) == '_')) {
                        j++;
                    }
                }
                if (!afterDot && j < n && (s.charAt(j) == 'e' || s.charAt(j) == 'E')) {
                    int k = j + 1;
                    if (k < n && (s.charAt(k) == '+' || s.charAt(k) == '-')) {
                        k++;
                    }
                    if (k < n && digit(s.charAt(k))) {
                        real = true;
                        j = k;
                        while (j < n && digit(s.charAt(j))) {
                            j++;
                        }
                    }
                }
                out.add(new Token(real ? Kind.FLOAT : Kind.INT, s.substring(i, j).replace("_", "")));
                i = j;
            } else if (c == '\'' || c == '"') {
                var text = new StringBuilder();
                i = string(s, i, text);
                out.add(new Token(Kind.STRING, text.toString()));
            } else {
                String two = i + 1 < n ? s.substring(i, i + 2) : "";
                if (Set.of("==", "!=", "<=", ">=", "//", "**").contains(two)) {
                    out.add(new Token(Kind.OP, two));
                    i += 2;
                } else if ("+-*/%~()[]{}<>=.,:|".indexOf(c) >= 0) {
                    out.add(new Token(Kind.OP, String.valueOf(c)));
                    i++;
                } else {
                    throw new Fault("unexpected character '" + c + "'");
                }
            }
        }
        out.add(new Token(Kind.END, ""));
        return out;
    }

    private static boolean digit(char c) {
        return c >= '0' && c <= '9';
    }

    /** Decodes the literal that starts at i as Python does; returns the index after it. */
    private static int string(String s, int i, StringBuilder out) {
        char quote = s.charAt(i++);
        while (i < s.length()) {
            char c = s.charAt(i++);
            if (c == quote) {
                return i;
            }
            if (c != '\\' || i == s.length()) {
                out.append(c);
                continue;
            }
            char e = s.charAt(i++);
            switch (e) {
                case 'n' -> out.append('\n');
                case 't' -> out.append('\t');
                case 'r' -> out.append('\r');
                case 'b' -> out.append('\b');
                case 'f' -> out.append('\f');
                case 'a' -> out.append('\u0007');
                case 'v' -> out.append('\u000b');
                case '\n' -> { }
                case '\\', '\'', '"' -> out.append(e);
                case 'x', 'u', 'U' -> {
                    int digits = e == 'x' ? 2 : e == 'u' ? 4 : 8;
                    try {
                        int code = Integer.parseInt(s.substring(i, i + digits), 16);
                        if (e == 'U') {
                            out.appendCodePoint(code);
                        } else {
                            out.append((char) code);
                        }
                        i += digits;
                    } catch (RuntimeException bad) {
                        throw new Fault("bad escape \\" + e + " in a string");
                    }
                }
                default -> {
                    if (e >= '0' && e <= '7') {
                        int code = e - '0';
                        for (int k = 0; k < 2 && i < s.length() && s.charAt(i) >= '0' && s.charAt(i) <= '7'; k++) {
                            code = code * 8 + s.charAt(i++) - '0';
                        }
                        out.append((char) code);
                    } else {
                        out.append('\\').append(e);
                    }
                }
            }
        }
        throw new Fault("string without its closing " + quote);
    }

    Token peek() {
        return tokens.get(at);
    }

    Token peek(int ahead) {
        return tokens.get(Math.min(at + ahead, tokens.size() - 1));
    }

    Token next() {
        var t = tokens.get(at);
        if (at < tokens.size() - 1) {
            at++;
        }
        return t;
    }

    boolean accept(String op) {
        if (peek().is(op)) {
            next();
            return true;
        }
        return false;
    }

    boolean acceptName(String name) {
        if (peek().isName(name)) {
            next();
            return true;
        }
        return false;
    }

    void expect(String op) {
        if (!accept(op)) {
            throw unexpected("'" + op + "'");
        }
    }

    String name() {
        if (peek().kind() != Kind.NAME) {
            throw unexpected("a name");
        }
        return next().text();
    }

    boolean atEnd() {
        return peek().kind() == Kind.END;
    }

    void end() {
        if (!atEnd()) {
            throw unexpected("the end of the tag");
        }
    }

    private Fault unexpected(String wanted) {
        return new Fault("expected " + wanted + ", found " + (atEnd() ? "the end of the tag" : "'" + peek().text() + "'"));
    }

    // ---- grammar

    /** An expression, or several with commas between: a tuple. */
    Expr tuple(boolean conditional) {
        Expr first = conditional ? expression() : or();
        if (!peek().is(",")) {
            return first;
        }
        var items = new ArrayList<Expr>(List.of(first));
        while (accept(",")) {
            if (atEnd() || peek().is(")") || peek().is("=") || peek().is("]")) {
                break;
            }
            items.add(conditional ? expression() : or());
        }
        return r -> new PyTuple(evalAll(r, items));
    }

    Expr expression() {
        if (++depth > MAX_DEPTH) {
            throw new Fault("an expression nests deeper than " + MAX_DEPTH + " levels");
        }
        try {
            Expr value = or();
            while (acceptName("if")) {
                Expr then = value;
                Expr test = or();
                Expr otherwise = acceptName("else") ? expression() : r -> Undefined.ANONYMOUS;
                value = r -> r.truth(test.eval(r)) ? then.eval(r) : otherwise.eval(r);
            }
            return value;
        } finally {
            depth--;
        }
    }

    private Expr or() {
        Expr left = and();
        while (acceptName("or")) {
            Expr a = left;
            Expr b = and();
            left = r -> {
                Object v = a.eval(r);
                return r.truth(v) ? v : b.eval(r);
            };
        }
        return left;
    }

    private Expr and() {
        Expr left = not();
        while (acceptName("and")) {
            Expr a = left;
            Expr b = not();
            left = r -> {
                Object v = a.eval(r);
                return r.truth(v) ? b.eval(r) : v;
            };
        }
        return left;
    }

    private Expr not() {
        boolean negate = false;
        boolean any = false;
        while (acceptName("not")) {
            negate = !negate;
            any = true;
        }
        Expr e = compare();
        if (!any) {
            return e;
        }
        boolean flip = negate;
        return r -> r.truth(e.eval(r)) != flip;
    }

    private record Comparison(String op, Expr right) {}

    private Expr compare() {
        Expr left = sum();
        var chain = new ArrayList<Comparison>();
        while (true) {
            var t = peek();
            if (t.kind() == Kind.OP && Set.of("==", "!=", "<", "<=", ">", ">=").contains(t.text())) {
                next();
                chain.add(new Comparison(t.text(), sum()));
            } else if (t.isName("in")) {
                next();
                chain.add(new Comparison("in", sum()));
            } else if (t.isName("not") && peek(1).isName("in")) {
                next();
                next();
                chain.add(new Comparison("not in", sum()));
            } else {
                break;
            }
        }
        if (chain.isEmpty()) {
            return left;
        }
        return r -> {
            Object a = left.eval(r);
            for (var c : chain) {
                Object b = c.right.eval(r);
                if (!r.compare(c.op, a, b)) {
                    return false;
                }
                a = b;
            }
            return true;
        };
    }

    private Expr sum() {
        Expr left = concat();
        while (peek().is("+") || peek().is("-")) {
            String op = next().text();
            Expr a = left;
            Expr b = concat();
            left = r -> r.arithmetic(op, a.eval(r), b.eval(r));
        }
        return left;
    }

    private Expr concat() {
        Expr first = product();
        if (!peek().is("~")) {
            return first;
        }
        var parts = new ArrayList<Expr>(List.of(first));
        while (accept("~")) {
            parts.add(product());
        }
        return r -> {
            var out = new StringBuilder();
            for (var p : parts) {
                out.append(r.str(p.eval(r)));
            }
            return r.made(out.toString());
        };
    }

    private Expr product() {
        Expr left = power();
        while (peek().is("*") || peek().is("/") || peek().is("//") || peek().is("%")) {
            String op = next().text();
            Expr a = left;
            Expr b = power();
            left = r -> r.arithmetic(op, a.eval(r), b.eval(r));
        }
        return left;
    }

    private Expr power() {
        Expr left = unary(true);
        while (accept("**")) {
            Expr a = left;
            Expr b = unary(true);
            left = r -> r.arithmetic("**", a.eval(r), b.eval(r));
        }
        return left;
    }

    private Expr unary(boolean filters) {
        if (++depth > MAX_DEPTH) {
            throw new Fault("an expression nests deeper than " + MAX_DEPTH + " levels");
        }
        try {
            Expr e;
            if (accept("-")) {
                Expr inner = unary(false);
                e = r -> r.arithmetic("-", 0L, r.number(inner.eval(r)));
            } else if (accept("+")) {
                Expr inner = unary(false);
                e = r -> r.number(inner.eval(r));
            } else {
                e = primary();
            }
            e = postfix(e);
            return filters ? filters(e) : e;
        } finally {
            depth--;
        }
    }

    private static Expr constant(Object value) {
        return r -> {
            r.budget.step();
            return value;
        };
    }

    private Expr primary() {
        var t = next();
        switch (t.kind()) {
            case NAME -> {
                switch (t.text()) {
                    case "true", "True" -> {
                        return constant(true);
                    }
                    case "false", "False" -> {
                        return constant(false);
                    }
                    case "none", "None" -> {
                        return constant(null);
                    }
                    default -> {
                        String name = t.text();
                        return r -> r.lookup(name);
                    }
                }
            }
            case STRING -> {
                if (peek().kind() != Kind.STRING) {
                    return constant(t.text());
                }
                var all = new StringBuilder(t.text());
                while (peek().kind() == Kind.STRING) {
                    all.append(next().text());
                }
                return constant(all.toString());
            }
            case INT -> {
                try {
                    return constant(Long.parseLong(t.text()));
                } catch (NumberFormatException e) {
                    throw new Fault("integer out of range: " + t.text());
                }
            }
            case FLOAT -> {
                return constant(Double.parseDouble(t.text()));
            }
            case OP -> {
                switch (t.text()) {
                    case "(" -> {
                        if (accept(")")) {
                            return r -> PyTuple.of();
                        }
                        Expr e = tuple(true);
                        expect(")");
                        return e;
                    }
                    case "[" -> {
                        var items = new ArrayList<Expr>();
                        while (!peek().is("]")) {
                            items.add(expression());
                            if (!accept(",")) {
                                break;
                            }
                        }
                        expect("]");
                        return r -> new PyList(evalAll(r, items));
                    }
                    case "{" -> {
                        return dict();
                    }
                    default -> { }
                }
            }
            case END -> { }
        }
        at = Math.max(0, t.kind() == Kind.END ? at : at - 1);
        throw unexpected("an expression");
    }

    private Expr dict() {
        var keys = new ArrayList<Expr>();
        var values = new ArrayList<Expr>();
        while (!peek().is("}")) {
            keys.add(expression());
            expect(":");
            values.add(expression());
            if (!accept(",")) {
                break;
            }
        }
        expect("}");
        return r -> {
            r.budget.step();
            r.budget.items(keys.size());
            var dict = new PyDict();
            for (int i = 0; i < keys.size(); i++) {
                dict.put(keys.get(i).eval(r), values.get(i).eval(r));
            }
            return dict;
        };
    }

    private static List<Object> evalAll(Render r, List<Expr> items) {
        r.budget.step();
        r.budget.items(items.size());
        var out = new ArrayList<>(items.size());
        for (var e : items) {
            out.add(e.eval(r));
        }
        return out;
    }

    private Expr postfix(Expr e) {
        while (true) {
            Expr of = e;
            if (accept(".")) {
                var t = next();
                if (t.kind() == Kind.NAME) {
                    e = r -> r.attribute(of.eval(r), t.text());
                } else if (t.kind() == Kind.INT) {
                    long index = Long.parseLong(t.text());
                    e = r -> r.item(of.eval(r), index);
                } else {
                    throw new Fault("expected a name after '.'");
                }
            } else if (accept("[")) {
                e = subscript(of);
            } else if (peek().is("(")) {
                var args = arguments();
                e = r -> r.call(of.eval(r), args.eval(r));
            } else {
                return e;
            }
        }
    }

    private Expr subscript(Expr of) {
        if (accept("]")) {
            // upstream takes an empty subscript for an undefined key
            return r -> new Undefined("[]");
        }
        Expr[] parts = new Expr[3];
        boolean slice = false;
        int n = 0;
        while (true) {
            if (accept(":")) {
                slice = true;
                if (++n > 2) {
                    throw unexpected("']'");
                }
            } else if (peek().is("]")) {
                break;
            } else {
                parts[n] = n == 0 && !slice ? tuple(true) : expression();
            }
        }
        expect("]");
        if (!slice) {
            Expr key = parts[0];
            return r -> r.item(of.eval(r), key.eval(r));
        }
        return r -> r.slice(
                of.eval(r),
                parts[0] == null ? null : parts[0].eval(r),
                parts[1] == null ? null : parts[1].eval(r),
                parts[2] == null ? null : parts[2].eval(r));
    }

    /** Arguments in parentheses, unevaluated. */
    record ArgList(List<Expr> positional, Map<String, Expr> named, Expr star, Expr doubleStar) {
        Args eval(Render r) {
            r.budget.step();
            if (positional.isEmpty() && named.isEmpty() && star == null && doubleStar == null) {
                return Args.NONE;
            }
            var pos = new ArrayList<>(positional.size());
            for (var e : positional) {
                pos.add(e.eval(r));
            }
            if (star != null) {
                pos.addAll(r.iterate(star.eval(r)));
            }
            var kw = new LinkedHashMap<String, Object>();
            for (var e : named.entrySet()) {
                kw.put(e.getKey(), e.getValue().eval(r));
            }
            if (doubleStar != null && doubleStar.eval(r) instanceof PyDict d) {
                for (var e : d.entries()) {
                    kw.put(r.str(e.getKey()), e.getValue());
                }
            }
            return new Args(pos, kw);
        }
    }

    ArgList arguments() {
        expect("(");
        var positional = new ArrayList<Expr>();
        var named = new LinkedHashMap<String, Expr>();
        Expr star = null;
        Expr doubleStar = null;
        while (!peek().is(")")) {
            if (accept("**")) {
                doubleStar = expression();
            } else if (accept("*")) {
                star = expression();
            } else if (peek().kind() == Kind.NAME && peek(1).is("=")) {
                String name = name();
                next();
                named.put(name, expression());
            } else {
                positional.add(expression());
            }
            if (!accept(",")) {
                break;
            }
        }
        expect(")");
        return new ArgList(positional, named, star, doubleStar);
    }

    private Expr filters(Expr e) {
        while (true) {
            if (accept("|")) {
                e = filter(e);
            } else if (acceptName("is")) {
                e = test(e);
            } else if (peek().is("(")) {
                Expr of = e;
                var args = arguments();
                e = r -> r.call(of.eval(r), args.eval(r));
            } else {
                return e;
            }
        }
    }

    /** One filter, its name next: {@code name(args)}. */
    Expr filter(Expr input) {
        String name = dotted();
        var filter = Filters.FILTERS.get(name);
        if (filter == null) {
            throw new Fault("no filter named '" + name + "'");
        }
        var args = peek().is("(") ? arguments() : null;
        return r -> {
            Object v = input.eval(r);
            return filter.apply(r, v, args == null ? Args.NONE : args.eval(r));
        };
    }

    private Expr test(Expr input) {
        boolean negate = acceptName("not");
        String name = dotted();
        var test = Filters.TESTS.get(name);
        if (test == null) {
            throw new Fault("no test named '" + name + "'");
        }
        ArgList args = null;
        var t = peek();
        if (t.is("(")) {
            args = arguments();
        } else if (t.kind() == Kind.STRING || t.kind() == Kind.INT || t.kind() == Kind.FLOAT || t.is("[") || t.is("{")
                || t.kind() == Kind.NAME && !Set.of("else", "or", "and", "is", "if", "not", "in", "recursive").contains(t.text())) {
            args = new ArgList(List.of(postfix(primary())), Map.of(), null, null);
        }
        var arguments = args;
        return r -> {
            Object v = input.eval(r);
            return test.apply(r, v, arguments == null ? Args.NONE : arguments.eval(r)) != negate;
        };
    }

    private String dotted() {
        var name = new StringBuilder(name());
        while (peek().is(".") && peek(1).kind() == Kind.NAME) {
            next();
            name.append('.').append(name());
        }
        return name.toString();
    }
}
