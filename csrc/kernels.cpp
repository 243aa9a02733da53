// The kernels of one instruction set. Compiled once for each, with PYNN_ISA naming it.

#include "kernels.h"

#include "simd.h"
#include "tile.h"

#include <bit>
#include <cmath>

namespace {

using pynn::Activation;
using pynn::Dropout;
using pynn::Step;
using pynn::Targets;

template <class T> constexpr Size round_up(Size n) {
  return (n + width<T> - 1) / width<T> * width<T>;
}

// --- Products with a narrow matrix ----------------------------------------------------------------

constexpr int narrow_cols = 5;
constexpr int narrow_rows = tile_registers > 12 ? 4 : 2;

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
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) z[r * ldz + c] = bias[c] + sum(acc[r][c]);
}

template <class T> using NarrowTile = void (*)(const T*, Size, const T*, Size, T*, Size, Size,
                                               const T*);

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

// --- The same, without the vectors of x that are zero ----------------------------------------------

template <class T> constexpr Size marked_vectors = 64 * width<T>;  // columns that a word marks
template <class T> constexpr Size mark_words(Size ld) {
  return (ld + marked_vectors<T> - 1) / marked_vectors<T>;
}

// ROWS rows at once, ``words`` of marks apart: of the vectors that any of them has marked.
template <class T, int COLS, int ROWS>
void narrow_rows_marked(const T* x, Size ldx, const uint64_t* marks, Size words, Size used, const T* wt,
                        Size ldw, T* z, Size ldz, const T* bias) {
  V<T> acc[ROWS][COLS];
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) acc[r][c] = set1(T(0));
  for (Size word = 0; word < used; ++word)
    for (uint64_t left = marks[word] | marks[(ROWS - 1) * words + word]; left; left &= left - 1) {
      const Size q = word * marked_vectors<T> + std::countr_zero(left) * width<T>;
      V<T> xq[ROWS];
      PYNN_UNROLL
      for (int r = 0; r < ROWS; ++r) xq[r] = load(x + r * ldx + q);
      PYNN_UNROLL
      for (int c = 0; c < COLS; ++c) {
        V<T> w = load(wt + c * ldw + q);
        if (ROWS > 1) keep(w);
        PYNN_UNROLL
        for (int r = 0; r < ROWS; ++r) acc[r][c] = fma(xq[r], w, acc[r][c]);
      }
    }
  // As in tile.h: without signs of zeros a row is the same whichever is beside it.
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int c = 0; c < COLS; ++c) z[r * ldz + c] = bias[c] + sum(acc[r][c]) + T(0);
}

template <class T> using NarrowRows = void (*)(const T*, Size, const uint64_t*, Size, Size, const T*, Size,
                                               T*, Size, const T*);

template <class T, int ROWS, int COLS = width<T> - 1> NarrowRows<T> narrow_rows_for(Size cols) {
  if constexpr (COLS == 0)
    return nullptr;
  else if constexpr (ROWS * COLS > tile_registers)
    return cols == COLS ? nullptr : narrow_rows_for<T, ROWS, COLS - 1>(cols);
  else
    return cols == COLS ? narrow_rows_marked<T, COLS, ROWS> : narrow_rows_for<T, ROWS, COLS - 1>(cols);
}

template <class T>
void narrow_marked(const void* x_, Size ldx, const uint64_t* marks, const void* wt_, Size ldw, void* z_,
                   Size ldz, Size m, Size n, Size k, const void* bias_) {
  const T *x = (const T*)x_, *wt = (const T*)wt_, *bias = (const T*)bias_;
  T* z = (T*)z_;
  const NarrowRows<T> one = narrow_rows_for<T, 1>(n), two = narrow_rows_for<T, 2>(n);
  const Size words = mark_words<T>(ldx), used = mark_words<T>(k);
  for (Size i = 0; i < m; i += 2) {
    // Two rows that share their weights take one and a half times as long as one by itself.
    const uint64_t* both = marks + i * words;
    Size apart = 0, together = 0;
    for (Size word = 0; i + 1 < m && two && word < used; ++word) {
      apart += std::popcount(both[word]) + std::popcount(both[words + word]);
      together += std::popcount(both[word] | both[words + word]);
    }
    if (together * 3 < apart * 2) {
      two(x + i * ldx, ldx, both, words, used, wt, ldw, z + i * ldz, ldz, bias);
      continue;
    }
    for (Size r = i; r < m && r < i + 2; ++r)
      one(x + r * ldx, ldx, marks + r * words, words, used, wt, ldw, z + r * ldz, ldz, bias);
  }
}

// Bit j of word i becomes bit i of word j: halves of squares change places, then quarters, and so on.
inline void turn_bits(uint64_t* square) {
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

// One vector of columns, of the rows whose bits are set.
template <class T, int ROWS>
void marked_column(const T* d, Size ldd, const T* x, Size ldx, const uint64_t* rows, Size groups, T* c,
                   Size ldc, int finish, const Step* step) {
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

template <class T> using MarkedColumn = void (*)(const T*, Size, const T*, Size, const uint64_t*, Size,
                                                 T*, Size, int, const Step*);

template <class T, int ROWS = width<T> - 1> MarkedColumn<T> marked_column_for(Size rows) {
  if constexpr (ROWS == 0)
    return nullptr;
  else
    return rows == ROWS ? marked_column<T, ROWS> : marked_column_for<T, ROWS - 1>(rows);
}

template <class T>
void gradient_marked(const void* d, Size ldd, const void* x, Size ldx, const uint64_t* marks, void* c,
                     Size ldc, Size m, Size start, Size stop, Size k, int finish, const Step* step) {
  const MarkedColumn<T> column = marked_column_for<T>(m);
  const Size words = mark_words<T>(ldx), groups = (k + 63) / 64;
  uint64_t rows[pynn::MARKED_ROWS];
  for (Size j = start; j < stop; j += width<T>) {
    const Size word = j / marked_vectors<T>, bit = j % marked_vectors<T> / width<T>;
    if (bit == 0 || j == start)
      for (Size i = 0; i < groups * 64; i += 64) {
        for (Size r = 0; r < 64; ++r) rows[i + r] = i + r < k ? marks[(i + r) * words + word] : 0;
        turn_bits(rows + i);
      }
    column((const T*)d, ldd, (const T*)x + j, ldx, rows + bit, groups, (T*)c + j, ldc, finish, step);
  }
}

// --- Adam's update, by itself or as a product ends --------------------------------------------------

template <class T> struct Adam {
  V<T> rate, l2, stay, beta1, beta2, rest1, rest2, epsilon;

  explicit Adam(const Step* step)
      : rate(set1(T(step->rate))), l2(set1(T(step->l2))), stay(set1(T(1)) - set1(T(step->decay))),
        beta1(set1(T(step->beta1))), beta2(set1(T(step->beta2))),
        // In double first: 1 − 0.999 in float has lost three digits.
        rest1(set1(T(1 - step->beta1))), rest2(set1(T(1 - step->beta2))),
        epsilon(set1(T(step->epsilon))) {}

  PYNN_INLINE void update(V<T> gradient, T* w_, T* s1, T* s2) const {
    const V<T> w = load(w_), g = fma(l2, w, gradient);
    const V<T> m = fma(beta1, load(s1), rest1 * g), v = fma(beta2, load(s2), rest2 * g * g);
    store(s1, m);
    store(s2, v);
    store(w_, w * stay - rate * m / (square_root(v) + epsilon));
  }
};

// --- Products with a matrix of many zeros ----------------------------------------------------------

// Columns of the lanes that are not zero, packed to the front; may write eight more than there are.
#if !defined(PYNN_PLAIN) && defined(__SSE4_2__)
// The numbers of the bits that are set, for each byte.
struct BitNumbers {
  alignas(16) uint16_t of[256][8];
  constexpr BitNumbers() : of() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0, count = 0; bit < 8; ++bit)
        if (byte >> bit & 1) of[byte][count++] = uint16_t(bit);
  }
};
constexpr BitNumbers bit_numbers;

