package io.github.panamallama.tests;

import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** A program of {@code src/test/c}, compiled against the headers and libraries that this JVM runs on. */
final class CProgram {
    private static final Path UPSTREAM_ROOT = Project.HOME.resolve("ggml-src/upstream");
    /** Upstream's own sources; not there where the natives were taken from the cache and nothing else was asked for. */
    static final Path UPSTREAM = UPSTREAM_ROOT.resolve("src");

    static final Path SOURCES = Project.HOME.resolve("tests/src/test/c");

    private final Path executable;
    private final List<String> emulator;

    private CProgram(Path executable, String... emulator) {
        this.executable = executable;
        this.emulator = List.of(emulator);
    }

    static CProgram compile(Path folder, String name) throws IOException, InterruptedException {
        return compile(folder, name + ".c", List.of(System.getenv().getOrDefault("CC", "cc"), "-std=gnu11"));
    }

    /** One in C++, which also sees the headers that upstream does not install. */
    static CProgram compileCpp(Path folder, String name) throws IOException, InterruptedException {
        return compile(folder, name + ".cpp", List.of(System.getenv().getOrDefault("CXX", "c++"), "-std=c++17", "-I" + UPSTREAM));
    }

    private static CProgram compile(Path folder, String source, List<String> compiler) throws IOException, InterruptedException {
        var natives = Project.natives();
        var executable = folder.resolve(source.substring(0, source.indexOf('.')));
        var command = new ArrayList<>(compiler);
        command.addAll(List.of("-O1", "-Wall", "-Werror", "-pthread", "-I" + natives.resolve("include"),
                "-I" + Project.HOME.resolve("ggml-src/kernels"), "-I" + Project.HOME.resolve("ggml-src/hooks"),
                Project.HOME.resolve("tests/src/test/c/" + source).toString(), "-o", executable.toString(),
                "-L" + natives.resolve("lib"), "-lllama", "-lggml", "-lggml-cpu", "-lggml-base", "-lm",
                "-Wl,-rpath," + natives.resolve("lib"), "-Wl,-rpath-link," + natives.resolve("lib")));
        Project.run(command, "").succeeded();
        return new CProgram(executable);
    }

    /** A program over kernels of {@code ggml-src/kernels}, compiled with some flags of the compiler's. */
    static CProgram compileKernels(Path folder, String name, String flags) throws IOException, InterruptedException {
        var natives = Project.natives();
        var executable = folder.resolve(name);
        var command = new ArrayList<>(List.of(System.getenv().getOrDefault("CXX", "c++"), "-std=gnu++17", "-O3", "-Wall", "-Wno-psabi",
                "-Wno-maybe-uninitialized", "-Wno-attributes"));
        Arrays.stream(flags.split(" ")).filter(flag -> !flag.isEmpty()).forEach(command::add);
        command.addAll(List.of("-I" + natives.resolve("include"), "-I" + Project.HOME.resolve("ggml-src/kernels"), "-I" + SOURCES,
                SOURCES.resolve(name + ".cpp").toString(), "-o", executable.toString(),
                "-L" + natives.resolve("lib"), "-lggml-base", "-lm", "-Wl,-rpath," + natives.resolve("lib")));
        Project.run(command, "").succeeded();
        return new CProgram(executable);
    }

    /** As {@link #compileKernels}, over headers of ggml too that upstream does not install. */
    static CProgram compileInnerKernels(Path folder, String name, String flags) throws IOException, InterruptedException {
        var inner = UPSTREAM_ROOT.resolve("ggml/src");
        return compileKernels(folder, name, flags + " -I" + inner + " -I" + inner.resolve("ggml-cpu"));
    }

    /**
     * One of upstream's own test programs ({@code tests/NAME.cpp}), with the lines that {@code src/test/patches/NAME.patch} adds, if there
     * is such a file. Not optimised: what it tests is in the libraries.
     */
    static CProgram compileUpstream(Path folder, String name) throws IOException, InterruptedException {
        var natives = Project.natives();
        var source = Files.createDirectories(folder.resolve("tests")).resolve(name + ".cpp");
        Files.copy(UPSTREAM_ROOT.resolve("tests").resolve(name + ".cpp"), source);
        var patch = Project.HOME.resolve("tests/src/test/patches/" + name + ".patch");
        if (Files.exists(patch)) {
            Project.run(List.of("git", "-C", folder.toString(), "apply", "--unidiff-zero", patch.toString()), "").succeeded();
        }
        var executable = folder.resolve(name);
        Project.run(List.of(System.getenv().getOrDefault("CXX", "c++"), "-std=c++17", "-O0", "-I" + natives.resolve("include"),
                source.toString(), "-o", executable.toString(), "-L" + natives.resolve("lib"), "-lllama", "-lggml", "-lggml-cpu",
                "-lggml-base", "-lm", "-pthread", "-Wl,-rpath," + natives.resolve("lib"), "-Wl,-rpath-link," + natives.resolve("lib")), "")
                .succeeded();
        return new CProgram(executable);
    }

    /** One for 64-bit Arm over kernels alone, which runs on an emulator; see {@link #emulatesArm}. */
    static CProgram compileKernelsForArm(Path folder, String name, String flags) throws IOException, InterruptedException {
        var executable = folder.resolve(name + "-aarch64");
        Project.run(List.of("aarch64-linux-gnu-g++", "-static", "-std=gnu++17", "-O3", "-Wall", "-Werror", flags,
                "-I" + Project.natives().resolve("include"), "-I" + Project.HOME.resolve("ggml-src/kernels"),
                Project.HOME.resolve("tests/src/test/c/" + name + ".cpp").toString(), "-o", executable.toString()), "").succeeded();
        return new CProgram(executable, "qemu-aarch64");
    }

