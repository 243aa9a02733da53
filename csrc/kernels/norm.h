// Normalisation over the units of each row, and over the rows of a batch: the formulas of
// pynn/backends/norms.py.
#pragma once

#include "maths.h"
#include "rows.h"
#include "simd.h"

#include <type_traits>

namespace {

// Calls ``step(j, inside)`` for each vector of a row of n elements; ``inside(x)`` is x with 0 in the
// lanes past n.
template <class T, class Step> PYNN_INLINE void over_row(Size n, Step step) {
  const Size whole = n / width<T> * width<T>;
  for (Size j = 0; j < whole; j += width<T>) step(j, [](V<T> x) { return x; });
  if (whole < n) {
    const auto rest = first_lanes<T>(n - whole);
    step(whole, [rest](V<T> x) { return select(rest, x, set1(T(0))); });
  }
}

// z (m, n) becomes scale ⊙ ẑ + shift; ẑ goes to normed (m, n) and 1 / √(v + ε) to inverse (m,), unless
// they are null. CENTERS: layer norm, otherwise rms norm.
template <class T, bool CENTERS>
void normalize_rows(T epsilon, T* z, T* normed, T* inverse, const T* scale, const T* shift, Size ld,
                    Size m, Size n) {
  const T count = T(n);
  for (Size i = 0; i < m; ++i, z += ld) {
    V<T> mean = set1(T(0)), squares = mean;
    if constexpr (CENTERS) {
      over_row<T>(n, [&](Size j, auto inside) { mean = mean + inside(load(z + j)); });
      mean = set1(sum(mean) / count);
    }
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> x = inside(load(z + j) - mean);
      squares = fma(x, x, squares);
    });
    const V<T> factor = set1(T(1)) / square_root(set1(sum(squares) / count + epsilon));
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> x = inside((load(z + j) - mean) * factor);
      if (normed) store(normed + j, x);
      store(z + j, CENTERS ? fma(x, load(scale + j), load(shift + j)) : x * load(scale + j));
    });
    if (normed) {
      inverse[i] = lane_of(factor, 0);
      normed += ld;
    }
  }
}

template <class T>
void normalize(int centers, double epsilon, void* z, void* normed, void* inverse, const void* scale,
               const void* shift, Size ld, Size m, Size n) {
  auto* const rows = centers ? normalize_rows<T, true> : normalize_rows<T, false>;
  rows(T(epsilon), (T*)z, (T*)normed, (T*)inverse, (const T*)scale, (const T*)shift, ld, m, n);
}

// d (m, n) = dy becomes dz; normed = ẑ becomes dy ⊙ ẑ; passed (m, n), unless null, becomes dy.
template <class T, bool CENTERS>
void normalize_back_rows(T* d, T* normed, const T* inverse, const T* scale, T* passed, Size ld,
                         Size m, Size n) {
  const T count = T(n);
  for (Size i = 0; i < m; ++i, d += ld, normed += ld) {
    V<T> mean = set1(T(0)), through = mean;
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> x = inside(load(d + j)) * load(scale + j);
      if constexpr (CENTERS) mean = mean + x;
      through = fma(x, load(normed + j), through);
    });
    if constexpr (CENTERS) mean = set1(sum(mean) / count);
    through = set1(T(0)) - set1(sum(through) / count);
    const V<T> factor = set1(inverse[i]);
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> dy = inside(load(d + j)), x = load(normed + j);
      store(normed + j, dy * x);
      if (passed) store(passed + j, dy);
      store(d + j, inside(fma(through, x, dy * load(scale + j) - mean) * factor));
    });
    if (passed) passed += ld;
  }
}

template <class T>
void normalize_back(int centers, void* d, void* normed, const void* inverse, const void* scale,
                    void* passed, Size ld, Size m, Size n) {
  auto* const rows = centers ? normalize_back_rows<T, true> : normalize_back_rows<T, false>;
  rows((T*)d, (T*)normed, (const T*)inverse, (const T*)scale, (T*)passed, ld, m, n);
}

// --- Over the rows of a batch ---------------------------------------------------------------------
//
// Columns are taken four vectors at a time, so that the additions of a column, which run upwards, do
// not wait for each other.

// Calls ``columns(j, count)`` for groups of vectors from column j on, with their number as a constant.
template <class T, class Columns> PYNN_INLINE void over_columns(Size n, Columns columns) {
  Size j = 0;
  for (; n - j > 3 * width<T>; j += 4 * width<T>) columns(j, std::integral_constant<int, 4>());
  for (; j < n; j += width<T>) columns(j, std::integral_constant<int, 1>());
}

