package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.util.Locale;
import picocli.CommandLine;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.TypeConversionException;

/** How the engine is made. What is not given stays as {@link EngineOptions#defaults} has it. */
final class EngineMixin {
    @Option(names = {"-c", "--ctx-size"}, paramLabel = "N", description = "Context in tokens. Without it: the model's own, at most 8192.")
    private Integer contextSize;

    @Option(names = {"-t", "--threads"}, paramLabel = "N", description = "CPU threads for generation. Without it: one per core.")
    private Integer threads;

    @Option(names = {"-tb", "--threads-batch"}, paramLabel = "N", description = "CPU threads for prompts. Without it: as -t.")
    private Integer batchThreads;

    @Option(names = {"-b", "--batch-size"}, paramLabel = "N", description = "Most tokens per native call.")
    private Integer batchSize;

    @Option(names = {"-ub", "--ubatch-size"}, paramLabel = "N", description = "Most tokens per compute graph.")
    private Integer ubatchSize;

    @Option(names = {"-fa", "--flash-attn"}, paramLabel = "on|off|auto", description = "Fused attention.")
    private FlashAttention flashAttention;

    @Option(names = {"-ctk", "--cache-type-k"}, paramLabel = "TYPE", converter = CacheType.class, description = "Type of cached keys: f16, bf16, f32, q8_0, q4_0, ...")
    private GgmlType keyType;

    @Option(names = {"-ctv", "--cache-type-v"}, paramLabel = "TYPE", converter = CacheType.class, description = "Type of cached values; a quantised one needs flash attention.")
    private GgmlType valueType;

    int contextSize(int otherwise) {
        return contextSize == null ? otherwise : contextSize;
    }

    int batchSize(int otherwise) {
        return batchSize == null ? otherwise : batchSize;
    }

    boolean givesContextSize() {
        return contextSize != null;
    }

    /** @throws picocli.CommandLine.ParameterException when a value is out of range */
    EngineOptions options(CommandLine command) {
        return options(command, EngineOptions.defaults());
    }

    EngineOptions options(CommandLine command, EngineOptions options) {
        try {
            options = contextSize == null ? options : options.withContextSize(contextSize);
            options = threads == null ? options : options.withThreads(threads);
            options = batchThreads == null ? options : options.withBatchThreads(batchThreads);
            options = batchSize == null ? options : options.withBatchSize(batchSize);
            options = ubatchSize == null ? options : options.withUbatchSize(ubatchSize);
            options = flashAttention == null ? options : options.withFlashAttention(flashAttention);
            return options.withCacheTypes(keyType == null ? options.keyType() : keyType, valueType == null ? options.valueType() : valueType);
        } catch (IllegalArgumentException e) {
            throw new CommandLine.ParameterException(command, e.getMessage());
        }
    }

    static final class CacheType implements ITypeConverter<GgmlType> {
        @Override
        public GgmlType convert(String name) {
            return GgmlType.byName(name.toLowerCase(Locale.ROOT))
                    .orElseThrow(() -> new TypeConversionException("'" + name + "' is no type; try f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl"));
        }
    }
}
