// Products with a narrow matrix: layers with few outputs, computed as dot products along k.
//
// matmul has its vectors along the columns of C, and wastes lanes if there are fewer columns than
// lanes. Here vectors lie along k: each lane of an accumulator sums upwards, and the lanes are
// summed at the end. Results therefore differ from matmul's in the last bits. lanes.h has the same
// products for weights that are not transposed.
//
// When the core uses them (narrow_pays and marks_pay in choices.pxi), with costs in vector
// instructions for a row of x in forward pass and gradient:
//   matmul          4·k: 2 per input and pass, as a tile one vector wide waits for its broadcasts
//   matmul_narrow   n·(2·k/width + 8): 8 for the sum across lanes
//   narrow_marked   per vector of x: share of marked vectors · max(5, n + 1) + 0.5, against n; and
//                   20 per row for a mispredicted branch. 5 accumulators hide the latency of the
//                   FMA, 0.5 is the scan of the marks
// ``marks`` has one bit per vector of x, set by gather (rows.h) if the vector is not zero.
// narrow_marked and gradient_marked skip the other vectors.
#pragma once

#include "rows.h"
#include "simd.h"
#include "tile.h"

#include <bit>

namespace {

// --- Dense x -------------------------------------------------------------------------------------

// A tile holds narrow_rows x narrow_cols accumulators, a vector of each column of W and one of x:
// 4·5 + 5 + 1 = 26 of 32 registers, or 2·5 + 5 + 1 = 16 of 16.
constexpr int narrow_cols = 5;
constexpr int narrow_rows = tile_registers > 12 ? 4 : 2;

// z (ROWS, COLS) = bias + x (ROWS, k) · wt (COLS, k)ᵀ
template <class T, int ROWS, int COLS>
void narrow_tile(const T* x, Size ldx, const T* wt, Size ldw, T* z, Size ldz, Size k,
                 const T* bias) {
  V<T> acc[ROWS][COLS];
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) acc[r][c] = set1(T(0));
  for (Size q = 0; q < k; q += width<T>) {
    V<T> w[COLS];
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) w[c] = load(wt + c * ldw + q);
    PYNN_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      const V<T> xr = load(x + r * ldx + q);
      PYNN_UNROLL
      for (int c = 0; c < COLS; ++c) acc[r][c] = fma(xr, w[c], acc[r][c]);
    }
  }
  // + 0 removes the sign of a zero, as in tile.h: skipped zeros must not matter.
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) z[r * ldz + c] = bias[c] + sum(acc[r][c]) + T(0);
}

template <class T> using NarrowTile = void (*)(const T*, Size, const T*, Size, T*, Size, Size,
                                               const T*);

// The tile of ROWS rows and ``cols`` columns, at most COLS.
template <class T, int ROWS, int COLS = narrow_cols> NarrowTile<T> narrow_tile_for(Size cols) {
  if constexpr (COLS == 0)
    return nullptr;
  else
    return cols == COLS ? narrow_tile<T, ROWS, COLS> : narrow_tile_for<T, ROWS, COLS - 1>(cols);
}

template <class T>
void matmul_narrow(const void* x_, Size ldx, const void* wt_, Size ldw, void* z_, Size ldz, Size m,
                   Size n, Size k, const void* bias_) {
  const T *x = (const T*)x_, *wt = (const T*)wt_, *bias = (const T*)bias_;
  T* z = (T*)z_;
  const Size tiles = (n + narrow_cols - 1) / narrow_cols;
  Size j = 0;
  for (Size t = 0; t < tiles; ++t) {
    const Size cols = n / tiles + (t < n % tiles);
    const NarrowTile<T> full = narrow_tile_for<T, narrow_rows>(cols);
    const NarrowTile<T> one = narrow_tile_for<T, 1>(cols);
    Size i = 0;
    for (; i + narrow_rows <= m; i += narrow_rows)
      full(x + i * ldx, ldx, wt + j * ldw, ldw, z + i * ldz + j, ldz, k, bias + j);
    for (; i < m; ++i)
      one(x + i * ldx, ldx, wt + j * ldw, ldw, z + i * ldz + j, ldz, k, bias + j);
    j += cols;
  }
}

