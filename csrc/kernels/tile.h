// The register tile of the matrix products, on row-major operands.
//
// Included after simd.h by kernels.cpp, for elements of float and double, and by bf16.cpp, for pairs of
// bfloat16; what an element E needs is set1(E), fma(V<E>, V<E>, V<Sum<E>>) and load. Everything here
// has internal linkage, for the reason given in simd.h.
#pragma once

#include "maths.h"
#include "simd.h"

#include <type_traits>

namespace {

using Size = std::ptrdiff_t;

// What sums of products of E are: C and the bias.
template <class E> using Sum = std::conditional_t<std::is_same_v<E, int32_t>, float, E>;

// A tile keeps ROWS x COLS vectors of C in registers: as many as there are, less those for a row of
// B and a broadcast element of A.
#if PYNN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int tile_registers = 28;
#else
constexpr int tile_registers = 12;
#endif
constexpr int tile_rows = tile_registers / 2;

// Pairs have been packed anyway, so B lies in panels of two vectors, rows one after the other: a
// column of them is read as fast as memory goes, which rows a page apart are not. ldb is then from
// panel to panel.
template <class E> constexpr bool in_panels = std::is_same_v<E, int32_t>;
template <class E> constexpr Size panel = 2 * width<E>;

template <class E> struct Product {
  const E* a;
  Size lda;
  const E* b;
  Size ldb;
  Sum<E>* c;
  Size ldc;
  Size k;
  int finish;
  const Sum<E>* bias;
  const pynn::Step* step;
  bool wide = false;  // B is more than the nearest cache holds
  // Rows of B to be asked for, one with each of the first steps of k.
  const E* ahead = nullptr;
  Size ld_ahead = 0, rows_ahead = 0;
  // What will be copied to where B is, while this product goes on.
  const E* next = nullptr;
  Size ld_next = 0, next_k = 0, next_n = 0;
};

// Ask for a line, to be had from the second cache: that can wait for more of them than the first.
inline void fetch(const void* at) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(at, 0, 2);
  // A function that does nothing else is pure to GCC, which then leaves out calls of it.
  asm volatile("");
#endif
}

// Rows of B and of a turned A lie a page or more apart, where no processor sees the next one coming.
// So many steps of k ahead they are asked for: hundreds of cycles, as far as memory is.
constexpr Size steps_ahead = 32;

template <class E, int ROWS, int COLS, bool BY_COLUMN>
void tile(const Product<E>& p, Size i, Size j) {
  using T = Sum<E>;
  const E* a = p.a + (BY_COLUMN ? i : i * p.lda);
  const E* b = in_panels<E> ? p.b + j / panel<E> * p.ldb : p.b + j;
  T* c = p.c + i * p.ldc + j;
  const Size lda = p.lda, ldb = p.ldb, ldc = p.ldc, k = p.k;
  V<T> acc[ROWS][COLS];
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
      for (int v = 0; v < COLS; ++v) acc[r][v] = load(c + r * ldc + v * width<T>);
  const E* ahead = p.ahead;
  const Size ld_ahead = p.ld_ahead;
  // Two steps at a time: what a step costs beside its products shows, down to the clock of a processor that
  // slows down with all that it does in a cycle.
  const auto add = [&](Size q, Size stop, auto asks) {
    PYNN_UNROLL_TWICE
    for (; q < stop; ++q) {
      V<E> row[COLS];
      if constexpr (asks) {
        PYNN_UNROLL
        for (int v = 0; v < COLS; ++v) fetch(ahead + q * ld_ahead + v * width<T>);
      }
      if (BY_COLUMN && q + steps_ahead < k) fetch(a + (q + steps_ahead) * lda);
      PYNN_UNROLL
      for (int v = 0; v < COLS; ++v)
        row[v] = load(in_panels<E> ? b + v / 2 * ldb + q * panel<E> + v % 2 * width<E>
                                   : b + q * ldb + v * width<E>);
      PYNN_UNROLL
      for (int r = 0; r < ROWS; ++r) {
        const V<E> x = set1(BY_COLUMN ? a[q * lda + r] : a[r * lda + q]);
        PYNN_UNROLL
        for (int v = 0; v < COLS; ++v) acc[r][v] = fma(x, row[v], acc[r][v]);
      }
    }
  };
  const Size asked = in_panels<E> || p.rows_ahead < 0 ? 0 : p.rows_ahead < k ? p.rows_ahead : k;
  if constexpr (!in_panels<E>) add(0, asked, std::true_type());
  add(asked, k, std::false_type());
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
  // A sum that has become too small for its type is a zero of its own sign, to which a further zero
  // makes a difference. Without signs a sum is the same whether or not its zeros are skipped.
  PYNN_UNROLL
  for (int r = 0; r < ROWS; ++r)
    PYNN_UNROLL
    for (int v = 0; v < COLS; ++v) store(c + r * ldc + v * width<T>, acc[r][v] + set1(T(0)));
}

