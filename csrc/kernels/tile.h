// The register tile of the matrix products, on row-major operands. README.md has a diagram.
//
// Included by kernels.cpp, for elements of float and double, and by bf16.cpp, for pairs of
// bfloat16. An element type E needs set1(E), fma(V<E>, V<E>, V<Sum<E>>) and load. Everything here
// has internal linkage, for the reason given in simd.h.
//
// From the inside out: ``tile`` computes a few rows by a few vectors of C in registers;
// ``multiply_panel`` all rows of a panel of columns; ``multiply_panels`` all panels;
// ``multiply_block`` chooses the width of the panels; ``matmul`` splits large products into blocks
// that fit in a cache.
#pragma once

#include "kernels.h"
#include "simd.h"

#include <type_traits>

namespace {

// Type of the sums of products of E: of C and of the bias.
template <class E> using Sum = std::conditional_t<std::is_same_v<E, int32_t>, float, E>;

// Vector registers for accumulators: all, less 3 for a row of B and 1 for an element of A.
#if PYNN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int tile_registers = 28;  // 32 − 3 − 1 ≥ 9 rows x 3 vectors
#else
constexpr int tile_registers = 12;  // 16 − 3 − 1 = 4 rows x 3 vectors
#endif
constexpr int tile_rows = tile_registers / 2;      // rows of a tile of two vectors
constexpr int low_tile_rows = tile_registers / 3;  // rows of a tile of three

// Pairs of bfloat16 are always packed: B lies in panels of two vectors, the rows of a panel one
// after the other, so that a panel is read sequentially. ldb is then the distance from panel to
// panel.
template <class E> constexpr bool b_in_panels = std::is_same_v<E, int32_t>;
template <class E> constexpr Size panel_width = 2 * width<E>;  // elements

template <class E> struct Product {
  const E* a;  // (m, lda), or by column (k, lda)
  Size lda;
  const E* b;  // (k, ldb), or panels of (k, panel_width), ldb apart
  Size ldb;
  Sum<E>* c;  // (m, ldc)
  Size ldc;
  Size k;
  int finish;
  const Sum<E>* bias;  // (n,)
  const pynn::Step* step;
  bool b_exceeds_l1 = false;
  // Rows of B that a tile prefetches, one row in each of its first steps of k.
  const E* prefetched = nullptr;
  Size ld_prefetched = 0, prefetched_rows = 0;
  // The block of B, (next_k, next_n), that will be packed after this product.
  const E* next_block = nullptr;
  Size ld_next = 0, next_k = 0, next_n = 0;
};

// Distance of prefetches, in steps of k. Rows of B, and of a transposed A, may lie a page or more
// apart, which hardware prefetchers do not predict. A step takes 27 FMA at 2 per cycle: 32 steps
// are 430 cycles, about the latency of memory.
constexpr Size prefetch_distance = 32;

// Initialises the accumulators of the tile at *c, in column j.
template <class E, class T, int ROWS, int COLS>
PYNN_FORCE_INLINE void start_tile(const Product<E>& p, const T* c, Size j,
                                  V<T> (&acc)[ROWS][COLS]) {
  PYNN_UNROLL
  for (int v = 0; v < COLS; ++v) {
    const V<T> start =
        p.finish == pynn::FINISH_BIAS ? load(p.bias + j + v * width<T>) : set1(T(0));
    PYNN_UNROLL
    for (int r = 0; r < ROWS; ++r) acc[r][v] = start;
  }
  if (p.finish == pynn::FINISH_ADD)
    PYNN_UNROLL
    for (int r = 0; r < ROWS; ++r)
      PYNN_UNROLL
      for (int v = 0; v < COLS; ++v) acc[r][v] = load(c + r * p.ldc + v * width<T>);
}

// Writes the accumulators to C after the last step of k.
template <class E, class T, int ROWS, int COLS>
PYNN_FORCE_INLINE void finish_tile(const Product<E>& p, T* c, V<T> (&acc)[ROWS][COLS]) {
  const Size ldc = p.ldc;
  if (p.finish == pynn::FINISH_SGD) {
    const V<T> rate = set1(T(-p.step->rate)), l2 = set1(T(p.step->l2));
    PYNN_UNROLL
    for (int r = 0; r < ROWS; ++r)
      PYNN_UNROLL
      for (int v = 0; v < COLS; ++v) {
        T* at = c + r * ldc + v * width<T>;
        const V<T> w = load(at);
        store(at, fma(rate, fma(l2, w, acc[r][v]), w));
      }
    return;
  }
  // A sum that underflows is a signed zero, and skipping a further product with zero could keep
  // another sign than adding it. Adding +0 removes the sign, so that results are identical whether
  // products with zero are computed (here) or skipped (sparse.h).
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int v = 0; v < COLS; ++v) store(c + r * ldc + v * width<T>, acc[r][v] + set1(T(0)));
}