template <class A> inline int pack_lanes(A v, int column, uint16_t* to) {
  unsigned lit = nonzero_lanes(v);
#if PYNN_VECTOR_BYTES == 64
  if constexpr (sizeof(A) / sizeof(lane_of(v, 0)) == 16) {
    const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i packed = _mm512_maskz_compress_epi32(__mmask16(lit), _mm512_add_epi32(numbers, _mm512_set1_epi32(column)));
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16(packed));
    return __builtin_popcount(lit);
  }
#endif
  int count = 0;
  for (int from = 0; from < int(sizeof(A) / sizeof(lane_of(v, 0))); from += 8, lit >>= 8) {
    const __m128i bits = _mm_load_si128((const __m128i*)bit_numbers.of[lit & 255]);
    _mm_storeu_si128((__m128i*)(to + count), _mm_add_epi16(bits, _mm_set1_epi16(short(column + from))));
    count += __builtin_popcount(lit & 255);
  }
  return count;
}
#else
template <class A> inline int pack_lanes(A v, int column, uint16_t* to) {
  int count = 0;
  for (int i = 0; i < int(sizeof(A) / sizeof(lane_of(v, 0))); ++i) {
    to[count] = uint16_t(column + i);
    count += lane_of(v, i) != 0;
  }
  return count;
}
#endif

template <class T>
void find_nonzero(const void* x_, Size ldx, Size m, Size n, Size part, uint16_t* list,
                  Size list_ld, uint32_t* starts, Size starts_ld) {
  const T* x = (const T*)x_;
  for (Size i = 0; i < m; ++i) {
    uint16_t* to = list + i * list_ld;
    uint32_t count = 0;
    Size q = 0;
    for (Size from = 0; from < n; from += part) {
      starts[q++ * starts_ld + i] = count;
      const Size stop = from + part < n ? from + part : n;
      for (Size j = from; j < stop; j += width<T>)
        count += uint32_t(pack_lanes(load(x + i * ldx + j), int(j), to + count));
    }
    starts[q * starts_ld + i] = count;
  }
}

// Up to so many vectors of a row of C at a time: enough for the additions not to wait for each other,
// and few enough for a block of 64 rows of B to stay in a near cache.
constexpr int sparse_cols = 8;

template <class T> struct SparseProduct {
  const T* a;
  Size a_row, a_step;
  const uint16_t* list;
  Size list_ld;
  const uint32_t *from, *to;
  const T* b;
  Size ldb;
  T* c;
  Size ldc, m;
  int finish;
  const T* bias;
  const Step* step;
  const Adam<T>* adam;
};

template <class T, int COLS> inline void sparse_start(const SparseProduct<T>& p, const T* c, Size j,
                                                     V<T>* acc) {
  for (int v = 0; v < COLS; ++v)
    acc[v] = p.finish == pynn::FINISH_BIAS ? load(p.bias + j + v * width<T>)
             : p.finish == pynn::FINISH_ADD || p.finish == pynn::FINISH_ADD_ADAM
                 ? load(c + v * width<T>)
                 : set1(T(0));
}

template <class T, int COLS>
inline void sparse_row(const T* a, Size step, const uint16_t* list, Size from, Size to, const T* b,
                       Size ldb, V<T>* acc) {
  for (Size q = from; q < to; ++q) {
    const Size k = list[q];
    const V<T> x = set1(a[k * step]);
    for (int v = 0; v < COLS; ++v) acc[v] = fma(x, load(b + k * ldb + v * width<T>), acc[v]);
  }
}

template <class T, int COLS> inline void sparse_end(const SparseProduct<T>& p, T* c, V<T>* acc) {
  if (p.adam) {
    T *w = (T*)((char*)c + p.step->w), *s1 = (T*)((char*)c + p.step->s1), *s2 = (T*)((char*)c + p.step->s2);
    for (int v = 0; v < COLS; ++v)
      p.adam->update(acc[v] + set1(T(0)), w + v * width<T>, s1 + v * width<T>, s2 + v * width<T>);
    return;
  }
  if (p.finish == pynn::FINISH_SGD) {
    const V<T> rate = set1(T(-p.step->rate)), l2 = set1(T(p.step->l2));
    for (int v = 0; v < COLS; ++v) {
      const V<T> w = load(c + v * width<T>);
      acc[v] = fma(rate, fma(l2, w, acc[v]), w);
    }
  }
  // As in tile.h.
  for (int v = 0; v < COLS; ++v) store(c + v * width<T>, acc[v] + set1(T(0)));
}

