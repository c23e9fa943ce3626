package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.Scheduling;
import io.github.panamallama.runtime.gguf.GgmlType;
import java.util.ArrayList;
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

    @Option(names = {"-ctk", "--cache-type-k"}, paramLabel = "TYPE", converter = CacheType.class,
            description = "Type of cached keys: f16, bf16, f32, q8_0, q4_0, ...")
    private GgmlType keyType;

    @Option(names = {"-ctv", "--cache-type-v"}, paramLabel = "TYPE", converter = CacheType.class,
            description = "Type of cached values; a quantised one needs flash attention.")
    private GgmlType valueType;

    @Option(names = {"-C", "--cpu-mask"}, paramLabel = "HEX", description = "Processors that threads run on, as the bits of a number.")
    private String cpuMask;

    @Option(names = {"-Cr", "--cpu-range"}, paramLabel = "LO-HI", description = "The same as ranges: 0-3 or 0-1,6. Adds to -C.")
    private String cpuRange;

    @Option(names = "--cpu-strict", paramLabel = "0|1", description = "1: each thread has one of these processors for itself.")
    private Integer cpuStrict;

    @Option(names = "--prio", paramLabel = "N", description = "Priority of the threads: -1 low, 0 normal, 1 medium, 2 high, 3 real-time.")
    private Integer priority;

    @Option(names = "--poll", paramLabel = "N", description = "How long idle threads spin, 0 to 100. Default: 50.")
    private Integer polling;

    @Option(names = "--polite", description = "Low priority, no spinning, and fewer threads while the machine is busy with other things.")
    private boolean polite;

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
            options = polling == null ? options : options.withPolling(polling);
            options = options.withScheduling(scheduling(command));
            return options.withCacheTypes(keyType == null ? options.keyType() : keyType, valueType == null ? options.valueType()
                    : valueType);
        } catch (IllegalArgumentException e) {
            throw new CommandLine.ParameterException(command, e.getMessage());
        }
    }

    private Scheduling scheduling(CommandLine command) {
        var cpus = new ArrayList<Integer>();
        if (cpuMask != null) {
            cpus.addAll(Scheduling.mask(cpuMask));
        }
        if (cpuRange != null) {
            cpus.addAll(Scheduling.ranges(cpuRange));
        }
        if (cpuStrict != null && cpuStrict != 0 && cpuStrict != 1) {
            throw new CommandLine.ParameterException(command, "--cpu-strict is " + cpuStrict + "; it must be 0 or 1");
        }
        var priorities = Scheduling.Priority.values();
        if (priority != null && (priority < -1 || priority + 1 >= priorities.length)) {
            throw new CommandLine.ParameterException(command, "--prio is " + priority + "; it must be from -1 (low) to 3 (real-time)");
        }
        if (polite && polling != null && polling > 0) {
            throw new CommandLine.ParameterException(command, "--polite never spins; leave --poll out");
        }
        return new Scheduling(cpus, cpuStrict != null && cpuStrict == 1,
                priority == null ? Scheduling.Priority.NORMAL : priorities[priority + 1], polite);
    }

    static final class CacheType implements ITypeConverter<GgmlType> {
        @Override
        public GgmlType convert(String name) {
            return GgmlType.byName(name.toLowerCase(Locale.ROOT))
                    .orElseThrow(() -> new TypeConversionException("'" + name
                            + "' is no type; try f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl"));
        }
    }
}