// mean, variance and factor = 1 / √(variance + ε) (n,) of the columns of z (m, n).
template <class T>
void column_moments(double epsilon, const void* z_, void* mean_, void* variance_, void* factor_,
                    Size ld, Size m, Size n) {
  const T* z = (const T*)z_;
  T *mean = (T*)mean_, *variance = (T*)variance_, *factor = (T*)factor_;
  const V<T> count = set1(T(m)), zero = set1(T(0)), one = set1(T(1)), e = set1(T(epsilon));
  over_columns<T>(n, [&](Size j, auto vectors) {
    constexpr int N = vectors;
    V<T> total[N], squares[N];
    PYNN_UNROLL
    for (int v = 0; v < N; ++v) total[v] = squares[v] = zero;
    for (Size i = 0; i < m; ++i)
      PYNN_UNROLL
      for (int v = 0; v < N; ++v) total[v] = total[v] + load(z + i * ld + j + v * width<T>);
    PYNN_UNROLL
    for (int v = 0; v < N; ++v) total[v] = total[v] / count;
    for (Size i = 0; i < m; ++i)
      PYNN_UNROLL
      for (int v = 0; v < N; ++v) {
        const V<T> x = load(z + i * ld + j + v * width<T>) - total[v];
        squares[v] = fma(x, x, squares[v]);
      }
    PYNN_UNROLL
    for (int v = 0; v < N; ++v) {
      const Size at = j + v * width<T>;
      const auto used = first_lanes<T>(n - at);  // the pads of z may hold anything
      const V<T> found = select(used, squares[v] / count, zero);
      store(mean + at, select(used, total[v], zero));
      store(variance + at, found);
      store(factor + at, one / square_root(found + e));
    }
  });
}

// z (m, n) becomes scale ⊙ ẑ + shift with ẑ = (z − mean) ⊙ factor, which goes to normed (m, n) unless
// it is null.
template <class T>
void normalize_columns(void* z_, void* normed_, const void* mean_, const void* factor_,
                       const void* scale_, const void* shift_, Size ld, Size m, Size n) {
  T *z = (T*)z_, *normed = (T*)normed_;
  const T *mean = (const T*)mean_, *factor = (const T*)factor_;
  const T *scale = (const T*)scale_, *shift = (const T*)shift_;
  for (Size i = 0; i < m; ++i, z += ld) {
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> x = inside((load(z + j) - load(mean + j)) * load(factor + j));
      if (normed) store(normed + j, x);
      store(z + j, inside(fma(x, load(scale + j), load(shift + j))));
    });
    if (normed) normed += ld;
  }
}

// by_normed (n,) = Σ d ⊙ normed and total (n,) = Σ d over the rows of d and normed (m, n).
template <class T>
void column_products(const void* d_, const void* normed_, void* by_normed_, void* total_, Size ld,
                     Size m, Size n) {
  const T *d = (const T*)d_, *normed = (const T*)normed_;
  T *by_normed = (T*)by_normed_, *total = (T*)total_;
  over_columns<T>(n, [&](Size j, auto vectors) {
    constexpr int N = vectors;
    V<T> product[N], plain[N];
    PYNN_UNROLL
    for (int v = 0; v < N; ++v) product[v] = plain[v] = set1(T(0));
    for (Size i = 0; i < m; ++i)
      PYNN_UNROLL
      for (int v = 0; v < N; ++v) {
        const V<T> x = load(d + i * ld + j + v * width<T>);
        plain[v] = plain[v] + x;
        product[v] = fma(x, load(normed + i * ld + j + v * width<T>), product[v]);
      }
    PYNN_UNROLL
    for (int v = 0; v < N; ++v) {
      store(by_normed + j + v * width<T>, product[v]);
      store(total + j + v * width<T>, plain[v]);
    }
  });
}

// d (m, n) becomes scale ⊙ factor ⊙ (d − (total + normed ⊙ by_normed) / count).
template <class T>
void normalize_columns_back(void* d_, const void* normed_, const void* factor_, const void* scale_,
                            const void* by_normed_, const void* total_, double count_, Size ld,
                            Size m, Size n) {
  T* d = (T*)d_;
  const T *normed = (const T*)normed_, *factor = (const T*)factor_, *scale = (const T*)scale_;
  const T *by_normed = (const T*)by_normed_, *total = (const T*)total_;
  const V<T> count = set1(T(1 / count_));
  for (Size i = 0; i < m; ++i, d += ld, normed += ld)
    over_row<T>(n, [&](Size j, auto inside) {
      const V<T> mean = fma(load(normed + j), load(by_normed + j), load(total + j)) * count;
      const V<T> back = load(scale + j) * load(factor + j);
      store(d + j, inside((load(d + j) - mean) * back));
    });
}

// average (count,) += momentum · (correction · x (count,) − average). count is whole vectors.
template <class T>
void blend(void* average_, const void* x_, double momentum, double correction, Size count) {
  T* average = (T*)average_;
  const T* x = (const T*)x_;
  for (Size j = 0; j < count; j += width<T>) {
    const V<T> before = load(average + j), found = set1(T(correction)) * load(x + j);
    store(average + j, fma(set1(T(momentum)), found - before, before));
  }
}

}  // namespace