// Of narrow panels four rows go side by side, so that their additions do not wait for each other.
template <class T, int COLS> Size sparse_fours(const SparseProduct<T>& p, Size j) {
  const T* b = p.b + j;
  const Size ldb = p.ldb, a_row = p.a_row;
  Size i = 0;
  for (; i + 4 <= p.m; i += 4) {
    const T* a = p.a + i * a_row;
    T* c = p.c + i * p.ldc + j;
    V<T> s0[COLS], s1[COLS], s2[COLS], s3[COLS];
    sparse_start<T, COLS>(p, c, j, s0);
    sparse_start<T, COLS>(p, c + p.ldc, j, s1);
    sparse_start<T, COLS>(p, c + 2 * p.ldc, j, s2);
    sparse_start<T, COLS>(p, c + 3 * p.ldc, j, s3);
    const uint16_t *l0 = p.list + i * p.list_ld + p.from[i],
                   *l1 = p.list + (i + 1) * p.list_ld + p.from[i + 1],
                   *l2 = p.list + (i + 2) * p.list_ld + p.from[i + 2],
                   *l3 = p.list + (i + 3) * p.list_ld + p.from[i + 3];
    Size shared = PTRDIFF_MAX;
    for (int r = 0; r < 4; ++r) {
      const Size count = Size(p.to[i + r]) - Size(p.from[i + r]);
      shared = count < shared ? count : shared;
    }
    for (Size q = 0; q < shared; ++q) {
      sparse_row<T, COLS>(a, 1, l0, q, q + 1, b, ldb, s0);
      sparse_row<T, COLS>(a + a_row, 1, l1, q, q + 1, b, ldb, s1);
      sparse_row<T, COLS>(a + 2 * a_row, 1, l2, q, q + 1, b, ldb, s2);
      sparse_row<T, COLS>(a + 3 * a_row, 1, l3, q, q + 1, b, ldb, s3);
    }
    const auto rest = [&](int r, const uint16_t* list, V<T>* acc) {
      const Size count = Size(p.to[i + r]) - Size(p.from[i + r]);
      sparse_row<T, COLS>(a + r * a_row, 1, list, shared, count, b, ldb, acc);
      sparse_end<T, COLS>(p, c + r * p.ldc, acc);
    };
    rest(0, l0, s0);
    rest(1, l1, s1);
    rest(2, l2, s2);
    rest(3, l3, s3);
  }
  return i;
}

template <class T, int COLS> void sparse_panel(const SparseProduct<T>& p, Size j) {
  Size i = 0;
  if (COLS <= 4 && p.a_step == 1) i = sparse_fours<T, COLS>(p, j);
  for (; i < p.m; ++i) {
    V<T> acc[COLS];
    T* c = p.c + i * p.ldc + j;
    sparse_start<T, COLS>(p, c, j, acc);
    sparse_row<T, COLS>(p.a + i * p.a_row, p.a_step, p.list + i * p.list_ld, p.from[i], p.to[i],
                        p.b + j, p.ldb, acc);
    sparse_end<T, COLS>(p, c, acc);
  }
}

template <class T, int COLS> void sparse_panels(const SparseProduct<T>& p, Size j, Size vectors) {
  if constexpr (COLS > 0) {
    for (; vectors >= COLS; vectors -= COLS, j += COLS * width<T>) sparse_panel<T, COLS>(p, j);
    if (vectors) sparse_panels<T, COLS - 1>(p, j, vectors);
  }
}

template <class T>
void matmul_sparse(const void* a, Size a_row, Size a_step, const uint16_t* list, Size list_ld,
                   const uint32_t* from, const uint32_t* to, const void* b, Size ldb, void* c,
                   Size ldc, Size m, Size n, int finish, const void* bias, const Step* step) {
  SparseProduct<T> p = {(const T*)a, a_row, a_step, list,   list_ld,        from, to,     (const T*)b,
                        ldb,         (T*)c, ldc,    m,      finish, (const T*)bias, step, nullptr};
  if (finish == pynn::FINISH_ADAM || finish == pynn::FINISH_ADD_ADAM) {
    const Adam<T> adam(step);
    p.adam = &adam;
    sparse_panels<T, sparse_cols>(p, 0, (n + width<T> - 1) / width<T>);
    return;
  }
  sparse_panels<T, sparse_cols>(p, 0, (n + width<T> - 1) / width<T>);
}

template <class T, int COLS>
void scatter_columns(const T* a, Size lda, const uint16_t* list, Size list_ld, const uint32_t* from,
                     const uint32_t* to, const T* d, Size ldd, T* c, Size ldc, Size m, T scale) {
  for (Size i = 0; i < m; ++i) {
    const uint16_t *at = list + i * list_ld + from[i], *end = list + i * list_ld + to[i];
    V<T> row[COLS];
    for (int v = 0; v < COLS; ++v) row[v] = load(d + i * ldd + v * width<T>) * set1(scale);
    for (; at < end; ++at) {
      const V<T> x = set1(a[i * lda + *at]);
      T* sum = c + *at * ldc;
      for (int v = 0; v < COLS; ++v)
        store(sum + v * width<T>, fma(x, row[v], load(sum + v * width<T>)));
    }
  }
}

constexpr int scatter_cols = 4;

template <class T>
void matmul_scatter(const void* a_, Size lda, const uint16_t* list, Size list_ld,
                    const uint32_t* from, const uint32_t* to, const void* d_, Size ldd, void* c_,
                    Size ldc, Size m, Size n, double scale) {
  const T *a = (const T*)a_, *d = (const T*)d_;
  T* c = (T*)c_;
  for (Size j = 0; j < n; j += scatter_cols * width<T>) {
    const Size vectors = (n - j + width<T> - 1) / width<T>;
    auto* f = vectors == 1   ? scatter_columns<T, 1>
              : vectors == 2 ? scatter_columns<T, 2>
              : vectors == 3 ? scatter_columns<T, 3>
                             : scatter_columns<T, scatter_cols>;
    f(a, lda, list, list_ld, from, to, d + j, ldd, c + j, ldc, m, T(scale));
  }
}

template <class T>
void transpose(const void* src_, Size lds, void* dst_, Size ldd, Size m, Size n) {
  const T* src = (const T*)src_;
  T* dst = (T*)dst_;
  constexpr int W = width<T>;
  for (Size i = 0; i < m; i += W)
    for (Size j = 0; j < n; j += W) {
      V<T> r[W];
      for (int s = 0; s < W; ++s)
        r[s] = i + s < m ? load(src + (i + s) * lds + j) : set1(T(0));
      transpose_square<T>(r);
      for (int s = 0; s < W && j + s < n; ++s) store(dst + (j + s) * ldd + i, r[s]);
    }
}

template <class T> void column_sum(const void* d_, Size ldd, Size m, Size n, void* out_, int add) {
  const T* d = (const T*)d_;
  T* out = (T*)out_;
  for (Size j = 0; j < n; j += width<T>) {
    V<T> s = add ? load(out + j) : set1(T(0));
    for (Size i = 0; i < m; ++i) s = s + load(d + i * ldd + j);
    store(out + j, s);
  }
}

// --- Reading the data set ------------------------------------------------------------------------

// Rows lie anywhere in memory, and the processor cannot guess where the next one does.
constexpr Size fetched_bytes = 4096;

void fetch(const char* at, Size bytes) {
  if (bytes <= 0) return;
  const Size into = Size(uintptr_t(at) % 64);
  for (Size b = -into; b < bytes && b < fetched_bytes; b += 64) fetch(at + b);
}

template <class A> inline void mark(A v, Size column, uint64_t* marks) {
  constexpr Size W = Size(sizeof(A) / sizeof(lane_of(v, 0)));
  marks[column / (64 * W)] |= uint64_t(any_bits(v)) << column / W % 64;
}