// --- x with vectors of zeros: forward ------------------------------------------------------------

// As narrow_tile, for the vectors of x that are marked in any of the ROWS (1 or 2) rows. Marks of
// consecutive rows are ``words`` apart; the first ``used`` words of a row hold its k columns.
template <class T, int COLS, int ROWS>
void narrow_rows_marked(const T* x, Size ldx, const uint64_t* marks, Size words, Size used,
                        const T* wt, Size ldw, T* z, Size ldz, const T* bias) {
  V<T> acc[ROWS][COLS];
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) acc[r][c] = set1(T(0));
  for (Size word = 0; word < used; ++word)
    for (uint64_t left = marks[word] | marks[(ROWS - 1) * words + word]; left; left &= left - 1) {
      const Size q = word * marked_columns<T> + std::countr_zero(left) * width<T>;
      V<T> xq[ROWS];
      PYNN_UNROLL
      for (int r = 0; r < ROWS; ++r) xq[r] = load(x + r * ldx + q);
      PYNN_UNROLL
      for (int c = 0; c < COLS; ++c) {
        V<T> w = load(wt + c * ldw + q);
        if (ROWS > 1) keep_in_register(w);
        PYNN_UNROLL
        for (int r = 0; r < ROWS; ++r) acc[r][c] = fma(xq[r], w, acc[r][c]);
      }
    }
  // + 0 removes the sign of a zero, as in tile.h: the row computed with this one must not matter.
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) z[r * ldz + c] = bias[c] + sum(acc[r][c]) + T(0);
}

template <class T> using NarrowRows = void (*)(const T*, Size, const uint64_t*, Size, Size,
                                               const T*, Size, T*, Size, const T*);

// The function for ROWS rows and ``cols`` columns, or null if it needs more registers than there
// are.
template <class T, int ROWS, int COLS = width<T> - 1> NarrowRows<T> narrow_rows_for(Size cols) {
  if constexpr (COLS == 0)
    return nullptr;
  else if constexpr (ROWS * COLS > tile_registers)
    return cols == COLS ? nullptr : narrow_rows_for<T, ROWS, COLS - 1>(cols);
  else
    return cols == COLS ? narrow_rows_marked<T, COLS, ROWS>
                        : narrow_rows_for<T, ROWS, COLS - 1>(cols);
}

// Whether two rows are faster together: they share the loads of the weights, so a vector takes 1.5
// times as long as for a single row, but the vectors that only one of them has marked count for
// both.
inline bool pair_pays(const uint64_t* marks, Size words, Size used) {
  Size separate = 0, joint = 0;  // vectors
  for (Size word = 0; word < used; ++word) {
    separate += std::popcount(marks[word]) + std::popcount(marks[words + word]);
    joint += std::popcount(marks[word] | marks[words + word]);
  }
  return joint * 3 < separate * 2;
}

template <class T>
void narrow_marked(const void* x_, Size ldx, const uint64_t* marks, const void* wt_, Size ldw,
                   void* z_, Size ldz, Size m, Size n, Size k, const void* bias_) {
  const T *x = (const T*)x_, *wt = (const T*)wt_, *bias = (const T*)bias_;
  T* z = (T*)z_;
  const NarrowRows<T> one = narrow_rows_for<T, 1>(n), two = narrow_rows_for<T, 2>(n);
  const Size words = mark_words<T>(ldx), used = mark_words<T>(k);
  for (Size i = 0; i < m; i += 2) {
    const uint64_t* both = marks + i * words;
    if (i + 1 < m && two && pair_pays(both, words, used)) {
      two(x + i * ldx, ldx, both, words, used, wt, ldw, z + i * ldz, ldz, bias);
      continue;
    }
    for (Size r = i; r < m && r < i + 2; ++r)
      one(x + r * ldx, ldx, marks + r * words, words, used, wt, ldw, z + r * ldz, ldz, bias);
  }
}

