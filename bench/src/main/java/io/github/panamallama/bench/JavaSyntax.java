package io.github.panamallama.bench;

import com.sun.source.util.JavacTask;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
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
        var file = new SimpleJavaFileObject(URI.create("string:///Source.java"), JavaFileObject.Kind.SOURCE) {
            @Override
            public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return source;
            }
        };
        var problems = new DiagnosticCollector<JavaFileObject>();
        try (var manager = compiler.getStandardFileManager(problems, Locale.ROOT, StandardCharsets.UTF_8)) {
            var task = (JavacTask) compiler.getTask(null, manager, problems, List.of("-proc:none"), null, List.of(file));
            task.parse();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return problems.getDiagnostics().stream().noneMatch(problem -> problem.getKind() == Diagnostic.Kind.ERROR);
    }
}
