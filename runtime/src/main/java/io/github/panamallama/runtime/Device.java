package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.List;

/**
 * What computes, as it is at the moment.
 *
 * @param name        by which {@link ModelOptions#devices} asks for it, {@code CPU} or {@code CUDA0}
 * @param description what it is; of a device of another machine, where
 * @param type        what kind it is
 * @param freeBytes   memory that can be had, in bytes; of a processor also what caches files now. 0 where the back end does not say
 * @param totalBytes  memory in bytes; 0 where the back end does not say
 */
public record Device(String name, String description, Type type, long freeBytes, long totalBytes) {
    /** GGML_MAX_N_THREADS. */
    private static final int MOST_THREADS = 512;

    /** What a device is. */
    public enum Type {
        CPU,
        GPU,
        /** A GPU that shares the machine's memory. */
        INTEGRATED_GPU,
        /** What helps the processor with some operations (BLAS, AMX). */
        ACCELERATOR
    }

    /** The devices of this machine. */
    public static List<Device> list() {
        return list(List.of());
    }

    /**
     * The devices of this machine, and those of ggml's RPC servers.
     *
     * @param rpcServers {@code host:port} each; see {@link Placement#rpcServers}
     * @throws RpcException if a server is not there, or does not answer within seconds
     */
    public static List<Device> list(List<String> rpcServers) {
        Natives.load();
        var devices = new ArrayList<Device>();
        for (long i = 0; i < LlamaH.ggml_backend_dev_count(); i++) {
            devices.add(of(LlamaH.ggml_backend_dev_get(i)));
        }
        for (var server : rpcServers) {
            for (var handle : RpcServers.devices(server)) {
                devices.add(of(handle));
            }
        }
        return List.copyOf(devices);
    }

    /**
     * Lets processes on other machines use this one's device, or on this machine; returns only when that fails. It ends with the process
     * alone, and a malformed request ends the process: serve in one of its own, on a network that is trusted.
     *
     * @param address IPv4 address to listen at, {@code 127.0.0.1} for this machine alone
     * @param device  its name; null for the first GPU, else the processor
     * @param threads of the processor, at most 512; 0 for one per core
     * @throws RpcException             if it can't listen there
     * @throws IllegalArgumentException if there is no such device, or the numbers are out of range
     */
    public static void serve(String address, int port, String device, int threads) {
        if (threads < 0 || threads > MOST_THREADS) {
            throw new IllegalArgumentException("threads is " + threads + "; it must be between 0 and " + MOST_THREADS);
        }
        var endpoint = address + ":" + port;
        RpcServers.parse(endpoint);
        // native code would say no more than that it failed
        try (var free = new ServerSocket(port, 1, InetAddress.getByName(address))) {
            free.setReuseAddress(true);
        } catch (IOException e) {
            throw new RpcException("no RPC server at " + endpoint + ": " + e.getMessage()
                    + "; is the address one of this machine, and the port free?",
                    e);
        }
        Natives.load();
        var error = new NativeError();
        try (var arena = Arena.ofConfined()) {
            var handle = device == null ? MemorySegment.NULL : LlamaH.ggml_backend_dev_by_name(arena.allocateFrom(device));
            if (device != null && handle.equals(MemorySegment.NULL)) {
                throw new IllegalArgumentException("there is no device \"" + device + "\"; there are "
                        + list().stream().map(Device::name).toList());
            }
            LlamaH.pl_rpc_serve(arena.allocateFrom(endpoint), handle, threads > 0 ? threads : Cores.physical(), error.segment());
        }
        throw new RpcException("no RPC server at " + endpoint + ": " + error.message());
    }

    static Device of(MemorySegment handle) {
        var error = new NativeError();
        try (var arena = Arena.ofConfined()) {
            var bytes = arena.allocate(ValueLayout.JAVA_LONG, 2);
            LlamaH.pl_device_memory(handle, bytes, bytes.asSlice(Long.BYTES), error.segment());
            error.check("asking a device for its memory");
            var type = type(handle);
            long free = bytes.getAtIndex(ValueLayout.JAVA_LONG, 0);
            // of the processor's memory ggml says that all is free
            return new Device(name(handle), LlamaH.ggml_backend_dev_description(handle).getString(0), type,
                    type == Type.CPU ? Math.min(free, AvailableMemory.now()) : free, bytes.getAtIndex(ValueLayout.JAVA_LONG, 1));
        }
    }

    static String name(MemorySegment handle) {
        return LlamaH.ggml_backend_dev_name(handle).getString(0);
    }

    static Type type(MemorySegment handle) {
        int type = LlamaH.ggml_backend_dev_type(handle);
        return type == LlamaH.GGML_BACKEND_DEVICE_TYPE_CPU() ? Type.CPU : type == LlamaH.GGML_BACKEND_DEVICE_TYPE_GPU() ? Type.GPU
                : type == LlamaH.GGML_BACKEND_DEVICE_TYPE_IGPU() ? Type.INTEGRATED_GPU : Type.ACCELERATOR;
    }

    /** Whether weights can be put on it. */
    static boolean takesWeights(MemorySegment handle) {
        var type = type(handle);
        return type == Type.GPU || type == Type.INTEGRATED_GPU;
    }
}
