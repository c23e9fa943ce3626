package io.github.panamallama.adapters;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Writes safetensors files for tests, good ones and, given a header, any others. */
final class SafeTensorsBytes {
    /** A tensor of F32, row-major. */
    record Floats(int[] shape, float[] values) {
    }

    private final Map<String, Floats> tensors = new LinkedHashMap<>();

    SafeTensorsBytes put(String name, float[] values, int... shape) {
        tensors.put(name, new Floats(shape, values));
        return this;
    }

    void write(Path path) throws IOException {
        var header = new StringBuilder("{\"__metadata__\":{\"format\":\"pt\"}");
        int offset = 0;
        for (var entry : tensors.entrySet()) {
            var shape = IntStream.of(entry.getValue().shape).mapToObj(String::valueOf).collect(Collectors.joining(","));
            int end = offset + 4 * entry.getValue().values.length;
            header.append(",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}".formatted(entry.getKey(), shape, offset,
                    end));
            offset = end;
        }
        var data = ByteBuffer.allocate(offset).order(ByteOrder.LITTLE_ENDIAN);
        tensors.values().forEach(tensor -> {
            for (float value : tensor.values) {
                data.putFloat(value);
            }
        });
        write(path, header.append('}').toString(), data.array());
    }

    static void write(Path path, String header, byte[] data) throws IOException {
        var bytes = header.getBytes(StandardCharsets.UTF_8);
        write(path, bytes.length, bytes, data);
    }

    static void write(Path path, long length, byte[] header, byte[] data) throws IOException {
        var file = ByteBuffer.allocate(8 + header.length + data.length).order(ByteOrder.LITTLE_ENDIAN);
        Files.write(path, file.putLong(length).put(header).put(data).array());
    }
}