// Computes ROWS rows by COLS vectors of C, from row i and column j on.
template <class E, int ROWS, int COLS, bool BY_COLUMN>
void tile(const Product<E>& p, Size i, Size j) {
  using T = Sum<E>;
  const E* a = p.a + (BY_COLUMN ? i : i * p.lda);
  const E* b = b_in_panels<E> ? p.b + j / panel_width<E> * p.ldb : p.b + j;
  T* c = p.c + i * p.ldc + j;
  const Size lda = p.lda, ldb = p.ldb, k = p.k;
  V<T> acc[ROWS][COLS];
  start_tile(p, c, j, acc);
  const E* prefetched = p.prefetched;
  const Size ld_prefetched = p.ld_prefetched;
  // Unrolled twice: the loop overhead of a step is measurable, also as a lower clock frequency on
  // processors that throttle with the number of instructions.
  const auto accumulate = [&](Size q, Size stop, auto prefetches) {
    PYNN_UNROLL_TWICE
    for (; q < stop; ++q) {
      V<E> row[COLS];
      if constexpr (prefetches) {
        PYNN_UNROLL
        for (int v = 0; v < COLS; ++v) prefetch(prefetched + q * ld_prefetched + v * width<T>);
      }
      if (BY_COLUMN && q + prefetch_distance < k) prefetch(a + (q + prefetch_distance) * lda);
      PYNN_UNROLL
      for (int v = 0; v < COLS; ++v)
        row[v] = load(b_in_panels<E> ? b + v / 2 * ldb + q * panel_width<E> + v % 2 * width<E>
                                     : b + q * ldb + v * width<E>);
      PYNN_UNROLL
      for (int r = 0; r < ROWS; ++r) {
        const V<E> x = set1(BY_COLUMN ? a[q * lda + r] : a[r * lda + q]);
        PYNN_UNROLL
        for (int v = 0; v < COLS; ++v) acc[r][v] = fma(x, row[v], acc[r][v]);
      }
    }
  };
  const Size with_prefetch = b_in_panels<E> || p.prefetched_rows < 0 ? 0
                             : p.prefetched_rows < k                 ? p.prefetched_rows
                                                                     : k;
  if constexpr (!b_in_panels<E>) accumulate(0, with_prefetch, std::true_type());
  accumulate(with_prefetch, k, std::false_type());
  finish_tile(p, c, acc);
}

template <class E> using Tile = void (*)(const Product<E>&, Size, Size);

// The tile of ``rows`` rows and COLS vectors, or null if it needs more registers than there are.
template <class E, int COLS, bool BY_COLUMN, int ROWS = tile_registers / COLS>
Tile<E> tile_for(Size rows) {
  if constexpr (ROWS == 0)
    return nullptr;
  else
    return rows == ROWS ? tile<E, ROWS, COLS, BY_COLUMN>
                        : tile_for<E, COLS, BY_COLUMN, ROWS - 1>(rows);
}

// Chooses the rows of B that tile t of a panel prefetches: a share of the block that is packed
// next; or, if the panel has a single tile, its own rows; or else a share of the next panel.
template <class E, int COLS>
inline void choose_prefetch(Product<E>& p, Size j, Size vectors, Size t, Size tiles) {
  const Size rows = p.next_block ? p.next_k : p.k, begin = rows * t / tiles,
             end = rows * (t + 1) / tiles;
  p.ld_prefetched = p.ldb;
  if (p.next_block) {
    p.prefetched = p.next_block + begin * p.ld_next + j;
    p.ld_prefetched = p.ld_next;
    p.prefetched_rows = j < p.next_n ? end - begin : 0;
  } else if (tiles == 1) {
    p.prefetched = p.b + prefetch_distance * p.ldb + j;
    p.prefetched_rows = p.k - prefetch_distance;
  } else if (p.b_exceeds_l1 && vectors > COLS) {
    p.prefetched = p.b + begin * p.ldb + j + COLS * width<E>;
    p.prefetched_rows = end - begin;
  }
}

