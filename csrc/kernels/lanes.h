// Products with a narrow matrix that is stored row by row, with the sums of narrow.h.
//
// There lane l of an accumulator sums the terms k = l, l + width, …, and the lanes are summed at
// the end. Here accumulator l, a vector of all outputs, sums the same terms, and the accumulators
// are summed in the same order, so results are identical. No transpose of W is needed, which would
// take longer than the product of a few rows, and zeros of x can be skipped one by one.
//
// When the core uses them (shape_layers in setup.pxi): for predictions of a few rows, with W in
// place, and for a first layer that skips the zeros of x.
#pragma once

#include "simd.h"
#include "tile.h"

namespace {

// W (k, ldw) with fewer columns than a vector has lanes, which is read up to its last element and
// no further: the last rows, of which a whole vector would exceed it, are copied.
template <class T> struct NarrowRowsOf {
  const T* w;
  Size ldw;
  Size whole;                          // rows that are read in place: a multiple of the width
  T last[2 * width<T>][width<T>] = {}; // the others, and rows of zeros

  NarrowRowsOf(const T* w_, Size ldw_, Size n, Size k) : w(w_), ldw(ldw_) {
    const Size room = (k - 1) * ldw + n - width<T>;
    whole = room < 0 ? 0 : (room / ldw + 1) / width<T> * width<T>;
    for (Size q = whole; q < k; ++q)
      for (Size j = 0; j < n; ++j) last[q - whole][j] = w[q * ldw + j];
  }
  const T* row(Size q) const { return q < whole ? w + q * ldw : last[q - whole]; }
};

// Adds the accumulators in the order in which sum() of simd.h adds lanes.
template <class T, int COUNT> PYNN_FORCE_INLINE V<T> sum_accumulators(V<T>* acc) {
  if constexpr (COUNT == 1) {
    return acc[0];
  } else {
    PYNN_UNROLL
    for (int l = 0; l < COUNT / 2; ++l) acc[l] = acc[l] + acc[l + COUNT / 2];
    return sum_accumulators<T, COUNT / 2>(acc);
  }
}

// z (n,) = bias + the sum of the accumulators; its pads become 0. + 0 removes the sign of a zero,
// as in tile.h.
template <class T> PYNN_FORCE_INLINE void finish_lanes(V<T>* acc, const T* bias, T* z, Size n) {
  const V<T> zero = set1(T(0));
  const V<T> total = load(bias) + sum_accumulators<T, width<T>>(acc) + zero;
  store(z, select(first_lanes<T>(n), total, zero));
}

template <class T>
void matmul_lanes(const void* x_, Size ldx, const void* w_, Size ldw, void* z_, Size ldz, Size m,
                  Size n, Size k, const void* bias) {
  constexpr int W = width<T>;
  const NarrowRowsOf<T> w((const T*)w_, ldw, n, k);
  for (Size i = 0; i < m; ++i) {
    const T* x = (const T*)x_ + i * ldx;
    V<T> acc[W];
    PYNN_UNROLL
    for (int l = 0; l < W; ++l) acc[l] = set1(T(0));
    for (Size q = 0; q < w.whole; q += W)
      PYNN_UNROLL
      for (int l = 0; l < W; ++l) acc[l] = fma(set1(x[q + l]), load(w.w + (q + l) * ldw), acc[l]);
    for (Size q = w.whole; q < k; q += W)
      PYNN_UNROLL
      for (int l = 0; l < W; ++l)
        acc[l] = fma(set1(x[q + l]), load(w.last[q - w.whole + l]), acc[l]);
    finish_lanes(acc, (const T*)bias, (T*)z_ + i * ldz, n);
  }
}

// Rows of x at a time: their accumulators, of AVX-512 32 KiB, stay in L1 while a part of W is used.
constexpr Size lanes_rows = 32;

// The listed elements of a row of x, from its column ``base`` on, and the accumulators of the row.
template <class T> struct ListedRow {
  const T* x;
  T* sums;  // (W, W)
  const uint16_t *at, *end;

  PYNN_FORCE_INLINE void add(const NarrowRowsOf<T>& w, Size base) {
    const Size q = *at++;
    T* const sum = sums + q % width<T> * width<T>;
    store(sum, fma(set1(x[q]), load(w.row(base + q)), load(sum)));
  }
};

// Adds the elements of four rows side by side, since a processor may let every load of an
// accumulator wait for the last store of the same instruction; then the rest of each.
template <class T>
void add_four_rows(ListedRow<T> (&row)[4], const NarrowRowsOf<T>& w, Size base) {
  Size shared = PTRDIFF_MAX;
  for (const ListedRow<T>& r : row) shared = r.end - r.at < shared ? r.end - r.at : shared;
  ListedRow<T> a = row[0], b = row[1], c = row[2], d = row[3];
  for (; shared > 0; --shared) {
    a.add(w, base);
    b.add(w, base);
    c.add(w, base);
    d.add(w, base);
  }
  while (a.at < a.end) a.add(w, base);
  while (b.at < b.end) b.add(w, base);
  while (c.at < c.end) c.add(w, base);
  while (d.at < d.end) d.add(w, base);
}

template <class T>
void sparse_lanes(const void* x_, Size ldx, const uint16_t* list, Size list_ld,
                  const uint32_t* starts, Size starts_ld, Size part, const void* w_, Size ldw,
                  void* z_, Size ldz, Size m, Size n, Size k, const void* bias) {
  constexpr int W = width<T>;
  const NarrowRowsOf<T> w((const T*)w_, ldw, n, k);
  T* const sums = (T*)pynn::scratch();  // (lanes_rows, W, W)
  for (Size first = 0; first < m; first += lanes_rows) {
    const Size rows = m - first < lanes_rows ? m - first : lanes_rows;
    std::memset(sums, 0, size_t(rows * W * W) * sizeof(T));
    for (Size q = 0; q * part < k; ++q) {
      // A list has 16 bits for a column.
      const Size base = q * part / 65536 * 65536;
      const auto listed = [&](Size r) -> ListedRow<T> {
        const Size i = first + r;
        const uint16_t* from = list + i * list_ld;
        return {(const T*)x_ + i * ldx + base, sums + r * W * W, from + starts[q * starts_ld + i],
                from + starts[(q + 1) * starts_ld + i]};
      };
      Size r = 0;
      for (; r + 4 <= rows; r += 4) {
        ListedRow<T> four[] = {listed(r), listed(r + 1), listed(r + 2), listed(r + 3)};
        add_four_rows(four, w, base);
      }
      for (; r < rows; ++r)
        for (ListedRow<T> row = listed(r); row.at < row.end;) row.add(w, base);
    }
    for (Size r = 0; r < rows; ++r) {
      V<T> acc[W];
      PYNN_UNROLL
      for (int l = 0; l < W; ++l) acc[l] = load(sums + (r * W + l) * W);
      finish_lanes(acc, (const T*)bias, (T*)z_ + (first + r) * ldz, n);
    }
  }
}

}  // namespace
