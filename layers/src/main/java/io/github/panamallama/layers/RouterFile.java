package io.github.panamallama.layers;

import io.github.panamallama.runtime.LayerPlanException;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Model;
import io.github.panamallama.runtime.WholeFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.CRC32;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

/**
 * Routers on disk, of either kind: the eight bytes {@code PLROUTER}, the length of a JSON header, the header, the parameters block by block
 * as 32-bit floats, and a CRC-32 of all before it. Little-endian throughout; lengths and checksum are 32-bit integers.
 *
 * <p>The header says the version of the format, the kind of routers, the {@linkplain Model#fingerprint model} they were trained for with
 * its blocks and width, what decisions mean for the prompt, and tau or windows and hidden units. FiRST's parameters are the weights and
 * the bias of each block; Dr.LLM's are W1 {@code [hidden][width]}, b1, W2 {@code [3][hidden]}, b2.
 */
public final class RouterFile {
    private static final byte[] MAGIC = "PLROUTER".getBytes(StandardCharsets.US_ASCII);
    private static final int VERSION = 1;
    private static final int LONGEST_HEADER = 1 << 16;
    /** Dr.LLM's for a model of 80 blocks and width 8192 take a third of it. */
    private static final long MAX_BYTES = 1 << 30;
    private static final JsonMapper JSON = JsonMapper.builder().enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
            .build();

    private RouterFile() {
    }

    private enum Kind { FIRST, DR_LLM }

    /**
     * Fields of the header; a kind leaves those of the other one 0.
     *
     * @param model       {@link Model#fingerprint}
     * @param description of the model, for readers
     */
    private record Header(int version, Kind kind, String model, String description, int blocks, int width, Prefill prefill, double tau,
            int windows, int hidden) {
        /** Parameters of one block. */
        long perBlock() {
            return kind == Kind.FIRST ? width + 1L : (hidden + 0L) * width + hidden + (long) Mlp.CLASSES * hidden + Mlp.CLASSES;
        }
    }

    /**
     * Writes routers. The file appears when it is complete.
     *
     * @param model that they were trained for
     * @throws LayerPlanException if a weight is not a number, the model has other blocks or hidden states, or a file would be
     *                            too large
     * @throws LlamaException     if the file can't be written
     */
    public static void write(Path file, Router router, Model model) {
        float[][] parameters = switch (router) {
            case FirstRouter first -> joined(first.weights(), first.biases());
            case DrLlmRouter dr -> dr.parameters();
        };
        var header = switch (router) {
            case FirstRouter first -> new Header(VERSION, Kind.FIRST, model.fingerprint(), model.description(), first.blocks(),
                    first.width(), first.prefill(), first.tau(), 0, 0);
            case DrLlmRouter dr -> new Header(VERSION, Kind.DR_LLM, model.fingerprint(), model.description(), dr.blocks(), dr.width(),
                    dr.prefill(), 0, dr.windows(), dr.hidden());
        };
        checkShape(file, header, model);
        byte[] json = JSON.writeValueAsBytes(header);
        long size = MAGIC.length + 4L + json.length + 4L * header.blocks * header.perBlock() + 4;
        if (size > MAX_BYTES) {
            throw new LayerPlanException("routers of " + size + " bytes; a file of them has at most " + MAX_BYTES);
        }
        var out = ByteBuffer.allocate((int) size).order(ByteOrder.LITTLE_ENDIAN);
        out.put(MAGIC).putInt(json.length).put(json);
        for (int block = 0; block < parameters.length; block++) {
            for (float value : parameters[block]) {
                out.putFloat(finite(file, block, value));
            }
        }
        out.putInt(sum(out.array(), out.position()));
        WholeFile.write(file, "the routers", to -> to.write(out.array()));
    }

    private static float[][] joined(float[][] weights, float[] biases) {
        var joined = new float[weights.length][];
        for (int block = 0; block < joined.length; block++) {
            joined[block] = Arrays.copyOf(weights[block], weights[block].length + 1);
            joined[block][weights[block].length] = biases[block];
        }
        return joined;
    }

