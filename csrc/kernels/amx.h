// Matrix products of bfloat16 on the tiles of AMX.
//
// Included by bf16.cpp where it is compiled for AMX. A tile is sixteen rows of 64 bytes: sums of 16 x 16
// floats, 16 rows of 16 pairs of A, or 16 pairs of k of 16 columns of B, which is how panels hold
// them. The hardware adds up the pairs of a tile by themselves, the first and the second of each apart,
// and then adds that to the sum; so bits depend on k alone, whatever rows and columns are beside.
#pragma once

namespace {

// Spelled out, since the compilers' own functions do not say that they read memory.
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

constexpr Size tile_side = 16;
// Of a turned A so much is turned back at a time: at least two tiles' rows.
constexpr Size turned_pairs = 128 * 1024 / 4;
static_assert(turned_pairs * 4 <= pynn::SCRATCH_BYTES);
static_assert(turned_pairs >= 2 * tile_side * pynn::COLUMN_PAIRS);
// Of A so much stays in the second cache while the panels of B pass by.
constexpr Size resident_pairs = 256 * 1024;
constexpr Size most_rows = 512;
static_assert(turned_pairs >= most_rows * tile_side);

// Which rows the tiles have: sums 0 to 3, A 4 and 5, B 6 and 7, and 5 where A has one.
struct alignas(64) Shapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  Shapes(Size first, Size second) {
    for (int i = 0; i < 8; ++i) row_bytes[i] = 64, rows[i] = 16;
    const uint8_t one = uint8_t(first), other = uint8_t(second);
    rows[0] = rows[1] = rows[4] = one;
    rows[2] = rows[3] = second ? other : one;
    if (second) rows[5] = other;
  }
  void use() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

// Rows of A, and those columns of B that lie in one panel. Where k is no whole number of tiles, ``rest``
// is what remains, filled up with zeros.
struct Rows {
  const int32_t* a;
  Size lda;
  const int32_t* rest;  // (m, tile_side), or null
  Size ldr;
};
struct Panel {
  const int32_t* b;
  const int32_t* rest;  // (tile_side, panel)
};

// Add the products of one tile of k, and of up to two of rows and of columns each.
template <bool TWO_ROWS, bool TWO_COLS>
inline void multiply_tile(const int32_t* a, Size lda, const int32_t* b) {
  constexpr Size columns = panel<int32_t> * 4;
  PYNN_TILE_LOAD(6, b, columns);
  PYNN_TILE_LOAD(4, a, lda * 4);
  PYNN_TILE_FMA(0, 4, 6);
  if constexpr (TWO_COLS) {
    PYNN_TILE_LOAD(7, b + tile_side, columns);
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

// One strip of up to 32 rows with one panel: its ``rows`` of C at ``c``.
template <bool TWO_ROWS, bool TWO_COLS>
void strip(const Rows& s, Size i, Size rows, const Panel& p, Size tiles, float* c, Size ldc,
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
  for (Size q = 0; q < tiles; ++q, a += tile_side, b += tile_side * panel<int32_t>)
    multiply_tile<TWO_ROWS, TWO_COLS>(a, s.lda, b);
  if (s.rest) multiply_tile<TWO_ROWS, TWO_COLS>(s.rest + i * s.ldr, s.ldr, p.rest);
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

// The words of a row of a tile that there are.
inline __mmask16 first_words(Size count) {
  return count >= 16 ? __mmask16(0xFFFF) : __mmask16((1u << count) - 1);
}

// dst (m, to) = src (k, m)ᵀ, where columns from k to ``to`` are zero.
inline void turn_pairs(const int32_t* src, Size lds, Size m, Size k, int32_t* dst, Size to) {
  for (Size i = 0; i < m; i += tile_side)
    for (Size q = 0; q < to; q += tile_side) {
      V<float> r[tile_side];
      for (int s = 0; s < tile_side; ++s)
        r[s] = q + s < k ? (V<float>)_mm512_maskz_loadu_epi32(first_words(m - i), src + (q + s) * lds + i)
                         : V<float>{};
      transpose_square<float>(r);
      for (int s = 0; s < tile_side && i + s < m; ++s) store((float*)(dst + (i + s) * to + q), r[s]);
    }
}

inline void multiply_block(const Rows& s, const int32_t* b, Size ldb, float* c, Size ldc, Size m,
                           Size n, Size k, int finish, const float* bias, const pynn::Step* step) {
  const Size tiles = k / tile_side, over = k % tile_side;
  // Tiles have no rows of C beyond m, so the last strip has shapes of its own.
  const Size whole = m / (2 * tile_side) * 2 * tile_side, left = m - whole;
  const Shapes all(tile_side, tile_side);
  const Shapes last(left < tile_side ? left : tile_side, left > tile_side ? left - tile_side : 0);
  alignas(64) int32_t rest[tile_side * panel<int32_t>];
  if (s.rest) std::memset(rest, 0, sizeof rest);
  bool in_use = false;
  for (Size j = 0; j < n; j += panel<int32_t>) {
    const Size columns = n - j > tile_side ? 2 : 1;
    const Panel p = {b + j / panel<int32_t> * ldb, rest};
    if (s.rest)
      for (Size q = 0; q < over; ++q)
        for (Size v = 0; v < columns; ++v)
          store((float*)(rest + q * panel<int32_t> + v * tile_side),
                load((const float*)(p.b + (tiles * tile_side + q) * panel<int32_t> + v * tile_side)));
    const float* start = bias ? bias + j : nullptr;
    if (whole && !(in_use && !left)) all.use(), in_use = true;
    for (Size i = 0; i < whole; i += 2 * tile_side)
      if (columns == 2)
        strip<true, true>(s, i, 32, p, tiles, c + i * ldc + j, ldc, finish, start, step);
      else
        strip<true, false>(s, i, 32, p, tiles, c + i * ldc + j, ldc, finish, start, step);
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

void matmul_amx(const void* a_, Size lda, int by_column, const void* b_, Size ldb, void* c_, Size ldc,
                Size m, Size n, Size k, int finish, const void* bias_, const pynn::Step* step) {
  const auto *a = (const int32_t*)a_, *b = (const int32_t*)b_;
  const auto* bias = (const float*)bias_;
  auto* c = (float*)c_;
  const Size full = (k + tile_side - 1) / tile_side * tile_side, strip_rows = 2 * tile_side;
  auto* turned = (int32_t*)pynn::scratch();
  Size most = (by_column ? turned_pairs : resident_pairs) / (full ? full : 1);
  most = most / strip_rows * strip_rows;
  most = most < strip_rows ? strip_rows : most > most_rows ? most_rows : most;
  for (Size i = 0; i < m; i += most) {
    const Size rows = m - i < most ? m - i : most, over = k % tile_side;
    Rows s = {a + i * lda, lda, nullptr, tile_side};
    if (by_column) {
      turn_pairs(a + i, lda, rows, k, turned, full);
      s.a = turned, s.lda = s.ldr = full;
      if (over) s.rest = turned + k - over;
    } else if (over) {
      for (Size r = 0; r < rows; ++r)
        store((float*)(turned + r * tile_side),
              (V<float>)_mm512_maskz_loadu_epi32(first_words(over), s.a + r * lda + k - over));
      s.rest = turned;
    }
    multiply_block(s, b, ldb, c + i * ldc, ldc, rows, n, k, finish, bias, step);
  }
  asm volatile("tilerelease" ::: "memory");
}

}  // namespace
