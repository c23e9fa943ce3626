// Products of 2:4 sparse weights (s24.h) with up to 8 columns of activations, for which reading the weights takes the time.
//
// Activations are rounded to 8 bits, one scale per 32, as ggml-cuda does for its own types, but laid out by field (s24.h): the 64
// consecutive weights of field f of all blocks stand together, then their scales.
//
//   int8   q[4][blocks][64]
//   float  d[4][blocks][2]
//
// A warp takes two rows, 8 blocks of each at a time. It reads them in words of 16 bytes, the next ones while it computes, and passes
// them through shared memory, where every lane picks a quarter of a block: of each field 8 kept values, which come from 16 consecutive
// activations, 4 registers. A byte permutation per two groups selects those activations that the kept weights meet: its selectors are the
// positions of two fields as they lie in memory, 4 bits each, so that no weight is expanded.
#pragma once

#include "s24_device.cuh"

namespace pl {
namespace s24 {
namespace cuda {

constexpr int VECTOR_COLUMNS = 8, VECTOR_WARPS = 4, VECTOR_ROWS = 2, VECTOR_BLOCKS = 8;

inline int64_t rounded_bytes(int64_t blocks) { return blocks * (PL_S24_BLOCK + PL_S24_BLOCK / 32 * 4); }

// Columns i1, i2, i3 of floats, `stride` values apart, one after the other.
struct column_range {
    const float * from;
    int64_t       stride1, stride2, stride3;
    int64_t       columns, matrices, samples, blocks;
};

// A thread a value, a block a block.
static __global__ void __launch_bounds__(PL_S24_BLOCK) round_columns(column_range c, uint8_t * to) {
    const int64_t column = blockIdx.x / c.blocks, block = blockIdx.x % c.blocks;
    const int64_t i1 = column % c.columns, i2 = column / c.columns % c.matrices, i3 = column / c.columns / c.matrices;
    const int i = threadIdx.x, field = i / 64;
    const float x = c.from[i1 * c.stride1 + i2 * c.stride2 + i3 * c.stride3 + block * PL_S24_BLOCK + i];
    float largest = fabsf(x);
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, lanes));
    }
    const float d = largest / 127.0f;
    uint8_t * const y = to + column * c.blocks * (PL_S24_BLOCK + PL_S24_BLOCK / 32 * 4);
    ((int8_t *) y)[(field * c.blocks + block) * 64 + i % 64] = (int8_t) (largest == 0 ? 0 : roundf(x / d));
    if (i % 32 == 0) {
        ((float *) (y + c.blocks * PL_S24_BLOCK))[(field * c.blocks + block) * 2 + i % 64 / 32] = d;
    }
}

inline void round(const column_range & c, uint8_t * to, cudaStream_t stream) {
    launch(round_columns, dim3((unsigned) (c.columns * c.matrices * c.samples * c.blocks)), dim3(PL_S24_BLOCK), 0, stream, c, to);
}

__device__ inline int dot4(uint32_t a, uint32_t b, int sum) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 610
    for (int i = 0; i < 32; i += 8) {
        sum += (int) (int8_t) (a >> i) * (int) (int8_t) (b >> i);
    }
    return sum;
#else
    return __dp4a((int) a, (int) b, sum);
#endif
}

// Kept values 8 t .. 8 t + 7 of each field, four a word, with what they count, and the bytes of idx for them.
struct quarter {
    uint32_t values[4][2];
    uint32_t idx[2];
    float    d[4];
};

__device__ inline void load_quarter(quarter & q, const pl_block_s24_q4 & x, int t) {
    PL_UNROLL
    for (int j = 0; j < 2; j++) {
        q.idx[j] = load<uint32_t, pl_block_s24_q4>(x.idx + 8 * t + 4 * j);
        PL_UNROLL
        for (int f = 0; f < 2; f++) {
            // a 4-bit value in the upper half of a byte, its highest bit turned: 16 times the value less 8, as a signed byte
            const uint32_t two = load<uint32_t, pl_block_s24_q4>(x.qs + 32 * f + 8 * t + 4 * j);
            q.values[f][j] = (two << 4 & 0xf0f0f0f0u) ^ 0x80808080u;
            q.values[f + 2][j] = (two & 0xf0f0f0f0u) ^ 0x80808080u;
        }
    }
    PL_UNROLL
    for (int f = 0; f < 4; f++) {
        q.d[f] = scale(x, f) * 0.0625f;
    }
}

__device__ inline void load_quarter(quarter & q, const pl_block_s24_q8 & x, int t) {
    PL_UNROLL
    for (int j = 0; j < 2; j++) {
        q.idx[j] = load<uint32_t, pl_block_s24_q8>(x.idx + 8 * t + 4 * j);
        PL_UNROLL
        for (int f = 0; f < 4; f++) {
            q.values[f][j] = load<uint32_t, pl_block_s24_q8>((const uint8_t *) x.qs + 32 * f + 8 * t + 4 * j);
        }
    }
    PL_UNROLL
    for (int f = 0; f < 4; f++) {
        q.d[f] = scale(x, f);
    }
}

