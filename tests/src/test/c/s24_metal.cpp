// The Metal kernels for 2:4 sparse blocks (ggml-src/kernels/metal) on the host against the scalar reference. Prints one line per case:
// operator, type, shape, largest error, and the largest error that rounding explains, which is 0 where all scales are 1. What a kernel must
// not write has to stay as it was: else the error is infinite.
//
//   s24_metal SEED
// The header for Metal declares the blocks again, under the same names.
#define pl_block_s24_q4 block_q4
#define pl_block_s24_q8 block_q8
#define pl_block_s24_t block_t
#include "s24_blocks.h"
#undef pl_block_s24_q4
#undef pl_block_s24_q8
#undef pl_block_s24_t

#include "metal_on_cpu.h"

#include "metal/s24_metal.h"

namespace {

static_assert(sizeof(pl_block_s24_q4) == sizeof(block_q4), "S24_Q4 differs");
static_assert(sizeof(pl_block_s24_q8) == sizeof(block_q8), "S24_Q8 differs");
static_assert(sizeof(pl_block_s24_t) == sizeof(block_t), "S24_T differs");

int between(int low, int high) { return low + (int) random_below((uint32_t) (high - low + 1)); }

// `Block` is C's, `Metal` the same of the header under test.
template <class Block, class Metal> struct checks {
    const char * type;
    void (*to_floats)(const Metal *, short, float4x4 &);
    void (*to_halves)(const Metal *, short, half4x4 &);

    void expand(kind k) const {
        Block x;
        fill(x, k);
        double error = 0, halves_error = 0;
        for (short il = 0; il < 16; il++) {
            float4x4 floats;
            half4x4 halves;
            to_floats((const Metal *) &x, il, floats);
            to_halves((const Metal *) &x, il, halves);
            for (int i = 0; i < 16; i++) {
                float wanted = 0;
                for (int kept = 8 * il + i / 4 * 2, end = kept + 2; kept < end; kept++) {
                    if (pl::s24::reference::position(x.idx, kept) == i % 4) {
                        wanted += (float) pl::s24::reference::value(x, kept) * pl::s24::reference::scale(x, kept / 32);
                    }
                }
                error = std::fmax(error, std::fabs(floats[i / 4][i % 4] - wanted));
                halves_error = std::fmax(halves_error, std::fabs(halves[i / 4][i % 4] - ggml_fp16_to_fp32(ggml_fp32_to_fp16(wanted))));
            }
        }
        printf("expand %s weights=%s f32 %.3g 0\n", type, names[k], error);
        printf("expand %s weights=%s f16 %.3g 0\n", type, names[k], halves_error);
    }

    void multiply(kind weights, kind activations) const {
        const int rows = between(1, 11), blocks = between(1, 10), columns = between(1, 8), gap = between(0, 1);
        const int r2 = between(1, 2), r3 = between(1, 2), ne02 = between(1, 2), ne03 = between(1, 2), ne12 = ne02 * r2, ne13 = ne03 * r3;
        const int length = blocks * PL_S24_BLOCK, y_stride = length + gap;
        std::vector<Block> x((size_t) ((blocks + gap) * rows * ne02 * ne03));
        for (auto & block : x) {
            fill(block, weights);
        }
        std::vector<float> y((size_t) (y_stride * columns * ne12 * ne13));
        for (auto & value_of_y : y) {
            value_of_y = activations == SCALED ? (float) between(-1000, 1000) / 512 : (float) value(activations, -127, 127);
        }
        const float untouched = -12345.5f;
        std::vector<float> out((size_t) (rows * columns * ne12 * ne13) + 64, untouched);
        ggml_metal_kargs_mul_mv args = {};
        args.ne00 = args.ne10 = length, args.ne01 = args.ne0 = rows, args.ne02 = ne02, args.ne11 = args.ne1 = columns, args.ne12 = ne12;
        args.nb00 = sizeof(Block), args.nb01 = sizeof(Block) * (size_t) (blocks + gap), args.nb02 = args.nb01 * (size_t) rows;
        args.nb03 = args.nb02 * (size_t) ne02;
        args.nb10 = 4, args.nb11 = 4 * (size_t) y_stride, args.nb12 = args.nb11 * (size_t) columns, args.nb13 = args.nb12 * (size_t) ne12;
        args.nr0 = N_R0_S24, args.r2 = (int16_t) r2, args.r3 = (int16_t) r3;
        const unsigned each = N_R0_S24 * N_SG_S24;
        on_cpu::run_grid({ ((unsigned) rows + each - 1) / each, (unsigned) columns, (unsigned) (ne12 * ne13) }, { 32 * N_SG_S24 }, 0, [&] {
            const unsigned i = on_cpu::current->index.x;
            pl_mul_mv_s24<Metal>(args, (const char *) x.data(), (const char *) y.data(), (char *) out.data(), on_cpu::current_block->index,
                    (ushort) (i % 32), (ushort) (i / 32));
        });
        double error = 0, bound = 0;
        for (int i = 0; i < rows * columns * ne12 * ne13; i++) {
            const int row = i % rows, column = i / rows % columns, i2 = i / rows / columns % ne12, i3 = i / rows / columns / ne12;
            const Block * const w = &x[(size_t) ((((i3 / r3) * ne02 + i2 / r2) * rows + row) * (blocks + gap))];
            const float * const v = &y[(size_t) (((i3 * ne12 + i2) * columns + column) * y_stride)];
            double sum = 0, size = 0;
            for (int kept = 0; kept < blocks * PL_S24_KEPT; kept++) {
                const Block & b = w[kept / PL_S24_KEPT];
                const int k = kept % PL_S24_KEPT;
                const double one = (double) pl::s24::reference::value(b, k) * pl::s24::reference::scale(b, k / 32) *
                        v[kept / PL_S24_KEPT * PL_S24_BLOCK + k / 2 * 4 + pl::s24::reference::position(b.idx, k)];
                sum += one;
                size += std::fabs(one);
            }
            const double off = std::fabs(out[(size_t) i] - sum);
            error = std::isnan(off) ? INFINITY : std::fmax(error, off);
            bound = std::fmax(bound, weights == SCALED ? size * 2e-6 : 0);
            out[(size_t) i] = untouched;
        }
        for (const float rest : out) {
            error = rest == untouched ? error : INFINITY;
        }
        printf("mul_mv %s weights=%s activations=%s rows=%d columns=%d blocks=%d %.3g %.3g\n", type, names[weights], names[activations],
                rows, columns, blocks, error, bound);
    }

    void run() const {
        for (kind weights : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
            expand(weights);
            for (kind activations : { WHOLE, LARGEST, SMALLEST, MIXED, SCALED }) {
                if ((weights == SCALED) == (activations == SCALED)) {
                    multiply(weights, activations);
                }
            }
        }
    }
};

} // namespace

int main(int argc, char ** argv) {
    state = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
    on_cpu::order = state;
    for (int i = 0; i < 4; i++) {
        checks<block_q4, pl_block_s24_q4> { "s24_q4", pl_dequantize_s24_q4<float4x4>, pl_dequantize_s24_q4<half4x4> }.run();
        checks<block_q8, pl_block_s24_q8> { "s24_q8", pl_dequantize_s24_q8<float4x4>, pl_dequantize_s24_q8<half4x4> }.run();
        checks<block_t, pl_block_s24_t> { "s24_t", pl_dequantize_s24_t<float4x4>, pl_dequantize_s24_t<half4x4> }.run();
    }
    return 0;
}