template <class T, class S, bool MARK>
void gather_row(const char* row, Size n, T* to, T scale, uint64_t* marks) {
  constexpr int W = width<T>;
  const V<T> factor = set1(scale);
  const Size whole = n / W * W;
  for (Size from = 0; from < whole; from += marked_vectors<T>) {
    const Size stop = whole - from < marked_vectors<T> ? whole : from + marked_vectors<T>;
    uint64_t seen = 0;
    int vector = 0;
    for (Size j = from; j < stop; j += W) {
      const V<T> x = load_as<T, S>(row + j * Size(sizeof(S))) * factor;
      store(to + j, x);
      if (MARK) seen |= uint64_t(any_bits(x)) << vector++;
    }
    if (MARK) marks[from / marked_vectors<T>] = seen;
  }
  if (whole < n) {
    S tail[W] = {};
    std::memcpy(tail, row + whole * Size(sizeof(S)), size_t(n - whole) * sizeof(S));
    const V<T> x = load_as<T, S>(tail) * factor;
    store(to + whole, x);
    if (MARK) mark(x, whole, marks);
  }
}

template <class T, class S>
void gather_rows(const char* x, Size row_stride, Size col_stride, const uint32_t* order, Size m,
                 Size n, T* out, Size ldo, const uint32_t* next, Size known, T scale,
                 uint64_t* marks) {
  const bool together = col_stride == Size(sizeof(S));
  const Size words = mark_words<T>(ldo);
  auto* const read = marks ? gather_row<T, S, true> : gather_row<T, S, false>;
  for (Size i = 0; i < m; ++i) {
    const char* row = x + Size(order ? order[i] : i) * row_stride;
    T* to = out + i * ldo;
    uint64_t* marked = marks ? marks + i * words : nullptr;
    if (marked) std::memset(marked, 0, size_t(words) * sizeof *marked);
    if (together) {
      if (i < known) fetch(x + Size(next[i]) * row_stride, n * Size(sizeof(S)));
      read(row, n, to, scale, marked);
      continue;
    }
    for (Size j = 0; j < n; ++j) {
      S value;
      std::memcpy(&value, row + j * col_stride, sizeof(S));
      to[j] = T(value) * scale;
    }
    for (Size j = n; j < round_up<T>(n); ++j) to[j] = 0;
    if (marked)
      for (Size j = 0; j < n; j += width<T>) mark(load(to + j), j, marked);
  }
}

template <class T>
void gather(int source, const char* x, Size row_stride, Size col_stride, const uint32_t* order,
            Size m, Size n, void* out, Size ldo, const uint32_t* next, Size known, uint64_t* marks) {
  T* to = (T*)out;
  if (source == pynn::SOURCE_UINT8)
    gather_rows<T, uint8_t>(x, row_stride, col_stride, order, m, n, to, ldo, next, known,
                            T(1.0 / 255), marks);
  else if (source == pynn::SOURCE_FLOAT32)
    gather_rows<T, float>(x, row_stride, col_stride, order, m, n, to, ldo, next, known, T(1), marks);
  else
    gather_rows<T, double>(x, row_stride, col_stride, order, m, n, to, ldo, next, known, T(1), marks);
}

// --- Activations ---------------------------------------------------------------------------------

constexpr double leaky_slope = 0.01;

// f(z), and f'(z) in slope.
template <class T, int F> inline V<T> activation(V<T> z, V<T>& slope) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  if constexpr (F == pynn::SIGMOID) {
    const V<T> a = sigmoid<T>(z);
    slope = a * (one - a);
    return a;
  } else if constexpr (F == pynn::TANH) {
    const V<T> a = hyperbolic_tangent<T>(z);
    slope = one - a * a;
    return a;
  } else if constexpr (F == pynn::RELU) {
    slope = select(greater(z, zero), one, zero);
    return maximum<T>(z, zero);
  } else if constexpr (F == pynn::LEAKY_RELU) {
    slope = select(greater(z, zero), one, set1(T(leaky_slope)));
    return z * slope;
  } else if constexpr (F == pynn::ELU) {
    const V<T> e = exponential_minus_one<T>(minimum<T>(z, zero));
    slope = e + one;
    return select(greater(z, zero), z, e);
  } else if constexpr (F == pynn::GELU) {
    const Normal<T> p = normal<T>(z);
    slope = fma(z, p.density, p.cdf);
    return z * p.cdf;
  } else if constexpr (F == pynn::SOFTPLUS) {
    slope = sigmoid<T>(z);
    return softplus<T>(z);
  } else if constexpr (F == pynn::EXP) {
    slope = exponential_of_any<T>(z);
    return slope;
  } else {
    slope = one;
    return z;
  }
}

// f'(z) from a = f(z).
template <class T, int F> inline V<T> slope_from(V<T> a) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  if constexpr (F == pynn::SIGMOID) return a * (one - a);
  if constexpr (F == pynn::TANH) return one - a * a;
  if constexpr (F == pynn::RELU) return select(greater(a, zero), one, zero);
  if constexpr (F == pynn::LEAKY_RELU)
    return select(greater(a, zero), one, set1(T(leaky_slope)));
  if constexpr (F == pynn::ELU) return select(greater(a, zero), one, a + one);
  if constexpr (F == pynn::SOFTPLUS) return zero - exponential_minus_one<T>(zero - a);
  return one;
}

template <class T> void zero_pads(T* row, Size n, Size ld) {
  for (Size j = n; j < ld; ++j) row[j] = 0;
}

// The same with F found out when it is needed.
template <class T> V<T> activation_of(int f, V<T> z, V<T>& slope) {
  switch (f) {
    case pynn::SIGMOID: return activation<T, pynn::SIGMOID>(z, slope);
    case pynn::TANH: return activation<T, pynn::TANH>(z, slope);
    case pynn::RELU: return activation<T, pynn::RELU>(z, slope);
    case pynn::LEAKY_RELU: return activation<T, pynn::LEAKY_RELU>(z, slope);
    case pynn::ELU: return activation<T, pynn::ELU>(z, slope);
    case pynn::GELU: return activation<T, pynn::GELU>(z, slope);
    case pynn::SOFTPLUS: return activation<T, pynn::SOFTPLUS>(z, slope);
    case pynn::EXP: return activation<T, pynn::EXP>(z, slope);
    default: return activation<T, pynn::IDENTITY>(z, slope);
  }
}