// The panel of COLS vectors at column j, with all m rows: the panel of B stays in L1 while its
// tiles go down the rows. ``vectors`` is the number of vectors from column j on.
template <class E, int COLS, bool BY_COLUMN>
void multiply_panel(Product<E> p, Size m, Size j, Size vectors) {
  using T = Sum<E>;
  // Tiles of nearly equal height; the first ``taller`` of them have one row more.
  const Size most = tile_registers / COLS, tiles = (m + most - 1) / most;
  const Size rows = m / tiles, taller = m % tiles;
  const Tile<E> low = tile_for<E, COLS, BY_COLUMN>(rows);
  const Tile<E> tall = taller ? tile_for<E, COLS, BY_COLUMN>(rows + 1) : low;
  Size i = 0;
  for (Size t = 0; t < tiles; ++t) {
    choose_prefetch<E, COLS>(p, j, vectors, t, tiles);
    if (p.b_exceeds_l1) {
      // The part of C that the next tile writes: below, or at the top of the next panel.
      const bool below = t + 1 < tiles;
      T* c = p.c + j;
      c += below ? (i + rows + (t < taller)) * p.ldc : COLS * width<T>;
      if (below || vectors > COLS)
        for (Size r = 0; r < rows; ++r)
          for (int v = 0; v < COLS; ++v) prefetch(c + r * p.ldc + v * width<T>);
    }
    (t < taller ? tall : low)(p, i, j);
    i += rows + (t < taller);
  }
}

// The columns from j on: panels of COLS vectors while whole panels fit, then narrower ones. No
// panel of one vector follows panels of three, since it would be bound by the latency of its
// broadcasts: 4 vectors are one panel, or two of 2 where a panel of 4 has fewer than 5 rows; 3 are
// one panel of 3.
template <class E, int COLS, bool BY_COLUMN>
void multiply_panels(const Product<E>& p, Size m, Size j, Size vectors) {
  if constexpr (COLS > 0) {
    for (; vectors >= COLS && !(COLS == 3 && vectors == 4) &&
           !(COLS == 2 && !b_in_panels<E> && vectors == 3);
         vectors -= COLS, j += COLS * width<E>)
      multiply_panel<E, COLS, BY_COLUMN>(p, m, j, vectors);
    constexpr int last = COLS == 2 ? 3 : COLS == 3 && tile_registers / 4 > 4 ? 4 : 0;
    if constexpr (last && !b_in_panels<E>) {
      if (vectors == last) {
        multiply_panel<E, last, BY_COLUMN>(p, m, j, vectors);
        return;
      }
    }
    if (vectors) multiply_panels<E, COLS == 3 ? 2 : COLS / 2, BY_COLUMN>(p, m, j, vectors);
  }
}

// Vectors of a panel for a single row at most: B is read in pieces of consecutive cache lines,
// which prefetchers follow.
constexpr int single_row_vectors = tile_registers > 16 ? 16 : 8;

// The tile of a single row and ``vectors`` vectors, at most COLS.
template <class E, int COLS = single_row_vectors> Tile<E> single_row_tile(Size vectors) {
  if constexpr (COLS == 0)
    return nullptr;
  else
    return vectors == COLS ? tile<E, 1, COLS, false> : single_row_tile<E, COLS - 1>(vectors);
}

// A single row, in panels of nearly equal width: a narrow one would be bound by the latency of its
// few accumulators.
template <class E> void multiply_row(const Product<E>& p, Size vectors) {
  const Size panels = (vectors + single_row_vectors - 1) / single_row_vectors;
  Size j = 0;
  for (Size t = 0; t < panels; ++t) {
    const Size some = vectors / panels + (t < vectors % panels);
    single_row_tile<E>(some)(p, 0, j);
    j += some * width<E>;
  }
}

// A product that is not split: chooses the width of the panels. An accumulator takes one FMA per
// latency (4 cycles), of which a core starts 2 per cycle, so a tile needs 8 accumulators or more:
// with few rows, wider panels.
template <class E> void multiply_block(const Product<E>& p, int by_column, Size m, Size n) {
  const Size vectors = (n + width<E> - 1) / width<E>;
  if constexpr (!b_in_panels<E>)
    if (m == 1 && !by_column) return multiply_row(p, vectors);
  if (m * 4 <= tile_rows)
    by_column ? multiply_panels<E, 8, true>(p, m, 0, vectors)
              : multiply_panels<E, 8, false>(p, m, 0, vectors);
  else if (m * 2 <= tile_rows)
    by_column ? multiply_panels<E, 4, true>(p, m, 0, vectors)
              : multiply_panels<E, 4, false>(p, m, 0, vectors);
  else if (b_in_panels<E>)
    by_column ? multiply_panels<E, 2, true>(p, m, 0, vectors)
              : multiply_panels<E, 2, false>(p, m, 0, vectors);
  else
    by_column ? multiply_panels<E, 3, true>(p, m, 0, vectors)
              : multiply_panels<E, 3, false>(p, m, 0, vectors);
}

