package io.github.panamallama.runtime;

import java.io.IOException;
import java.net.ServerSocket;
import java.util.concurrent.TimeUnit;

/** An RPC server on loopback, in a JVM of its own. */
final class RpcServerProcess implements AutoCloseable {
    final String endpoint;
    final Process process;

    public static void main(String[] args) {
        Device.serve("127.0.0.1", Integer.parseInt(args[0]), "CPU", 1);
    }

    private RpcServerProcess(int port) throws IOException, InterruptedException {
        endpoint = "127.0.0.1:" + port;
        process = new ProcessBuilder(ChildJvm.command(RpcServerProcess.class, Integer.toString(port)))
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        while (true) {
            try {
                RpcServers.devices(endpoint);
                return;
            } catch (RpcException e) {
                if (process.waitFor(50, TimeUnit.MILLISECONDS)) {
                    throw new IllegalStateException("the server ended with code " + process.exitValue(), e);
                }
            }
        }
    }

    static RpcServerProcess start() throws IOException, InterruptedException {
        return new RpcServerProcess(freePort());
    }

    static RpcServerProcess startAt(String endpoint) throws IOException, InterruptedException {
        return new RpcServerProcess(RpcServers.parse(endpoint).getPort());
    }

    static int freePort() throws IOException {
        try (var socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }

    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    @Override
    public void close() throws InterruptedException {
        kill();
    }
}
