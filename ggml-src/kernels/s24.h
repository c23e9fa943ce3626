// Block types for 2:4 sparse weights: of every 4 consecutive weights of a row at most 2 are kept. 256 weights a block, so row lengths
// are multiples of 256. Ids are values of enum ggml_type (patches/s24-types.patch); they are stored in GGUF files and never change.
// A layout that changes gets a new id.
//
// Files with such tensors say in their metadata which rules their writer followed, PL_S24_VERSION_KEY: those of this page are version 1,
// and so is a file that says nothing. Readers refuse versions that they don't know (ModelCheck.java).
//
//   type    id   bytes  bits per weight
//   S24_Q4  200   104   3.25     4-bit values, one F16 scale per 64 weights
//   S24_Q8  201   168   5.25     8-bit values, one F16 scale per 64 weights
//   S24_T   202    54   1.6875   signs, one 7-bit scale per 64 weights, one F16 scale for all
//
// Lane order, the same for all three. Kept value k = 0..127 is value k % 2 of group k / 2; group g are the weights 4 g .. 4 g + 3. Its
// position in the group is 0..3, lower position first:
//
//   position(k) = idx[k % 32] >> 2 * (k / 32) & 3
//
// so that field f of 32 consecutive index bytes belongs to 32 consecutive kept values, which come from 64 consecutive weights, one
// scale. A byte shuffle of 16 activations gives 8 kept ones (AVX2), a shuffle of 32 gives 16 (Neon), one of 128 gives 64 (AVX-512 VBMI):
// none needs the values in another order.
//
// Groups with fewer than two kept values store zeros at some positions; S24_Q4 and S24_Q8 ask for rising positions in each group, S24_T
// for positions that do not fall (see there). Positions that fall are refused by pl_s24_validate and never checked in a kernel: 2 bits
// cannot leave the group.
//
// Two bits a position, not a pattern number of 3 bits per group (0.25 bits per weight less): the bits are shuffle controls as they are.
// Pattern numbers take 1.6 times the time with AVX2, in a cache or from memory; with AVX-512 VBMI 1.2 times in a cache, 0.9 from memory
// with one thread and 1.04 with two (bench/src/main/c/s24_codes.cpp).
//
// Activations are rounded to Q8_S24 (pl_block_q8_s24), as for Q4_0 with one scale per 32: no product strays further from that with floats.
#pragma once

#include "ggml.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PL_S24_CASES   \
    GGML_TYPE_S24_Q4:  \
    case GGML_TYPE_S24_Q8: \
    case GGML_TYPE_S24_T

enum { PL_S24_BLOCK = 256, PL_S24_KEPT = 128, PL_S24_FIRST = GGML_TYPE_S24_Q4 };

// kept value k = ((qs[k % 64] >> 4 * (k / 64) & 15) - 8) * d[k / 32]
typedef struct {
    uint8_t  qs[64];
    uint8_t  idx[32];
    uint16_t d[4]; // F16
} pl_block_s24_q4;

// kept value k = qs[k] * d[k / 32]; -128 is refused
typedef struct {
    int8_t   qs[128];
    uint8_t  idx[32];
    uint16_t d[4]; // F16
} pl_block_s24_q8;

// kept value k = (sign k is 1 ? -1 : 1) * scale[k / 32] * d, where sign k is bit k % 8 of signs[k / 8]. Two kept values of a group may
// have the same position: then they add up, to twice the value or to nothing, which makes a group of zeros possible. Scales are
// 0..127: a scale is a factor of the byte product itself.
typedef struct {
    uint8_t  idx[32];
    uint8_t  signs[16];
    uint8_t  scale[4];
    uint16_t d; // F16
} pl_block_s24_t;

#define PL_S24_VERSION_KEY "general.s24_version"
enum { PL_S24_VERSION = 1 };

static inline bool pl_s24(enum ggml_type type) {
    return (int) type >= PL_S24_FIRST && type < GGML_TYPE_COUNT;
}

// Rounded activations, type GGML_TYPE_Q8_S24: for work buffers alone. Its number lies before PL_S24_FIRST, so that no file and no tensor
// can have it (pl_type_known). d[h][j] is the scale of the 32 activations from 64 j + 32 h on, so that d[0] and d[1] stand beside the
// four scales of a block of weights. Values are -127..127, which the byte products of AVX2 rely on.
typedef struct {
    float  d[2][4];
    int8_t qs[256];
} pl_block_q8_s24;

// Upstream's block_q8_K, which only its own sources see: activations rounded for k-quants, one scale per 256.
typedef struct {
    float   d;
    int8_t  qs[256];
    int16_t sums[16]; // of 16 values each
} pl_block_q8_K;

// Whether this number is that of a type. Numbers of upstream's removed types are; those between upstream's last and PL_S24_FIRST are not.
bool pl_type_known(int type);

// Rows of `columns` weights each, as ggml_quantize_chunk; `importance` has one weight per column, for instance the mean square of the
// activation, or is NULL. The 2 of 4 are those with the largest |w| sqrt(importance) (Wanda's score), of equals the first; in S24_T those
// that leave the least weighted error. Returns the bytes written.
size_t pl_quantize_s24_q4(const float * from, void * to, int64_t rows, int64_t columns, const float * importance);
size_t pl_quantize_s24_q8(const float * from, void * to, int64_t rows, int64_t columns, const float * importance);
size_t pl_quantize_s24_t(const float * from, void * to, int64_t rows, int64_t columns, const float * importance);

// The same without importance, for k values: ggml_from_float_t.
GGML_API void pl_quantize_row_s24_q4(const float * from, void * to, int64_t k);
GGML_API void pl_quantize_row_s24_q8(const float * from, void * to, int64_t k);
GGML_API void pl_quantize_row_s24_t(const float * from, void * to, int64_t k);

// ggml_to_float_t
void pl_dequantize_row_s24_q4(const void * from, float * to, int64_t k);
void pl_dequantize_row_s24_q8(const void * from, float * to, int64_t k);
void pl_dequantize_row_s24_t(const void * from, float * to, int64_t k);

// Whether all blocks are sound; the log says which one is not, and why.
bool pl_s24_validate(enum ggml_type type, const void * data, size_t blocks);

// In each CPU library. ggml_vec_dot_t over Q8_S24 activations, for one row.
void pl_vec_dot_s24_q4(int n, float * s, size_t bs, const void * vx, size_t bx, const void * vy, size_t by, int nrc);
void pl_vec_dot_s24_q8(int n, float * s, size_t bs, const void * vx, size_t bx, const void * vy, size_t by, int nrc);
void pl_vec_dot_s24_t(int n, float * s, size_t bs, const void * vx, size_t bx, const void * vy, size_t by, int nrc);

// Activations as Q8_S24 (s24_round.h): ggml_from_float_t.
void pl_quantize_row_q8_s24(const float * from, void * to, int64_t k);

// Activations as Q8_K, for the k-quants: what upstream's quantize_row_q8_K gives.
void pl_quantize_row_q8_K(const float * from, void * to, int64_t k);

struct ggml_compute_params;

// The matrix product `dst` where its weights are of one of these types and its activations lie rounded in the work buffer: true if it
// was done; false, in every thread alike, where the caller should do it with vec_dot.
bool pl_s24_mul_mat(const struct ggml_compute_params * params, struct ggml_tensor * dst);

// The same for one expert of a product by experts: column j is that of token which[2 j + 1] for the which[2 j]-th of its experts.
bool pl_s24_mul_mat_id(const struct ggml_compute_params * params, struct ggml_tensor * dst, int64_t expert, int64_t columns,
        const int32_t * which);

#ifdef __cplusplus
}
#endif
