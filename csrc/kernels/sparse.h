// Products that skip the zeros of a matrix, by lists of the columns of its non-zero elements.
//
// find_nonzero lists the columns row by row; matmul_sparse multiplies by the listed elements, with
// one vector of accumulators per vector of columns of C, in ascending order of k: the sums are
// those of matmul without the terms that are zero. matmul_scatter adds the gradient of a narrow
// layer row by row of the batch.
//
// When the core uses them (sparse_pays in choices.pxi), with costs in vector FMA of the
// dense product per row and input, for a C of v vectors and a share s of non-zero elements:
//   matmul          v
//   matmul_sparse   1.5·s·(v + ½) + ½: per non-zero element v, and ½ to read its column and value,
//                   1.5 times as slow as in a dense product; ½ per element to find them
//   matmul_scatter  in place of matmul_sparse for the gradient if a row of C has at most 192 bytes
//                   (3 vectors of AVX-512): it needs no lists by column
#pragma once

#include "optimizers.h"
#include "simd.h"
#include "tile.h"

namespace {

// --- Lists of the non-zero elements --------------------------------------------------------------

// pack_lanes writes the columns of the non-zero lanes of v, of which the first is ``column``, to
// ``to``, and returns their number. It may write up to 8 (AVX-512: 16) elements more than that.
#if !defined(PYNN_PLAIN) && defined(__SSE4_2__)
// The positions of the bits that are set in a byte, for each byte.
struct BitPositions {
  alignas(16) uint16_t of[256][8];
  constexpr BitPositions() : of() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0, count = 0; bit < 8; ++bit)
        if (byte >> bit & 1) of[byte][count++] = uint16_t(bit);
  }
};
constexpr BitPositions bit_positions;

template <class A> inline int pack_lanes(A v, int column, uint16_t* to) {
  unsigned nonzero = nonzero_lanes(v);
#if PYNN_VECTOR_BYTES == 64
  if constexpr (sizeof(A) / sizeof(lane_of(v, 0)) == 16) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i columns = _mm512_add_epi32(lanes, _mm512_set1_epi32(column));
    const __m512i packed = _mm512_maskz_compress_epi32(__mmask16(nonzero), columns);
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16(packed));
    return __builtin_popcount(nonzero);
  }
#endif
  int count = 0;
  for (int from = 0; from < int(sizeof(A) / sizeof(lane_of(v, 0))); from += 8, nonzero >>= 8) {
    const __m128i bits = _mm_load_si128((const __m128i*)bit_positions.of[nonzero & 255]);
    const __m128i first = _mm_set1_epi16(short(column + from));
    _mm_storeu_si128((__m128i*)(to + count), _mm_add_epi16(bits, first));
    count += __builtin_popcount(nonzero & 255);
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

// --- C = A · B over the listed elements of A -----------------------------------------------------

// Vectors of a row of C at a time: 8 accumulators hide the latency of the FMA (4 cycles, 2 per
// cycle), and 64 rows of such a panel of B (of AVX-512: 32 KiB) stay in L1.
constexpr int sparse_cols = 8;

template <class T> struct SparseProduct {
  const T* a;  // element (i, p) at a[i·a_row + p·a_step]
  Size a_row, a_step;
  const uint16_t* list;  // (m, list_ld)
  Size list_ld;
  const uint32_t *from, *to;  // (m,)
  const T* b;                 // (k, ldb)
  Size ldb;
  T* c;  // (m, ldc)
  Size ldc, m;
  int finish;
  const T* bias;  // (n,)
  const Step* step;
  const Adam<T>* adam;  // or null
};

template <class T, int COLS>
inline void sparse_start(const SparseProduct<T>& p, const T* c, Size j, V<T>* acc) {
  for (int v = 0; v < COLS; ++v)
    acc[v] = p.finish == pynn::FINISH_BIAS ? load(p.bias + j + v * width<T>)
             : p.finish == pynn::FINISH_ADD || p.finish == pynn::FINISH_ADD_ADAM
                 ? load(c + v * width<T>)
                 : set1(T(0));
}

// acc (COLS vectors) += the listed elements from … to of a row of A, times their rows of b.
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
    // Weights and moments lie at fixed distances from C, in bytes.
    T *w = (T*)((char*)c + p.step->w), *s1 = (T*)((char*)c + p.step->s1),
      *s2 = (T*)((char*)c + p.step->s2);
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
  // + 0 removes the sign of a zero: see tile.h.
  for (int v = 0; v < COLS; ++v) store(c + v * width<T>, acc[v] + set1(T(0)));
}

// Four rows side by side, for panels of up to 4 vectors, so that there are enough accumulators to
// hide the latency of the FMA: first the elements that all four lists have, then the rest of each.
// Returns the number of rows done.
template <class T, int COLS> Size sparse_four_rows(const SparseProduct<T>& p, Size j) {
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

// The panel of COLS vectors at column j.
template <class T, int COLS> void sparse_panel(const SparseProduct<T>& p, Size j) {
  Size i = 0;
  if (COLS <= 4 && p.a_step == 1) i = sparse_four_rows<T, COLS>(p, j);
  for (; i < p.m; ++i) {
    V<T> acc[COLS];
    T* c = p.c + i * p.ldc + j;
    sparse_start<T, COLS>(p, c, j, acc);
    sparse_row<T, COLS>(p.a + i * p.a_row, p.a_step, p.list + i * p.list_ld, p.from[i], p.to[i],
                        p.b + j, p.ldb, acc);
    sparse_end<T, COLS>(p, c, acc);
  }
}

// Panels of COLS vectors while whole panels fit, then one narrower panel.
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
  SparseProduct<T> p = {(const T*)a, a_row, a_step, list, list_ld, from, to, (const T*)b, ldb,
                        (T*)c, ldc, m, finish, (const T*)bias, step, nullptr};
  const Size vectors = (n + width<T> - 1) / width<T>;
  if (finish == pynn::FINISH_ADAM || finish == pynn::FINISH_ADD_ADAM) {
    const Adam<T> adam(step);
    p.adam = &adam;
    sparse_panels<T, sparse_cols>(p, 0, vectors);
    return;
  }
  sparse_panels<T, sparse_cols>(p, 0, vectors);
}

// --- C += Aᵀ · D over the listed elements of A ---------------------------------------------------

// COLS vectors of columns. Every row of A adds to the rows of C that its list names.
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

constexpr int scatter_cols = 4;  // vectors of a row of D that are kept in registers

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

}  // namespace
