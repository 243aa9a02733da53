// Activation functions and their derivatives, the formulas of pynn/backends/activations.py.
//
// To add an activation: a line in PYNN_ACTIVATIONS of kernels.h, a branch in ``activation``, and one
// in ``slope_from`` unless f'(z) needs z.
#pragma once

#include "maths.h"
#include "rows.h"
#include "simd.h"

namespace {

// Beyond ±1000, e^-|z| is 0 in both dtypes: z is clipped where 0 · ∞ would make a NaN.
constexpr double saturated = 1000;

// λ and λ·α of selu (Klambauer et al. 2017, equation 2).
constexpr double selu_scale = 1.0507009873554804934, selu_lowest = 1.7580993408473768599;

template <class T> PYNN_INLINE V<T> clip(V<T> z, T low, T high) {
  return minimum<T>(maximum<T>(z, set1(low)), set1(high));
}

// 1 where low < z < high, 0 elsewhere.
template <class T> PYNN_INLINE V<T> inside(V<T> z, T low, T high) {
  const V<T> zero = set1(T(0));
  return select(greater(z, set1(low)), select(greater(set1(high), z), set1(T(1)), zero), zero);
}

// z·tanh(ln(1 + e^z)) without the logarithm: with e = e^-|z|, tanh is a rational function of e.
template <class T> PYNN_INLINE V<T> mish(V<T> z, V<T>& slope) {
  const V<T> zero = set1(T(0)), one = set1(T(1)), two = set1(T(2));
  const V<T> x = clip<T>(z, -saturated, saturated), e = exponential<T>(zero - absolute(x));
  const auto positive = greater(x, zero);
  // tanh = top / (top + rest) and 1 − tanh² = rest·(2·top + rest) / (top + rest)².
  const V<T> top = select(positive, fma(two, e, one), e * (e + two));
  const V<T> rest = select(positive, two * e * e, two), bottom = top + rest, t = top / bottom;
  const V<T> sigmoid = select(positive, one, e) / (one + e);
  slope = fma(x * sigmoid, rest * (top + bottom) / (bottom * bottom), t);
  return maximum<T>(z, set1(T(-saturated))) * t;
}

// z·sigmoid(u) with u = √(8/π)·(z + 0.044715·z³), which equals ½·z·(1 + tanh(u/2)).
template <class T> PYNN_INLINE V<T> gelu_tanh(V<T> z, V<T>& slope) {
  const V<T> one = set1(T(1)), c = set1(T(1.5957691216057307117)), k = set1(T(0.044715));
  // Beyond ±40 the sigmoid is 0 or 1 in both dtypes.
  const V<T> x = clip<T>(z, -40, 40), square = x * x;
  const V<T> s = sigmoid<T>(c * x * fma(k, square, one));
  slope = fma(x * s * (one - s), c * fma(set1(T(3)) * k, square, one), s);
  return maximum<T>(z, set1(T(-40))) * s;
}

// Returns f(z), and f'(z) in slope. p: the parameter of leaky_relu, elu or softplus.
template <class T, int F> PYNN_INLINE V<T> activation(V<T> z, V<T> p, V<T>& slope) {
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
    slope = select(greater(z, zero), one, p);
    return z * slope;
  } else if constexpr (F == pynn::ELU) {
    const V<T> e = exponential_minus_one<T>(minimum<T>(z, zero));
    slope = select(greater(z, zero), one, p * (e + one));
    return select(greater(z, zero), z, p * e);
  } else if constexpr (F == pynn::GELU) {
    const Normal<T> n = normal<T>(z);
    slope = fma(z, n.density, n.cdf);
    return z * n.cdf;
  } else if constexpr (F == pynn::SOFTPLUS) {
    slope = sigmoid<T>(p * z);
    return softplus<T>(p * z) / p;
  } else if constexpr (F == pynn::SILU) {
    const V<T> x = clip<T>(z, -saturated, saturated), s = sigmoid<T>(x);
    slope = fma(x * s, one - s, s);
    return maximum<T>(z, set1(T(-saturated))) * s;
  } else if constexpr (F == pynn::MISH) {
    return mish<T>(z, slope);
  } else if constexpr (F == pynn::SELU) {
    const V<T> e = exponential_minus_one<T>(minimum<T>(z, zero));
    const V<T> scale = set1(T(selu_scale)), lowest = set1(T(selu_lowest));
    slope = select(greater(z, zero), scale, lowest * (e + one));
    return select(greater(z, zero), scale * z, lowest * e);
  } else if constexpr (F == pynn::SOFTSIGN) {
    // Beyond 1e30 the result is ±1 in both dtypes, and 1 / (1 + |z|) stays a normal number.
    const V<T> x = minimum<T>(absolute(z), set1(T(1e30))), q = one / (one + x);
    slope = q * q;
    return with_sign(x * q, z);
  } else if constexpr (F == pynn::RELU6) {
    slope = inside<T>(z, 0, 6);
    return clip<T>(z, 0, 6);
  } else if constexpr (F == pynn::HARD_SIGMOID) {
    const V<T> x = z + set1(T(3)), six = set1(T(6));
    slope = inside<T>(x, 0, 6) / six;
    return clip<T>(x, 0, 6) / six;
  } else if constexpr (F == pynn::HARD_SWISH) {
    const V<T> three = set1(T(3)), six = set1(T(6)), x = maximum<T>(z, zero - three);
    slope = select(greater(x, zero - three),
                   select(greater(three, x), fma(x, set1(T(2)), three) / six, one), zero);
    return x * (clip<T>(x + three, 0, 6) / six);
  } else if constexpr (F == pynn::HARD_TANH) {
    slope = inside<T>(z, -1, 1);
    return clip<T>(z, -1, 1);
  } else if constexpr (F == pynn::GELU_TANH) {
    return gelu_tanh<T>(z, slope);
  } else if constexpr (F == pynn::EXP) {
    slope = exponential_of_any<T>(z);
    return slope;
  } else {
    slope = one;
    return z;
  }
}