template <class T, int F> void activate_rows(T* z, T* slope, Size ld, Size m, Size n) {
  // Pads by whole vectors: what is stored in pieces is slow to load as one.
  const Size whole = n / width<T> * width<T>;
  const auto rest = first_lanes<T>(n - whole);
  const V<T> zero = set1(T(0));
  for (Size i = 0; i < m; ++i, z += ld, slope += slope ? ld : 0) {
    V<T> s;
    for (Size j = 0; j < whole; j += width<T>) {
      store(z + j, activation<T, F>(load(z + j), s));
      if (slope) store(slope + j, s);
    }
    for (Size j = whole; j < ld; j += width<T>) {
      V<T> a = zero;
      s = zero;
      if (j < n) {
        a = select(rest, activation<T, F>(load(z + j), s), zero);
        s = select(rest, s, zero);
      }
      store(z + j, a);
      if (slope) store(slope + j, s);
    }
  }
}

// Largest of the first n values.
template <class T> T row_maximum(const T* z, Size n) {
  T most = z[0];
  for (Size j = 1; j < n; ++j) most = z[j] > most ? z[j] : most;
  return most;
}

// e^(z − max) in place of z, pads zero; returns the sum of all but number left_out.
template <class T> T exponentials(T* z, Size n, T most, Size left_out = -1) {
  const V<T> m = set1(most), zero = set1(T(0));
  V<T> total = zero;
  for (Size j = 0; j < n; j += width<T>) {
    V<T> e = exponential<T>(load(z + j) - m);
    if (n - j < width<T>) e = select(first_lanes<T>(n - j), e, zero);
    store(z + j, e);
    const Size at = left_out - j;
    if (at >= 0 && at < width<T>)
      e = select(first_lanes<T>(at), e, select(first_lanes<T>(at + 1), zero, e));
    total = total + e;
  }
  return sum(total);
}

template <class T> void softmax_rows(T* z, Size ld, Size m, Size n) {
  for (Size i = 0; i < m; ++i) {
    T* row = z + i * ld;
    const V<T> total = set1(exponentials(row, n, row_maximum(row, n)));
    for (Size j = 0; j < n; j += width<T>) store(row + j, load(row + j) / total);
  }
}

template <class T>
void activate(int f, void* z_, void* slope_, Size ld, Size m, Size n) {
  T *z = (T*)z_, *slope = (T*)slope_;
  switch (f) {
    case pynn::SIGMOID: return activate_rows<T, pynn::SIGMOID>(z, slope, ld, m, n);
    case pynn::TANH: return activate_rows<T, pynn::TANH>(z, slope, ld, m, n);
    case pynn::RELU: return activate_rows<T, pynn::RELU>(z, slope, ld, m, n);
    case pynn::LEAKY_RELU: return activate_rows<T, pynn::LEAKY_RELU>(z, slope, ld, m, n);
    case pynn::ELU: return activate_rows<T, pynn::ELU>(z, slope, ld, m, n);
    case pynn::GELU: return activate_rows<T, pynn::GELU>(z, slope, ld, m, n);
    case pynn::SOFTPLUS: return activate_rows<T, pynn::SOFTPLUS>(z, slope, ld, m, n);
    case pynn::SOFTMAX: return softmax_rows<T>(z, ld, m, n);
    case pynn::EXP: return activate_rows<T, pynn::EXP>(z, slope, ld, m, n);
    default: return activate_rows<T, pynn::IDENTITY>(z, slope, ld, m, n);
  }
}

template <class T, int F> void times_slope_of(T* d, const T* a, Size count) {
  for (Size j = 0; j < count; j += width<T>)
    store(d + j, load(d + j) * slope_from<T, F>(load(a + j)));
}

template <class T> void times_slope(int f, void* d_, const void* a_, Size ld, Size m) {
  T* d = (T*)d_;
  const T* a = (const T*)a_;
  switch (f) {
    case pynn::SIGMOID: return times_slope_of<T, pynn::SIGMOID>(d, a, m * ld);
    case pynn::TANH: return times_slope_of<T, pynn::TANH>(d, a, m * ld);
    case pynn::RELU: return times_slope_of<T, pynn::RELU>(d, a, m * ld);
    case pynn::LEAKY_RELU: return times_slope_of<T, pynn::LEAKY_RELU>(d, a, m * ld);
    case pynn::ELU: return times_slope_of<T, pynn::ELU>(d, a, m * ld);
    case pynn::SOFTPLUS: return times_slope_of<T, pynn::SOFTPLUS>(d, a, m * ld);
    default: return;
  }
}

template <class T> void multiply(void* d_, const void* s_, Size ld, Size m) {
  T* d = (T*)d_;
  const T* s = (const T*)s_;
  for (Size j = 0; j < m * ld; j += width<T>) store(d + j, load(d + j) * load(s + j));
}

// --- Random numbers ------------------------------------------------------------------------------

constexpr int philox_blocks = 16;

// Words of 16 consecutive blocks of Philox 4x32-10 (Salmon et al. 2011, section 3.3).
void philox_group(uint64_t seed, uint32_t block, uint32_t row, uint32_t epoch, uint32_t stream,
                  uint64_t* out) {
  constexpr int parts = philox_blocks / word_lanes;
  Words c0[parts], c1[parts], c2[parts], c3[parts];
  for (int i = 0; i < parts; ++i) {
    c0[i] = counting_from(block + uint32_t(i * word_lanes));
    c1[i] = set_words(row);
    c2[i] = set_words(epoch);
    c3[i] = set_words(stream);
  }
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  // Upper halves hold what earlier rounds left there: the multiplication does not read them.
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < parts; ++i) {
      const Words p0 = multiply_lower(c0[i], set_words(0xD2511F53u));
      const Words p1 = multiply_lower(c2[i], set_words(0xCD9E8D57u));
      c0[i] = (p1 >> 32) ^ c1[i] ^ set_words(k0);
      c2[i] = (p0 >> 32) ^ c3[i] ^ set_words(k1);
      c1[i] = p1;
      c3[i] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < parts; ++i) {
    const Words front = ((c0[i] << 32) >> 32) | (c1[i] << 32);
    const Words back = ((c2[i] << 32) >> 32) | (c3[i] << 32);
    uint64_t f[word_lanes], k[word_lanes];
    std::memcpy(f, &front, sizeof f);
    std::memcpy(k, &back, sizeof k);
    for (int u = 0; u < word_lanes; ++u) {
      out[2 * (i * word_lanes + u)] = f[u];
      out[2 * (i * word_lanes + u) + 1] = k[u];
    }
  }
}

// Words 0 to 3 of a block are stored as two 64-bit halves, the first word lowest.
inline uint32_t word_of(const uint64_t* pairs, Size u) {
  return uint32_t(pairs[u / 2] >> (u % 2 * 32));
}

