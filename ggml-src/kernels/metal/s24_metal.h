// 2:4 sparse weights (kernels/s24.h: layouts and ids) on Metal: 16 weights as floats, from which ggml-metal makes products of matrices and
// rows, and products with single columns. patches/s24-metal.patch puts it before those of ggml-metal's sources that use it.
//
// The same source is compiled for the host by tests/src/test/c/metal_on_cpu.h. It has never run on an Apple GPU.
#ifndef PL_S24_METAL
#define PL_S24_METAL

typedef struct {
    uint8_t qs[64];
    uint8_t idx[32];
    half    d[4];
} pl_block_s24_q4;

typedef struct {
    int8_t  qs[128];
    uint8_t idx[32];
    half    d[4];
} pl_block_s24_q8;

typedef struct {
    uint8_t idx[32];
    uint8_t signs[16];
    uint8_t scale[4];
    half    d;
} pl_block_s24_t;

static inline int pl_s24_value(device const pl_block_s24_q4 * x, short k) { return (x->qs[k % 64] >> 4 * (k / 64) & 15) - 8; }
static inline int pl_s24_value(device const pl_block_s24_q8 * x, short k) { return x->qs[k]; }
static inline int pl_s24_value(device const pl_block_s24_t * x, short k) { return 1 - 2 * (x->signs[k / 8] >> k % 8 & 1); }

static inline float pl_s24_scale(device const pl_block_s24_q4 * x, short field) { return (float) x->d[field]; }
static inline float pl_s24_scale(device const pl_block_s24_q8 * x, short field) { return (float) x->d[field]; }
static inline float pl_s24_scale(device const pl_block_s24_t * x, short field) { return (float) x->d * (float) x->scale[field]; }

// Weights 16 il .. 16 il + 15 of a block, four groups.
template <typename block_t, typename type4x4> void pl_s24_expand(device const block_t * x, short il, thread type4x4 & reg) {
    const float d = pl_s24_scale(x, il / 4);
    float4x4 values;
    for (short g = 0; g < 4; g++) {
        const short k = 8 * il + 2 * g;
        const short first = x->idx[k % 32] >> 2 * (k / 32) & 3, second = x->idx[k % 32 + 1] >> 2 * (k / 32) & 3;
        const float a = d * (float) pl_s24_value(x, k), b = d * (float) pl_s24_value(x, k + 1);
        for (short i = 0; i < 4; i++) {
            values[g][i] = (i == first ? a : 0.0f) + (i == second ? b : 0.0f);
        }
    }
    reg = (type4x4) values;
}

template <typename type4x4> void pl_dequantize_s24_q4(device const pl_block_s24_q4 * x, short il, thread type4x4 & reg) {
    pl_s24_expand(x, il, reg);
}

template <typename type4x4> void pl_dequantize_s24_q8(device const pl_block_s24_q8 * x, short il, thread type4x4 & reg) {
    pl_s24_expand(x, il, reg);
}

template <typename type4x4> void pl_dequantize_s24_t(device const pl_block_s24_t * x, short il, thread type4x4 & reg) {
    pl_s24_expand(x, il, reg);
}

// The one of four activations that a position names.
static inline float pl_s24_pick(float4 y, int position) {
    const float low = position & 1 ? y[1] : y[0], high = position & 1 ? y[3] : y[2];
    return position & 2 ? high : low;
}

// Rows times one column (tgpig.y) of matrix tgpig.z. A SIMD group takes nr0 rows and eight blocks at a time: four lanes a block, of each
// field 8 kept values a lane.
template <typename block_t, int nr0, typename args_t>
void pl_mul_mv_s24_impl(
        args_t args,
        device const char * src0,
        device const char * src1,
        device       char * dst,
        threadgroup  char * shmem,
        uint3  tgpig,
        ushort tiisg,
        ushort sgitg) {
    const int blocks = args.ne00 / 256, row0 = ((int) tgpig.x * N_SG_S24 + sgitg) * nr0;
    const short t = tiisg % 4;
    const uint i12 = tgpig.z % args.ne12, i13 = tgpig.z / args.ne12;
    device const float * y = (device const float *) (src1 + tgpig.y * args.nb11 + i12 * args.nb12 + i13 * args.nb13);
    device const char * x[nr0];
    float sums[nr0];
    for (short r = 0; r < nr0; r++) {
        // a last row that is not there reads the one before it, and is not written
        const int row = row0 + r < args.ne01 ? row0 + r : args.ne01 - 1;
        x[r] = src0 + row * args.nb01 + (i12 / args.r2) * args.nb02 + (i13 / args.r3) * args.nb03;
        sums[r] = 0;
    }
    for (int b = tiisg / 4; b < blocks; b += 8) {
        for (short f = 0; f < 4; f++) {
            float field[nr0];
            for (short r = 0; r < nr0; r++) {
                field[r] = 0;
            }
            for (short g = 0; g < 4; g++) {
                device const float * four = y + 256 * b + 64 * f + 16 * t + 4 * g;
                const float4 activations = { four[0], four[1], four[2], four[3] };
                const short k = 8 * t + 2 * g;
                for (short r = 0; r < nr0; r++) {
                    device const block_t * block = (device const block_t *) x[r] + b;
                    field[r] += (float) pl_s24_value(block, 32 * f + k) * pl_s24_pick(activations, block->idx[k] >> 2 * f) +
                                (float) pl_s24_value(block, 32 * f + k + 1) * pl_s24_pick(activations, block->idx[k + 1] >> 2 * f);
                }
            }
            for (short r = 0; r < nr0; r++) {
                sums[r] += field[r] * pl_s24_scale((device const block_t *) x[r] + b, f);
            }
        }
    }
    device float * to = (device float *) dst + (uint64_t) tgpig.z * args.ne0 * args.ne1 + (uint64_t) tgpig.y * args.ne0;
    for (short r = 0; r < nr0; r++) {
        const float sum = simd_sum(sums[r]);
        if (tiisg == 0 && row0 + r < args.ne01) {
            to[row0 + r] = sum;
        }
    }
}

template <typename block_t>
kernel void pl_mul_mv_s24(
        constant ggml_metal_kargs_mul_mv & args,
        device const char * src0,
        device const char * src1,
        device       char * dst,
        uint3  tgpig[[threadgroup_position_in_grid]],
        ushort tiisg[[thread_index_in_simdgroup]],
        ushort sgitg[[simdgroup_index_in_threadgroup]]) {
    pl_mul_mv_s24_impl<block_t, N_R0_S24, constant ggml_metal_kargs_mul_mv &>(args, src0, src1, dst, nullptr, tgpig, tiisg, sgitg);
}

typedef decltype(pl_mul_mv_s24<pl_block_s24_q4>) pl_mul_mv_s24_t;

// What kernel_mul_mv_id is made of.
#define PL_S24_ROWS(type) mmv_fn<pl_mul_mv_s24_impl<pl_block_s24_##type, N_R0_S24>>

// What kernel_mul_mm and kernel_mul_mm_id of ggml-metal are made of, but for the type of the activations.
#define PL_S24_TILES(type)                                               \
    half, half4x4, simdgroup_half8x8, half, half2x4, simdgroup_half8x8, \
    pl_block_s24_##type, QK_NL, pl_dequantize_s24_##type, float, float4x4

#endif
