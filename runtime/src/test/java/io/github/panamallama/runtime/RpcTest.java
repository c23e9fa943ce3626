package io.github.panamallama.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.RandomModel;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Models whose layers are evaluated by servers on loopback: the same logits, and errors where a server is not there or goes away. */
@Timeout(300)
class RpcTest {
    private static final EngineOptions ENGINE = EngineOptions.defaults().withContextSize(256).withThreads(1).withMaxSequences(1)
            .withFlashAttention(FlashAttention.OFF);
    /** Without layouts that only this process's back end has. */
    private static final ModelOptions LOCAL = ModelOptions.defaults().withRepack(false).withGpuLayers(0);

    @TempDir
    static Path folder;
    private static Path file;

    @BeforeAll
    static void write() {
        file = folder.resolve("model.gguf");
        RandomModel.llama(4, 64, 4, 2, 128, 300).withType(GgmlType.F32).write(file);
    }

    private static float[] logits(ModelOptions options, int[] tokens) {
        try (var model = Model.load(file, options); var engine = Engine.open(model, ENGINE); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(tokens, row);
            sequence.append(7, row);
            return row.toArray();
        }
    }

    @Test
    void twoServersGiveTheLogitsOfThisProcess() throws Exception {
        int[] tokens = {1, 40, 90, 200, 17, 33};
        float[] expected = logits(LOCAL, tokens);
        try (var first = RpcServerProcess.start(); var second = RpcServerProcess.start()) {
            var options = LOCAL.withGpuLayers(-1).withRpcServers(first.endpoint, second.endpoint).withTensorSplit(List.of(1f, 1f));
            try (var model = Model.load(file, options); var engine = Engine.open(model, ENGINE); var sequence = engine.newSequence()) {
                var remote = engine.memory().devices().subList(1, engine.memory().devices().size());
                assertEquals(2, remote.size(), engine.memory()::toString);
                assertTrue(remote.stream().allMatch(device -> device.weights() > 0 && device.context() > 0), engine.memory()::toString);
                var row = engine.newRow();
                sequence.append(tokens, row);
                sequence.append(7, row);
                assertArrayEquals(expected, row.toArray(), 1e-5f);
            }
            var estimate = Model.estimate(file, options, ENGINE);
            assertEquals(3, estimate.devices().size(), estimate::toString);
            assertArrayEquals(expected, logits(LOCAL.withGpuLayers(2).withRpcServers(first.endpoint), tokens), 1e-5f);
            assertEquals(List.of(first.endpoint, second.endpoint), Device.list(List.of(first.endpoint, second.endpoint)).stream()
                    .filter(device -> device.name().startsWith("RPC")).map(Device::description).toList());
        }
        assertTrue(Model.devices().stream().noneMatch(name -> name.startsWith("RPC")), "models that don't ask for a server don't use it");
    }

    @Test
    void aServerThatDiesBetweenTokensIsAnErrorAndTheJvmGoesOn() throws Exception {
        var server = RpcServerProcess.start();
        var options = LOCAL.withGpuLayers(-1).withRpcServers(server.endpoint);
        try (var model = Model.load(file, options); var engine = Engine.open(model, ENGINE); var sequence = engine.newSequence()) {
            var row = engine.newRow();
            sequence.append(new int[] {1, 2, 3}, row);
            server.kill();
            var lost = assertThrows(DecodeException.class, () -> {
                for (int i = 0; i < 3; i++) {
                    sequence.append(5, row);
                }
            });
            assertTrue(lost.getMessage().contains("the RPC server " + server.endpoint + " was lost"), lost.getMessage());
            assertThrows(LlamaException.class, () -> sequence.append(6, row));
        }
        // closed without a complaint; with a new server everything is as before
        try (var again = RpcServerProcess.startAt(server.endpoint)) {
            assertArrayEquals(logits(LOCAL, new int[] {1, 2, 3}), logits(options, new int[] {1, 2, 3}), 1e-5f);
        }
    }