// --- Large products, in blocks -------------------------------------------------------------------

constexpr Size l1_bytes = 128 * 1024;  // no L1 data cache is larger
constexpr Size l2_bytes = 1 << 20;     // L2 of one core, typically 1 to 2 MiB
constexpr Size page_bytes = 4096;
// Rows of B per block if B exceeds L2. Each row may lie in another page, so this limits the TLB
// entries that a panel needs; and a block of A, 1 KiB of float32 per row, stays in L2.
constexpr Size block_depth = 256;
// With fewer steps of k, copying an operand costs more than it gains, and writing C takes the time.
constexpr Size few_steps = 16;
// Rows of C from which on packing B pays: every element of B is copied once and used m times.
constexpr Size packing_rows = 256;
// The same if rows of B are whole pages apart: they share a few sets of each cache.
constexpr Size packing_rows_of_pages = 24;
// Scratch memory for the packed block of B, or for a block of a transposed A.
constexpr Size packed_bytes = 128 * 1024;

// Splits n into as few parts of at most ``limit`` as possible, of nearly equal size: returns that
// size.
inline Size part_size(Size n, Size limit) {
  const Size parts = (n + limit - 1) / limit;
  return (n + parts - 1) / parts;
}

// dst (rows, ldd) = src (rows, lds), the first ``columns`` of each row.
template <class E>
inline void copy_rows(const E* src, Size lds, E* dst, Size ldd, Size rows, Size columns) {
  for (Size q = 0; q < rows; ++q)
    for (Size i = 0; i < columns; ++i) dst[q * ldd + i] = src[q * lds + i];
}

template <class E> inline Size bytes(Size rows, Size columns) {
  return rows * columns * Size(sizeof(E));
}

// With FINISH_SGD k must not be split, since an element of C is updated once, with its whole sum.
// Deeper blocks let more of these products be packed.
template <class E> inline Size packed_depth(int finish) {
  return finish == pynn::FINISH_SGD ? 2 * block_depth : block_depth;
}

template <class E>
inline bool packing_pays(const Product<E>& p, int by_column, Size m, Size n) {
  const Size depth = packed_depth<E>(p.finish);
  const bool shares_sets = bytes<E>(1, p.ldb) % page_bytes == 0;
  return m >= (shares_sets ? packing_rows_of_pages : packing_rows) && bytes<E>(p.k, n) > l2_bytes && p.k >= few_steps &&
         (p.finish != pynn::FINISH_SGD || p.k <= depth) &&
         (!by_column || packed_bytes + bytes<E>(depth, m) <= pynn::SCRATCH_BYTES);
}

// Copies blocks of B (depth, columns) to contiguous memory, in few pages, and multiplies all rows
// of A by each; the tiles prefetch the next block meanwhile. A transposed A is copied as well.
template <class E> void matmul_packed(Product<E> p, int by_column, Size m, Size n) {
  const Product<E> whole = p;
  const Size k = p.k, depth = part_size(k, packed_depth<E>(p.finish));
  const Size padded = (n + width<E> - 1) / width<E> * width<E>;
  E* const packed_b = (E*)pynn::scratch();
  E* const packed_a = packed_b + packed_bytes / Size(sizeof(E));
  const Size vectors = packed_bytes / Size(sizeof(E)) / depth / width<E>;
  // An odd number of vectors a row spreads the rows over all sets of L1.
  const Size ld = (vectors - (vectors % 2 == 0)) * width<E>;
  const Size columns = ld / width<E> / 3 * 3 * width<E>;  // whole panels of 3 vectors
  p.b_exceeds_l1 = true;
  p.b = packed_b;
  p.ldb = ld;
  p.ld_next = whole.ldb;
  for (Size q = 0; q < k; q += depth) {
    p.k = k - q < depth ? k - q : depth;
    p.a = by_column ? whole.a + q * whole.lda : whole.a + q;
    if (by_column) {
      copy_rows(p.a, whole.lda, packed_a, m, p.k, m);
      p.a = packed_a;
      p.lda = m;
    }
    p.finish = q ? int(pynn::FINISH_ADD) : whole.finish;
    for (Size j = 0; j < padded; j += columns) {
      const Size some = padded - j < columns ? padded - j : columns;
      for (Size s = 0; s < p.k; ++s)
        for (Size v = 0; v < some; v += width<E>)
          store(packed_b + s * ld + v, load(whole.b + (q + s) * whole.ldb + j + v));
      const bool right = j + columns < padded;  // the next block: to the right, or below
      const Size q_next = right ? q : q + depth, j_next = right ? j + columns : 0;
      p.next_block = q_next < k ? whole.b + q_next * whole.ldb + j_next : nullptr;
      p.next_k = k - q_next < depth ? k - q_next : depth;
      p.next_n = padded - j_next;
      p.c = whole.c + j;
      p.bias = whole.bias ? whole.bias + j : nullptr;
      multiply_block(p, by_column, m, some);
    }
  }
}