void philox(uint64_t seed, uint32_t row, uint32_t epoch, uint32_t stream, Size blocks,
            uint32_t* out) {
  uint64_t pairs[2 * philox_blocks];
  for (Size b = 0; b < blocks; b += philox_blocks) {
    philox_group(seed, uint32_t(b), row, epoch, stream, pairs);
    const Size count = blocks - b < philox_blocks ? blocks - b : philox_blocks;
    for (Size u = 0; u < 4 * count; ++u) out[4 * b + u] = word_of(pairs, u);
  }
}

template <class T>
void dropout(void* a_, void* slope_, Size ld, Size m, Size n, const Dropout* how, Size row) {
  T *a = (T*)a_, *slope = (T*)slope_;
  constexpr Size units = 4 * philox_blocks;
  const T scale = T(how->scale);
  uint64_t pairs[units / 2];
  T factor[units];
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; j += units) {
      philox_group(how->seed, uint32_t(j / 4), how->first_row + uint32_t(row + i), how->epoch,
                   how->stream, pairs);
      for (Size u = 0; u < units; ++u)
        factor[u] = word_of(pairs, u) >= how->threshold ? scale : T(0);
      T *to = a + i * ld + j, *by = slope + i * ld + j;
      const Size count = round_up<T>(n) - j < units ? round_up<T>(n) - j : units;
      for (Size u = 0; u < count; u += width<T>) {
        const V<T> f = load(factor + u);
        store(to + u, load(to + u) * f);
        store(by + u, load(by + u) * f);
      }
    }
}

// --- Losses --------------------------------------------------------------------------------------

template <class T> struct Row {
  T* z;
  Size n;
  const T* target;  // null: label
  int32_t label;
  T scale;
  bool gradient;
  T least;
  // A NaN stays one.
  T clipped(T p) const { return p < least ? least : p > T(1) - least ? T(1) - least : p; }
  T at(Size j) const { return target ? target[j] : T(j == label); }
};

template <class T> bool label_wins(const T* z, Size n, int32_t label) {
  for (Size j = 0; j < label; ++j)
    if (!(z[j] < z[label])) return false;
  for (Size j = label + 1; j < n; ++j)
    if (!(z[j] <= z[label])) return false;
  return true;
}

template <class T> int32_t first_largest(const T* v, Size n) {
  Size best = 0;
  for (Size j = 1; j < n; ++j)
    if (v[j] > v[best]) best = j;
  return int32_t(best);
}

// ln(1 + d) for finite d ≥ 0: the division makes good what was rounded off 1 + d (Goldberg 1991,
// theorem 4). Sooner than log1p of the C library.
inline double log_one_plus(double d) {
  const double sum = 1 + d;
  return sum == 1 ? d : std::log(sum) * (d / (sum - 1));
}

// With one exponential left out of their sum, 1 − p of it is rest / total: near p = 1, where most
// losses are, both the loss and its gradient keep their relative precision.
template <class T> double cross_entropy(const Row<T>& r) {
  const Size best = r.target ? first_largest(r.z, r.n) : r.label;
  const T most = row_maximum(r.z, r.n);
  double picked = 0, weight = 0;  // Σ y·(z − max) and Σ y
  if (r.target) {
    for (Size j = 0; j < r.n; ++j) {
      picked += double(r.target[j]) * (double(r.z[j]) - double(most));
      weight += double(r.target[j]);
    }
  } else {
    picked = double(r.z[best]) - double(most);
    weight = 1;
  }
  const T rest = exponentials(r.z, r.n, most, best), total = rest + r.z[best];
  const double above_one = double(rest) + (double(r.z[best]) - 1);  // total − 1
  double rounded = 0;
  if (r.least > 0)
    for (Size j = 0; j < r.n; ++j)
      if (r.at(j) > 0) rounded -= double(r.at(j)) * std::log(double(r.clipped(r.z[j] / total)));
  if (r.gradient) {
    const V<T> divisor = set1(total), scale = set1(r.scale);
    if (r.target) {
      const T d = rest < T(1) ? (T(1) - r.target[best]) - rest / total
                              : r.z[best] / total - r.target[best];
      for (Size j = 0; j < r.n; ++j) r.z[j] = (r.z[j] / total - r.target[j]) * r.scale;
      r.z[best] = d * r.scale;
    } else {
      for (Size j = 0; j < r.n; j += width<T>)
        store(r.z + j, load(r.z + j) / divisor * scale);
      r.z[best] = -(rest / total) * r.scale;
    }
  }
  if (r.least > 0) return rounded;
  return weight * log_one_plus(above_one) - picked;
}

// Cross entropy of labels among few outputs, with a row in each lane: cell[j] is column j of so many
// rows. No lane sees another, so the place of a row does not show in its bits.
constexpr Size most_columns = 32;

template <class T> struct Cells {
  static constexpr int W = width<T>;
  T cell[most_columns][W];

  // By squares or, where there are few values, one by one.
  void read(const T* z, Size ld, Size rows, Size n) {
    if (rows * n < 4 * W) {
      for (Size j = 0; j < n; ++j) store(cell[j], set1(T(0)));
      for (Size s = 0; s < rows; ++s)
        for (Size j = 0; j < n; ++j) cell[j][s] = z[s * ld + j];
      return;
    }
    for (Size j = 0; j < n; j += W) {
      V<T> r[W];
      for (int s = 0; s < W; ++s) r[s] = s < rows ? load(z + s * ld + j) : set1(T(0));
      transpose_square<T>(r);
      for (int s = 0; s < W && j + s < n; ++s) store(cell[j + s], r[s]);
    }
  }

  void write(T* z, Size ld, Size rows, Size n) const {
    if (rows * n < 4 * W) {
      for (Size s = 0; s < rows; ++s) {
        for (Size j = 0; j < n; ++j) z[s * ld + j] = cell[j][s];
        zero_pads(z + s * ld, n, ld);
      }
      return;
    }
    for (Size j = 0; j < ld; j += W) {
      V<T> r[W];
      for (int s = 0; s < W; ++s) r[s] = j + s < n ? load(cell[j + s]) : set1(T(0));
      transpose_square<T>(r);
      for (Size s = 0; s < rows; ++s) store(z + s * ld + j, r[s]);
    }
  }
};

