package io.github.panamallama.quantization;

import io.github.panamallama.quantization.Sparsifier.Method;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.search.JsonFields;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;
import java.util.stream.Collectors;

/**
 * Which type each matrix of a model gets, how they are rounded, and what that was found by: a small JSON file.
 *
 * <pre>{@code
 * {
 *   "format" : 1,
 *   "model" : "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
 *   "description" : "java-tiny-f16.gguf",
 *   "rounding" : { "method" : "sparsegpt", "text" : "/home/me/text.txt", "sha256" : "...", "window" : 512, "windows" : 64 },
 *   "found" : { "by" : "TypeSearch", "bits_per_weight" : 3.2, "seed" : 1, "divergence" : 0.041 },
 *   "types" : { "blk.0.attn_k.weight" : "q4_K", "blk.0.attn_q.weight" : "s24_q4", ... }
 * }
 * }</pre>
 *
 * Immutable.
 *
 * @param model       {@link io.github.panamallama.runtime.gguf.GgufFile#fingerprint} of the model
 * @param description of the model, for readers
 * @param method      what prunes matrices that get a sparse type
 * @param text        what the matrices were multiplied by was learned from it; empty where errors count alike, and matrices are pruned by
 *                    magnitude
 * @param found       for readers: nothing depends on it
 * @param types       by name, of every matrix in blocks and of the embedding and output matrices
 */
public record TypePlan(String model, String description, Method method, Optional<Text> text, Found found, Map<String, GgmlType> types) {
    private static final int FORMAT = 1;
    /** Names of 512 blocks' matrices stay far below. */
    private static final long MAX_BYTES = 16 << 20;

    /**
     * A calibration text.
     *
     * @param path    where it was
     * @param sha256  of its UTF-8 bytes, 64 lower-case hexadecimal digits
     * @param window  as {@link Calibration#window}
     * @param windows as {@link Calibration#windows}
     */
    public record Text(String path, String sha256, int window, int windows) {
        public Text {
            if (window < Calibration.LEAST_WINDOW || windows < 1) {
                throw new IllegalArgumentException(windows + " windows of " + window + " tokens; at least one, of at least "
                        + Calibration.LEAST_WINDOW + " tokens, is needed");
            }
        }

        /** The text of a calibration. */
        public static Text of(Path path, Calibration calibration) {
            return new Text(path.toAbsolutePath().normalize().toString(), sha256(calibration.text()), calibration.window(),
                    calibration.windows());
        }

        /**
         * How the plan's matrices are rounded again.
         *
         * @throws LlamaException if this is another text
         */
        public Calibration calibration(String text) {
            var own = sha256(text);
            if (!own.equals(sha256)) {
                throw new LlamaException("the plan was found with another text: that was " + path + " with SHA-256 " + sha256
                        + ", this has " + own + "; its matrices would be rounded otherwise. Give the same text, or search again");
            }
            return new Calibration(text, window, windows);
        }

        private static String sha256(String text) {
            try {
                return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
            } catch (NoSuchAlgorithmException e) {
                throw new AssertionError("every JDK has SHA-256", e);
            }
        }
    }

    /**
     * What found a plan.
     *
     * @param by            such as {@code TypeSearch} or {@code by hand}
     * @param bitsPerWeight of all tensors of the model
     * @param seed          empty where nothing was drawn
     * @param divergence    from the model as it was, in nats per token; empty where it wasn't measured
     */
    public record Found(String by, double bitsPerWeight, OptionalLong seed, OptionalDouble divergence) {
        public Found {
            Objects.requireNonNull(by, "by");
            if (!Double.isFinite(bitsPerWeight) || divergence.isPresent() && !Double.isFinite(divergence.getAsDouble())) {
                throw new IllegalArgumentException("bits per weight are " + bitsPerWeight + ", the divergence is " + divergence
                        + "; both must be finite");
            }
        }
    }

    public TypePlan {
        types = Collections.unmodifiableMap(new LinkedHashMap<>(types));
    }

    /**
     * Writes the file, replacing one that is there; nobody sees half of it.
     *
     * @throws LlamaException if it can't be written
     */
    public void write(Path path) {
        var rounding = new LinkedHashMap<String, Object>();
        rounding.put("method", method.name().toLowerCase(Locale.ROOT));
        text.ifPresent(text -> {
            rounding.put("text", text.path);
            rounding.put("sha256", text.sha256);
            rounding.put("window", text.window);
            if (text.windows < Integer.MAX_VALUE) {
                rounding.put("windows", text.windows);
            }
        });
        var how = new LinkedHashMap<String, Object>();
        how.put("by", found.by);
        how.put("bits_per_weight", found.bitsPerWeight);
        found.seed.ifPresent(seed -> how.put("seed", seed));
        found.divergence.ifPresent(divergence -> how.put("divergence", divergence));
        var each = new LinkedHashMap<String, Object>();
        types.forEach((name, type) -> each.put(name, type.label()));
        var root = new LinkedHashMap<String, Object>();
        root.put("format", FORMAT);
        root.put("model", model);
        root.put("description", description);
        root.put("rounding", rounding);
        root.put("found", how);
        root.put("types", each);
        try {
            JsonFields.write(path, root);
        } catch (IOException e) {
            throw new LlamaException("can't write the plan to " + path + ": " + LlamaException.reason(e), e);
        }
    }

    /**
     * Reads a plan. {@link PlannedQuantizer} says whether it fits a model.
     *
     * @throws LlamaException if the file can't be read or is no plan; the message says what is wrong with it
     */
    public static TypePlan read(Path path) {
        var root = JsonFields.read(path, MAX_BYTES, LlamaException::new);
        long format = root.integer("format");
        if (format != FORMAT) {
            throw root.broken("is of format " + format + "; this version reads format " + FORMAT);
        }
        var rounding = root.object("rounding");
        var found = root.object("found");
        var types = new LinkedHashMap<String, GgmlType>();
        root.object("types").texts().forEach((name, type) -> types.put(name, GgmlType.byName(type).orElseThrow(() -> root.broken("\"" + name
                + "\" has the type " + type + ", which there is not; q4_K and s24_q4 are types"))));
        try {
            var text = rounding.has("text") ? Optional.of(new Text(rounding.text("text"), rounding.text("sha256"), rounding.count("window"),
                    rounding.has("windows") ? rounding.count("windows") : Integer.MAX_VALUE)) : Optional.<Text>empty();
            return new TypePlan(root.text("model"), root.text("description"), method(rounding), text, new Found(found.text("by"),
                    found.number("bits_per_weight"),
                    found.has("seed") ? OptionalLong.of(found.integer("seed")) : OptionalLong.empty(),
                    found.has("divergence") ? OptionalDouble.of(found.number("divergence")) : OptionalDouble.empty()), types);
        } catch (IllegalArgumentException e) {
            throw root.broken(e.getMessage());
        }
    }

    private static Method method(JsonFields rounding) {
        var name = rounding.text("method");
        return Arrays.stream(Method.values()).filter(method -> method.name().equalsIgnoreCase(name)).findFirst()
                .orElseThrow(() -> rounding.broken("has the method \"" + name + "\"; there are " + Arrays.stream(Method.values())
                        .map(method -> method.name().toLowerCase(Locale.ROOT)).collect(Collectors.joining(", "))));
    }
}