// Rows of C per block: as many as fit in packed_bytes with their columns of a transposed A.
template <class E> inline Size rows_to_copy(Size k) {
  return k > 0 ? packed_bytes / Size(sizeof(E)) / k : 0;
}

template <class E>
inline bool copying_a_pays(const Product<E>& p, int by_column, Size m, Size n) {
  return by_column && p.k >= few_steps && rows_to_copy<E>(p.k) >= tile_rows && m > 1 &&
         bytes<E>(1, p.lda) >= page_bytes && bytes<E>(1, n) >= page_bytes;
}

// Blocks of rows of C, with the columns of a transposed A copied to contiguous memory.
template <class E> void matmul_copied(Product<E> p, Size m, Size n) {
  const Product<E> whole = p;
  const Size most = part_size(m, rows_to_copy<E>(p.k));
  E* const copy = (E*)pynn::scratch();
  p.a = copy;
  p.lda = most;
  p.b_exceeds_l1 = bytes<E>(p.k, n) > l1_bytes;
  for (Size i = 0; i < m; i += most) {
    const Size rows = m - i < most ? m - i : most;
    copy_rows(whole.a + i, whole.lda, copy, most, p.k, rows);
    p.c = whole.c + i * p.ldc;
    multiply_block(p, true, rows, n);
  }
}

// Blocks of as many rows as a tile has: C, larger than L2, is written row by row.
template <class E> void matmul_by_rows(Product<E> p, int by_column, Size m, Size n) {
  const Product<E> whole = p;
  const Size most = part_size(m, tile_rows);
  p.b_exceeds_l1 = bytes<E>(p.k, n) > l1_bytes;
  for (Size i = 0; i < m; i += most) {
    p.a = whole.a + (by_column ? i : i * p.lda);
    p.c = whole.c + i * p.ldc;
    multiply_block(p, by_column, m - i < most ? m - i : most, n);
  }
}

// Blocks of rows of B, whose sums are added to C one after the other.
template <class E> void matmul_by_depth(Product<E> p, int by_column, Size m, Size n) {
  const Product<E> whole = p;
  const Size depth = part_size(p.k, block_depth);
  for (Size q = 0; q < whole.k; q += depth) {
    p.k = whole.k - q < depth ? whole.k - q : depth;
    p.a = whole.a + (by_column ? q * p.lda : q);
    p.b = whole.b + q * p.ldb;
    p.finish = q ? int(pynn::FINISH_ADD) : whole.finish;
    p.b_exceeds_l1 = bytes<E>(p.k, n) > l1_bytes;
    multiply_block(p, by_column, m, n);
  }
}

template <class E>
void matmul(const void* a, Size lda, int by_column, const void* b, Size ldb, void* c, Size ldc,
            Size m, Size n, Size k, int finish, const void* bias, const pynn::Step* step) {
  if (m <= 0 || n <= 0) return;
  Product<E> p = {(const E*)a, lda, (const E*)b, ldb, (Sum<E>*)c, ldc, k, finish,
                  (const Sum<E>*)bias, step};
  if (b_in_panels<E>) return multiply_block(p, by_column, m, n);
  if (packing_pays(p, by_column, m, n)) return matmul_packed(p, by_column, m, n);
  if (copying_a_pays(p, by_column, m, n)) return matmul_copied(p, m, n);
  if (k < few_steps && bytes<E>(m, n) > l2_bytes) return matmul_by_rows(p, by_column, m, n);
  // Not for a single tile with panels of 3 or 4 vectors, which reads B only once.
  if (finish != pynn::FINISH_SGD && (m > low_tile_rows || m * 4 <= tile_rows) &&
      bytes<E>(k, n) > l2_bytes)
    return matmul_by_depth(p, by_column, m, n);
  p.b_exceeds_l1 = bytes<E>(k, n) > l1_bytes;
  multiply_block(p, by_column, m, n);
}

}  // namespace
