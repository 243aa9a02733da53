// Matrix products of bfloat16 with the tile registers of AMX.
//
// Included by bf16.cpp where it is compiled for AMX. A tile register holds 16 rows of 64 bytes: 16
// x 16 sums (float), 16 rows of A with 16 pairs each, or 16 rows of B (pairs of k) with 16 columns
// each, which is half the width of a panel. The hardware sums the first and the second elements of
// the 16 pairs of a tile separately, and then adds both sums to the accumulator. Rounding therefore
// depends only on k, not on the other rows and columns of the tile.
#pragma once

namespace {

// Inline assembly, because the compilers' intrinsics do not declare that they access memory.
#define PYNN_TILE_LOAD(tile, at, stride)               \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"((const void*)(at)), \
               "r"(Size(stride))                       \
               : "memory")
#define PYNN_TILE_STORE(tile, at, stride)              \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"((void*)(at)), \
               "r"(Size(stride))                       \
               : "memory")
#define PYNN_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile ::: "memory")
#define PYNN_TILE_FMA(sum, a, b) \
  asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::: "memory")

constexpr Size tile_side = 16;              // rows, and pairs or floats of a row
constexpr Size strip_rows = 2 * tile_side;  // a strip of C is two tiles high
// Pairs of a transposed A that are transposed back into scratch memory at a time: 128 KiB. This is
// at least one strip of the deepest product by column.
constexpr Size transposed_pairs = 128 * 1024 / 4;
static_assert(transposed_pairs * 4 <= pynn::SCRATCH_BYTES);
static_assert(transposed_pairs >= strip_rows * pynn::COLUMN_PAIRS);
// Pairs of A that stay in L2 (1 MiB) while the panels of B stream by.
constexpr Size resident_pairs = 256 * 1024;
// Rows of A at a time. Their last columns, padded to a tile, are copied to scratch memory: 32 KiB.
constexpr Size most_rows = 512;
static_assert(transposed_pairs >= most_rows * tile_side);

// Configuration of the tile registers, for strips with ``first`` rows in the upper and ``second``
// in the lower tile. Registers 0 to 3 hold C, 4 and 5 hold A (5 the lower rows), 6 and 7 hold B.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  TileConfig(Size first, Size second) {
    for (int i = 0; i < 8; ++i) row_bytes[i] = 64, rows[i] = 16;
    const uint8_t one = uint8_t(first), other = uint8_t(second);
    rows[0] = rows[1] = rows[4] = one;
    rows[2] = rows[3] = second ? other : one;
    if (second) rows[5] = other;
  }
  void use() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

// Rows of A, and a panel of B. If k is not a multiple of 16 pairs, ``rest`` holds the last k % 16
// pairs, padded with zeros to a whole tile.
struct RowsOfA {
  const int32_t* a;  // (m, lda)
  Size lda;
  const int32_t* rest;  // (m, ld_rest), of which tile_side columns count; or null
  Size ld_rest;
};
struct PanelOfB {
  const int32_t* b;     // (k, panel_width)
  const int32_t* rest;  // (tile_side, panel_width)
};

// Adds the products of 16 pairs of k to up to 2 x 2 tiles of C.
template <bool TWO_ROWS, bool TWO_COLS>
inline void multiply_tile(const int32_t* a, Size lda, const int32_t* b) {
  constexpr Size stride_b = panel_width<int32_t> * 4;  // bytes
  PYNN_TILE_LOAD(6, b, stride_b);
  PYNN_TILE_LOAD(4, a, lda * 4);
  PYNN_TILE_FMA(0, 4, 6);
  if constexpr (TWO_COLS) {
    PYNN_TILE_LOAD(7, b + tile_side, stride_b);
    PYNN_TILE_FMA(1, 4, 7);
  }
  if constexpr (TWO_ROWS) {
    PYNN_TILE_LOAD(5, a + tile_side * lda, lda * 4);
    PYNN_TILE_FMA(2, 5, 6);
    if constexpr (TWO_COLS) PYNN_TILE_FMA(3, 5, 7);
  }
}