template <class T>
void cross_entropies(T* z, Size ld, Size m, Size n, const Targets* t, bool gradient, double scale,
                     double* row_loss, double* row_right) {
  constexpr int W = width<T>;
  const V<T> zero = set1(T(0)), one = set1(T(1)), two = set1(T(2)), half = set1(T(0.5)),
             ln2 = set1(T(0.69314718055994530942));
  Cells<T> c;
  for (Size i = 0; i < m; i += W) {
    const Size rows = m - i < W ? m - i : W;
    const int32_t* label = t->labels + i;
    T labels[W] = {}, picked[W] = {}, best[W] = {}, scales[W] = {};
    c.read(z + i * ld, ld, rows, n);
    for (Size s = 0; s < rows; ++s) {
      labels[s] = T(label[s]);
      picked[s] = c.cell[label[s]][s];
      scales[s] = T(scale * (t->weights ? t->weights[i + s] : 1));
    }
    const V<T> z_label = load(picked), number = load(labels);
    V<T> most = load(c.cell[0]), beaten = zero;
    for (Size j = 0; j < n; ++j) {
      const V<T> v = load(c.cell[j]);
      most = maximum<T>(v, most);
      beaten = beaten + select(greater(number, set1(T(j))), select(greater(z_label, v), zero, one),
                               select(greater(v, z_label), one, zero));
    }
    for (Size j = 0; j < n; ++j) store(c.cell[j], exponential<T>(load(c.cell[j]) - most));
    for (Size s = 0; s < rows; ++s) {
      best[s] = c.cell[label[s]][s];
      c.cell[label[s]][s] = 0;
    }
    V<T> rest = load(c.cell[0]);
    for (Size j = 1; j < n; ++j) rest = rest + load(c.cell[j]);
    const V<T> e_label = load(best), total = rest + e_label, above_one = rest + (e_label - one);
    // ln(1 + above_one) = ln 2·k + ln(1 + u) with u of 1 at most; what is near 0 stays as it is.
    V<T> u = above_one, whole = one + above_one, log = zero;
    for (Size power = 1; power < n; power *= 2) {
      const auto large = greater(whole, two);
      whole = select(large, whole * half, whole);
      log = select(large, log + ln2, log);
      u = select(greater(log, zero), whole - one, u);
    }
    T loss[W], lost[W], p[W];
    store(loss, (log + log_one_plus<T>(u)) - (z_label - most));
    store(lost, beaten);
    store(p, e_label / total);
    for (Size s = 0; s < rows; ++s) {
      double found = double(loss[s]);
      const T least = T(t->least);
      if (least > 0) {
        const T q = p[s] < least ? least : p[s] > T(1) - least ? T(1) - least : p[s];
        found = -std::log(double(q));
      }
      row_right[i + s] = lost[s] == 0 && found == found;
      row_loss[i + s] = found * (t->weights ? t->weights[i + s] : 1);
    }
    if (!gradient) continue;
    const V<T> factor = load(scales);
    T d[W];
    store(d, zero - rest / total * factor);
    for (Size j = 0; j < n; ++j) store(c.cell[j], load(c.cell[j]) / total * factor);
    for (Size s = 0; s < rows; ++s) c.cell[label[s]][s] = d[s];
    c.write(z + i * ld, ld, rows, n);
  }
}

template <class T> double binary_cross_entropy(const Row<T>& r) {
  double total = 0;
  for (Size j = 0; j < r.n; j += width<T>) {
    const V<T> z = load(r.z + j), zero = set1(T(0)), one = set1(T(1));
    const V<T> e = exponential<T>(zero - absolute(z));  // e^-|z|
    const V<T> q = e / (one + e);                       // sigmoid(−|z|)
    const auto positive = greater(z, zero);
    // sigmoid(z) as the likelier answer, 0 or 1, and what it is more than that.
    T zs[width<T>], ramps[width<T>], logs[width<T>], likely[width<T>], more[width<T>];
    store(zs, z);
    store(ramps, maximum<T>(z, zero));
    store(logs, log_one_plus<T>(e));
    store(likely, select(positive, one, zero));
    store(more, select(positive, zero - q, q));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) {
      const T t = r.at(j + u);
      if (r.least > 0) {
        const T p = r.clipped(likely[u] + more[u]);
        if (t > 0) total -= double(t) * std::log(double(p));
        if (t < 1) total -= double(T(1) - t) * std::log(double(T(1) - p));
      } else {
        total += double(ramps[u]) - double(t) * double(zs[u]) + double(logs[u]);
      }
      if (r.gradient) r.z[j + u] = ((likely[u] - t) + more[u]) * r.scale;
    }
  }
  return total / double(r.n);
}

template <class T> double poisson(const Row<T>& r) {
  double total = 0;
  for (Size j = 0; j < r.n; j += width<T>) {
    T e[width<T>];
    store(e, exponential_of_any<T>(load(r.z + j)));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) {
      const T t = r.at(j + u);
      total += double(e[u]) - double(t) * double(r.z[j + u]) - double(t);
      if (t > 0) total += double(t) * std::log(double(t));
      if (r.gradient) r.z[j + u] = (e[u] - t) * r.scale;
    }
  }
  return total / double(r.n);
}

template <class T> double mean_squared_error(const Row<T>& r, int output) {
  double total = 0, inner = 0;
  const T twice = T(2) * r.scale;
  if (output == pynn::SOFTMAX) {
    softmax_rows<T>(r.z, round_up<T>(r.n), 1, r.n);
    for (Size j = 0; j < r.n; ++j) inner += double(r.z[j]) * double(r.z[j] - r.at(j));
  }
  for (Size j = 0; j < r.n; j += width<T>) {
    const Size count = r.n - j < width<T> ? r.n - j : width<T>;
    T y[width<T>] = {}, error[width<T>];
    for (Size u = 0; u < count; ++u) y[u] = r.at(j + u);
    V<T> slope = set1(T(0)), a = load(r.z + j);
    if (output != pynn::SOFTMAX) a = activation_of<T>(output, a, slope);
    const V<T> e = a - load(y);
    store(error, e);
    for (Size u = 0; u < count; ++u) total += double(error[u]) * double(error[u]);
    if (!r.gradient) continue;
    if (output != pynn::SOFTMAX) {
      store(r.z + j, e * slope * set1(twice));
      continue;
    }
    T p[width<T>];
    store(p, a);
    for (Size u = 0; u < count; ++u) r.z[j + u] = p[u] * T(double(error[u]) - inner) * twice;
  }
  return total / double(r.n);
}

// Whether a row is classified rightly: see reference.count_correct. Must see z, not dz.
template <class T> double right(int loss, const Row<T>& r) {
  if (r.n == 1 || (loss == pynn::BINARY_CROSS_ENTROPY && r.target)) {
    if (loss == pynn::MEAN_SQUARED_ERROR || loss == pynn::POISSON) return NAN;
    Size count = 0;
    for (Size j = 0; j < r.n; ++j) count += (r.z[j] > 0) == (r.at(j) > T(0.5));
    return double(count) / double(r.n);
  }
  if (!r.target) return label_wins(r.z, r.n, r.label);
  if (loss == pynn::MEAN_SQUARED_ERROR || loss == pynn::POISSON) return NAN;
  return first_largest(r.z, r.n) == first_largest(r.target, r.n);
}

