// Kernels that go over rows: reading the data set, transposing, copying and summing.
#pragma once

#include "simd.h"
#include "tile.h"

namespace {

template <class T> constexpr Size round_up(Size n) {
  return (n + width<T> - 1) / width<T> * width<T>;
}

template <class T> void zero_pads(T* row, Size n, Size ld) {
  for (Size j = n; j < ld; ++j) row[j] = 0;
}

// The elements n … ld of a row become 0, in whole vectors: a load of a vector that was stored in
// pieces has to wait for all of the stores.
template <class T> void clear_pads(T* row, Size n, Size ld) {
  for (Size j = n / width<T> * width<T>; j < ld; j += width<T>)
    store(row + j, select(first_lanes<T>(n > j ? n - j : 0), load(row + j), set1(T(0))));
}

// --- Reading the data set ------------------------------------------------------------------------
//
// gather may also write marks: a bit for each vector of a row of ``out``, set if the vector is not
// zero. The kernels of narrow.h skip the vectors whose bit is not set.

template <class T> constexpr Size marked_columns = 64 * width<T>;  // columns per word of marks
template <class T> constexpr Size mark_words(Size ld) {            // words per row
  return (ld + marked_columns<T> - 1) / marked_columns<T>;
}

// A batch reads its rows in random order, which hardware prefetchers cannot predict. At most a page
// of each row is prefetched by software; the rest of a longer row is sequential.
constexpr Size prefetched_bytes = 4096;

void prefetch_row(const char* row, Size bytes) {
  if (bytes <= 0) return;
  const Size into_line = Size(uintptr_t(row) % 64);
  for (Size b = -into_line; b < bytes && b < prefetched_bytes; b += 64) prefetch(row + b);
}

// Sets the mark of the vector that begins at the column.
template <class A> inline void mark(A v, Size column, uint64_t* marks) {
  constexpr Size W = Size(sizeof(A) / sizeof(lane_of(v, 0)));
  marks[column / (64 * W)] |= uint64_t(any_bits(v)) << column / W % 64;
}

// One row of n elements of S, next to each other, to T: to (round_up(n),), pads 0.
template <class T, class S, bool MARK>
PYNN_INLINE void gather_row(const char* row, Size n, T* to, T scale, uint64_t* marks) {
  constexpr int W = width<T>;
  const V<T> factor = set1(scale);
  const Size whole = n / W * W;
  for (Size from = 0; from < whole; from += marked_columns<T>) {
    const Size stop = whole - from < marked_columns<T> ? whole : from + marked_columns<T>;
    uint64_t seen = 0;
    int vector = 0;
    for (Size j = from; j < stop; j += W) {
      const V<T> x = load_as<T, S>(row + j * Size(sizeof(S))) * factor;
      store(to + j, x);
      if (MARK) seen |= uint64_t(any_bits(x)) << vector++;
    }
    if (MARK) marks[from / marked_columns<T>] = seen;
  }
  if (whole < n) {
    const V<T> x = load_first<T, S>(row + whole * Size(sizeof(S)), n - whole) * factor;
    store(to + whole, x);
    if (MARK) mark(x, whole, marks);
  }
}

// Rows of x, converted and multiplied by ``scale``, and their marks, unless null.
template <class T> struct Gathered {
  T* out;
  Size ld;
  T scale;
  uint64_t* marks;

  T* row(Size i) const { return out + i * ld; }
  // The marks of row i, all of them 0.
  uint64_t* cleared(Size i) const {
    const Size words = mark_words<T>(ld);
    if (marks) std::memset(marks + i * words, 0, size_t(words) * sizeof *marks);
    return marks ? marks + i * words : nullptr;
  }
};

template <class T, class S, bool MARK>
void gather_contiguous(const char* x, Size row_stride, const uint32_t* order, Size m, Size n,
                       const Gathered<T>& to, const uint32_t* next, Size known) {
  for (Size i = 0; i < m; ++i) {
    if (i < known) prefetch_row(x + Size(next[i]) * row_stride, n * Size(sizeof(S)));
    gather_row<T, S, MARK>(x + Size(order ? order[i] : i) * row_stride, n, to.row(i), to.scale,
                           MARK ? to.cleared(i) : nullptr);
  }
}

template <class T, class S>
void gather_strided(const char* x, Size row_stride, Size col_stride, const uint32_t* order, Size m,
                    Size n, const Gathered<T>& to) {
  for (Size i = 0; i < m; ++i) {
    const char* row = x + Size(order ? order[i] : i) * row_stride;
    T* const out = to.row(i);
    for (Size j = 0; j < n; ++j) {
      S value;
      std::memcpy(&value, row + j * col_stride, sizeof(S));
      out[j] = T(value) * to.scale;
    }
    zero_pads(out, n, round_up<T>(n));
    uint64_t* const marked = to.cleared(i);
    for (Size j = 0; marked && j < n; j += width<T>) mark(load(out + j), j, marked);
  }
}

template <class T, class S>
void gather_rows(const char* x, Size row_stride, Size col_stride, const uint32_t* order, Size m,
                 Size n, const Gathered<T>& to, const uint32_t* next, Size known) {
  if (col_stride != Size(sizeof(S)))
    gather_strided<T, S>(x, row_stride, col_stride, order, m, n, to);
  else if (to.marks)
    gather_contiguous<T, S, true>(x, row_stride, order, m, n, to, next, known);
  else
    gather_contiguous<T, S, false>(x, row_stride, order, m, n, to, next, known);
}

template <class T>
void gather(int source, const char* x, Size row_stride, Size col_stride, const uint32_t* order,
            Size m, Size n, void* out, Size ldo, const uint32_t* next, Size known,
            uint64_t* marks) {
  const T scale = source == pynn::SOURCE_UINT8 ? T(1.0 / 255) : T(1);
  const Gathered<T> to = {(T*)out, ldo, scale, marks};
  auto* const read = source == pynn::SOURCE_UINT8     ? gather_rows<T, uint8_t>
                     : source == pynn::SOURCE_FLOAT32 ? gather_rows<T, float>
                                                      : gather_rows<T, double>;
  read(x, row_stride, col_stride, order, m, n, to, next, known);
}

// One row of n elements of S, ``step`` bytes apart, to T: to (round_up(n),), pads 0. Everything is
// double before the last rounding, as in the reference.
template <class T, class S>
PYNN_INLINE void standardize_row(const char* __restrict row, Size step, Size n, T* __restrict to,
                                 const double* __restrict mean, const double* __restrict inverse) {
  constexpr double unit = sizeof(S) == 1 ? 1.0 / 255 : 1;
  for (Size j = 0; j < n; ++j) {
    S value;
    std::memcpy(&value, row + j * step, sizeof(S));
    to[j] = T((double(value) * unit - mean[j]) * inverse[j]);
  }
  zero_pads(to, n, round_up<T>(n));
}

template <class T, class S>
void standardize_rows(const char* x, Size row_stride, Size col_stride, const uint32_t* order,
                      Size m, Size n, T* out, Size ldo, const uint32_t* next, Size known,
                      const double* mean, const double* inverse) {
  for (Size i = 0; i < m; ++i) {
    const char* row = x + Size(order ? order[i] : i) * row_stride;
    if (col_stride != Size(sizeof(S))) {
      standardize_row<T, S>(row, col_stride, n, out + i * ldo, mean, inverse);
      continue;
    }
    if (i < known) prefetch_row(x + Size(next[i]) * row_stride, n * Size(sizeof(S)));
    standardize_row<T, S>(row, sizeof(S), n, out + i * ldo, mean, inverse);
  }
}

template <class T>
void gather_standardized(int source, const char* x, Size row_stride, Size col_stride,
                         const uint32_t* order, Size m, Size n, void* out, Size ldo,
                         const uint32_t* next, Size known, const double* mean,
                         const double* inverse) {
  auto* const read = source == pynn::SOURCE_UINT8     ? standardize_rows<T, uint8_t>
                     : source == pynn::SOURCE_FLOAT32 ? standardize_rows<T, float>
                                                      : standardize_rows<T, double>;
  read(x, row_stride, col_stride, order, m, n, (T*)out, ldo, next, known, mean, inverse);
}

// --- Checking x ----------------------------------------------------------------------------------

// The extremes of some vectors, and a sum that is NaN if an element is NaN or infinite.
template <class S> struct Extremes {
  V<S> low, high, sum = set1(S(0));

  explicit Extremes(S first) : low(set1(first)), high(set1(first)) {}

  PYNN_FORCE_INLINE void add(V<S> x) {
    low = minimum<S>(low, x);
    high = maximum<S>(high, x);
    sum = fma(x, set1(S(0)), sum);
  }
};

template <class S> bool is_within(S x, S least, S most) { return x >= least && x <= most; }

template <class S>
bool rows_within(const char* x, Size row_stride, Size col_stride, Size m, Size n, S least, S most) {
  constexpr int W = width<S>;
  Extremes<S> even(least), odd(least);  // two, to hide the latency of the additions
  bool good = true;
  for (Size i = 0; i < m; ++i) {
    const char* row = x + i * row_stride;
    Size j = 0;
    if (col_stride == Size(sizeof(S)))
      for (; j + 2 * W <= n; j += 2 * W) {
        even.add(load_as<S, S>(row + j * Size(sizeof(S))));
        odd.add(load_as<S, S>(row + (j + W) * Size(sizeof(S))));
      }
    for (; j < n; ++j) {
      S value;
      std::memcpy(&value, row + j * col_stride, sizeof(S));
      good &= is_within(value, least, most);
    }
  }
  S seen[3][W];
  store(seen[0], minimum<S>(even.low, odd.low));
  store(seen[1], maximum<S>(even.high, odd.high));
  store(seen[2], even.sum + odd.sum);
  for (int v = 0; v < W; ++v)
    good &= is_within(seen[0][v], least, most) && is_within(seen[1][v], least, most) &&
            seen[2][v] == 0;
  return good;
}

// Infinite bounds would let infinity pass, so those of the caller are finite.
bool within(int source, const char* x, Size row_stride, Size col_stride, Size m, Size n,
            double least, double most) {
  if (source == pynn::SOURCE_FLOAT32)
    return rows_within<float>(x, row_stride, col_stride, m, n, float(least), float(most));
  if (source == pynn::SOURCE_FLOAT64)
    return rows_within<double>(x, row_stride, col_stride, m, n, least, most);
  return true;
}

// --- Moving and summing --------------------------------------------------------------------------

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

template <class T> void multiply(void* d_, const void* s_, Size ld, Size m) {
  T* d = (T*)d_;
  const T* s = (const T*)s_;
  for (Size j = 0; j < m * ld; j += width<T>) store(d + j, load(d + j) * load(s + j));
}

template <class T> void multiply_keeping(void* d_, void* s_, Size ld, Size m) {
  T *d = (T*)d_, *s = (T*)s_;
  for (Size j = 0; j < m * ld; j += width<T>) {
    const V<T> before = load(d + j);
    store(d + j, before * load(s + j));
    store(s + j, before);
  }
}

template <class T> void add(void* d_, const void* s_, Size ld, Size m) {
  T* d = (T*)d_;
  const T* s = (const T*)s_;
  for (Size j = 0; j < m * ld; j += width<T>) store(d + j, load(d + j) + load(s + j));
}

template <class T>
void copy_far(const void* from_, Size ldf, void* to_, Size ldt, Size m, Size n) {
  for (Size i = 0; i < m; ++i) {
    const T* from = (const T*)from_ + i * ldf;
    T* to = (T*)to_ + i * ldt;
    // Non-temporal stores need whole vectors at aligned addresses: before the first and after the
    // last, and in a row whose elements are not even aligned to their size, memcpy copies.
    const Size before = Size(-(uintptr_t)to % PYNN_VECTOR_BYTES);  // bytes
    const Size aligned = before / Size(sizeof(T));                 // elements
    const Size head = before % Size(sizeof(T)) || aligned > n ? n : aligned;
    const Size end = head + (n - head) / width<T> * width<T>;
    std::memcpy(to, from, size_t(head) * sizeof(T));
    for (Size j = head; j < end; j += width<T>) stream(to + j, load(from + j));
    std::memcpy(to + end, from + end, size_t(n - end) * sizeof(T));
  }
  stream_fence();
}

// Two accumulators per row, of even and odd vectors, so that additions overlap.
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

}  // namespace
