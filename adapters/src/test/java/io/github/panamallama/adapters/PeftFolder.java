package io.github.panamallama.adapters;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import tools.jackson.databind.json.JsonMapper;

/** Makes an adapter as PEFT saves it, with random weights that a test can multiply out by itself. */
final class PeftFolder {
    /** The factors of one module: A of [rank][inputs], B of [outputs][rank]; for embeddings A is [rank][tokens], B [width][rank]. */
    record Factors(int rank, int inputs, int outputs, float[] a, float[] b) {
        /** scale * B * A, {@code [outputs][inputs]}. */
        double[][] delta(double scale) {
            var delta = new double[outputs][inputs];
            for (int o = 0; o < outputs; o++) {
                for (int i = 0; i < inputs; i++) {
                    for (int k = 0; k < rank; k++) {
                        delta[o][i] += scale * b[o * rank + k] * a[k * inputs + i];
                    }
                }
            }
            return delta;
        }
    }

    final Map<String, Object> config = new LinkedHashMap<>();
    final SafeTensorsBytes weights = new SafeTensorsBytes();
    private final Path path;
    private final Random random;

    /** A LoRA of rank 4 and alpha 8, with the fields that PEFT writes. */
    PeftFolder(Path path, long seed) throws IOException {
        this.path = Files.createDirectories(path);
        this.random = new Random(seed);
        config.put("alpha_pattern", Map.of());
        config.put("auto_mapping", null);
        config.put("base_model_name_or_path", "example/base");
        config.put("bias", "none");
        config.put("fan_in_fan_out", false);
        config.put("inference_mode", true);
        config.put("init_lora_weights", true);
        config.put("layer_replication", null);
        config.put("lora_alpha", 8);
        config.put("lora_bias", false);
        config.put("lora_dropout", 0.05);
        config.put("modules_to_save", null);
        config.put("peft_type", "LORA");
        config.put("r", 4);
        config.put("rank_pattern", Map.of());
        config.put("target_modules", new String[] {"q_proj", "v_proj"});
        config.put("task_type", "CAUSAL_LM");
        config.put("use_dora", false);
        config.put("use_rslora", false);
    }

    Path path() {
        return path;
    }

    /** A pair for a linear module. */
    Factors linear(String module, int rank, int inputs, int outputs) {
        return linear(module, "", rank, inputs, outputs);
    }

    /** The same with the adapter's name left in, as {@code .default}. */
    Factors linear(String module, String adapter, int rank, int inputs, int outputs) {
        var factors = factors(rank, inputs, outputs);
        weights.put("base_model.model." + module + ".lora_A" + adapter + ".weight", factors.a, rank, inputs);
        weights.put("base_model.model." + module + ".lora_B" + adapter + ".weight", factors.b, outputs, rank);
        return factors;
    }

    /** A pair for embeddings; inputs are tokens and outputs the width. */
    Factors embedding(String module, int rank, int tokens, int width) {
        var factors = factors(rank, tokens, width);
        weights.put("base_model.model." + module + ".lora_embedding_A", factors.a, rank, tokens);
        weights.put("base_model.model." + module + ".lora_embedding_B", factors.b, width, rank);
        return factors;
    }

    private Factors factors(int rank, int inputs, int outputs) {
        return new Factors(rank, inputs, outputs, normal(rank * inputs), normal(outputs * rank));
    }

    private float[] normal(int size) {
        var values = new float[size];
        for (int i = 0; i < size; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    Path write() throws IOException {
        writeConfig();
        weights.write(path.resolve("adapter_model.safetensors"));
        return path;
    }

    void writeConfig() throws IOException {
        Files.writeString(path.resolve("adapter_config.json"), JsonMapper.shared().writeValueAsString(config));
    }
}
