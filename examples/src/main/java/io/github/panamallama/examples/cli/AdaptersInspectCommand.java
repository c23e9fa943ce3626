package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.gguf.AdapterFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.ParentCommand;

/** Shows which matrices an adapter changes, from its header alone. */
@Command(name = "inspect", description = "Show what a LoRA adapter in a GGUF file adapts, its ranks, types, scales and sizes.")
final class AdaptersInspectCommand implements Callable<Integer> {
    @ParentCommand
    private AdaptersCommand parent;

    @Parameters(paramLabel = "FILE", description = "A LoRA adapter in a GGUF file.")
    private Path file;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Override
    public Integer call() {
        var adapter = AdapterFile.read(file);
        parent.main().shell().println(json ? Json.write(document(adapter)) : table(adapter));
        return Main.OK;
    }

    private Map<String, Object> document(AdapterFile adapter) {
        var metadata = new LinkedHashMap<String, Object>();
        for (var key : adapter.gguf().metadata().keys()) {
            metadata.put(key, adapter.gguf().metadata().get(key).orElseThrow());
        }
        var targets = new ArrayList<Map<String, Object>>();
        for (var target : adapter.targets()) {
            var entry = new LinkedHashMap<String, Object>();
            entry.put("name", target.name());
            entry.put("rank", target.rank());
            entry.put("inputs", target.inputs());
            entry.put("outputs", target.outputs());
            entry.put("experts", target.experts());
            entry.put("type_a", target.a().type().label());
            entry.put("type_b", target.b().type().label());
            entry.put("scale", target.scale(adapter.alpha()));
            entry.put("bytes", target.byteSize());
            targets.add(entry);
        }
        var document = new LinkedHashMap<String, Object>();
        document.put("file", file.toString());
        document.put("name", adapter.name());
        document.put("architecture", adapter.architecture());
        document.put("alpha", adapter.alpha());
        document.put("invocation_tokens", adapter.invocationTokens());
        document.put("file_bytes", adapter.gguf().fileSize());
        document.put("weight_bytes", adapter.byteSize());
        document.put("n_targets", targets.size());
        document.put("metadata", metadata);
        document.put("targets", targets);
        return document;
    }

    private String table(AdapterFile adapter) {
        var out = new StringBuilder();
        out.append("%s: LoRA adapter \"%s\" for %s, alpha %s, %s, weights %s, file %s%n".formatted(file,
                InspectCommand.escape(adapter.name()),
                InspectCommand.escape(adapter.architecture()), adapter.alpha() == 0 ? "none" : number(adapter.alpha()), matrices(adapter),
                Units.bytes(adapter.byteSize()), Units.bytes(adapter.gguf().fileSize())));
        var tokens = adapter.invocationTokens();
        if (tokens.length > 0) {
            out.append("acts from the last occurrence of these tokens on: ").append(Arrays.toString(tokens)).append('\n');
        }

        out.append("\nmetadata\n");
        var keys = adapter.gguf().metadata().keys();
        int width = keys.stream().mapToInt(String::length).max().orElse(0);
        for (var key : keys) {
            out.append("  ").append(InspectCommand.pad(InspectCommand.escape(key), width)).append("  ")
                    .append(InspectCommand.shown(adapter.gguf(), key)).append('\n');
        }

        int names = adapter.targets().stream().mapToInt(target -> target.name().length()).max().orElse(0);
        out.append("\n%s  %5s  %-20s  %-14s  %8s  %12s%n".formatted(InspectCommand.pad("matrix", names + 2), "rank", "inputs x outputs",
                "types", "scale", "size"));
        for (var target : adapter.targets()) {
            out.append("  %s  %5d  %-20s  %-14s  %8s  %12s%n".formatted(InspectCommand.pad(InspectCommand.escape(target.name()), names),
                    target.rank(), shape(target),
                    types(target), number(target.scale(adapter.alpha())), Units.bytes(target.byteSize())));
        }
        return out.toString().stripTrailing();
    }

    private static String shape(AdapterFile.Target target) {
        return target.inputs() + " x " + target.outputs() + (target.experts() == 1 ? "" : " x " + target.experts());
    }

    private static String types(AdapterFile.Target target) {
        var a = target.a().type().label();
        var b = target.b().type().label();
        return a.equals(b) ? a : a + ", " + b;
    }

    static String matrices(AdapterFile adapter) {
        int count = adapter.targets().size();
        return count == 1 ? "1 matrix" : count + " matrices";
    }

    /** How often each type is there, for instance {@code q8_0 x 110, f16 x 2}. */
    static String types(AdapterFile adapter) {
        return adapter.targets().stream().flatMap(target -> Stream.of(target.a(), target.b()))
                .collect(Collectors.groupingBy(tensor -> tensor.type().label(), LinkedHashMap::new, Collectors.counting()))
                .entrySet().stream().map(entry -> entry.getKey() + " x " + entry.getValue()).collect(Collectors.joining(", "));
    }

    private static String number(float value) {
        return value == Math.rint(value) && Math.abs(value) < 1e6 ? String.valueOf((long) value)
                : String.format(Locale.ROOT, "%.4g", value);
    }
}