template <class E> using Tile = void (*)(const Product<E>&, Size, Size);

// The tile for ROWS rows and COLS vectors, found by counting down: null where it would not fit.
template <class E, int COLS, bool BY_COLUMN, int ROWS = tile_registers / COLS>
Tile<E> tile_for(Size rows) {
  if constexpr (ROWS == 0)
    return nullptr;
  else
    return rows == ROWS ? tile<E, ROWS, COLS, BY_COLUMN>
                        : tile_for<E, COLS, BY_COLUMN, ROWS - 1>(rows);
}

// The panel of COLS vectors that begins at column ``from``, of as many as there are from there on: all rows
// pass by, so that the panel of B stays in the nearest cache. Of several tiles each asks for a part of the
// panel after it; one alone asks for its own rows.
template <class E, int COLS, bool BY_COLUMN>
void one_panel(Product<E> p, Size m, Size from, Size vectors) {
  using T = Sum<E>;
  const Size most = tile_registers / COLS, tiles = (m + most - 1) / most;
  const Size rows = m / tiles, longer = m % tiles;
  const Tile<E> small = tile_for<E, COLS, BY_COLUMN>(rows);
  const Tile<E> large = longer ? tile_for<E, COLS, BY_COLUMN>(rows + 1) : small;
  Size i = 0;
  for (Size t = 0; t < tiles; ++t) {
    const Size begin = (p.next ? p.next_k : p.k) * t / tiles, end = (p.next ? p.next_k : p.k) * (t + 1) / tiles;
    p.ld_ahead = p.ldb;
    if (p.next) {
      p.ahead = p.next + begin * p.ld_next + from;
      p.ld_ahead = p.ld_next;
      p.rows_ahead = from < p.next_n ? end - begin : 0;
    } else if (tiles == 1) {
      p.ahead = p.b + steps_ahead * p.ldb + from;
      p.rows_ahead = p.k - steps_ahead;
    } else if (p.wide && vectors > COLS) {
      p.ahead = p.b + begin * p.ldb + from + COLS * width<E>;
      p.rows_ahead = end - begin;
    }
    if (p.wide) {
      // Of C what the next tile will write, which would else be waited for.
      const bool below = t + 1 < tiles;
      T* c = p.c + (below ? i + rows + (t < longer) : 0) * p.ldc + from + (below ? 0 : COLS * width<T>);
      if (below || vectors > COLS)
        for (Size r = 0; r < rows; ++r)
          for (int v = 0; v < COLS; ++v) fetch(c + r * p.ldc + v * width<T>);
    }
    (t < longer ? large : small)(p, i, from);
    i += rows + (t < longer);
  }
}

