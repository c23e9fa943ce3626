package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** {@code rpc-server} as a user starts it, and commands that use it. */
@Timeout(180)
class RpcCommandTest {
    private static Process server(int port) throws IOException {
        var path = Stream.of("java.class.path", "jdk.module.path").map(System::getProperty).filter(Objects::nonNull)
                .collect(Collectors.joining(File.pathSeparator));
        return new ProcessBuilder(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-cp", path, Main.class.getName(), "rpc-server", "-p", Integer.toString(port), "-d", "CPU", "-t", "1"))
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }

    @Test
    void aTextIsWrittenByAnotherProcessAndTheReportSaysSo() throws Exception {
        int port;
        try (var free = new ServerSocket(0)) {
            port = free.getLocalPort();
        }
        var endpoint = "127.0.0.1:" + port;
        var nobody = Cli.run("devices", "--rpc", endpoint);
        assertEquals(1, nobody.code());
        assertTrue(nobody.err().contains("RPC server " + endpoint + " can't be reached"), nobody.err());
        var server = server(port);
        try {
            var listed = Cli.run("devices", "--rpc", endpoint);
            while (listed.code() != 0 && !server.waitFor(100, TimeUnit.MILLISECONDS)) {
                listed = Cli.run("devices", "--rpc", endpoint);
            }
            assertTrue(listed.out().contains(endpoint), listed.out() + listed.err());
            var here = Cli.run("generate", "-p", "public static int max(", "-n", "8", "-t", "1");
            var there = Cli.run("generate", "-p", "public static int max(", "-n", "8", "-t", "1", "--rpc", endpoint);
            assertEquals(0, there.code(), there.err());
            assertEquals(here.out(), there.out());
            assertTrue(there.err().contains("CPU: ") && there.err().contains("; RPC"), there.err());
        } finally {
            server.destroy();
            assertTrue(server.waitFor(20, TimeUnit.SECONDS), "it ends when it is told to");
        }
    }
}
