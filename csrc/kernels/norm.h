// Normalisation over the units of each row: the formulas of pynn/backends/norms.py.
#pragma once

#include "maths.h"
#include "rows.h"
#include "simd.h"

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

}  // namespace