// Columns in panels of COLS vectors for as long as whole panels fit, then narrower ones; none of one vector
// behind three, which would wait for its broadcasts. Four are one panel where registers allow it.
template <class E, int COLS, bool BY_COLUMN>
void panels(const Product<E>& p, Size m, Size from, Size vectors) {
  if constexpr (COLS > 0) {
    for (; vectors >= COLS && !(COLS == 3 && vectors == 4) && !(COLS == 2 && !in_panels<E> && vectors == 3);
         vectors -= COLS, from += COLS * width<E>)
      one_panel<E, COLS, BY_COLUMN>(p, m, from, vectors);
    constexpr int last = COLS == 2 ? 3 : COLS == 3 && tile_registers / 4 > 4 ? 4 : 0;
    if constexpr (last && !in_panels<E>) {
      if (vectors == last) {
        one_panel<E, last, BY_COLUMN>(p, m, from, vectors);
        return;
      }
    }
    if (vectors) panels<E, COLS == 3 ? 2 : COLS / 2, BY_COLUMN>(p, m, from, vectors);
  }
}

template <class E> void multiply(const Product<E>& p, int by_column, Size m, Size n) {
  const Size vectors = (n + width<E> - 1) / width<E>;
  // Few rows need more columns at a time, or the additions wait for each other.
  const int most = tile_registers / 2;
  if (m * 4 <= most)
    by_column ? panels<E, 8, true>(p, m, 0, vectors) : panels<E, 8, false>(p, m, 0, vectors);
  else if (m * 2 <= most)
    by_column ? panels<E, 4, true>(p, m, 0, vectors) : panels<E, 4, false>(p, m, 0, vectors);
  else if (in_panels<E>)
    by_column ? panels<E, 2, true>(p, m, 0, vectors) : panels<E, 2, false>(p, m, 0, vectors);
  else
    by_column ? panels<E, 3, true>(p, m, 0, vectors) : panels<E, 3, false>(p, m, 0, vectors);
}

// What the nearest cache is sure not to hold.
constexpr Size near_bytes = 128 * 1024;
// Of a B that the second cache does not hold, so many rows at a time: as many pages of memory as a
// processor finds its way to at once, and with A no more than that cache holds.
constexpr Size far_bytes = 1 << 20;
constexpr Size near_rows = 256;
// A turned A whose rows lie further apart is copied to where they lie together, if C is as wide and
// deserves it.
constexpr Size apart_bytes = 4096;
constexpr Size few_steps = 16;

// A product whose B comes from afar and serves many rows: blocks of it are copied to where they lie together,
// in few pages of memory, and the next block is asked for while one is multiplied by.
constexpr Size packed_rows = 256;
constexpr Size packed_bytes = 128 * 1024;

template <class E>
void matmul_packed(Product<E> p, int by_column, Size m, Size n, Size deepest) {
  const E *a = p.a, *b = p.b;
  const Size lda = p.lda, ldb = p.ldb, k = p.k, item = sizeof(E);
  const int finish = p.finish;
  E* const copy = (E*)pynn::scratch();
  E* const turned = copy + packed_bytes / item;
  const Size parts = (k + deepest - 1) / deepest, deep = (k + parts - 1) / parts;
  const Size all = (n + width<E> - 1) / width<E> * width<E>;
  Size cols = packed_bytes / item / deep / width<E>;
  // Rows an odd number of vectors apart share no sets of the nearest cache.
  const Size ld = (cols - (cols % 2 == 0)) * width<E>;
  cols = ld / width<E> / 3 * 3 * width<E>;
  p.wide = true;
  p.ld_next = ldb;
  p.ldb = ld;
  const auto* bias = p.bias;
  auto* c = p.c;
  for (Size q = 0; q < k; q += deep) {
    p.k = k - q < deep ? k - q : deep;
    p.a = by_column ? a + q * lda : a + q;
    if (by_column) {
      for (Size s = 0; s < p.k; ++s)
        for (Size r = 0; r < m; ++r) turned[s * m + r] = p.a[s * lda + r];
      p.a = turned;
      p.lda = m;
    }
    p.finish = q ? int(pynn::FINISH_ADD) : finish;
    for (Size j = 0; j < all; j += cols) {
      const Size some = all - j < cols ? all - j : cols;
      for (Size s = 0; s < p.k; ++s)
        for (Size v = 0; v < some; v += width<E>)
          store(copy + s * ld + v, load(b + (q + s) * ldb + j + v));
      const bool across = j + cols < all;
      const Size q_next = across ? q : q + deep, j_next = across ? j + cols : 0;
      p.next = q_next < k ? b + q_next * ldb + j_next : nullptr;
      p.next_k = k - q_next < deep ? k - q_next : deep;
      p.next_n = all - j_next;
      p.b = copy;
      p.c = c + j;
      p.bias = bias ? bias + j : nullptr;
      multiply(p, by_column, m, some);
    }
  }
}