template <bool TWO_ROWS, bool TWO_COLS> void load_tiles(const float* c, Size ldc, Size below) {
  PYNN_TILE_LOAD(0, c, ldc * 4);
  if constexpr (TWO_COLS) PYNN_TILE_LOAD(1, c + tile_side, ldc * 4);
  if constexpr (TWO_ROWS) {
    PYNN_TILE_LOAD(2, c + below, ldc * 4);
    if constexpr (TWO_COLS) PYNN_TILE_LOAD(3, c + below + tile_side, ldc * 4);
  }
}

template <bool TWO_ROWS, bool TWO_COLS> void store_tiles(float* c, Size ldc) {
  PYNN_TILE_STORE(0, c, ldc * 4);
  if constexpr (TWO_COLS) PYNN_TILE_STORE(1, c + tile_side, ldc * 4);
  if constexpr (TWO_ROWS) {
    PYNN_TILE_STORE(2, c + tile_side * ldc, ldc * 4);
    if constexpr (TWO_COLS) PYNN_TILE_STORE(3, c + tile_side * ldc + tile_side, ldc * 4);
  }
}

// Up to 32 rows of C, from row i of A on, by one panel of B: ``tiles`` whole tiles of k, and the
// rest. ``rows`` counts the rows of C at ``c``.
template <bool TWO_ROWS, bool TWO_COLS>
void strip(const RowsOfA& s, Size i, Size rows, const PanelOfB& p, Size tiles, float* c, Size ldc,
           int finish, const float* bias, const pynn::Step* step) {
  if (finish == pynn::FINISH_BIAS)
    load_tiles<TWO_ROWS, TWO_COLS>(bias, 0, 0);
  else if (finish == pynn::FINISH_ADD)
    load_tiles<TWO_ROWS, TWO_COLS>(c, ldc, tile_side * ldc);
  else {
    PYNN_TILE_ZERO(0);
    if constexpr (TWO_COLS) PYNN_TILE_ZERO(1);
    if constexpr (TWO_ROWS) {
      PYNN_TILE_ZERO(2);
      if constexpr (TWO_COLS) PYNN_TILE_ZERO(3);
    }
  }
  const int32_t *a = s.a + i * s.lda, *b = p.b;
  for (Size q = 0; q < tiles; ++q, a += tile_side, b += tile_side * panel_width<int32_t>)
    multiply_tile<TWO_ROWS, TWO_COLS>(a, s.lda, b);
  if (s.rest) multiply_tile<TWO_ROWS, TWO_COLS>(s.rest + i * s.ld_rest, s.ld_rest, p.rest);
  if (finish != pynn::FINISH_SGD) {
    store_tiles<TWO_ROWS, TWO_COLS>(c, ldc);
    return;
  }
  alignas(64) float sums[2 * tile_side * 2 * tile_side];
  store_tiles<TWO_ROWS, TWO_COLS>(sums, 2 * tile_side);
  const V<float> rate = set1(float(-step->rate)), l2 = set1(float(step->l2));
  for (Size r = 0; r < rows; ++r)
    for (Size v = 0; v < (TWO_COLS ? 2 : 1); ++v) {
      float* at = c + r * ldc + v * tile_side;
      const V<float> w = load(at);
      store(at, fma(rate, fma(l2, w, load(sums + (2 * r + v) * tile_side)), w));
    }
}

// Mask of the first ``count`` 32-bit lanes, at most 16.
inline __mmask16 first_words(Size count) {
  return count >= 16 ? __mmask16(0xFFFF) : __mmask16((1u << count) - 1);
}

// dst (m, padded_k) = src (k, lds)ᵀ; columns from k to padded_k become 0.
inline void transpose_pairs(const int32_t* src, Size lds, Size m, Size k, int32_t* dst,
                            Size padded_k) {
  for (Size i = 0; i < m; i += tile_side)
    for (Size q = 0; q < padded_k; q += tile_side) {
      V<float> r[tile_side];
      for (int s = 0; s < tile_side; ++s)
        r[s] = q + s < k ? (V<float>)_mm512_maskz_loadu_epi32(first_words(m - i),
                                                              src + (q + s) * lds + i)
                         : V<float>{};
      transpose_square<float>(r);
      for (int s = 0; s < tile_side && i + s < m; ++s)
        store((float*)(dst + (i + s) * padded_k + q), r[s]);
    }
}

