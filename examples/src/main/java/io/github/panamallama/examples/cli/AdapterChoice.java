package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Pattern;

/**
 * An adapter as it is typed, {@code FILE[:SCALE]}. What follows the last colon is the scale if it is a number; else it is a part of the
 * file's name, as in {@code C:\\style.gguf}.
 */
record AdapterChoice(Path file, float scale) {
    private static final Pattern NUMBER = Pattern.compile("[+-]?((\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?|NaN|Infinity)");

    /** @throws IllegalArgumentException if the scale is no finite number, or there is no file's name */
    static AdapterChoice parse(String text) {
        int colon = text.lastIndexOf(':');
        boolean scaled = colon >= 0 && NUMBER.matcher(text.substring(colon + 1)).matches();
        var file = scaled ? text.substring(0, colon) : text;
        float scale = scaled ? Float.parseFloat(text.substring(colon + 1)) : 1;
        if (file.isEmpty()) {
            throw new IllegalArgumentException("'" + text + "' names no file; it must be FILE or FILE:SCALE");
        }
        if (!Float.isFinite(scale)) {
            throw new IllegalArgumentException("the scale of '" + text + "' must be a finite number");
        }
        try {
            return new AdapterChoice(Path.of(file), scale);
        } catch (InvalidPathException e) {
            throw new IllegalArgumentException("'" + file + "' can't be the name of a file: " + e.getReason());
        }
    }

    /**
     * Several, with the checks that need no model.
     *
     * @throws IllegalArgumentException if a scale is no finite number or a file comes twice
     * @throws CommandException         if there is no such file
     */
    static List<AdapterChoice> parse(List<String> texts) {
        return parse(texts, "adapter");
    }

    /** Several of something else that has a scale. */
    static List<AdapterChoice> parse(List<String> texts, String what) {
        var choices = texts.stream().map(AdapterChoice::parse).toList();
        var seen = new HashSet<Path>();
        for (var choice : choices) {
            if (!seen.add(choice.file.toAbsolutePath().normalize())) {
                throw new IllegalArgumentException(
                        "the " + what + " " + choice.file + " is given twice; give it once, with the sum of the scales");
            }
            if (!Files.exists(choice.file)) {
                throw new CommandException("no such " + what + " file: " + choice.file + choice.hint());
            }
        }
        return choices;
    }

    /** A scale that is not written as a number is taken for a part of the name. */
    private String hint() {
        var name = file.toString();
        int colon = name.lastIndexOf(':');
        return colon > 0 && Files.exists(Path.of(name.substring(0, colon)))
                ? "; a scale is a number, such as " + name.substring(0, colon) + ":0.5" : "";
    }

    /**
     * The set of these adapters.
     *
     * @param load of a file
     * @throws IllegalArgumentException if they can't be in one set
     */
    static AdapterSet set(List<AdapterChoice> choices, Function<Path, Adapter> load) {
        return AdapterSet.of(choices.stream().map(choice -> new AdapterSet.Entry(load.apply(choice.file), choice.scale)).toList());
    }

    /** For JSON. */
    static List<Map<String, Object>> describe(AdapterSet set) {
        return set.entries().stream().map(entry -> {
            Map<String, Object> described = new LinkedHashMap<>();
            described.put("file", entry.adapter().path().toString());
            described.put("scale", entry.scale());
            return described;
        }).toList();
    }
}
