package io.github.panamallama.examples;

import io.github.panamallama.Llama;
import java.nio.file.Path;

public class Hello {
    public static void main(String[] args) {
        try (Llama llama = args.length > 0 ? Llama.load(Path.of(args[0])) : Llama.loadDefault()) {
            llama.complete("public static int max(").forEach(System.out::print);
            System.out.println();

            String body = llama.infill("int max(int a, int b) {\n    return ", ";\n}\n").text();
            System.out.println("filled in: " + body);

            llama.chat().send("What does the class `ArrayList` do?").forEach(System.out::print);
            System.out.println();
        }
    }
}