template <class T>
void loss(int loss, int output, void* z, Size ld, Size m, Size n, const Targets* t,
          int gradient, double scale, double* row_loss, double* row_right) {
  if (loss == pynn::CROSS_ENTROPY && t->labels && n <= most_columns)
    return cross_entropies((T*)z, ld, m, n, t, gradient != 0, scale, row_loss, row_right);
  for (Size i = 0; i < m; ++i) {
    const double weight = t->weights ? t->weights[i] : 1;
    Row<T> r = {(T*)z + i * ld, n, nullptr, 0, T(scale * weight), gradient != 0, T(t->least)};
    if (loss != pynn::CROSS_ENTROPY) r.scale = T(scale * weight / double(n));
    if (t->labels)
      r.label = t->labels[i];
    else
      r.target = (const T*)t->values + i * t->ld;
    row_right[i] = right(loss, r);
    row_loss[i] = loss == pynn::CROSS_ENTROPY          ? cross_entropy(r)
                  : loss == pynn::BINARY_CROSS_ENTROPY ? binary_cross_entropy(r)
                  : loss == pynn::POISSON              ? poisson(r)
                                                       : mean_squared_error(r, output);
    row_loss[i] *= weight;
    if (gradient) zero_pads(r.z, n, ld);
  }
}

// --- Optimizers: the formulas of reference.update --------------------------------------------------

template <class T, int RULE>
void update_rule(const Step* step, T* w_, const T* g_, T* s1, T* s2, Size count) {
  const Adam<T> adam(step);
  const V<T> rate = adam.rate, beta1 = adam.beta1;
  for (Size j = 0; j < count; j += width<T>) {
    if constexpr (RULE == pynn::RULE_ADAM) {
      adam.update(load(g_ + j), w_ + j, s1 + j, s2 + j);
      continue;
    }
    V<T> w = load(w_ + j);
    const V<T> g = fma(adam.l2, w, load(g_ + j));
    if constexpr (RULE == pynn::RULE_SGD) {
      w = fma(set1(T(0)) - rate, g, w);
    } else if constexpr (RULE == pynn::RULE_MOMENTUM || RULE == pynn::RULE_NESTEROV) {
      const V<T> push = rate * g, v = fma(beta1, load(s1 + j), set1(T(0)) - push);
      store(s1 + j, v);
      w = RULE == pynn::RULE_MOMENTUM ? w + v : w + fma(beta1, v, set1(T(0)) - push);
    } else {
      const V<T> s = RULE == pynn::RULE_ADAGRAD ? fma(g, g, load(s1 + j))
                                                : fma(beta1, load(s1 + j), adam.rest1 * g * g);
      store(s1 + j, s);
      w = w - rate * g / (square_root(s) + adam.epsilon);
    }
    store(w_ + j, w);
  }
}

template <class T>
void copy_far(const void* from_, Size ldf, void* to_, Size ldt, Size m, Size n) {
  for (Size i = 0; i < m; ++i) {
    const T* from = (const T*)from_ + i * ldf;
    T* to = (T*)to_ + i * ldt;
    // Whole vectors where they are aligned; not even elements need be.
    const Size before = Size(-(uintptr_t)to % PYNN_VECTOR_BYTES), aligned = before / Size(sizeof(T));
    const Size head = before % Size(sizeof(T)) || aligned > n ? n : aligned;
    const Size end = head + (n - head) / width<T> * width<T>;
    std::memcpy(to, from, size_t(head) * sizeof(T));
    for (Size j = head; j < end; j += width<T>) store_past(to + j, load(from + j));
    std::memcpy(to + end, from + end, size_t(n - end) * sizeof(T));
  }
  stored_past();
}

template <class T>
void square_sum(const void* w_, Size ld, Size m, Size n, double* out) {
  const T* w = (const T*)w_;
  for (Size i = 0; i < m; ++i) {
    V<T> a = set1(T(0)), b = a;
    Size j = 0;
    for (; j + width<T> < n; j += 2 * width<T>) {
      const V<T> u = load(w + i * ld + j), v = load(w + i * ld + j + width<T>);
      a = fma(u, u, a);
      b = fma(v, v, b);
    }
    if (j < n) {
      const V<T> u = load(w + i * ld + j);
      a = fma(u, u, a);
    }
    out[i] = double(sum(a)) + double(sum(b));
  }
}

template <class T>
void update(int rule, const Step* step, void* w, const void* g, void* s1, void* s2, Size count) {
  auto* f = rule == pynn::RULE_SGD        ? update_rule<T, pynn::RULE_SGD>
            : rule == pynn::RULE_MOMENTUM ? update_rule<T, pynn::RULE_MOMENTUM>
            : rule == pynn::RULE_NESTEROV ? update_rule<T, pynn::RULE_NESTEROV>
            : rule == pynn::RULE_RMSPROP  ? update_rule<T, pynn::RULE_RMSPROP>
            : rule == pynn::RULE_ADAGRAD  ? update_rule<T, pynn::RULE_ADAGRAD>
                                          : update_rule<T, pynn::RULE_ADAM>;
  f(step, (T*)w, (const T*)g, (T*)s1, (T*)s2, count);
}

// As many sums side by side as a tile of matmul has, and nothing to load.
template <class T> double multiply_add(Size rounds) {
  constexpr int sums = tile_registers > 12 ? 24 : 12;
  V<T> acc[sums];
  for (int i = 0; i < sums; ++i) acc[i] = set1(T(i));
  const V<T> factor = set1(T(0.999)), more = set1(T(0.001));
  for (Size round = 0; round < rounds; ++round)
    PYNN_UNROLL
    for (int i = 0; i < sums; ++i) acc[i] = fma(acc[i], factor, more);
  T total = 0;
  for (int i = 0; i < sums; ++i) total += sum(acc[i]);
  return total < 0 ? 0 : 2.0 * sums * width<T> * double(rounds);
}

template <class T> constexpr pynn::Kernels table(const char* isa) {
  return {isa,          width<T>,         tile_rows,    sparse_cols,  int(sizeof(T)), matmul<T>, matmul_narrow<T>,
          narrow_marked<T>, gradient_marked<T>, find_nonzero<T>, matmul_sparse<T>, matmul_scatter<T>,
          transpose<T>, column_sum<T>,    gather<T>,    activate<T>,    times_slope<T>,
          multiply<T>,  dropout<T>,       loss<T>,      copy_far<T>,   square_sum<T>,
          update<T>,    philox,           multiply_add<T>};
}

}  // namespace

#define PYNN_STRING_(x) #x
#define PYNN_STRING(x) PYNN_STRING_(x)

namespace pynn {
namespace PYNN_ISA {
extern const Kernels tables[N_DTYPES];
const Kernels tables[N_DTYPES] = {table<float>(PYNN_STRING(PYNN_ISA)),
                                  table<double>(PYNN_STRING(PYNN_ISA))};
}  // namespace PYNN_ISA
}  // namespace pynn
