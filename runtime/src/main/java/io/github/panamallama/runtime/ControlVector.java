package io.github.panamallama.runtime;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.function.IntFunction;
import java.util.regex.Pattern;

/**
 * Directions that are added to the output of a model's blocks, so that its texts lean towards what they stand for. Immutable.
 *
 * <p>It is in force for a whole {@link Engine} and all its life, as llama.cpp has it: one for each context. The first block's output has
 * no direction. Files are those of {@code llama-cvector-generator}: tensors {@code direction.1} to {@code direction.<blocks - 1>}.
 */
public final class ControlVector {
    private static final Pattern NAME = Pattern.compile("direction\\.([1-9]\\d{0,3})");

    private final Model model;
    /** By block; null where nothing is added, as in the first. */
    private final float[][] directions;

    private ControlVector(Model model, float[][] directions) {
        this.model = model;
        this.directions = directions;
    }

    /**
     * Reads a control vector for a model.
     *
     * @throws io.github.panamallama.runtime.gguf.GgufException if the file is missing, can't be read or breaks the format
     * @throws AdapterException if it is no control vector for this model, or has values that are NaN or infinite
     */
    public static ControlVector load(Model model, Path path) {
        var file = GgufFile.read(path);
        var kind = file.metadata().contains("general.architecture") ? file.metadata().string("general.architecture").orElse("") : "";
        if (!kind.equals("controlvector")) {
            throw new AdapterException(path + " is no control vector: its general.architecture is \"" + kind + "\"");
        }
        var hint = file.metadata().contains("controlvector.model_hint")
                ? file.metadata().string("controlvector.model_hint").orElse("") : "";
        if (!hint.isEmpty() && !hint.equals(model.architecture())) {
            throw new AdapterException(path + " is for models of the architecture " + hint + "; " + model.path() + " is "
                    + model.architecture());
        }
        var directions = new float[model.layerCount()][];
        for (var tensor : file.tensors()) {
            var name = NAME.matcher(tensor.name());
            if (!name.matches()) {
                throw new AdapterException(path + " has a tensor \"" + tensor.name()
                        + "\"; control vectors have direction.1, direction.2, ...");
            }
            int block = Integer.parseInt(name.group(1));
            if (block >= directions.length) {
                throw new AdapterException(path + " has a direction for block " + block + "; " + model.path() + " has blocks 0 to "
                        + (directions.length - 1));
            }
            if (tensor.type() != GgmlType.F32 || tensor.shape().size() != 1 || tensor.shape().getFirst() != model.embeddingSize()) {
                throw new AdapterException(path + " has \"" + tensor.name() + "\" as " + tensor.type().label() + tensor.shape() + "; "
                        + model.path() + " needs f32[" + model.embeddingSize() + "]");
            }
            try (var arena = Arena.ofConfined()) {
                directions[block] = file.map(tensor, arena).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
            }
            requireFinite(path + ": \"" + tensor.name() + "\"", directions[block]);
        }
        if (file.tensors().isEmpty()) {
            throw new AdapterException(path + " has no directions");
        }
        return new ControlVector(model, directions);
    }

    private static void requireFinite(String what, float[] direction) {
        for (int i = 0; i < direction.length; i++) {
            if (!Float.isFinite(direction[i])) {
                throw new AdapterException(what + " is " + direction[i] + " at " + i + ", which is no number to add");
            }
        }
    }

    /**
     * The same directions, stronger or weaker; a negative scale turns them round.
     *
     * @throws AdapterException if a value becomes infinite
     */
    public ControlVector times(float scale) {
        if (!Float.isFinite(scale)) {
            throw new IllegalArgumentException("the scale of a control vector is " + scale + "; it must be finite");
        }
        return changed(block -> {
            var direction = directions[block] == null ? null : directions[block].clone();
            for (int i = 0; direction != null && i < direction.length; i++) {
                direction[i] *= scale;
            }
            return direction;
        });
    }

    /**
     * The sum of both.
     *
     * @throws IllegalArgumentException if the other one is for another model
     * @throws AdapterException         if a value becomes infinite
     */
    public ControlVector plus(ControlVector other) {
        if (other.model != model) {
            throw new IllegalArgumentException("control vectors of different models can't be summed");
        }
        return changed(block -> {
            if (directions[block] == null || other.directions[block] == null) {
                return directions[block] == null ? other.directions[block] : directions[block];
            }
            var direction = directions[block].clone();
            for (int i = 0; i < direction.length; i++) {
                direction[i] += other.directions[block][i];
            }
            return direction;
        });
    }

    /** These directions for the blocks from {@code first} to {@code last} alone. */
    public ControlVector withLayers(int first, int last) {
        if (first < 1 || last < first || last >= directions.length) {
            throw new IllegalArgumentException("layers " + first + " to " + last + " of a control vector; the model has 1 to "
                    + (directions.length - 1) + " for that");
        }
        return changed(block -> block < first || block > last ? null : directions[block]);
    }

    private ControlVector changed(IntFunction<float[]> change) {
        var changed = new float[directions.length][];
        for (int block = 1; block < changed.length; block++) {
            changed[block] = change.apply(block);
            if (changed[block] != null) {
                requireFinite("the direction of block " + block, changed[block]);
            }
        }
        return new ControlVector(model, changed);
    }

    /** The model that it is for. */
    public Model model() {
        return model;
    }

    /** What is added to the output of a block {@code [n_embd]}; empty for nothing. */
    public float[] direction(int block) {
        return directions[block] == null ? new float[0] : directions[block].clone();
    }

    /** All directions behind each other, from block 1 on: as native code takes them. */
    float[] data() {
        int width = model.embeddingSize();
        var data = new float[(directions.length - 1) * width];
        for (int block = 1; block < directions.length; block++) {
            if (directions[block] != null) {
                System.arraycopy(directions[block], 0, data, (block - 1) * width, width);
            }
        }
        return data;
    }

    boolean isZero() {
        for (float value : data()) {
            if (value != 0) {
                return false;
            }
        }
        return true;
    }

    /** Tells it from others: SHA-256 of its values. */
    String fingerprint() {
        var data = data();
        var bytes = ByteBuffer.allocate(4 * data.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(data);
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.array()));
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }
}
