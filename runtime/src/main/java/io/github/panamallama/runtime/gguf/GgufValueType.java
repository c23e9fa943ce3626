package io.github.panamallama.runtime.gguf;

/** The types of metadata values, in the order of their ids in files. */
public enum GgufValueType {
    UINT8("u8", 1),
    INT8("i8", 1),
    UINT16("u16", 2),
    INT16("i16", 2),
    UINT32("u32", 4),
    INT32("i32", 4),
    FLOAT32("f32", 4),
    BOOL("bool", 1),
    STRING("string", 0),
    ARRAY("array", 0),
    UINT64("u64", 8),
    INT64("i64", 8),
    FLOAT64("f64", 8);

    private static final GgufValueType[] VALUES = values();

    private final String label;
    private final int bytes;

    GgufValueType(String label, int bytes) {
        this.label = label;
        this.bytes = bytes;
    }

    /** The number of this type in files. */
    public int id() {
        return ordinal();
    }

    /** A short name, for instance {@code u32}. */
    public String label() {
        return label;
    }

    /** Bytes of one value; 0 for strings and arrays, whose size varies. */
    public int bytes() {
        return bytes;
    }

    boolean isInteger() {
        return switch (this) {
            case UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64 -> true;
            default -> false;
        };
    }

    boolean isFloat() {
        return this == FLOAT32 || this == FLOAT64;
    }

    /** Null for a number that is no type. */
    static GgufValueType byId(int id) {
        return id < 0 || id >= VALUES.length ? null : VALUES[id];
    }
}