    /** Compiles a source of {@code src/test/c} for a GPU, without linking it. */
    static void compileForGpu(Path folder, String source, String architecture, Path... includes) throws IOException, InterruptedException {
        var command = new ArrayList<>(List.of("nvcc", "-x", "cu", "-std=c++17", "-arch=" + architecture, "-use_fast_math",
                "-extended-lambda",
                "-Werror", "all-warnings", "-I" + Project.natives().resolve("include"), "-I" + Project.HOME.resolve("ggml-src/kernels"),
                "-I" + SOURCES));
        Arrays.stream(includes).map(include -> "-I" + include).forEach(command::add);
        command.addAll(List.of("-c", SOURCES.resolve(source).toString(), "-o", folder.resolve(source + ".o").toString()));
        Project.run(command, "").succeeded();
    }

    /** Whether a cross compiler for 64-bit Arm and an emulator of it are there. */
    static boolean emulatesArm() {
        return onPath("aarch64-linux-gnu-g++") && onPath("qemu-aarch64");
    }

    static boolean onPath(String program) {
        return Arrays.stream(System.getenv().getOrDefault("PATH", "").split(java.io.File.pathSeparator))
                .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
    }

    /** Whether the compiler may use these instruction sets ({@code -mavx2 ...}) on this machine. */
    static boolean processorHas(String flags) throws IOException, InterruptedException {
        if (!System.getProperty("os.arch").matches("amd64|x86_64")) {
            return false;
        }
        var macros = Project.run(List.of(System.getenv().getOrDefault("CXX", "c++"), "-march=native", "-dM", "-E", "-x", "c", "/dev/null"),
                "").succeeded().out();
        return Arrays.stream(flags.split(" ")).allMatch(flag -> macros.contains("__" + flag.substring(2).toUpperCase(Locale.ROOT) + "__"));
    }

    /**
     * The parameters of the context; the same ones make an Engine.
     *
     * @param flashAttention -1 automatic, 0 off, 1 on
     */
    record Setting(int contextSize, int batchSize, int ubatchSize, int sequences, int threads, int batchThreads,
                   int flashAttention) {
    }

    /** A line of the program's input. */
    record Step(char kind, int[] values) {
        static Step last(int... tokens) {
            return new Step('L', tokens);
        }

        static Step all(int... tokens) {
            return new Step('A', tokens);
        }

        static Step draft(int... tokens) {
            return new Step('D', tokens);
        }

        static Step truncate(int length) {
            return new Step('R', new int[] {length});
        }

        int rows() {
            return switch (kind) {
                case 'L' -> 1;
                case 'A', 'D' -> values.length;
                default -> 0;
            };
        }
    }

    /** What the program prints, line by line. */
    List<String> run(String... arguments) throws IOException, InterruptedException {
        var command = new ArrayList<>(emulator);
        command.add(executable.toString());
        command.addAll(List.of(arguments));
        return Project.run(command, "").succeeded().out().lines().toList();
    }

    /** For {@code logits.c} and {@code mtp.cpp}: the rows of all steps in their order, each {@code [n_vocab]}. */
    List<float[]> run(Path model, Setting setting, List<Step> steps) throws IOException, InterruptedException {
        var out = Files.createTempFile(executable.getParent(), "rows", ".bin");
        try {
            var input = steps.stream()
                    .map(step -> step.kind() + " " + Arrays.stream(step.values()).mapToObj(Integer::toString)
                            .collect(Collectors.joining(" ")) + "\n")
                    .collect(Collectors.joining());
            var numbers = new int[] {setting.contextSize(), setting.batchSize(), setting.ubatchSize(), setting.sequences(),
                    setting.threads(), setting.batchThreads(), setting.flashAttention()};
            var command = new ArrayList<>(List.of(executable.toString(), model.toString(), out.toString()));
            Arrays.stream(numbers).mapToObj(Integer::toString).forEach(command::add);
            Project.run(command, input).succeeded();
            return split(out, steps.stream().mapToInt(Step::rows).sum());
        } finally {
            Files.deleteIfExists(out);
        }
    }

    /** For programs with another output file between their arguments: its rows of {@code size} floats. */
    List<float[]> rows(List<String> before, List<String> behind, String input, int size) throws IOException, InterruptedException {
        var out = Files.createTempFile(executable.getParent(), "rows", ".bin");
        try {
            var command = new ArrayList<>(List.of(executable.toString()));
            command.addAll(before);
            command.add(out.toString());
            command.addAll(behind);
            Project.run(command, input).succeeded();
            return split(out, Math.toIntExact(Files.size(out) / 4 / size));
        } finally {
            Files.deleteIfExists(out);
        }
    }

    private static List<float[]> split(Path file, int rows) throws IOException {
        try (var channel = FileChannel.open(file)) {
            FloatBuffer floats = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size())
                    .order(ByteOrder.nativeOrder()).asFloatBuffer();
            if (rows == 0 || floats.remaining() % rows != 0) {
                throw new IOException(floats.remaining() + " floats are not " + rows + " rows");
            }
            var result = new ArrayList<float[]>();
            int size = floats.remaining() / rows;
            for (int i = 0; i < rows; i++) {
                var row = new float[size];
                floats.get(row);
                result.add(row);
            }
            return result;
        }
    }
}
