package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.github.panamallama.runtime.Adapter;
import io.github.panamallama.runtime.AdapterSet;
import io.github.panamallama.runtime.Append;
import io.github.panamallama.runtime.DecodeException;
import io.github.panamallama.runtime.Device;
import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.EngineOptions;
import io.github.panamallama.runtime.FlashAttention;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.MemoryEstimate;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.ModelOptions;
import io.github.panamallama.runtime.RpcException;
import io.github.panamallama.runtime.Tap;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import io.github.panamallama.runtime.gguf.RandomAdapter;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.io.File;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * What a GPU's memory decides, and what happens when it is short or the GPU is lost, on devices of {@code src/test/c/limited_device.cpp}: a
 * back end that comes as the cuda plug-in does. Each scenario has a JVM of its own, which must end by itself with code 0.
 */
@Timeout(600)
class LimitedDeviceTest {
    private static final long MIB = 1 << 20;
    private static final int BLOCKS = 12;
    private static final EngineOptions ENGINE = EngineOptions.defaults().withContextSize(1024).withBatchSize(64).withThreads(1)
            .withMaxSequences(2).withFlashAttention(FlashAttention.OFF);

    @TempDir
    static Path folder;
    private static Path model;
    private static Path jar;
    private static Properties natives;

    @BeforeAll
    static void prepare() throws Exception {
        var inner = Project.HOME.resolve("ggml-src/upstream/ggml/src");
        assumeTrue(Files.exists(inner.resolve("ggml-backend-impl.h")), "needs llama.cpp's sources: ggml-src/vendor");
        assumeTrue(System.getProperty("os.name").equals("Linux"), "the stand-in is named as on Linux");
        model = folder.resolve("model.gguf");
        RandomModel.llama(BLOCKS, 256, 8, 4, 768, 2000).withType(GgmlType.F16).write(model);
        natives = new Properties();
        try (var in = Files.newBufferedReader(Project.natives().resolve("natives.properties"))) {
            natives.load(in);
        }
        var lib = Project.natives().resolve("lib");
        var module = folder.resolve("libggml-cuda.so");
        Project.run(List.of(System.getenv().getOrDefault("CXX", "c++"), "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall",
                "-Wno-unused-function", "-I" + Project.HOME.resolve("ggml-src/hooks"), "-I" + inner,
                "-I" + Project.natives().resolve("include"), CProgram.SOURCES.resolve("limited_device.cpp").toString(),
                "-o", module.toString(), "-L" + lib, "-lggml", "-lggml-base"), "").succeeded();
        jar = plugIn("limited", module);
    }