    /**
     * Reads the routers of a model.
     *
     * @throws LayerPlanException if the file can't be read, holds no routers, is damaged, or is for another model; the message names
     *                            what differs
     */
    public static Router read(Path file, Model model) {
        byte[] bytes;
        try {
            long size = Files.size(file);
            if (size > MAX_BYTES) {
                throw new LayerPlanException(file + " has " + size + " bytes; files of routers have at most " + MAX_BYTES);
            }
            bytes = Files.readAllBytes(file);
        } catch (IOException e) {
            throw new LayerPlanException(file + " can't be read: " + LlamaException.reason(e), e);
        }
        var in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        if (bytes.length < MAGIC.length + 8 || !Arrays.equals(Arrays.copyOf(bytes, MAGIC.length), MAGIC)) {
            throw new LayerPlanException(file + " holds no routers: it does not begin with PLROUTER");
        }
        in.position(MAGIC.length);
        var header = header(file, in);
        checkShape(file, header, model);
        var fingerprint = model.fingerprint();
        if (!header.model.equals(fingerprint)) {
            throw new LayerPlanException(file + ": routers trained for " + header.description + " (" + header.model + "), but this is "
                    + model.description() + " (" + fingerprint + "); train routers for it");
        }
        long expected = in.position() + 4L * header.blocks * header.perBlock() + 4;
        if (bytes.length != expected) {
            throw new LayerPlanException(file + " has " + bytes.length + " bytes where its header announces " + expected
                    + ": it was cut short or overwritten");
        }
        if (in.getInt(bytes.length - 4) != sum(bytes, bytes.length - 4)) {
            throw new LayerPlanException(file + " is damaged: its checksum is another one");
        }
        var parameters = new float[header.blocks][(int) header.perBlock()];
        for (int block = 0; block < parameters.length; block++) {
            for (int i = 0; i < parameters[block].length; i++) {
                parameters[block][i] = finite(file, block, in.getFloat());
            }
        }
        if (header.kind == Kind.DR_LLM) {
            return new DrLlmRouter(parameters, header.width, header.hidden, header.windows);
        }
        var weights = new float[header.blocks][];
        var biases = new float[header.blocks];
        for (int block = 0; block < header.blocks; block++) {
            weights[block] = Arrays.copyOf(parameters[block], header.width);
            biases[block] = parameters[block][header.width];
        }
        return new FirstRouter(weights, biases, header.tau, header.prefill);
    }

    /**
     * Reads the Dr.LLM routers of a model that pool as the caller expects.
     *
     * @param windows that they must have been trained with
     * @throws LayerPlanException as {@link #read(Path, Model)}, and if these are other routers or have other windows
     */
    public static DrLlmRouter read(Path file, Model model, int windows) {
        if (!(read(file, model) instanceof DrLlmRouter router)) {
            throw new LayerPlanException(file + " holds routers of FiRST, which know no windows; Dr.LLM's were asked for");
        }
        if (router.windows() != windows) {
            throw new LayerPlanException(file + " holds routers for " + router.windows() + " windows of a prompt, not for " + windows);
        }
        return router;
    }

    private static Header header(Path file, ByteBuffer in) {
        int length = in.getInt();
        if (length < 2 || length > LONGEST_HEADER || length > in.remaining() - 4) {
            throw new LayerPlanException(file + " is damaged or cut short: a header of " + length + " bytes, where " + in.remaining()
                    + " follow");
        }
        var json = new byte[length];
        in.get(json);
        try {
            int version = JSON.readTree(json).path("version").asInt(-1);
            if (version != VERSION) {
                throw new LayerPlanException(file + " has version " + version + " of the format; this program reads " + VERSION);
            }
            var header = JSON.readValue(json, Header.class);
            boolean sized = header.blocks >= 1 && header.width >= 1 && header.kind != null && header.prefill != null
                    && header.model != null && (header.kind == Kind.FIRST ? header.tau >= 0 && header.tau <= 1
                    : header.windows >= 1 && header.hidden >= 1);
            if (!sized) {
                throw new LayerPlanException(file + " has a header without sense: " + header);
            }
            return header;
        } catch (JacksonException e) {
            throw new LayerPlanException(file + " has a header that can't be read: " + e.getOriginalMessage(), e);
        }
    }

    private static void checkShape(Path file, Header header, Model model) {
        if (header.blocks != model.layerCount()) {
            throw new LayerPlanException(file + ": routers for " + header.blocks + " blocks, but " + model.description() + " has "
                    + model.layerCount());
        }
        if (header.width != model.embeddingSize()) {
            throw new LayerPlanException(file + ": routers for hidden states of width " + header.width + ", but " + model.description()
                    + " has " + model.embeddingSize());
        }
    }

    private static float finite(Path file, int block, float value) {
        if (!Float.isFinite(value)) {
            throw new LayerPlanException(file + ": a weight of block " + block + " is " + value + ", not a number");
        }
        return value;
    }

    private static int sum(byte[] bytes, int length) {
        var sum = new CRC32();
        sum.update(bytes, 0, length);
        return (int) sum.getValue();
    }
}