__device__ inline void load_quarter(quarter & q, const pl_block_s24_t & x, int t) {
    PL_UNROLL
    for (int j = 0; j < 2; j++) {
        q.idx[j] = load<uint32_t, pl_block_s24_t>(x.idx + 8 * t + 4 * j);
    }
    PL_UNROLL
    for (int f = 0; f < 4; f++) {
        const uint32_t signs = x.signs[4 * f + t];
        q.values[f][0] = sign_bytes(signs & 15);
        q.values[f][1] = sign_bytes(signs >> 4);
        q.d[f] = scale(x, f);
    }
}

// Words 0..3 of `activations` are the 16 activations that quarter t of field f meets.
__device__ inline float dot(const quarter & q, const uint4 * activations, const float * d) {
    int sums[4] = { 0, 0, 0, 0 };
    PL_UNROLL
    for (int f = 0; f < 2; f++) {
        const uint32_t a[4] = { activations[f].x, activations[f].y, activations[f].z, activations[f].w };
        const uint32_t b[4] = { activations[f + 2].x, activations[f + 2].y, activations[f + 2].z, activations[f + 2].w };
        PL_UNROLL
        for (int j = 0; j < 2; j++) {
            // each byte of idx holds the position of field f in its lower 4 bits and that of field f + 2, which is in b, in the upper ones
            const uint32_t where = (q.idx[j] >> 2 * f & 0x33333333u) | 0x40404040u;
            const uint32_t first = __byte_perm(a[2 * j], b[2 * j], where & 0xffffu);
            const uint32_t second = __byte_perm(a[2 * j + 1], b[2 * j + 1], where >> 16);
            sums[f] = dot4(__byte_perm(first, second, 0x6420), q.values[f][j], sums[f]);
            sums[f + 2] = dot4(__byte_perm(first, second, 0x7531), q.values[f + 2][j], sums[f + 2]);
        }
    }
    float sum = 0;
    PL_UNROLL
    for (int f = 0; f < 4; f++) {
        sum += (float) sums[f] * (q.d[f] * d[f]);
    }
    return sum;
}

// Products of matrix (i2, i3) of the weights, or of the expert that experts[i2 + i3 * expert_stride] names, with columns of (i2, i3).
struct vector_product {
    const char *    weights;
    int64_t         row_bytes, matrix_bytes, sample_bytes;
    int             rows, blocks;
    int             matrix_ratio, sample_ratio; // so many matrices of columns to one of weights
    const uint8_t * rounded;
    int             columns;                    // of one matrix; with experts: of one token, which its experts take in turn
    int             first;                      // column; with experts 0
    const int32_t * experts;
    int64_t         expert_stride;
    float *         to;
    int64_t         to_column, to_matrix, to_sample; // values
};

