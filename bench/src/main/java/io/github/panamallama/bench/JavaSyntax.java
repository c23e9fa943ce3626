package io.github.panamallama.bench;

import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreeScanner;
import com.sun.source.util.Trees;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.BiConsumer;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;

/** Whether a text is Java, by the parser of the JDK's own compiler. Names and types are not looked up. Any number of threads. */
public final class JavaSyntax {
    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();

    /** @throws IllegalStateException if this Java has no compiler */
    public JavaSyntax() {
        if (compiler == null) {
            throw new IllegalStateException("this Java has no compiler (jdk.compiler); run on a JDK");
        }
    }

    /** Whether a compilation unit parses without an error. */
    public boolean parses(String source) {
        return parse(source, (task, unit) -> { });
    }

    /** Of each method and constructor with a body, what is between its braces; empty if the text does not parse. */
    public List<Span> bodies(String source) {
        var spans = new ArrayList<Span>();
        boolean right = parse(source, (task, unit) -> {
            var positions = Trees.instance(task).getSourcePositions();
            new TreeScanner<Void, Void>() {
                @Override
                public Void visitMethod(MethodTree method, Void nothing) {
                    if (method.getBody() != null && positions.getStartPosition(unit, method.getBody()) >= 0) {
                        int start = (int) positions.getStartPosition(unit, method.getBody());
                        spans.add(new Span(start + 1, (int) positions.getEndPosition(unit, method.getBody()) - 1));
                    }
                    return super.visitMethod(method, nothing);
                }
            }.scan(unit, null);
        });
        return right ? spans : List.of();
    }

    /** A part of a text, in characters; {@code to} is not in it. */
    public record Span(int from, int to) {
    }

    private boolean parse(String source, BiConsumer<JavacTask, CompilationUnitTree> reader) {
        var file = new SimpleJavaFileObject(URI.create("string:///Source.java"), JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return source;
            }
        };
        var problems = new DiagnosticCollector<JavaFileObject>();
        try (var manager = compiler.getStandardFileManager(problems, Locale.ROOT, StandardCharsets.UTF_8)) {
            var task = (JavacTask) compiler.getTask(null, manager, problems, List.of("-proc:none"), null, List.of(file));
            for (var unit : task.parse()) {
                reader.accept(task, unit);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return problems.getDiagnostics().stream().noneMatch(problem -> problem.getKind() == Diagnostic.Kind.ERROR);
    }
}
