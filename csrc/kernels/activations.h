// Activation functions and their derivatives, the formulas of pynn/backends/activations.py.
#pragma once

#include "maths.h"
#include "rows.h"
#include "simd.h"

namespace {

constexpr double leaky_slope = 0.01;

// Returns f(z), and f'(z) in slope.
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

// f'(z), computed from a = f(z).
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

// activation, with f known only at run time.
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

// z (m, ld) becomes f(z), and slope (m, ld), unless null, f'(z); all pads become 0.
template <class T, int F> void activate_rows(T* z, T* slope, Size ld, Size m, Size n) {
  // Pads are written as part of whole vectors: a load of a vector that was stored in pieces has to
  // wait for all of the stores.
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

// The largest of n values.
template <class T> T row_maximum(const T* z, Size n) {
  T most = z[0];
  for (Size j = 1; j < n; ++j) most = z[j] > most ? z[j] : most;
  return most;
}

// z (n,) becomes e^(z − most), its pads 0. Returns the sum of all elements but number ``left_out``.
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

// z (m, ld) becomes softmax(z), row by row; pads up to a whole vector become 0.
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

// d (count,) *= f'(z), with a (count,) = f(z).
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

}  // namespace
