package io.github.panamallama.runtime.gguf;

import java.util.Locale;
import java.util.Optional;

/**
 * The element types of tensors. A tensor row is a run of blocks of {@link #blockSize} elements, each of {@link #blockBytes} bytes.
 * Ids and sizes are those of ggml's {@code enum ggml_type}; a test compares them with the native library. The {@code S24} types keep 2
 * of 4 consecutive weights; only this project's natives know them ({@code ggml-src/kernels/s24.h}).
 */
public enum GgmlType {
    F32(0, "f32", 1, 4),
    F16(1, "f16", 1, 2),
    Q4_0(2, "q4_0", 32, 18),
    Q4_1(3, "q4_1", 32, 20),
    Q5_0(6, "q5_0", 32, 22),
    Q5_1(7, "q5_1", 32, 24),
    Q8_0(8, "q8_0", 32, 34),
    Q8_1(9, "q8_1", 32, 36),
    Q2_K(10, "q2_K", 256, 84),
    Q3_K(11, "q3_K", 256, 110),
    Q4_K(12, "q4_K", 256, 144),
    Q5_K(13, "q5_K", 256, 176),
    Q6_K(14, "q6_K", 256, 210),
    Q8_K(15, "q8_K", 256, 292),
    IQ2_XXS(16, "iq2_xxs", 256, 66),
    IQ2_XS(17, "iq2_xs", 256, 74),
    IQ3_XXS(18, "iq3_xxs", 256, 98),
    IQ1_S(19, "iq1_s", 256, 50),
    IQ4_NL(20, "iq4_nl", 32, 18),
    IQ3_S(21, "iq3_s", 256, 110),
    IQ2_S(22, "iq2_s", 256, 82),
    IQ4_XS(23, "iq4_xs", 256, 136),
    I8(24, "i8", 1, 1),
    I16(25, "i16", 1, 2),
    I32(26, "i32", 1, 4),
    I64(27, "i64", 1, 8),
    F64(28, "f64", 1, 8),
    IQ1_M(29, "iq1_m", 256, 56),
    BF16(30, "bf16", 1, 2),
    TQ1_0(34, "tq1_0", 256, 54),
    TQ2_0(35, "tq2_0", 256, 66),
    MXFP4(39, "mxfp4", 32, 17),
    NVFP4(40, "nvfp4", 64, 36),
    Q1_0(41, "q1_0", 128, 18),
    Q2_0(42, "q2_0", 64, 18),
    S24_Q4(200, "s24_q4", 256, 104),
    S24_Q8(201, "s24_q8", 256, 168),
    S24_T(202, "s24_t", 256, 54);

    /** Metadata of files with S24 types: the version of their layouts, an unsigned integer; absent in version 1. */
    public static final String S24_VERSION_KEY = "general.s24_version";
    /** The version that is written, and the only one that is read. */
    public static final int S24_VERSION = 1;

    private static final GgmlType[] BY_ID = new GgmlType[203];

    static {
        for (var type : values()) {
            BY_ID[type.id] = type;
        }
    }

    private final int id;
    private final String label;
    private final int blockSize;
    private final int blockBytes;

    GgmlType(int id, String label, int blockSize, int blockBytes) {
        this.id = id;
        this.label = label;
        this.blockSize = blockSize;
        this.blockBytes = blockBytes;
    }

    /** The type's number in files and in native code. */
    public int id() {
        return id;
    }

    /** ggml's own name of the type, for instance {@code q4_K}. */
    public String label() {
        return label;
    }

    /** Elements per block; a row's length is a multiple of it. */
    public int blockSize() {
        return blockSize;
    }

    /** Bytes per block. */
    public int blockBytes() {
        return blockBytes;
    }

    /** Whether values are stored in blocks with common scales. */
    public boolean isQuantized() {
        return blockSize > 1;
    }

    /** Whether at most 2 of 4 consecutive elements are kept. */
    public boolean isSparse() {
        return id >= S24_Q4.id;
    }

    /** Bits that one element takes, scales included. */
    public double bitsPerElement() {
        return 8.0 * blockBytes / blockSize;
    }

    /**
     * The bytes of {@code elements} consecutive elements.
     *
     * @throws IllegalArgumentException if {@code elements} is negative or no multiple of {@link #blockSize}
     * @throws ArithmeticException if the result doesn't fit a {@code long}
     */
    public long bytes(long elements) {
        if (elements < 0 || elements % blockSize != 0) {
            throw new IllegalArgumentException(elements + " elements are no whole number of " + label + " blocks of " + blockSize);
        }
        return Math.multiplyExact(elements / blockSize, (long) blockBytes);
    }

    /** The type with this number; empty for numbers that this version doesn't know or that were removed. */
    public static Optional<GgmlType> byId(int id) {
        return id < 0 || id >= BY_ID.length ? Optional.empty() : Optional.ofNullable(BY_ID[id]);
    }

    /** The type with this {@link #label}, in any case. */
    public static Optional<GgmlType> byName(String name) {
        var wanted = name.toLowerCase(Locale.ROOT);
        for (var type : values()) {
            if (type.label.toLowerCase(Locale.ROOT).equals(wanted)) {
                return Optional.of(type);
            }
        }
        return Optional.empty();
    }

    /** What a number that is no type used to be, for messages. */
    static String describeUnknown(int id) {
        return switch (id) {
            case 4, 5 -> "type " + id + " (q4_2 or q4_3) was removed from ggml; quantize the model again";
            case 31, 32, 33 -> "type " + id + " (a repacked q4_0) was removed from ggml; quantize the model to q4_0";
            case 36, 37, 38 -> "type " + id + " (a repacked iq4_nl) was removed from ggml; quantize the model to iq4_nl";
            default -> "type " + id + " is unknown to this version";
        };
    }
}