template <class Block, class Word, int COLUMNS>
__global__ void __launch_bounds__(32 * VECTOR_WARPS, COLUMNS == 1 ? 6 : 4) multiply_vectors(vector_product p) {
    constexpr int R = VECTOR_ROWS, WORDS = VECTOR_BLOCKS * sizeof(Block) / sizeof(Word), HELD = (WORDS + 31) / 32;
    PL_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = lane % 4;
    const int i2 = blockIdx.y, i3 = blockIdx.z, row = ((int) blockIdx.x * VECTOR_WARPS + warp) * R;
    const int64_t matrix = p.experts ? p.experts[i2 + i3 * p.expert_stride] : i2 / p.matrix_ratio;
    const int64_t sample = p.experts ? 0 : i3 / p.sample_ratio;
    const int64_t column = p.experts ? (int64_t) i3 * p.columns + i2 % p.columns : ((int64_t) i3 * gridDim.y + i2) * p.columns + p.first;
    const int64_t column_bytes = (int64_t) p.blocks * (PL_S24_BLOCK + PL_S24_BLOCK / 32 * 4);
    const uint8_t * const y = p.rounded + column * column_bytes;
    uint8_t * const staged = shared + warp * R * VECTOR_BLOCKS * sizeof(Block);

    // a last row that is not there reads the one before it, and is not written
    const Word * from[R];
    PL_UNROLL
    for (int r = 0; r < R; r++) {
        const int at = row + r < p.rows ? row + r : p.rows - 1;
        from[r] = (const Word *) (p.weights + at * p.row_bytes + matrix * p.matrix_bytes + sample * p.sample_bytes);
    }
    Word held[R][HELD] = {};
    const auto read = [&](int begin) {
        const int blocks = p.blocks - begin < VECTOR_BLOCKS ? p.blocks - begin : VECTOR_BLOCKS;
        PL_UNROLL
        for (int r = 0; r < R; r++) {
            PL_UNROLL
            for (int i = 0; i < HELD; i++) {
                if (32 * i + lane < blocks * (int) sizeof(Block) / (int) sizeof(Word)) {
                    held[r][i] = from[r][begin * (int64_t) sizeof(Block) / (int64_t) sizeof(Word) + 32 * i + lane];
                }
            }
        }
    };

    float sums[R][COLUMNS] = {};
    read(0);
    for (int begin = 0; begin < p.blocks; begin += VECTOR_BLOCKS) {
        PL_UNROLL
        for (int r = 0; r < R; r++) {
            PL_UNROLL
            for (int i = 0; i < HELD; i++) {
                if (32 * i + lane < WORDS) {
                    ((Word *) (staged + r * VECTOR_BLOCKS * sizeof(Block)))[32 * i + lane] = held[r][i];
                }
            }
        }
        __syncwarp();
        if (begin + VECTOR_BLOCKS < p.blocks) {
            read(begin + VECTOR_BLOCKS);
        }
        const int block = begin + lane / 4;
        if (block < p.blocks) {
            quarter q[R];
            PL_UNROLL
            for (int r = 0; r < R; r++) {
                load_quarter(q[r], ((const Block *) (staged + r * VECTOR_BLOCKS * sizeof(Block)))[lane / 4], t);
            }
            PL_UNROLL
            for (int c = 0; c < COLUMNS; c++) {
                uint4 activations[4];
                float d[4];
                PL_UNROLL
                for (int f = 0; f < 4; f++) {
                    const int64_t at = (int64_t) f * p.blocks + block;
                    activations[f] = *(const uint4 *) (y + c * column_bytes + at * 64 + 16 * t);
                    d[f] = ((const float *) (y + c * column_bytes + (int64_t) p.blocks * PL_S24_BLOCK))[at * 2 + t / 2];
                }
                PL_UNROLL
                for (int r = 0; r < R; r++) {
                    sums[r][c] += dot(q[r], activations, d);
                }
            }
        }
        __syncwarp();
    }
    PL_UNROLL
    for (int r = 0; r < R; r++) {
        PL_UNROLL
        for (int c = 0; c < COLUMNS; c++) {
            PL_UNROLL
            for (int lanes = 16; lanes > 0; lanes /= 2) {
                sums[r][c] += __shfl_xor_sync(0xffffffffu, sums[r][c], lanes);
            }
            if (lane == 0 && row + r < p.rows) {
                p.to[row + r + (p.first + c) * p.to_column + i2 * p.to_matrix + i3 * p.to_sample] = sums[r][c];
            }
        }
    }
}

template <class Block, class Word, int COLUMNS> void multiply(const vector_product & p, int matrices, int samples, cudaStream_t stream) {
    constexpr int rows = VECTOR_WARPS * VECTOR_ROWS;
    const dim3 grid((unsigned) ((p.rows + rows - 1) / rows), (unsigned) matrices, (unsigned) samples);
    launch(multiply_vectors<Block, Word, COLUMNS>, grid, dim3(32 * VECTOR_WARPS), rows * VECTOR_BLOCKS * sizeof(Block), stream, p);
}

template <class Block> void multiply(vector_product p, int columns, int matrices, int samples, cudaStream_t stream) {
    const uint64_t lengths = (uint64_t) (p.row_bytes | p.matrix_bytes | p.sample_bytes | p.blocks * (int64_t) sizeof(Block));
    if (((uintptr_t) p.weights | lengths) % sizeof(uint4) != 0) {
        for (int c = 0; c < columns; c++) { // rows of an odd number of blocks, say: one column after the other, in smaller words
            p.first = c;
            multiply<Block, typename words<Block>::least, 1>(p, matrices, samples, stream);
        }
        return;
    }
    switch (columns) {
        case 1: multiply<Block, uint4, 1>(p, matrices, samples, stream); break;
        case 2: multiply<Block, uint4, 2>(p, matrices, samples, stream); break;
        case 3: multiply<Block, uint4, 3>(p, matrices, samples, stream); break;
        case 4: multiply<Block, uint4, 4>(p, matrices, samples, stream); break;
        case 5: multiply<Block, uint4, 5>(p, matrices, samples, stream); break;
        case 6: multiply<Block, uint4, 6>(p, matrices, samples, stream); break;
        case 7: multiply<Block, uint4, 7>(p, matrices, samples, stream); break;
        case 8: multiply<Block, uint4, 8>(p, matrices, samples, stream); break;
        default: break;
    }
}

// With experts one column each, else all columns of p, VECTOR_COLUMNS at most. False for types that are not of s24.h.
inline bool multiply(ggml_type type, const vector_product & p, int matrices, int samples, cudaStream_t stream) {
    const int columns = p.experts ? 1 : p.columns;
    switch (type) {
        case GGML_TYPE_S24_Q4: multiply<pl_block_s24_q4>(p, columns, matrices, samples, stream); return true;
        case GGML_TYPE_S24_Q8: multiply<pl_block_s24_q8>(p, columns, matrices, samples, stream); return true;
        case GGML_TYPE_S24_T: multiply<pl_block_s24_t>(p, columns, matrices, samples, stream); return true;
        default: return false;
    }
}

} // namespace cuda
} // namespace s24
} // namespace pl
