package io.github.panamallama.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class CodeModelsTest {
    @Test
    void aMethodEndsAtItsOwnBrace() {
        assertEquals(8, MethodEnd.of("return; } int x; }"));
        assertEquals(15, MethodEnd.of("if (a) { b(); }} }"));
        assertEquals(-1, MethodEnd.of("while (true) { }"));
        assertEquals(-1, MethodEnd.of(""));
    }

    @Test
    void bracesInLiteralsAndCommentsEndNothing() {
        for (var body : List.of("s = \"}\\\"}\";", "c = '}';", "c = '\\'';", "// }\n", "/* } \n } */",
                "s = \"\"\"\n } \\\"\"\" } \"\"\";")) {
            assertEquals(body.length(), MethodEnd.of(body + "}"), body);
        }
    }

    @Test
    void bodiesAreThoseOfMethodsAndConstructorsThatHaveOne() {
        var source = "class A { A() {a();} int f(int x) { return x; } abstract int g(); Runnable r = () -> { h(); }; }";
        var bodies = new JavaSyntax().bodies(source).stream().map(body -> source.substring(body.from(), body.to())).toList();
        assertEquals(List.of("a();", " return x; "), bodies);
        assertEquals(List.of(), new JavaSyntax().bodies("class A { void f() { }"));
    }

    @Test
    void anIntervalOverGroupsIsWiderThanOneOverTheirMembers() {
        var random = new SplittableRandom(5);
        var values = new double[400];
        var files = new int[400];
        var single = new int[400];
        for (int i = 0; i < values.length; i++) {
            files[i] = i / 20;
            single[i] = i;
            values[i] = (i / 20 % 2) + 0.1 * random.nextDouble();      // alike within a file
        }
        var byFile = Bootstrap.mean(values, files);
        var byValue = Bootstrap.mean(values, single);
        assertEquals(Arrays.stream(values).average().orElseThrow(), byFile.value(), 1e-12);
        assertTrue(byFile.low() < byFile.value() && byFile.value() < byFile.high());
        assertTrue(byFile.high() - byFile.low() > 2 * (byValue.high() - byValue.low()), byFile + " " + byValue);
    }

    @Test
    void aRatioIsThatOfTheSums() {
        var ratio = Bootstrap.ratio(new double[] {1, 5}, new double[] {1, 2}, new int[] {0, 3});
        assertEquals(2, ratio.value());
        assertEquals(1, ratio.low());
        assertEquals(2.5, ratio.high());
        assertThrows(IllegalArgumentException.class, () -> Bootstrap.mean(new double[0], new int[0]));
        assertThrows(IllegalArgumentException.class, () -> Bootstrap.mean(new double[1], new int[2]));
    }
}