    @Test
    void aServerThatDiesWhileItEvaluatesIsAnErrorToo() throws Exception {
        var big = folder.resolve("big.gguf");
        RandomModel.llama(8, 512, 8, 8, 2048, 300).withType(GgmlType.F32).write(big);
        var server = RpcServerProcess.start();
        try (var model = Model.load(big, LOCAL.withGpuLayers(-1).withRpcServers(server.endpoint));
                var engine = Engine.open(model, ENGINE.withContextSize(2048).withBatchSize(1024)); var sequence = engine.newSequence()) {
            var started = new CountDownLatch(1);
            var evaluation = CompletableFuture.runAsync(() -> {
                var row = engine.newRow();
                started.countDown();
                while (true) {
                    sequence.append(new int[900], row);
                    sequence.truncate(0);
                }
            });
            started.await();
            server.kill();
            var failure = assertThrows(ExecutionException.class, evaluation::get);
            assertTrue(failure.getCause() instanceof DecodeException, failure.toString());
            assertTrue(failure.getCause().getMessage().contains("was lost"), failure.getCause().getMessage());
        }
    }

    @Test
    void aServerThatDiesBeforeTheModelIsClosedDoesNotMatter() throws Exception {
        var server = RpcServerProcess.start();
        try (var model = Model.load(file, LOCAL.withGpuLayers(-1).withRpcServers(server.endpoint)); var engine = Engine.open(model,
                ENGINE)) {
            engine.newSequence().append(new int[] {1, 2}, engine.newRow());
            server.kill();
        }
    }

    @Test
    void nobodyThereIsAnErrorInBoundedTime() throws Exception {
        int port = RpcServerProcess.freePort();
        var options = LOCAL.withGpuLayers(-1).withRpcServers("127.0.0.1:" + port);
        var refused = assertThrows(RpcException.class, () -> Model.load(file, options));
        assertTrue(refused.getMessage().startsWith("RPC server 127.0.0.1:" + port + " can't be reached: "), refused.getMessage());
        assertThrows(RpcException.class, () -> Device.list(List.of("127.0.0.1:" + port)));
    }

    @Test
    void whatAnswersOtherwiseOrNotAtAllIsNoServer() throws Exception {
        try (var silent = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            var endpoint = "127.0.0.1:" + silent.getLocalPort();
            var message = assertThrows(RpcException.class, () -> RpcServers.devices(endpoint)).getMessage();
            assertTrue(message.contains("does not answer within 5 s"), message);
        }
        try (var other = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            CompletableFuture.runAsync(() -> {
                try (var client = other.accept()) {
                    client.getOutputStream().write("HTTP/1.1 400 Bad Request\r\n\r\n".getBytes());
                    client.getInputStream().readAllBytes();
                } catch (java.io.IOException e) {
                    throw new java.io.UncheckedIOException(e);
                }
            });
            var endpoint = "127.0.0.1:" + other.getLocalPort();
            var message = assertThrows(RpcException.class, () -> RpcServers.devices(endpoint)).getMessage();
            assertEquals("what listens at " + endpoint + " is no RPC server of this version of ggml", message);
        }
    }

    @Test
    void aServerThatServesAnotherProcessIsBusy() throws Exception {
        try (var server = RpcServerProcess.start(); var held = new java.net.Socket("127.0.0.1",
                RpcServers.parse(server.endpoint).getPort())) {
            held.getOutputStream().write(14);    // a client that takes its time
            held.getOutputStream().flush();
            var message = assertThrows(RpcException.class, () -> RpcServers.devices(server.endpoint)).getMessage();
            assertTrue(message.contains("it serves one process at a time"), message);
        }
    }

    @Test
    void endpointsThatAreNoneAndPortsThatAreTakenAreRefused() throws Exception {
        for (var wrong : List.of("host", "host:", ":1", "host:0", "host:70000", "host:x", "::1:50052")) {
            assertTrue(assertThrows(IllegalArgumentException.class, () -> LOCAL.withRpcServers(wrong)).getMessage()
                    .startsWith("'" + wrong + "' is no RPC server"), wrong);
        }
        try (var taken = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            var message = assertThrows(RpcException.class, () -> Device.serve("127.0.0.1", taken.getLocalPort(), null, 1)).getMessage();
            assertTrue(message.startsWith("no RPC server at 127.0.0.1:" + taken.getLocalPort()), message);
        }
    }
}
