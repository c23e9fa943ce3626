package io.github.panamallama.runtime.chat;

import com.hubspot.jinjava.Jinjava;
import com.hubspot.jinjava.JinjavaConfig;
import com.hubspot.jinjava.interpret.Context;
import com.hubspot.jinjava.interpret.InterpretException;
import com.hubspot.jinjava.interpret.JinjavaInterpreter;
import com.hubspot.jinjava.interpret.OutputTooBigException;
import com.hubspot.jinjava.lib.expression.ExpressionStrategy;
import com.hubspot.jinjava.lib.tag.Tag;
import com.hubspot.jinjava.tree.ExpressionNode;
import com.hubspot.jinjava.tree.Node;
import com.hubspot.jinjava.tree.TagNode;
import com.hubspot.jinjava.tree.TextNode;
import com.hubspot.jinjava.tree.output.RenderedOutputNode;
import com.hubspot.jinjava.tree.parse.DefaultTokenScannerSymbols;
import com.hubspot.jinjava.tree.parse.ExpressionToken;
import com.hubspot.jinjava.tree.parse.TagToken;
import com.hubspot.jinjava.tree.parse.TextToken;
import com.hubspot.jinjava.tree.parse.TokenScannerSymbols;
import io.github.panamallama.runtime.chat.Expr.Args;
import io.github.panamallama.runtime.chat.Expr.Fn;
import java.time.Clock;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A parsed Jinja template on jinjava: its nodes, its rendering loop and output limit. The expressions, the tags and the whitespace are
 * this package's, added where jinjava lets one: its expression language follows Java's EL (its equality, missing values, numbers, printing
 * and scopes differ from Python's, which chat templates rely on) and reads properties of Java objects by reflection, which no template
 * from the internet may do. Immutable; any thread may render.
 */
final class JinjaTemplate {
    /** Longest source; the largest known chat template has 30,000 characters. */
    private static final int MAX_SOURCE = 1_000_000;
    private static final int MAX_NESTED_TAGS = 100;
    private static final TokenScannerSymbols SYMBOLS = new DefaultTokenScannerSymbols();

    /** Shared by all templates: templates reach none of what it holds. */
    private static final Jinjava JINJAVA = new Jinjava(
            JinjavaConfig.newBuilder().withNestedInterpretationEnabled(false).withMaxOutputSize(Budget.CHARS).build());

    private final List<Node> nodes;

    /** Parses; throws {@link ChatTemplateException} with the line of the fault. */
    JinjaTemplate(String source) {
        if (source.length() > MAX_SOURCE) {
            throw new ChatTemplateException("has " + source.length() + " characters; at most " + MAX_SOURCE + " are allowed", 0);
        }
        try {
            nodes = new Parser(Segments.of(source)).template();
        } catch (Fault e) {
            throw new ChatTemplateException(e.getMessage(), e.line());
        } catch (StackOverflowError e) {
            throw new ChatTemplateException("nests too deep", 0);
        }
    }

    /**
     * @param inputChars size of the variables in characters, which the limits grow with
     * @throws ChatTemplateException where the template fails, refuses, or exceeds its limits
     */
    String render(Map<String, Object> variables, Clock clock, long inputChars) {
        var render = new Render(new Budget(inputChars), clock, variables);
        try {
            var interpreter = new Interpreter(render);
            Node root = interpreter.parse("");
            root.getChildren().addAll(nodes);
            String out = interpreter.render(root, false);
            if (!interpreter.getErrors().isEmpty()) {
                throw new ChatTemplateException(interpreter.getErrors().getFirst().getMessage(),
                        interpreter.getErrors().getFirst().getLineno());
            }
            return out;
        } catch (Fault e) {
            throw new ChatTemplateException(e.getMessage(), e.line());
        } catch (InterpretException | OutputTooBigException e) {
            throw new ChatTemplateException(e.getMessage(), 0, e);
        } catch (StackOverflowError e) {
            throw new ChatTemplateException("nests too deep", 0);
        } catch (ClassCastException | IllegalArgumentException | IndexOutOfBoundsException | java.util.ConcurrentModificationException e) {
            throw new ChatTemplateException("can't be evaluated: " + e.getMessage(), 0, e);
        }
    }

    private static final class Interpreter extends JinjavaInterpreter {
        final Render render;

        Interpreter(Render render) {
            super(JINJAVA, new Context(JINJAVA.getGlobalContext()), JINJAVA.getGlobalConfig());
            this.render = render;
        }
    }

    private static Render render(JinjavaInterpreter interpreter) {
        return ((Interpreter) interpreter).render;
    }

    private static String text(List<Node> nodes, JinjavaInterpreter interpreter) {
        var out = new StringBuilder();
        try {
            text(nodes, interpreter, out);
        } catch (Jump jump) {
            // what the block wrote before the jump still counts
            var r = render(interpreter);
            r.pending = out + r.pending;
            throw jump;
        }
        return out.toString();
    }

    private static void text(List<Node> nodes, JinjavaInterpreter interpreter, StringBuilder out) {
        var budget = render(interpreter).budget;
        for (var node : nodes) {
            budget.step();
            String piece = node.render(interpreter).getValue();
            budget.chars(piece.length());
            out.append(piece);
        }
    }

    /** Renders in a scope of its own. */
    private static String scoped(List<Node> nodes, JinjavaInterpreter interpreter, Runnable bind) {
        var r = render(interpreter);
        var outer = r.scope;
        r.scope = new Render.Scope(outer);
        try {
            bind.run();
            return text(nodes, interpreter);
        } finally {
            r.scope = outer;
        }
    }

    // ---- nodes

    /** Ends or continues the loop around; no error. */
    private static final class Jump extends InterpretException {
        private static final long serialVersionUID = 1L;
        static final Jump BREAK = new Jump();
        static final Jump CONTINUE = new Jump();

        private Jump() {
            super("break or continue outside a loop");
        }

        @Override
        public synchronized Throwable fillInStackTrace() {
            return this;
        }
    }

    /** A tag whose inside is compiled; jinjava calls it through its node. */
    @SuppressWarnings("serial")
    private record Compiled(String getName, int line, Body body) implements Tag {
        interface Body {
            String run(Render r, JinjavaInterpreter interpreter);
        }

        @Override
        public String interpret(TagNode node, JinjavaInterpreter interpreter) {
            try {
                render(interpreter).budget.step();
                return body.run(render(interpreter), interpreter);
            } catch (Fault fault) {
                throw fault.at(line);
            }
        }

        @Override
        public String getEndTagName() {
            return null;
        }
    }

    @SuppressWarnings("serial")
    private record Output(Expr expr, int line) implements ExpressionStrategy {
        @Override
        public RenderedOutputNode interpretOutput(ExpressionToken token, JinjavaInterpreter interpreter) {
            try {
                var r = render(interpreter);
                return new RenderedOutputNode(r.str(expr.eval(r)));
            } catch (Fault fault) {
                throw fault.at(line);
            }
        }
    }

    // ---- parser

    private static final class Parser {
        private final List<Segments.Segment> segments;
        private int at;
        private int depth;

        Parser(List<Segments.Segment> segments) {
            this.segments = segments;
        }

        List<Node> template() {
            var nodes = body(Set.of(), "the template");
            if (at < segments.size()) {
                throw new Fault("'" + word(segments.get(at)) + "' without its opening tag", segments.get(at).line());
            }
            return nodes;
        }

        private static String word(Segments.Segment s) {
            String text = s.text().strip();
            int end = 0;
            while (end < text.length() && (Character.isLetterOrDigit(text.charAt(end)) || text.charAt(end) == '_')) {
                end++;
            }
            return text.substring(0, end);
        }

        private static final Set<String> ENDS = Set.of("endif", "elif", "else", "endfor", "endmacro", "endcall", "endset", "endfilter",
                "endgeneration", "endwith", "endautoescape");

        /** Nodes up to a tag that is one of the ends, which stays unread. */
        private List<Node> body(Set<String> ends, String of) {
            int opened = at == 0 ? 1 : segments.get(at - 1).line();
            if (++depth > MAX_NESTED_TAGS) {
                throw new Fault("tags nest deeper than " + MAX_NESTED_TAGS + " levels", opened);
            }
            var nodes = new ArrayList<Node>();
            while (at < segments.size()) {
                var s = segments.get(at);
                switch (s.kind()) {
                    case TEXT -> nodes.add(new TextNode(new TextToken(s.text(), s.line(), 0, SYMBOLS)));
                    case EXPRESSION -> nodes.add(expression(s));
                    case TAG -> {
                        String word = word(s);
                        if (ends.contains(word)) {
                            depth--;
                            return nodes;
                        }
                        if (ENDS.contains(word)) {
                            throw new Fault("unexpected '" + word + "' in " + of, s.line());
                        }
                        at++;
                        try {
                            nodes.add(tag(word, s));
                        } catch (Fault fault) {
                            throw fault.at(s.line());
                        }
                        continue;
                    }
                }
                at++;
            }
            depth--;
            if (!ends.isEmpty()) {
                throw new Fault(of + " without its end tag", opened);
            }
            return nodes;
        }

        private static Node expression(Segments.Segment s) {
            try {
                var p = new ExprParser(s.text());
                Expr e = p.tuple(true);
                p.end();
                return new ExpressionNode(new Output(e, s.line()), new ExpressionToken("{{ }}", s.line(), 0, SYMBOLS));
            } catch (Fault fault) {
                throw fault.at(s.line());
            }
        }

        private static Node node(String name, Segments.Segment s, Compiled.Body body) {
            var tag = new Compiled(name, s.line(), body);
            return new TagNode(tag, new TagToken("{% " + name + " %}", s.line(), 0, SYMBOLS), SYMBOLS);
        }

        /** Reads the end tag that the body stopped at. */
        private ExprParser close() {
            var p = new ExprParser(segments.get(at++).text());
            p.name();
            return p;
        }

        private Node tag(String word, Segments.Segment s) {
            var p = new ExprParser(s.text());
            if (p.atEnd()) {
                throw new Fault("empty tag");
            }
            p.name();
            return switch (word) {
                case "if" -> ifTag(p, s);
                case "for" -> forTag(p, s);
                case "set" -> set(p, s);
                case "macro" -> macro(p, s);
                case "call" -> call(p, s);
                case "filter" -> {
                    Expr[] input = new Expr[1];
                    Expr chain = p.filter(r -> input[0].eval(r));
                    while (p.accept("|")) {
                        chain = p.filter(chain);
                    }
                    p.end();
                    var body = body(Set.of("endfilter"), "filter");
                    close().end();
                    // the text goes in through a variable that no template can name
                    input[0] = r -> r.lookup("filter body");
                    Expr filters = chain;
                    yield node("filter", s, (r, interpreter) -> {
                        String text = scoped(body, interpreter, () -> { });
                        var outer = r.scope;
                        r.scope = new Render.Scope(outer);
                        r.scope.variables.put("filter body", text);
                        try {
                            return r.str(filters.eval(r));
                        } finally {
                            r.scope = outer;
                        }
                    });
                }
                case "with" -> {
                    var names = new ArrayList<String>();
                    var values = new ArrayList<Expr>();
                    while (!p.atEnd()) {
                        names.add(p.name());
                        p.expect("=");
                        values.add(p.expression());
                        if (!p.accept(",")) {
                            break;
                        }
                    }
                    p.end();
                    var body = body(Set.of("endwith"), "with");
                    close().end();
                    yield node("with", s, (r, interpreter) -> {
                        var given = values.stream().map(v -> new Object[] {v.eval(r)}).toList();
                        return scoped(body, interpreter, () -> {
                            for (int i = 0; i < names.size(); i++) {
                                r.scope.variables.put(names.get(i), given.get(i)[0]);
                            }
                        });
                    });
                }
                case "generation", "autoescape" -> {
                    // marks what the assistant wrote, for training; nothing to do here. Escaping is never wanted in a prompt.
                    if (word.equals("generation")) {
                        p.end();
                    }
                    var body = body(Set.of("end" + word), word);
                    close();
                    yield node(word, s, (r, interpreter) -> scoped(body, interpreter, () -> { }));
                }
                case "do" -> {
                    Expr e = p.tuple(true);
                    p.end();
                    yield node("do", s, (r, interpreter) -> {
                        e.eval(r);
                        return "";
                    });
                }
                case "break", "continue" -> {
                    p.end();
                    yield node(word, s, (r, interpreter) -> {
                        throw word.equals("break") ? Jump.BREAK : Jump.CONTINUE;
                    });
                }
                case "include", "import", "from", "extends", "block" ->
                        throw new Fault("'" + word + "' is not allowed: a chat template stands alone");
                default -> throw new Fault("no tag named '" + word + "'");
            };
        }

        private Node ifTag(ExprParser p, Segments.Segment s) {
            var tests = new ArrayList<Expr>();
            var bodies = new ArrayList<List<Node>>();
            tests.add(p.tuple(true));
            p.end();
            while (true) {
                bodies.add(body(tests.size() > bodies.size() ? Set.of("elif", "else", "endif") : Set.of("endif"), "if"));
                String word = word(segments.get(at));
                var end = close();
                if (word.equals("endif")) {
                    end.end();
                    break;
                }
                if (word.equals("elif")) {
                    tests.add(end.tuple(true));
                }
                end.end();
            }
            return node("if", s, (r, interpreter) -> {
                for (int i = 0; i < bodies.size(); i++) {
                    if (i >= tests.size() || r.truth(tests.get(i).eval(r))) {
                        return text(bodies.get(i), interpreter);
                    }
                }
                return "";
            });
        }

        /** Names to bind: {@code a} or {@code a, b} or {@code (a, b)}; true where there are several. */
        private static boolean targets(ExprParser p, List<String> names) {
            boolean paren = p.accept("(");
            names.add(p.name());
            boolean several = false;
            while (p.accept(",")) {
                several = true;
                if (p.peek().kind() != ExprParser.Kind.NAME || p.peek().isName("in")) {
                    break;
                }
                names.add(p.name());
            }
            if (paren) {
                p.expect(")");
            }
            return several;
        }

        private Node forTag(ExprParser p, Segments.Segment s) {
            var names = new ArrayList<String>();
            boolean several = targets(p, names);
            if (!p.acceptName("in")) {
                throw new Fault("for without 'in'");
            }
            Expr in = p.tuple(false);
            Expr test = p.acceptName("if") ? p.expression() : null;
            boolean recursive = p.acceptName("recursive");
            p.end();
            var body = body(Set.of("else", "endfor"), "for");
            boolean hasElse = word(segments.get(at)).equals("else");
            close().end();
            var otherwise = hasElse ? body(Set.of("endfor"), "for") : List.<Node>of();
            if (hasElse) {
                close().end();
            }
            return node("for", s, (r, interpreter) -> loop(r, interpreter, in.eval(r), 0, names, several, test, recursive, body,
                    otherwise));
        }

        private static String loop(Render r, JinjavaInterpreter interpreter, Object over, int depth, List<String> names, boolean several,
                Expr test, boolean recursive, List<Node> body, List<Node> otherwise) {
            var outer = r.scope;
            var items = new ArrayList<>(r.iterate(over));
            r.budget.items(items.size());
            try {
                if (test != null) {
                    items.removeIf(item -> {
                        r.scope = new Render.Scope(outer);
                        r.assign(names, several, item);
                        return !r.truth(test.eval(r));
                    });
                }
                r.scope = outer;
                if (items.isEmpty()) {
                    return scoped(otherwise, interpreter, () -> { });
                }
                Fn recurse = !recursive ? null : (rr, args) -> {
                    r.budget.enter();
                    var here = r.scope;
                    r.scope = outer;
                    try {
                        return loop(r, interpreter, args.need(0, "iterable"), depth + 1, names, several, test, true, body, otherwise);
                    } finally {
                        r.scope = here;
                        r.budget.leave();
                    }
                };
                var loop = new Render.Loop(items, depth, recurse);
                var out = new StringBuilder();
                for (int i = 0; i < items.size(); i++) {
                    r.budget.step();
                    loop.index = i;
                    r.scope = new Render.Scope(outer);
                    r.scope.variables.put("loop", loop);
                    r.assign(names, several, items.get(i));
                    try {
                        text(body, interpreter, out);
                    } catch (Jump jump) {
                        out.append(r.pending);
                        r.pending = "";
                        if (jump == Jump.BREAK) {
                            break;
                        }
                    }
                }
                return out.toString();
            } finally {
                r.scope = outer;
            }
        }

        private Node set(ExprParser p, Segments.Segment s) {
            if (p.peek().kind() == ExprParser.Kind.NAME && p.peek(1).is(".")) {
                String of = p.name();
                p.expect(".");
                String attribute = p.name();
                Expr value = value(p, s);
                return node("set", s, (r, interpreter) -> {
                    if (!(r.lookup(of) instanceof Render.Namespace n)) {
                        throw new Fault("can't set '" + attribute + "' of '" + of + "': it is no namespace");
                    }
                    r.budget.items(1);
                    n.attributes().put(attribute, value.eval(r));
                    return "";
                });
            }
            var names = new ArrayList<String>();
            boolean several = targets(p, names);
            if (p.peek().is("=")) {
                Expr value = value(p, s);
                return node("set", s, (r, interpreter) -> {
                    r.assign(names, several, value.eval(r));
                    return "";
                });
            }
            Expr chain = r -> r.lookup("filter body");
            while (p.accept("|")) {
                chain = p.filter(chain);
            }
            p.end();
            var body = body(Set.of("endset"), "set");
            close().end();
            Expr filters = chain;
            return node("set", s, (r, interpreter) -> {
                String text = scoped(body, interpreter, () -> { });
                var outer = r.scope;
                r.scope = new Render.Scope(outer);
                r.scope.variables.put("filter body", text);
                Object value;
                try {
                    value = filters.eval(r);
                } finally {
                    r.scope = outer;
                }
                r.assign(names, several, value);
                return "";
            });
        }

        private static Expr value(ExprParser p, Segments.Segment s) {
            p.expect("=");
            Expr value = p.tuple(true);
            p.end();
            return value;
        }

        private record Signature(List<String> names, List<Expr> defaults) {}

        private static Signature signature(ExprParser p) {
            var names = new ArrayList<String>();
            var defaults = new ArrayList<Expr>();
            p.expect("(");
            while (!p.peek().is(")")) {
                names.add(p.name());
                defaults.add(p.accept("=") ? p.expression() : null);
                if (!p.accept(",")) {
                    break;
                }
            }
            p.expect(")");
            return new Signature(names, defaults);
        }

        private static Fn function(JinjavaInterpreter interpreter, Render.Scope home, Signature signature, List<Node> body, String name) {
            return (r, args) -> {
                if (args.positional().size() > signature.names.size() + Budget.DEPTH) {
                    throw new Fault(name + "() was given " + args.positional().size() + " arguments, it takes " + signature.names.size());
                }
                r.budget.enter();
                var outer = r.scope;
                r.scope = new Render.Scope(home);
                try {
                    var variables = r.scope.variables;
                    for (int i = 0; i < signature.names.size(); i++) {
                        String parameter = signature.names.get(i);
                        Expr fallback = signature.defaults.get(i);
                        variables.put(parameter, args.has(i, parameter) ? args.get(i, parameter, null)
                                : fallback != null ? fallback.eval(r) : new Undefined(parameter));
                    }
                    var rest = new PyDict();
                    args.named().forEach((k, v) -> {
                        if (!signature.names.contains(k) && !k.equals("caller")) {
                            rest.put(k, v);
                        }
                    });
                    variables.put("kwargs", rest);
                    variables.put("varargs", new PyTuple(args.skip(signature.names.size()).positional()));
                    variables.put("caller", args.named().getOrDefault("caller", new Undefined("caller")));
                    return text(body, interpreter);
                } finally {
                    r.scope = outer;
                    r.budget.leave();
                }
            };
        }

        private Node macro(ExprParser p, Segments.Segment s) {
            String name = p.name();
            var signature = signature(p);
            p.end();
            var body = body(Set.of("endmacro"), "macro");
            close();
            return node("macro", s, (r, interpreter) -> {
                r.scope.variables.put(name, function(interpreter, r.scope, signature, body, name));
                return "";
            });
        }

        private Node call(ExprParser p, Segments.Segment s) {
            var signature = p.peek().is("(") ? signature(p) : new Signature(List.of(), List.of());
            String name = p.name();
            var args = p.arguments();
            p.end();
            var body = body(Set.of("endcall"), "call");
            close();
            return node("call", s, (r, interpreter) -> {
                var given = args.eval(r);
                var named = new java.util.LinkedHashMap<>(given.named());
                named.put("caller", function(interpreter, r.scope, signature, body, "caller"));
                return r.str(r.call(r.lookup(name), new Args(given.positional(), named)));
            });
        }
    }
}
