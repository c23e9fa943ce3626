// Products of 2:4 sparse weights (s24.h) with many columns of activations by the sparse tensor cores of compute capability 8.0 and later:
// mma.sp, 16 rows by 32 weights, of which 16 are kept, by 8 columns of F16, summed in F32 (PTX ISA, sections on mma.sp).
//
// A block of threads makes a tile of 128 rows by COLUMNS. Its rows' next 256 weights come as they are into shared memory; eight steps of
// 32 weights each take their kept values from there to F16, in the order of the fragments, and their positions to the order of the
// instruction's metadata, while the activations of the next step are on their way.
//
// Metadata: 2 bits a kept value, 16 bits for 4 groups. Of the four lanes that hold row g and row g + 8, lanes 0 and 1 hold the positions in
// weights 0..15 and 16..31: of row g in their lower, of row g + 8 in their upper half.
#pragma once

#include "s24_device.cuh"

namespace pl {
namespace s24 {
namespace cuda {

constexpr int TENSOR_ROWS = 128, TENSOR_STEP = 32, TENSOR_THREADS = 128;
// halves from one row of a tile to the next: no two of the rows that a warp reads at once share a bank
constexpr int TENSOR_KEPT = 24, TENSOR_ACTIVATIONS = 40;

#ifdef __CUDACC__
__device__ inline void mma_sp(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[4], uint32_t metadata) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 5)
#define PL_MMA_SP "mma.sp::ordered_metadata"
#else
#define PL_MMA_SP "mma.sp"
#endif
    asm volatile(PL_MMA_SP ".sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(metadata));
#else
    (void) c, (void) a, (void) b, (void) metadata;
    __trap(); // the host asks for the compute capability
#endif
}

// 8 or 16 bytes to shared memory, there after the next await_copies.
template <class Word> __device__ inline void copy_later(void * shared, const void * from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;"
                 :: "r"((uint32_t) __cvta_generic_to_shared(shared)), "l"(from), "n"((int) sizeof(Word)) : "memory");
#else
    *(Word *) shared = *(const Word *) from;
#endif
}

__device__ inline void await_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif

// Positions of field f of 8 kept values, 2 bits each, the first lowest.
__device__ inline uint32_t pack_positions(const uint32_t (&idx)[2], int f) {
    uint32_t packed = 0;
    for (int j = 0; j < 2; j++) {
        uint32_t x = idx[j] >> 2 * f & 0x03030303u;
        x |= x >> 6;
        packed |= ((x & 0xfu) | (x >> 12 & 0xf0u)) << 8 * j;
    }
    return packed;
}

// Four bytes 0..255 less `bias`, times d, as F16. The bytes become the lowest bits of halves between 1024 and 2048.
__device__ inline void to_halves(uint32_t bytes, int bias, half d, uint32_t (&halves)[2]) {
    const half2 d2 = __half2half2(d), bias2 = __half2half2(__float2half((float) (1024 + bias)));
    halves[0] = bits<uint32_t>(__hmul2(__hsub2(bits<half2>(__byte_perm(bytes, 0x64646464u, 0x4140)), bias2), d2));
    halves[1] = bits<uint32_t>(__hmul2(__hsub2(bits<half2>(__byte_perm(bytes, 0x64646464u, 0x4342)), bias2), d2));
}

// Kept values 32 f + 16 h .. + 15 of a block in shared memory as halves, and their positions.
__device__ inline void expand_kept(const pl_block_s24_q4 & x, int f, int h, uint32_t (&halves)[8], uint32_t (&positions)[2]) {
    for (int i = 0; i < 2; i++) {
        const uint2 idx = *(const uint2 *) (x.idx + 16 * h + 8 * i), q = *(const uint2 *) (x.qs + f % 2 * 32 + 16 * h + 8 * i);
        positions[i] = pack_positions({ idx.x, idx.y }, f);
        uint32_t two[2];
        to_halves(q.x >> f / 2 * 4 & 0x0f0f0f0fu, 8, bits<half>(x.d[f]), two);
        halves[4 * i] = two[0], halves[4 * i + 1] = two[1];
        to_halves(q.y >> f / 2 * 4 & 0x0f0f0f0fu, 8, bits<half>(x.d[f]), two);
        halves[4 * i + 2] = two[0], halves[4 * i + 3] = two[1];
    }
}

__device__ inline void expand_kept(const pl_block_s24_q8 & x, int f, int h, uint32_t (&halves)[8], uint32_t (&positions)[2]) {
    for (int i = 0; i < 2; i++) {
        const uint2 idx = *(const uint2 *) (x.idx + 16 * h + 8 * i), q = *(const uint2 *) (x.qs + 32 * f + 16 * h + 8 * i);
        positions[i] = pack_positions({ idx.x, idx.y }, f);
        uint32_t two[2];
        to_halves(q.x ^ 0x80808080u, 128, bits<half>(x.d[f]), two);
        halves[4 * i] = two[0], halves[4 * i + 1] = two[1];
        to_halves(q.y ^ 0x80808080u, 128, bits<half>(x.d[f]), two);
        halves[4 * i + 2] = two[0], halves[4 * i + 3] = two[1];
    }
}

// Two kept values with the same position become their sum and a zero: the instruction wants positions that rise.
__device__ inline void expand_kept(const pl_block_s24_t & x, int f, int h, uint32_t (&halves)[8], uint32_t (&positions)[2]) {
    const half d = __float2half(scale(x, f));
    for (int i = 0; i < 2; i++) {
        positions[i] = 0;
        for (int j = 0; j < 2; j++) {
            uint32_t bytes = 0; // values plus 2
            for (int pair = 0; pair < 2; pair++) {
                const int k = 32 * f + 16 * h + 8 * i + 4 * j + 2 * pair;
                int first = position(x.idx, k), second = position(x.idx, k + 1), a = value(x, k), b = value(x, k + 1);
                if (first == second) {
                    a = first < 3 ? a + b : 0;
                    b = first < 3 ? 0 : value(x, k) + b;
                    first -= first == 3;
                    second = first + 1;
                }
                bytes |= (uint32_t) ((a + 2) | (b + 2) << 8) << 16 * pair;
                positions[i] |= (uint32_t) (first | second << 2) << (8 * j + 4 * pair);
            }
            uint32_t two[2];
            to_halves(bytes, 2, d, two);
            halves[4 * i + 2 * j] = two[0], halves[4 * i + 2 * j + 1] = two[1];
        }
    }
}

// Products of matrices of weights with columns of F16, one after the other and 256 `blocks` long each. One matrix of weights meets
// `matrix_ratio` matrices of columns.
struct tensor_product {
    const char * weights;
    int64_t      row_bytes, matrix_bytes, sample_bytes;
    int          rows, blocks, columns;
    int          matrices, matrix_ratio, sample_ratio;
    const half * activations;
    float *      to;
    int64_t      to_column, to_matrix, to_sample; // values
};

template <class Block> constexpr size_t tensor_shared(int columns) {
    return TENSOR_ROWS * sizeof(Block) + 2 * (TENSOR_ROWS * (TENSOR_KEPT * 2 + 4) + columns * TENSOR_ACTIVATIONS * 2);
}

// Block columns by block rows of warps, each ROWS x WIDTH: 64 x 64 of a tile of 128 columns, 32 x 32 of one of 32.
template <class Block, class Word, int COLUMNS> __global__ void __launch_bounds__(TENSOR_THREADS) multiply_tiles(tensor_product p) {
    constexpr int WIDTH = COLUMNS == 32 ? 32 : 64, ACROSS = COLUMNS / WIDTH, ROWS = TENSOR_ROWS * ACROSS / 4;
    constexpr int TALL = ROWS / 16, WIDE = WIDTH / 8, STEPS = PL_S24_BLOCK / TENSOR_STEP;
    PL_SHARED(shared);
    Block * const raw = (Block *) shared;
    half * const kept = (half *) (shared + TENSOR_ROWS * sizeof(Block));
    half * const activations = kept + 2 * TENSOR_ROWS * TENSOR_KEPT;
    uint16_t * const metadata = (uint16_t *) (activations + 2 * COLUMNS * TENSOR_ACTIVATIONS);

    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
    const int row0 = blockIdx.x * TENSOR_ROWS, column0 = blockIdx.y * COLUMNS;
    const int i2 = (int) blockIdx.z % p.matrices, i3 = (int) blockIdx.z / p.matrices;
    const int warp_row = warp / ACROSS * ROWS, warp_column = warp % ACROSS * WIDTH;
    const char * const weights = p.weights + i2 / p.matrix_ratio * p.matrix_bytes + i3 / p.sample_ratio * p.sample_bytes;
    const int64_t length = (int64_t) p.blocks * PL_S24_BLOCK;
    const half * const x = p.activations + (int64_t) blockIdx.z * p.columns * length;

    // what lies beyond the last row or column is a copy of it, and is not written
    const auto read_raw = [&](int block) {
        constexpr int words = sizeof(Block) / sizeof(Word);
        for (int i = thread; i < TENSOR_ROWS * words; i += TENSOR_THREADS) {
            const int row = row0 + i / words < p.rows ? row0 + i / words : p.rows - 1;
            const char * const from = weights + row * p.row_bytes + block * (int64_t) sizeof(Block);
            if constexpr (sizeof(Word) == 8) {
                copy_later<Word>((Word *) raw + i, (const Word *) from + i % words);
            } else {
                ((Word *) raw)[i] = ((const Word *) from)[i % words];
            }
        }
    };
    const auto read_activations = [&](int step) {
        half * const to = activations + step % 2 * COLUMNS * TENSOR_ACTIVATIONS;
        for (int i = thread; i < COLUMNS * 4; i += TENSOR_THREADS) {
            const int column = column0 + i / 4 < p.columns ? column0 + i / 4 : p.columns - 1;
            copy_later<uint4>(to + i / 4 * TENSOR_ACTIVATIONS + i % 4 * 8, x + column * length + (int64_t) step * TENSOR_STEP + i % 4 * 8);
        }
    };
    const auto expand = [&](int step) {
        uint32_t halves[8], positions[2];
        expand_kept(raw[thread], step % STEPS / 2, step % 2, halves, positions);
        uint4 * const to = (uint4 *) (kept + (step % 2 * TENSOR_ROWS + thread) * TENSOR_KEPT);
        to[0] = make_uint4(halves[0], halves[1], halves[2], halves[3]);
        to[1] = make_uint4(halves[4], halves[5], halves[6], halves[7]);
        PL_UNROLL
        for (int i = 0; i < 2; i++) {
            metadata[(((step % 2 * TENSOR_ROWS + thread) / 16 * 8 + thread % 8) * 2 + i) * 2 + thread % 16 / 8] = (uint16_t) positions[i];
        }
    };

    float sums[TALL][WIDE][4] = {};
    read_raw(0);
    read_activations(0);
    await_copies();
    __syncthreads();
    expand(0);
    for (int step = 0; step < p.blocks * STEPS; step++) {
        const bool more = step + 1 < p.blocks * STEPS, turns = more && (step + 1) % STEPS == 0;
        await_copies();
        __syncthreads();
        if (more) {
            read_activations(step + 1);
        }
        if (turns) {
            read_raw((step + 1) / STEPS); // all have taken the last values of the block before
        }
        const half * const a = kept + step % 2 * TENSOR_ROWS * TENSOR_KEPT;
        const half * const b = activations + step % 2 * COLUMNS * TENSOR_ACTIVATIONS;
        uint32_t left[TALL][4], where[TALL];
        PL_UNROLL
        for (int i = 0; i < TALL; i++) {
            const int row = warp_row + 16 * i;
            PL_UNROLL
            for (int j = 0; j < 4; j++) {
                left[i][j] = *(const uint32_t *) (a + (row + g + j % 2 * 8) * TENSOR_KEPT + 2 * t + j / 2 * 8);
            }
            where[i] = ((const uint32_t *) metadata)[((step % 2 * TENSOR_ROWS + row) / 16 * 8 + g) * 2 + t % 2];
        }
        PL_UNROLL
        for (int n = 0; n < WIDE; n++) {
            uint32_t right[4];
            PL_UNROLL
            for (int j = 0; j < 4; j++) {
                right[j] = *(const uint32_t *) (b + (warp_column + 8 * n + g) * TENSOR_ACTIVATIONS + 8 * j + 2 * t);
            }
            PL_UNROLL
            for (int i = 0; i < TALL; i++) {
                mma_sp(sums[i][n], left[i], right, where[i]);
            }
        }
        if (turns) {
            await_copies();
            __syncthreads();
        }
        if (more) {
            expand(step + 1);
        }
    }
    PL_UNROLL
    for (int i = 0; i < TALL; i++) {
        PL_UNROLL
        for (int n = 0; n < WIDE; n++) {
            PL_UNROLL
            for (int j = 0; j < 4; j++) {
                const int row = row0 + warp_row + 16 * i + g + j / 2 * 8, column = column0 + warp_column + 8 * n + 2 * t + j % 2;
                if (row < p.rows && column < p.columns) {
                    p.to[row + column * p.to_column + i2 * p.to_matrix + i3 * p.to_sample] = sums[i][n][j];
                }
            }
        }
    }
}

template <class Block, int COLUMNS> void multiply_with_tensor_cores(const tensor_product & p, int samples, cudaStream_t stream) {
    const auto tiles = [](int n, int size) { return (unsigned) ((n + size - 1) / size); };
    const dim3 grid(tiles(p.rows, TENSOR_ROWS), tiles(p.columns, COLUMNS), (unsigned) (p.matrices * samples));
    launch(multiply_tiles<Block, typename words<Block>::least, COLUMNS>, grid, dim3(TENSOR_THREADS), tensor_shared<Block>(COLUMNS), stream,
            p);
}

template <class Block> void multiply_with_tensor_cores(const tensor_product & p, int samples, cudaStream_t stream) {
    if (p.columns <= 32) {
        multiply_with_tensor_cores<Block, 32>(p, samples, stream);
    } else {
        multiply_with_tensor_cores<Block, 128>(p, samples, stream);
    }
}

// False for types that are not of s24.h.
inline bool multiply_with_tensor_cores(ggml_type type, const tensor_product & p, int samples, cudaStream_t stream) {
    switch (type) {
        case GGML_TYPE_S24_Q4: multiply_with_tensor_cores<pl_block_s24_q4>(p, samples, stream); return true;
        case GGML_TYPE_S24_Q8: multiply_with_tensor_cores<pl_block_s24_q8>(p, samples, stream); return true;
        case GGML_TYPE_S24_T: multiply_with_tensor_cores<pl_block_s24_t>(p, samples, stream); return true;
        default: return false;
    }
}

// Columns of floats as F16, one after the other: a thread four values.
struct half_columns {
    const float * from;
    int64_t       stride1, stride2, stride3; // values
    int64_t       columns, matrices, samples, length;
};

static __global__ void __launch_bounds__(64) columns_to_half(half_columns c, half * to) {
    const int64_t column = blockIdx.x / (c.length / 256), begin = blockIdx.x % (c.length / 256) * 256 + 4 * threadIdx.x;
    const int64_t i1 = column % c.columns, i2 = column / c.columns % c.matrices, i3 = column / c.columns / c.matrices;
    const float * const from = c.from + i1 * c.stride1 + i2 * c.stride2 + i3 * c.stride3 + begin;
    half four[4];
    for (int i = 0; i < 4; i++) {
        four[i] = __float2half(from[i]);
    }
    memcpy(to + column * c.length + begin, four, sizeof(four));
}

inline void to_half(const half_columns & c, half * to, cudaStream_t stream) {
    launch(columns_to_half, dim3((unsigned) (c.columns * c.matrices * c.samples * (c.length / 256))), dim3(64), 0, stream, c, to);
}

} // namespace cuda
} // namespace s24
} // namespace pl