// All of C (m, n), one panel of B after the other.
inline void multiply_resident(const RowsOfA& s, const int32_t* b, Size ldb, float* c, Size ldc,
                              Size m, Size n, Size k, int finish, const float* bias,
                              const pynn::Step* step) {
  constexpr Size width_b = panel_width<int32_t>;
  const Size tiles = k / tile_side, over = k % tile_side;
  // Tiles must not reach beyond row m of C, so the last strip has a configuration of its own.
  const Size whole = m / strip_rows * strip_rows, left = m - whole;
  const TileConfig all(tile_side, tile_side);
  const TileConfig last(left < tile_side ? left : tile_side,
                        left > tile_side ? left - tile_side : 0);
  alignas(64) int32_t rest[tile_side * width_b];
  if (s.rest) std::memset(rest, 0, sizeof rest);
  bool in_use = false;
  for (Size j = 0; j < n; j += width_b) {
    const Size columns = n - j > tile_side ? 2 : 1;
    const PanelOfB p = {b + j / width_b * ldb, rest};
    if (s.rest)
      for (Size q = 0; q < over; ++q)
        for (Size v = 0; v < columns; ++v)
          store((float*)(rest + q * width_b + v * tile_side),
                load((const float*)(p.b + (tiles * tile_side + q) * width_b + v * tile_side)));
    const float* start = bias ? bias + j : nullptr;
    if (whole && !(in_use && !left)) all.use(), in_use = true;
    for (Size i = 0; i < whole; i += strip_rows)
      if (columns == 2)
        strip<true, true>(s, i, strip_rows, p, tiles, c + i * ldc + j, ldc, finish, start, step);
      else
        strip<true, false>(s, i, strip_rows, p, tiles, c + i * ldc + j, ldc, finish, start, step);
    if (!left) continue;
    if (!(in_use && !whole)) last.use(), in_use = true;
    float* at = c + whole * ldc + j;
    if (left > tile_side && columns == 2)
      strip<true, true>(s, whole, left, p, tiles, at, ldc, finish, start, step);
    else if (left > tile_side)
      strip<true, false>(s, whole, left, p, tiles, at, ldc, finish, start, step);
    else if (columns == 2)
      strip<false, true>(s, whole, left, p, tiles, at, ldc, finish, start, step);
    else
      strip<false, false>(s, whole, left, p, tiles, at, ldc, finish, start, step);
  }
}

void matmul_amx(const void* a_, Size lda, int by_column, const void* b_, Size ldb, void* c_,
                Size ldc, Size m, Size n, Size k, int finish, const void* bias_,
                const pynn::Step* step) {
  const auto *a = (const int32_t*)a_, *b = (const int32_t*)b_;
  const auto* bias = (const float*)bias_;
  auto* c = (float*)c_;
  const Size padded_k = (k + tile_side - 1) / tile_side * tile_side;
  auto* transposed = (int32_t*)pynn::scratch();
  Size most = (by_column ? transposed_pairs : resident_pairs) / (padded_k ? padded_k : 1);
  most = most / strip_rows * strip_rows;
  most = most < strip_rows ? strip_rows : most > most_rows ? most_rows : most;
  for (Size i = 0; i < m; i += most) {
    const Size rows = m - i < most ? m - i : most, over = k % tile_side;
    RowsOfA s = {a + i * lda, lda, nullptr, tile_side};
    if (by_column) {
      transpose_pairs(a + i, lda, rows, k, transposed, padded_k);
      s.a = transposed, s.lda = s.ld_rest = padded_k;
      if (over) s.rest = transposed + k - over;
    } else if (over) {
      for (Size r = 0; r < rows; ++r)
        store((float*)(transposed + r * tile_side),
              (V<float>)_mm512_maskz_loadu_epi32(first_words(over), s.a + r * lda + k - over));
      s.rest = transposed;
    }
    multiply_resident(s, b, ldb, c + i * ldc, ldc, rows, n, k, finish, bias, step);
  }
  asm volatile("tilerelease" ::: "memory");
}

}  // namespace
