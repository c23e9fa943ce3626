package io.github.panamallama.examples;

import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.runtime.AdapterSet;
import java.nio.file.Path;

public class Adapters {
    public static void main(String[] args) {
        try (Llama llama = Llama.loadDefault()) {
            var adapter = llama.adapter(Path.of(args[0]));          // house-style.gguf
            var greedy = GenerationOptions.defaults().withTemperature(0).withMaxTokens(40);
            for (var set : new AdapterSet[] {AdapterSet.none(), AdapterSet.of(adapter), AdapterSet.of(adapter, 0.5f)}) {
                System.out.println("--- " + set);
                System.out.println(llama.complete("public final class Registry {\n", greedy.withAdapters(set)).text());
            }

            var chat = llama.chat();
            System.out.println(chat.send("What is a `List`?").text());
            chat.adapters(AdapterSet.of(adapter));                  // in mid-conversation
            System.out.println(chat.send("And a `Set`?").text());
        }
    }
}
