package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.io.DataInputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The devices of ggml's RPC servers. Native code waits for a server without end, so each is asked from here first, in bounded time. A
 * server talks to one process at a time: while a model of this process is on it, it is not asked again.
 */
final class RpcServers {
    static final int PATIENCE_MILLIS = 5_000;
    private static final int MOST_DEVICES = 64;
    // ggml-rpc.cpp: command, size and capabilities; the answer's size, version and capabilities
    private static final byte HELLO = 14;
    private static final int CAPABILITIES = 24;
    private static final int VERSION = 4;

    private static final Map<String, Integer> USERS = new HashMap<>();

    private RpcServers() {
    }

    static InetSocketAddress parse(String endpoint) {
        int colon = endpoint.indexOf(':');
        try {
            int port = Integer.parseInt(endpoint.substring(colon + 1));
            if (colon > 0 && port >= 1 && port <= 65_535) {
                return InetSocketAddress.createUnresolved(endpoint.substring(0, colon), port);
            }
        } catch (NumberFormatException e) {
            // refused below
        }
        throw new IllegalArgumentException("'" + endpoint + "' is no RPC server; give host:port, with a name or an IPv4 address");
    }

    /** From here on a model of this process keeps a connection to these servers, or is about to. */
    static synchronized void enter(List<String> endpoints) {
        for (var endpoint : endpoints) {
            if (!USERS.containsKey(endpoint)) {
                ask(endpoint);
            }
        }
        endpoints.forEach(endpoint -> USERS.merge(endpoint, 1, Integer::sum));
    }

    static synchronized void leave(List<String> endpoints) {
        endpoints.forEach(endpoint -> USERS.computeIfPresent(endpoint, (e, users) -> users == 1 ? null : users - 1));
    }

    /**
     * The native handles of a server's devices.
     *
     * @throws RpcException if it is not there or does not answer
     */
    static synchronized MemorySegment[] devices(String endpoint) {
        Natives.load();
        if (!USERS.containsKey(endpoint)) {
            ask(endpoint);
        }
        try (var arena = Arena.ofConfined()) {
            var error = new NativeError();
            var devices = arena.allocate(ValueLayout.ADDRESS, MOST_DEVICES);
            int count = LlamaH.pl_rpc_devices(arena.allocateFrom(endpoint), devices, MOST_DEVICES, error.segment());
            if (count <= 0) {
                throw new RpcException("RPC server " + endpoint + ": " + (count == 0 ? "it has no devices" : error.message()));
            }
            var handles = new MemorySegment[Math.min(count, MOST_DEVICES)];
            for (int i = 0; i < handles.length; i++) {
                handles[i] = devices.getAtIndex(ValueLayout.ADDRESS, i);
            }
            return handles;
        }
    }

    /** Says hello and hangs up. */
    private static void ask(String endpoint) {
        var address = parse(endpoint);
        try (var socket = new Socket()) {
            socket.connect(new InetSocketAddress(address.getHostString(), address.getPort()), PATIENCE_MILLIS);
            socket.setSoTimeout(PATIENCE_MILLIS);
            var hello = ByteBuffer.allocate(1 + Long.BYTES + CAPABILITIES).order(ByteOrder.LITTLE_ENDIAN);
            socket.getOutputStream().write(hello.put(HELLO).putLong(CAPABILITIES).array());
            var answer = new byte[Long.BYTES + VERSION + CAPABILITIES];
            new DataInputStream(socket.getInputStream()).readFully(answer, 0, Long.BYTES);
            long size = ByteBuffer.wrap(answer).order(ByteOrder.LITTLE_ENDIAN).getLong();
            if (size != VERSION + CAPABILITIES) {
                throw new RpcException("what listens at " + endpoint + " is no RPC server of this version of ggml");
            }
            new DataInputStream(socket.getInputStream()).readFully(answer, Long.BYTES, VERSION + CAPABILITIES);
        } catch (UnknownHostException e) {
            throw new RpcException("RPC server " + endpoint + ": there is no host of that name", e);
        } catch (SocketTimeoutException e) {
            throw new RpcException("RPC server " + endpoint + " does not answer within " + PATIENCE_MILLIS / 1000
                    + " s; it may be switched off, or busy: it serves one process at a time", e);
        } catch (IOException e) {
            throw new RpcException("RPC server " + endpoint + " can't be reached: " + (e.getMessage() == null ? "it hung up"
                    : e.getMessage())
                    + "; is it running there (panama-llama rpc-server)?", e);
        }
    }
}
