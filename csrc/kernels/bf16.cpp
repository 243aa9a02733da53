// Matrix products of bfloat16: compiled once for AVX512-BF16 and, with PYNN_TILES, once for AMX.
//
// An element of both operands is a pair: two bfloat16 values of consecutive k in 32 bits, the first
// in the lower half. With AVX512-BF16 the register tile of tile.h multiplies pairs as it multiplies
// floats, over half as many steps of k and with B in panels of two vectors. With AMX the tile
// registers of the processor do (amx.h).

#include "kernels.h"

#include "simd.h"

namespace {

static_assert(width<float> == 16);

PYNN_INLINE V<int32_t> set1(int32_t x) { return (V<int32_t>)_mm512_set1_epi32(x); }
// c + both products of each pair.
PYNN_INLINE V<float> fma(V<int32_t> a, V<int32_t> b, V<float> c) {
  return (V<float>)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}

}  // namespace

#include "tile.h"

namespace {

// Mask of the columns below n in the vector of floats that begins at column j.
inline __mmask16 columns(Size j, Size n) {
  return n - j < 16 ? __mmask16((1u << (n - j)) - 1) : __mmask16(0xFFFF);
}

// Rounds 16 values of a row (lower half of the result) and 16 of the next (upper half) to bfloat16.
// Values outside the mask, and the next row unless ``both``, are 0.
inline __m512i round_two(const float* row, Size lds, bool both, __mmask16 mask) {
  const __m512 first = _mm512_maskz_loadu_ps(mask, row);
  const __m512 second = both ? _mm512_maskz_loadu_ps(mask, row + lds) : _mm512_setzero_ps();
  return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

void round_rows(const float* src, Size lds, Size m, Size n, void* rows_, Size ldr, void* pairs_,
                Size ldp, Size panel_step) {
  auto *rows = (int32_t*)rows_, *pairs = (int32_t*)pairs_;
  alignas(64) static constexpr int16_t interleaved[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(interleaved);
  for (Size i = 0; i < m; i += 2)
    for (Size j = 0; j < n; j += 16) {
      const bool both = i + 1 < m;
      const __m512i two = round_two(src + i * lds + j, lds, both, columns(j, n));
      if (rows) {
        int32_t* to = rows + i * ldr + j / 2;
        _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(two));
        if (both) _mm256_storeu_si256((__m256i*)(to + ldr), _mm512_extracti64x4_epi64(two, 1));
      }
      if (pairs)
        _mm512_storeu_si512(
            pairs + j / panel_width<int32_t> * panel_step + i / 2 * ldp + j % panel_width<int32_t>,
            _mm512_permutexvar_epi16(order, two));
    }
}

void round_transpose(const float* src, Size lds, Size m, Size n, void* dst_, Size ldd, Size from) {
  auto* dst = (int32_t*)dst_;
  constexpr Size columns_b = panel_width<int32_t>;
  const Size pairs = (n + 1) / 2;
  // The inner loop goes down the rows of src, so that a row of dst is written sequentially.
  for (Size j = 0; j < n; j += 32)
    for (Size i = 0; i < m; i += 16) {
      V<float> r[16];
      for (int s = 0; s < 16; ++s) {
        if (i + s >= m) {
          r[s] = V<float>{};
          continue;
        }
        const float* row = src + (i + s) * lds + j;
        const __m512 low = _mm512_maskz_loadu_ps(columns(j, n), row);
        const __m512 high = n - j > 16 ? _mm512_maskz_loadu_ps(columns(j + 16, n), row + 16)
                                       : _mm512_setzero_ps();
        r[s] = (V<float>)_mm512_cvtne2ps_pbh(high, low);
      }
      transpose_square<float>(r);
      for (int s = 0; s < 16 && j / 2 + s < pairs; ++s)
        store((float*)(dst + (from + i) / columns_b * ldd + (j / 2 + s) * columns_b +
                       (from + i) % columns_b),
              r[s]);
    }
}

void round_values(const float* src, float* dst, Size count) {
  for (Size j = 0; j < count; j += 16) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(src + j));
    _mm512_storeu_si512(dst + j, _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

}  // namespace

#ifdef PYNN_TILES
#include "amx.h"
#define PYNN_PRODUCTS 12, matmul_amx
#else
#define PYNN_PRODUCTS 2, matmul<int32_t>
#endif

namespace pynn {
namespace PYNN_ISA {
extern const Bf16Kernels table;
const Bf16Kernels table = {PYNN_PRODUCTS, round_rows, round_transpose, round_values};
}  // namespace PYNN_ISA
}  // namespace pynn
