package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.GgufTensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Shows what a GGUF file holds, from its header alone: no native code, no weights in memory. */
@Command(name = "inspect", description = "Show metadata, tensors, types and bits per weight of a GGUF file.")
final class InspectCommand implements Callable<Integer> {
    /** Longest value in a table; templates and licences run to pages. */
    private static final int VALUE_WIDTH = 100;

    /** How many elements of an array a person is shown. */
    private static final int ARRAY_HEAD = 6;

    @ParentCommand
    private Main main;

    @Parameters(paramLabel = "FILE", converter = ModelFile.class, description = "A GGUF file; of a split model, any part.")
    private Path file;

    @Option(names = "--json", description = "Everything as JSON, arrays and long values in full.")
    private boolean json;

    @Override
    public Integer call() {
        var gguf = GgufFile.read(file);
        main.shell().println(json ? Json.write(document(gguf)) : table(gguf));
        return Main.OK;
    }

    private Map<String, Object> document(GgufFile gguf) {
        var metadata = new LinkedHashMap<String, Object>();
        for (var key : gguf.metadata().keys()) {
            metadata.put(key, gguf.metadata().get(key).orElseThrow());
        }
        var tensors = new ArrayList<Map<String, Object>>();
        for (var tensor : gguf.tensors()) {
            var entry = new LinkedHashMap<String, Object>();
            entry.put("name", tensor.name());
            entry.put("type", tensor.type().label());
            entry.put("shape", tensor.shape());
            entry.put("offset", tensor.offset());
            entry.put("bytes", tensor.byteSize());
            tensors.add(entry);
        }
        var types = new LinkedHashMap<String, Object>();
        totals(gguf).forEach((type, total) -> types.put(type, total.document()));
        var all = total(gguf);

        var document = new LinkedHashMap<String, Object>();
        document.put("file", file.toString());
        document.put("gguf_version", gguf.version());
        document.put("alignment", gguf.alignment());
        document.put("file_bytes", gguf.fileSize());
        document.put("n_tensors", gguf.tensors().size());
        document.put("n_params", all.elements);
        document.put("tensor_bytes", all.bytes);
        document.put("bits_per_weight", round(all.bitsPerWeight()));
        document.put("types", types);
        document.put("metadata", metadata);
        document.put("tensors", tensors);
        return document;
    }

    private String table(GgufFile gguf) {
        var out = new StringBuilder();
        var all = total(gguf);
        out.append("%s: GGUF version %d, %s, %d tensors, %s parameters, %.2f bits per weight%n%n".formatted(
                file, gguf.version(), Units.bytes(gguf.fileSize()), gguf.tensors().size(), Units.count(all.elements), all.bitsPerWeight()));

        out.append("metadata\n");
        int width = gguf.metadata().keys().stream().mapToInt(String::length).max().orElse(0);
        for (var key : gguf.metadata().keys()) {
            out.append("  ").append(pad(key, width)).append("  ").append(shown(gguf, key)).append('\n');
        }

        out.append("\ntypes\n");
        totals(gguf).forEach((type, total) -> out.append("  %-8s %5d tensors  %14s parameters  %10s  %6.2f bits per weight%n".formatted(
                type, total.tensors, String.format(Locale.ROOT, "%,d", total.elements), Units.bytes(total.bytes), total.bitsPerWeight())));

        out.append("\ntensors\n");
        int names = gguf.tensors().stream().mapToInt(tensor -> tensor.name().length()).max().orElse(0);
        for (var tensor : gguf.tensors()) {
            out.append("  %s  %-8s %-24s %10s%n".formatted(pad(tensor.name(), names), tensor.type().label(), shape(tensor),
                    Units.bytes(tensor.byteSize())));
        }
        return out.toString().stripTrailing();
    }

    /** A value for people, in one line. */
    static String shown(GgufFile gguf, String key) {
        var metadata = gguf.metadata();
        if (metadata.arrayLength(key).isPresent()) {
            int length = metadata.arrayLength(key).get();
            var head = elements(metadata.get(key).orElseThrow()).stream().limit(ARRAY_HEAD).map(InspectCommand::literal)
                    .collect(Collectors.joining(", "));
            return clip("[" + head + (length > ARRAY_HEAD ? ", ..." : "") + "]") + "  (" + metadata.elementType(key).orElseThrow().label()
                    + ", " + length + " elements)";
        }
        return clip(escape(metadata.text(key).orElseThrow()));
    }

    private static List<?> elements(Object array) {
        if (array instanceof List<?> list) {
            return list.subList(0, Math.min(list.size(), ARRAY_HEAD));
        }
        var head = new ArrayList<>();
        for (int i = 0; i < Math.min(java.lang.reflect.Array.getLength(array), ARRAY_HEAD); i++) {
            head.add(java.lang.reflect.Array.get(array, i));
        }
        return head;
    }

    private static String literal(Object element) {
        return element instanceof String text ? '"' + escape(text) + '"' : String.valueOf(element);
    }

    /** Control characters as escapes: a file must not be able to write to the terminal. */
    static String escape(String text) {
        var out = new StringBuilder(text.length());
        text.codePoints().forEach(c -> {
            switch (c) {
                case '\n' -> out.append("\\n");
                case '\r' -> out.append("\\r");
                case '\t' -> out.append("\\t");
                default -> {
                    if (Character.isISOControl(c)) {
                        out.append("\\u%04x".formatted(c));
                    } else {
                        out.appendCodePoint(c);
                    }
                }
            }
        });
        return out.toString();
    }

    private static String clip(String text) {
        return text.codePointCount(0, text.length()) <= VALUE_WIDTH
                ? text
                : text.substring(0, text.offsetByCodePoints(0, VALUE_WIDTH - 3)) + "...";
    }

    private static String shape(GgufTensor tensor) {
        return tensor.shape().stream().map(String::valueOf).collect(Collectors.joining(" x ", "[", "]"));
    }

    static String pad(String text, int width) {
        return text + " ".repeat(Math.max(0, width - text.length()));
    }

    private static double round(double value) {
        return Math.round(value * 1e4) / 1e4;
    }

    private record Total(int tensors, long elements, long bytes) {
        Total plus(GgufTensor tensor) {
            return new Total(tensors + 1, elements + tensor.elementCount(), bytes + tensor.byteSize());
        }

        double bitsPerWeight() {
            return elements == 0 ? 0 : 8.0 * bytes / elements;
        }

        Map<String, Object> document() {
            var document = new LinkedHashMap<String, Object>();
            document.put("n_tensors", tensors);
            document.put("n_params", elements);
            document.put("bytes", bytes);
            document.put("bits_per_weight", round(bitsPerWeight()));
            return document;
        }
    }

    private static Map<String, Total> totals(GgufFile gguf) {
        var totals = new TreeMap<String, Total>();
        for (var tensor : gguf.tensors()) {
            totals.compute(tensor.type().label(), (type, total) -> (total == null ? new Total(0, 0, 0) : total).plus(tensor));
        }
        return totals;
    }

    private static Total total(GgufFile gguf) {
        var total = new Total(0, 0, 0);
        for (var tensor : gguf.tensors()) {
            total = total.plus(tensor);
        }
        return total;
    }
}