// --- x with vectors of zeros: gradient -----------------------------------------------------------

// Transposes a square of 64 x 64 bits: exchanges the off-diagonal blocks of 32 x 32 bits, then 16,
// ….
inline void transpose_bits(uint64_t* square) {
  uint64_t low = ~uint64_t(0);
  for (int half = 32; half; half /= 2) {
    low ^= low << half;
    for (int first = 0; first < 64; first += 2 * half)
      for (int i = first; i < first + half; ++i) {
        const uint64_t moved = (square[i] >> half ^ square[i + half]) & low;
        square[i] ^= moved << half;
        square[i + half] ^= moved;
      }
  }
}

// One vector of columns of the gradient, c (ROWS, ldc) from dᵀ · x: sums over the rows of x whose
// bit is set, in rows[0], rows[64], … (``groups`` words of 64 rows each). x and c begin at the
// vector.
template <class T, int ROWS>
void marked_column(const T* d, Size ldd, const T* x, Size ldx, const uint64_t* rows, Size groups,
                   T* c, Size ldc, int finish, const pynn::Step* step) {
  V<T> acc[ROWS];
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    acc[r] = finish == pynn::FINISH_ADD ? load(c + r * ldc) : set1(T(0));
  for (Size group = 0; group < groups; ++group)
    for (uint64_t left = rows[group * 64]; left; left &= left - 1) {
      const Size q = group * 64 + std::countr_zero(left);
      const V<T> xq = load(x + q * ldx);
      const T* dq = d + q * ldd;
      PYNN_UNROLL
      for (int r = 0; r < ROWS; ++r) acc[r] = fma(set1(dq[r]), xq, acc[r]);
    }
  if (finish == pynn::FINISH_SGD) {
    const V<T> rate = set1(T(-step->rate)), l2 = set1(T(step->l2));
    PYNN_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      const V<T> w = load(c + r * ldc);
      acc[r] = fma(rate, fma(l2, w, acc[r]), w);
    }
  }
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r) store(c + r * ldc, acc[r]);
}

template <class T> using MarkedColumn = void (*)(const T*, Size, const T*, Size, const uint64_t*,
                                                 Size, T*, Size, int, const pynn::Step*);

template <class T, int ROWS = width<T> - 1> MarkedColumn<T> marked_column_for(Size rows) {
  if constexpr (ROWS == 0)
    return nullptr;
  else
    return rows == ROWS ? marked_column<T, ROWS> : marked_column_for<T, ROWS - 1>(rows);
}

template <class T>
void gradient_marked(const void* d, Size ldd, const void* x, Size ldx, const uint64_t* marks,
                     void* c, Size ldc, Size m, Size start, Size stop, Size k, int finish,
                     const pynn::Step* step) {
  const MarkedColumn<T> column = marked_column_for<T>(m);
  const Size words = mark_words<T>(ldx), groups = (k + 63) / 64;
  // Marks by vector: bit r of rows[group·64 + v] is the mark of vector v of row group·64 + r, for
  // the 64 vectors of the current word.
  uint64_t rows[pynn::MARKED_ROWS];
  for (Size j = start; j < stop; j += width<T>) {
    const Size word = j / marked_columns<T>, bit = j % marked_columns<T> / width<T>;
    if (bit == 0 || j == start)
      for (Size i = 0; i < groups * 64; i += 64) {
        for (Size r = 0; r < 64; ++r) rows[i + r] = i + r < k ? marks[(i + r) * words + word] : 0;
        transpose_bits(rows + i);
      }
    column((const T*)d, ldd, (const T*)x + j, ldx, rows + bit, groups, (T*)c + j, ldc, finish,
           step);
  }
}

}  // namespace