    /** What the classpath entry of a plug-in jar holds. */
    private static Path plugIn(String name, Path module) throws Exception {
        var platform = natives.getProperty("platform");
        var home = Files.createDirectories(folder.resolve(name).resolve("natives").resolve(platform));
        var bytes = Files.readAllBytes(module);
        Files.write(home.resolve("libggml-cuda.so"), bytes);
        Files.writeString(home.resolve("plugin-cuda.properties"), "sources=" + natives.getProperty("sources")
                + "\nmodules=libggml-cuda.so\nsize.libggml-cuda.so=" + bytes.length + "\nsha256.libggml-cuda.so="
                + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes)) + "\n");
        return folder.resolve(name);
    }

    private static ProcessBuilder jvm(Path plugIn, Map<String, String> environment, String... arguments) {
        var command = new ArrayList<>(Project.javaCommand(Child.class.getName(), List.of(arguments)));
        int at = command.indexOf("-cp") + 1;
        // without the command line, which shows log messages in its own way
        command.set(at, Stream.concat(Arrays.stream(command.get(at).split(File.pathSeparator))
                .filter(entry -> !Path.of(entry).getFileName().toString().startsWith("panama-llama-examples")
                        && !Path.of(entry).startsWith(Project.HOME.resolve("examples"))), Stream.of(plugIn.toString()))
                .collect(Collectors.joining(File.pathSeparator)));
        var builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("PANAMA_LLAMA_CACHE", folder.resolve("cache").toString());
        builder.environment().putAll(environment);
        return builder;
    }

    private static String run(Path plugIn, Map<String, String> environment, String scenario) throws Exception {
        var process = jvm(plugIn, environment, scenario, model.toString()).start();
        var out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), out);
        assertTrue(out.contains("\nend\n"), out);
        return out;
    }

    private static String run(String devices, String scenario) throws Exception {
        return run(jar, Map.of("PANAMA_LIMITED_DEVICES", devices), scenario);
    }

    @Test
    void aModelThatFitsGoesToTheDeviceWhole() throws Exception {
        var out = run("200", "automatic");
        assertTrue(out.contains("layers {CUDA0=13}\n"), out);
        assertEquals(1, out.lines().filter(line -> line.endsWith("model.gguf: of 13 layers 13 on CUDA0")).count(), out);
    }

    @Test
    void ofALargerOneAsManyLayersGoThereAsFit() throws Exception {
        var out = run("20", "automatic");
        assertTrue(out.matches("(?s).*layers \\{CUDA0=([3-9]|1[01])\\}\n.*"), out);
        assertTrue(out.contains(" on the processor"), out);
    }

    @Test
    void severalDevicesTakeWhatEachHasRoomFor() throws Exception {
        assertTrue(run("16,12", "automatic").matches("(?s).*layers \\{CUDA0=\\d+, CUDA1=\\d+\\}\n.*"));
        assertTrue(run("150,50", "automatic").contains("layers {CUDA0=10, CUDA1=3}\n"));
    }

    @Test
    void whereNothingFitsTheProcessorDoesAllWithAWarning() throws Exception {
        var out = run("1", "automatic");
        assertTrue(out.contains("layers {}\n"), out);
        assertEquals(1, out.lines().filter(line -> line.contains("not one layer of ")).count(), out);
    }

    @Test
    void layersThatAreAskedForAndDoNotFitAreAnErrorWithNumbers() throws Exception {
        var out = run("8", "tooMany");
        assertTrue(out.contains("not enough memory on CUDA0 for the weights of "), out);
        assertTrue(out.contains("are needed there, and 8.0 MiB are free (") && out.contains("AUTO_LAYERS"), out);
    }

    @Test
    void aDeviceThatGivesLessThanItSaysIsAnErrorInTheMiddleOfTheLoad() throws Exception {
        assertTrue(run("200:6", "shortOfMemory").contains("place CUDA0\n"));
        assertTrue(run("200,200:6", "shortOfMemory").contains("place CUDA1\n"), "what the first device gave is given back");
    }

    @Test
    void anEngineThatDoesNotFitBesideTheModelIsAnErrorAndASmallerOneIsNot() throws Exception {
        var out = run("32", "largeEngine");
        assertTrue(out.contains("not enough memory on CUDA0 for an engine with a context of 32768 tokens: it needs "), out);
    }

    @Test
    void aDeviceThatIsLostEndsWhatItEvaluatesAndNothingElse() throws Exception {
        for (int graphs : new int[] {2, 5, 9}) {
            var out = run(jar, Map.of("PANAMA_LIMITED_DEVICES", "200", "PANAMA_LIMITED_LOST", Integer.toString(graphs)), "lost");
            assertTrue(out.contains("limited device error: the device was lost"), out);
        }
    }

    @Test
    void adaptersPlansTapsAndMixedBatchesAreAsOnTheProcessor() throws Exception {
        assertTrue(run("120,80", "everything").contains("compared 5\n"));
    }

    @Test
    void aDriverWithoutADeviceCostsOneWarningThatSaysWhy() throws Exception {
        var out = run(jar, Map.of(), "noDevice");
        assertEquals(1, out.lines().filter(line -> line.startsWith("WARNING")).count(), out);
        assertTrue(out.contains("the cuda plug-in is there, but no device for it was found (registry: the driver of the limited device is"
                + " older than this library needs); models run on the processor"), out);
    }

    @Test
    void aModuleWhoseLibrariesAreMissingCostsOneWarningThatNamesThem() throws Exception {
        var driver = folder.resolve("libsomedriver.so.1");
        var source = Files.writeString(folder.resolve("driver.c"), "int driver(void) { return 1; }\n");
        var caller = Files.writeString(folder.resolve("caller.c"),
                "int driver(void);\nvoid * ggml_backend_init(void) { driver(); return 0; }\n");
        var module = folder.resolve("needs.so");
        Project.run(List.of("cc", "-shared", "-fPIC", source.toString(), "-o", driver.toString(), "-Wl,-soname,libsomedriver.so.1"), "")
                .succeeded();
        Project.run(List.of("cc", "-shared", "-fPIC", caller.toString(), "-o", module.toString(), driver.toString()), "").succeeded();
        Files.delete(driver);
        var out = run(plugIn("missing", module), Map.of(), "noDevice");
        assertEquals(1, out.lines().filter(line -> line.startsWith("WARNING")).count(), out);
        assertTrue(out.contains("the cuda plug-in is there, but it could not be loaded") && out.contains("libsomedriver.so.1"), out);

        var command = new ArrayList<>(Project.javaCommand("io.github.panamallama.examples.cli.Main", List.of("devices")));
        int at = command.indexOf("-cp") + 1;
        command.set(at, command.get(at) + File.pathSeparator + folder.resolve("missing"));
        var told = Project.run(command, "").succeeded().error();
        assertEquals(1, told.lines().filter(text -> text.startsWith("panama-llama: the cuda plug-in is there, but it could not be loaded")
                && text.contains("libsomedriver.so.1")).count(), told);
    }

    /** The server's own device has the memory that it reports; this process has no plug-in. */
    @Test
    void aServersDeviceIsFilledAsFarAsItSays() throws Exception {
        int port;
        try (var socket = new ServerSocket(0)) {
            port = socket.getLocalPort();
        }
        var endpoint = "127.0.0.1:" + port;
        var server = jvm(jar, Map.of("PANAMA_LIMITED_DEVICES", "16"), "serve", Integer.toString(port))
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        try {
            waitFor(server, endpoint);
            var options = ModelOptions.defaults().withRpcServers(endpoint).withRoomFor(ENGINE).withRepack(false);
            try (var loaded = Model.load(model, options); var engine = Engine.open(loaded, ENGINE)) {
                int layers = loaded.deviceLayers().values().stream().mapToInt(n -> n).sum();
                assertTrue(layers > 2 && layers < BLOCKS + 1, loaded.deviceLayers()::toString);
                var place = engine.memory().devices().get(1);
                assertEquals(layers, place.layers());
                var left = Device.list(List.of(endpoint)).stream().filter(device -> device.name().equals(place.name())).findFirst()
                        .orElseThrow();
                assertEquals(place.total(), left.totalBytes() - left.freeBytes(), MIB / 4);
            }
            var tooMany = assertThrowsShort(() -> Model.load(model, options.withGpuLayers(ModelOptions.ALL_LAYERS)));
            assertTrue(tooMany.getMessage().contains("16.0 MiB are free"), tooMany.getMessage());
        } finally {
            server.destroyForcibly().waitFor();
        }
    }

    private static InsufficientMemoryException assertThrowsShort(Runnable action) {
        return org.junit.jupiter.api.Assertions.assertThrows(InsufficientMemoryException.class, action::run);
    }

    private static void waitFor(Process server, String endpoint) throws InterruptedException {
        while (true) {
            try {
                Device.list(List.of(endpoint));
                return;
            } catch (RpcException e) {
                assertFalse(server.waitFor(50, TimeUnit.MILLISECONDS), "the server ended");
            }
        }
    }

    /** What the other processes run; an exception ends them with code 1. */
    static final class Child {
        private static final int[] PROMPT = IntStream.range(0, 70).map(i -> 3 + i * 7 % 1900).toArray();
        /** Which row is of a sequence with an adapter; the one before it is of the same text without. */
        private static final int ADAPTED = 3;
        private static final ModelOptions LOCAL = ModelOptions.defaults().withRepack(false).withRoomFor(ENGINE);

        public static void main(String[] arguments) throws Exception {
            var file = Path.of(arguments[1]);
            System.out.println();
            switch (arguments[0]) {
                case "serve" -> Device.serve("127.0.0.1", Integer.parseInt(arguments[1]), "CUDA0", 1);
                case "automatic" -> automatic(file);
                case "tooMany" -> System.out.println(fails(() -> Model.load(file,
                        LOCAL.withGpuLayers(ModelOptions.ALL_LAYERS))).getMessage());
                case "shortOfMemory" -> System.out.println("place " + fails(() -> Model.load(file, LOCAL)).place());
                case "largeEngine" -> largeEngine(file);
                case "lost" -> lost(file);
                case "everything" -> everything(file);
                case "noDevice" -> require(Model.devices().isEmpty(), "a device");
                default -> throw new IllegalArgumentException(arguments[0]);
            }
            require(!arguments[0].equals("tooMany") && !arguments[0].equals("shortOfMemory")
                    || used().values().stream().allMatch(n -> n == 0),
                    "memory is still in use: " + used());
            // whatever happened: the processor does its work
            compare(logits(file, LOCAL.withDevices("none")), logits(file, LOCAL.withDevices("none")), 0);
            System.out.println("end");
        }

        private static void automatic(Path file) throws Exception {
            var before = used();
            float[] expected = logits(file, LOCAL.withDevices("none"));
            var estimate = Model.estimate(file, LOCAL, ENGINE);
            try (var loaded = Model.load(file, LOCAL); var engine = Engine.open(loaded, ENGINE); var sequence = engine.newSequence()) {
                System.out.println("layers " + loaded.deviceLayers());
                var row = engine.newRow();
                sequence.append(PROMPT, row);
                sequence.append(7, row);
                compare(expected, row.toArray(), 1e-5f);
                var memory = engine.memory();
                require(memory.devices().stream().mapToInt(MemoryEstimate.Device::layers).sum() == BLOCKS + 1, memory.toString());
                for (var device : gpus()) {
                    long planned = memory.devices().stream().filter(place -> place.name().equals(device.name()))
                            .mapToLong(MemoryEstimate.Device::total).sum();
                    require(Math.abs(used().get(device.name()) - planned) < MIB / 8, device + " against " + memory);
                    require(device.freeBytes() >= device.totalBytes() / 8, "no margin: " + device);
                }
                assertNoMoreFit(file, loaded, loaded.deviceLayers());
                require(sorted(estimate).equals(sorted(memory)), estimate + " against " + memory);
            }
            require(used().equals(before), "not given back: " + used());
        }

        private static Map<String, Integer> sorted(MemoryEstimate memory) {
            return memory.devices().stream().filter(place -> place.layers() > 0)
                    .collect(Collectors.toMap(MemoryEstimate.Device::name, MemoryEstimate.Device::layers));
        }

        /** One more layer on any device would take what is to stay free. */
        private static void assertNoMoreFit(Path file, Model loaded, Map<String, Integer> layers) {
            int sum = layers.values().stream().mapToInt(n -> n).sum();
            if (sum == BLOCKS + 1 || sum == 0) {
                return;
            }
            var names = gpus().stream().map(Device::name).toList();
            for (int more = 0; more < names.size(); more++) {
                var shares = new ArrayList<Float>();
                for (var name : names) {
                    shares.add((float) layers.getOrDefault(name, 0) + (names.get(more).equals(name) ? 1 : 0));
                }
                var plan = Model.estimate(file, LOCAL.withDevices(names).withGpuLayers(sum + 1).withTensorSplit(shares), ENGINE);
                require(gpus().stream().anyMatch(device -> plan.devices().stream()
                        .anyMatch(place -> place.name().equals(device.name()) && place.total() > device.totalBytes() * 7 / 8)),
                        "one more would have fitted: " + plan);
            }
        }

        private static void largeEngine(Path file) {
            try (var loaded = Model.load(file, LOCAL.withGpuLayers(ModelOptions.ALL_LAYERS))) {
                var weights = used();
                System.out.println(fails(() -> Engine.open(loaded, ENGINE.withContextSize(32_768))).getMessage());
                require(used().equals(weights), "not given back: " + used());
                try (var engine = Engine.open(loaded, ENGINE.withContextSize(256)); var sequence = engine.newSequence()) {
                    sequence.append(new int[] {1, 2, 3}, engine.newRow());
                }
            }
        }

        private static void lost(Path file) {
            var adapterFile = RandomAdapter.of(1).write(GgufFile.read(file), file.resolveSibling("lost-" + ProcessHandle.current().pid()));
            try (var loaded = Model.load(file, LOCAL); var engine = Engine.open(loaded, ENGINE); var adapter = Adapter.load(loaded,
                    adapterFile);
                    var sequence = engine.newSequence(AdapterSet.of(adapter)); var other = engine.newSequence()) {
                var row = engine.newRow();
                try {
                    for (int i = 0; i < 20; i++) {
                        sequence.append(5, row);
                        other.append(5, row);
                    }
                    throw new AssertionError("the device was not lost");
                } catch (DecodeException e) {
                    System.out.println(e.getMessage());
                }
                try {
                    sequence.append(6, row);
                    throw new AssertionError("a lost device evaluated");
                } catch (LlamaException e) {
                    System.out.println(e.getMessage());
                }
            }
        }

        private static void everything(Path file) {
            var adapterFile = RandomAdapter.of(1).write(GgufFile.read(file), file.resolveSibling("all-" + ProcessHandle.current().pid()));
            var expected = everything(file, adapterFile, LOCAL.withDevices("none"));
            var here = everything(file, adapterFile, LOCAL);
            for (int i = 0; i < expected.size(); i++) { // devices adapt by other operators, and keep adapters as halves
                compare(expected.get(i), here.get(i), i == ADAPTED ? 0.02f : 1e-5f);
            }
            float most = 0;
            for (int i = 0; i < here.get(ADAPTED).length; i++) {
                most = Math.max(most, Math.abs(here.get(ADAPTED)[i] - here.get(ADAPTED - 1)[i]));
            }
            require(most > 1, "the adapter changes nothing");
            System.out.println("compared " + here.size());
        }

        private static List<float[]> everything(Path file, Path adapterFile, ModelOptions how) {
            var results = new ArrayList<float[]>();
            try (var loaded = Model.load(file, how); var adapter = Adapter.load(loaded, adapterFile);
                    var engine = Engine.open(loaded, ENGINE.withMaxSequences(4).withSpareLayers(1))) {
                var row = engine.newRow();
                for (var plan : List.of("0-3,6-11", "0-4,5x2,6-11")) {
                    try (var sequence = engine.newSequence(LayerPlan.parse(plan, BLOCKS))) {
                        sequence.append(PROMPT, row);
                        sequence.append(7, row);
                        results.add(row.toArray());
                    }
                }
                try (var plain = engine.newSequence(); var adapted = engine.newSequence(AdapterSet.of(adapter))) {
                    var rows = List.of(engine.newRow(), engine.newRow());
                    plain.append(PROMPT, rows.get(0));
                    adapted.append(PROMPT, rows.get(1));
                    engine.decode(Append.of(plain, new int[] {9}, rows.get(0)), Append.of(adapted, new int[] {9}, rows.get(1)));
                    rows.forEach(each -> results.add(each.toArray()));
                }
                try (var tapped = engine.newSequence()) {
                    var seen = new ArrayList<float[]>();
                    tapped.tap(Tap.hidden(4), reading -> {
                        var vector = new float[loaded.embeddingSize()];
                        reading.hidden(4, vector);
                        seen.add(vector);
                    });
                    tapped.append(new int[] {4, 5, 6}, row);
                    results.add(seen.getLast());
                }
            }
            return results;
        }

        private static float[] logits(Path file, ModelOptions options) {
            try (var loaded = Model.load(file, options); var engine = Engine.open(loaded, ENGINE); var sequence = engine.newSequence()) {
                var row = engine.newRow();
                sequence.append(PROMPT, row);
                sequence.append(7, row);
                return row.toArray();
            }
        }

        private static List<Device> gpus() {
            return Device.list().stream().filter(device -> device.type() == Device.Type.GPU).toList();
        }

        private static Map<String, Long> used() {
            return gpus().stream().collect(Collectors.toMap(Device::name, device -> device.totalBytes() - device.freeBytes()));
        }

        private static InsufficientMemoryException fails(Runnable action) {
            try {
                action.run();
            } catch (InsufficientMemoryException e) {
                require(e.estimate().devices().stream().anyMatch(place -> place.name().equals(e.place())), e.estimate().toString());
                return e;
            }
            throw new AssertionError("there was memory enough");
        }

        private static void compare(float[] expected, float[] actual, float tolerance) {
            require(expected.length == actual.length, expected.length + " and " + actual.length);
            for (int i = 0; i < expected.length; i++) {
                require(Math.abs(expected[i] - actual[i]) <= tolerance, i + ": " + expected[i] + " and " + actual[i]);
            }
        }

        private static void require(boolean condition, String otherwise) {
            if (!condition) {
                throw new AssertionError(otherwise);
            }
        }
    }
}