// f'(z), computed from a = f(z).
template <class T, int F> PYNN_INLINE V<T> slope_from(V<T> a, V<T> p) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  if constexpr (F == pynn::SIGMOID) return a * (one - a);
  if constexpr (F == pynn::TANH) return one - a * a;
  if constexpr (F == pynn::RELU) return select(greater(a, zero), one, zero);
  if constexpr (F == pynn::LEAKY_RELU) return select(greater(a, zero), one, p);
  if constexpr (F == pynn::ELU) return select(greater(a, zero), one, a + p);
  if constexpr (F == pynn::SOFTPLUS) return zero - exponential_minus_one<T>(zero - p * a);
  if constexpr (F == pynn::SELU)
    return select(greater(a, zero), set1(T(selu_scale)), a + set1(T(selu_lowest)));
  if constexpr (F == pynn::SOFTSIGN) {
    const V<T> q = one - absolute(a);
    return q * q;
  }
  if constexpr (F == pynn::RELU6) return inside<T>(a, 0, 6);
  if constexpr (F == pynn::HARD_SIGMOID) return inside<T>(a, 0, 1) / set1(T(6));
  if constexpr (F == pynn::HARD_TANH) return inside<T>(a, -1, 1);
  return one;
}

template <int F> struct Number {
  static constexpr int value = F;
};

// Calls ``call`` with the number of an activation as a constant.
template <class Call> PYNN_INLINE void with_constant(int f, Call call) {
  switch (f) {
#define PYNN_CASE(number, name, needs_z) \
  case pynn::number: return call(Number<pynn::number>());
    PYNN_ACTIVATIONS(PYNN_CASE)
#undef PYNN_CASE
  }
}

// activation, with f known only at run time.
template <class T> V<T> activation_of(int f, V<T> z, V<T> p, V<T>& slope) {
  V<T> a = z;
  with_constant(f, [&](auto number) { a = activation<T, number.value>(z, p, slope); });
  return a;
}

// z (m, ld) becomes f(z), and slope (m, ld), unless null, f'(z); all pads become 0.
template <class T, int F>
void activate_rows(T parameter, T* z, T* slope, Size ld, Size m, Size n) {
  // Pads are written as part of whole vectors: a load of a vector that was stored in pieces has to
  // wait for all of the stores.
  const Size whole = n / width<T> * width<T>;
  const auto rest = first_lanes<T>(n - whole);
  const V<T> zero = set1(T(0)), p = set1(parameter);
  for (Size i = 0; i < m; ++i, z += ld, slope += slope ? ld : 0) {
    V<T> s;
    for (Size j = 0; j < whole; j += width<T>) {
      store(z + j, activation<T, F>(load(z + j), p, s));
      if (slope) store(slope + j, s);
    }
    for (Size j = whole; j < ld; j += width<T>) {
      V<T> a = zero;
      s = zero;
      if (j < n) {
        a = select(rest, activation<T, F>(load(z + j), p, s), zero);
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
void activate(int f, double parameter, void* z, void* slope, Size ld, Size m, Size n) {
  if (f == pynn::SOFTMAX) return softmax_rows<T>((T*)z, ld, m, n);
  with_constant(f, [=](auto number) {
    activate_rows<T, number.value>(T(parameter), (T*)z, (T*)slope, ld, m, n);
  });
}

// d (count,) *= f'(z), with a (count,) = f(z).
template <class T, int F> void times_slope_of(T parameter, T* d, const T* a, Size count) {
  const V<T> p = set1(parameter);
  for (Size j = 0; j < count; j += width<T>)
    store(d + j, load(d + j) * slope_from<T, F>(load(a + j), p));
}

template <class T>
void times_slope(int f, double parameter, void* d, const void* a, Size ld, Size m) {
  if (f == pynn::IDENTITY) return;
  with_constant(f, [=](auto number) {
    times_slope_of<T, number.value>(T(parameter), (T*)d, (const T*)a, m * ld);
  });
}

}  // namespace
