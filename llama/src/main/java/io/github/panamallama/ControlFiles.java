package io.github.panamallama;

import io.github.panamallama.runtime.ControlVector;
import io.github.panamallama.runtime.Model;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/**
 * A control vector as data, which a worker process takes too: the sum of files, each times its scale.
 * {@code LlamaOptions.defaults().withControl(ControlFiles.of(Path.of("cheerful.gguf"), 0.5f))}.
 *
 * @param files at least one
 * @param first block that directions are added to the output of; 0 for all from block 1 on
 * @param last  such block; 0 with {@code first}
 */
public record ControlFiles(List<Scaled> files, int first, int last) implements Function<Model, ControlVector> {
    /**
     * @param file  as {@link ControlVector#load} reads it
     * @param scale finite; a negative one turns the directions round
     */
    public record Scaled(Path file, float scale) {
        public Scaled {
            if (file == null || !Float.isFinite(scale)) {
                throw new IllegalArgumentException("the control vector " + file + " times " + scale + "; the scale must be finite");
            }
        }
    }

    public ControlFiles {
        files = List.copyOf(files);
        if (files.isEmpty()) {
            throw new IllegalArgumentException("no file of a control vector");
        }
        if (!(first == 0 && last == 0) && (first < 1 || last < first)) {
            throw new IllegalArgumentException("layers " + first + " to " + last
                    + " of a control vector; they must be in order, from 1 on");
        }
    }

    public static ControlFiles of(Path file, float scale) {
        return new ControlFiles(List.of(new Scaled(file, scale)), 0, 0);
    }

    /** With one file more. */
    public ControlFiles with(Path file, float scale) {
        var more = new ArrayList<>(files);
        more.add(new Scaled(file, scale));
        return new ControlFiles(more, first, last);
    }

    /** For the blocks from {@code first} to {@code last} alone. */
    public ControlFiles withLayers(int first, int last) {
        return new ControlFiles(files, first, last);
    }

    /**
     * Reads it for a model.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if a file is missing, can't be read or breaks the format
     * @throws io.github.panamallama.runtime.AdapterException   if one is no control vector for this model
     * @throws IllegalArgumentException                         if the model has no such layers
     */
    @Override
    public ControlVector apply(Model model) {
        var sum = files.stream().map(one -> ControlVector.load(model, one.file).times(one.scale)).reduce(ControlVector::plus).orElseThrow();
        return first == 0 ? sum : sum.withLayers(first, last);
    }
}
