package io.github.panamallama.bench;

import io.github.panamallama.runtime.LayerPlan;
import io.github.panamallama.runtime.gguf.GgmlType;
import io.github.panamallama.runtime.gguf.GgufFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/**
 * A copy of a model with Q8_0 weights in which some blocks add less to the residual stream: a dial for how often drafts without these
 * blocks are right. It costs what the model costs; that its blocks matter less is made up.
 */
final class QuietModel implements AutoCloseable {
    /** Of a block of 32 values: a scale in half precision and the values. */
    private static final int BLOCK_BYTES = 34;

    private final Path original;
    private final Path copy;
    private final LayerPlan plan;

    /** @param plan the blocks that it leaves out are those that add less */
    QuietModel(Path original, LayerPlan plan) throws IOException {
        this.original = original;
        this.plan = plan;
        copy = Files.createTempFile(original.toAbsolutePath().getParent(), "quiet", ".gguf");
        Files.copy(original, copy, StandardCopyOption.REPLACE_EXISTING);
    }

    /** The file, in which the blocks add {@code factor} times what they did at first; nobody may have it open. */
    Path with(double factor) throws IOException {
        var file = GgufFile.read(original);
        try (var from = FileChannel.open(original, StandardOpenOption.READ); var to = FileChannel.open(copy, StandardOpenOption.WRITE)) {
            for (int block = 0; block < plan.blocks(); block++) {
                if (plan.runs(block) == 0) {
                    for (var name : new String[] {"attn_output", "ffn_down"}) {
                        var tensor = file.tensor("blk." + block + "." + name + ".weight").orElseThrow();
                        if (tensor.type() != GgmlType.Q8_0) {
                            throw new IOException(tensor.name() + " is of type " + tensor.type() + "; only Q8_0 can be scaled");
                        }
                        var bytes = ByteBuffer.allocate(Math.toIntExact(tensor.byteSize())).order(ByteOrder.LITTLE_ENDIAN);
                        long position = file.position(tensor);
                        while (bytes.hasRemaining() && from.read(bytes, position + bytes.position()) >= 0) {
                        }
                        for (int at = 0; at < bytes.capacity(); at += BLOCK_BYTES) {
                            float scale = Float.float16ToFloat(bytes.getShort(at));
                            bytes.putShort(at, Float.floatToFloat16((float) (factor * scale)));
                        }
                        bytes.rewind();
                        while (bytes.hasRemaining()) {
                            to.write(bytes, position + bytes.position());
                        }
                    }
                }
            }
        }
        return copy;
    }

    @Override
    public void close() throws IOException {
        Files.deleteIfExists(copy);
    }
}