template <class E>
void matmul(const void* a_, Size lda, int by_column, const void* b_, Size ldb, void* c_, Size ldc,
            Size m, Size n, Size k, int finish, const void* bias, const pynn::Step* step) {
  if (m <= 0 || n <= 0) return;
  using T = Sum<E>;
  const E *a = (const E*)a_, *b = (const E*)b_;
  T* c = (T*)c_;
  Product<E> p = {a, lda, b, ldb, c, ldc, k, finish, (const T*)bias, step};
  if (in_panels<E>) {
    multiply(p, by_column, m, n);
    return;
  }
  // A gradient that is subtracted as it ends cannot be added up by parts.
  const Size deepest = finish == pynn::FINISH_SGD ? 2 * near_rows : near_rows;
  if (m >= packed_rows && k * n * Size(sizeof(E)) > far_bytes && k >= few_steps &&
      (finish != pynn::FINISH_SGD || k <= deepest) &&
      (!by_column || packed_bytes + deepest * m * Size(sizeof(E)) <= pynn::SCRATCH_BYTES)) {
    matmul_packed(p, by_column, m, n, deepest);
    return;
  }
  const Size fit = by_column && k > 0 ? packed_bytes / Size(sizeof(E)) / k : 0;
  const bool copied = k >= few_steps && fit >= tile_rows && m > 1 && lda * Size(sizeof(E)) >= apart_bytes &&
                      n * Size(sizeof(E)) >= apart_bytes;
  // Of few products for each element C is what takes the time: its rows go by one after the other.
  const bool shallow = k < few_steps && m * n * Size(sizeof(E)) > far_bytes;
  const Size together_rows = shallow ? tile_rows : copied ? fit : m;
  const Size blocks = (m + together_rows - 1) / together_rows, most = (m + blocks - 1) / blocks;
  E* together = copied ? (E*)pynn::scratch() : nullptr;
  const bool far = !copied && finish != pynn::FINISH_SGD && (m > tile_rows || m * 4 <= tile_rows) &&
                   k * n * Size(sizeof(E)) > far_bytes;
  const Size parts = far ? (k + near_rows - 1) / near_rows : 1;
  const Size deep = parts ? (k + parts - 1) / parts : 0;
  for (Size i = 0; i < m; i += most)
    for (Size q = 0; q == 0 || q < k; q += deep) {
      const Size rows = m - i < most ? m - i : most;
      p.k = k - q < deep ? k - q : deep;
      p.a = by_column ? a + q * lda + i : a + i * lda + q;
      if (copied) {
        for (Size s = 0; s < p.k; ++s)
          for (Size r = 0; r < rows; ++r) together[s * most + r] = p.a[s * lda + r];
        p.a = together;
        p.lda = most;
      }
      p.b = b + q * ldb;
      p.c = c + i * ldc;
      p.finish = q ? int(pynn::FINISH_ADD) : finish;
      p.wide = p.k * n * Size(sizeof(E)) > near_bytes;
      multiply(p, by_column, rows, n);
      if (!deep) break;
    }
}

}  // namespace
