// Checks the activation functions and their derivatives: activations.h.

#include "checker.h"

template <class T> Wide<T> naive_activation(int f, Wide<T> z, Wide<T>& slope) {
  using W = Wide<T>;
  switch (f) {
    case SIGMOID: {
      const W a = 1 / (1 + std::exp(-z));
      slope = a * (1 - a);
      return a;
    }
    case TANH: {
      const W a = std::tanh(z);
      slope = 1 - a * a;
      return a;
    }
    case RELU: slope = z > 0; return z > 0 ? z : 0;
    case LEAKY_RELU: slope = z > 0 ? W(1) : W(parameter); return z * slope;
    case ELU:
      slope = z > 0 ? W(1) : parameter * std::exp(z);
      return z > 0 ? z : parameter * std::expm1(z);
    case SELU: {
      const W scale = 1.0507009873554804934L, alpha = 1.6732632423543772848L;
      slope = scale * (z > 0 ? W(1) : alpha * std::exp(z));
      return scale * (z > 0 ? z : alpha * std::expm1(z));
    }
    case GELU: {
      const W cdf = std::erfc(-z / std::sqrt(W(2))) / 2;
      slope = cdf + z * std::exp(-z * z / 2) / std::sqrt(8 * std::atan(W(1)));
      return z * cdf;
    }
    case GELU_TANH: {
      const W c = std::sqrt(2 / (4 * std::atan(W(1)))), k = 0.044715L;
      const W t = std::tanh(c * (z + k * z * z * z));
      slope = (1 + t) / 2 + z * (1 - t * t) * c * (1 + 3 * k * z * z) / 2;
      return z * (1 + t) / 2;
    }
    case SOFTPLUS:
      slope = 1 / (1 + std::exp(-parameter * z));
      return (z > 0 ? z : 0) + std::log1p(std::exp(-std::fabs(parameter * z))) / parameter;
    case SILU: {
      const W s = 1 / (1 + std::exp(-z));
      slope = s + z * s * (1 - s);
      return z * s;
    }
    case MISH: {
      const W t = std::tanh(std::log1p(std::exp(z)));
      slope = t + z * (1 - t * t) / (1 + std::exp(-z));
      return z * t;
    }
    case SOFTSIGN: slope = std::pow(1 + std::fabs(z), W(-2)); return z / (1 + std::fabs(z));
    case RELU6: slope = z > 0 && z < 6; return std::min(std::max(z, W(0)), W(6));
    case HARD_SIGMOID:
      slope = W(z > -3 && z < 3) / 6;
      return std::min(std::max(z + 3, W(0)), W(6)) / 6;
    case HARD_SWISH:
      slope = z >= 3 ? W(1) : z > -3 ? (2 * z + 3) / 6 : W(0);
      return z * std::min(std::max(z + 3, W(0)), W(6)) / 6;
    case HARD_TANH: slope = z > -1 && z < 1; return std::min(std::max(z, W(-1)), W(1));
    case EXP: return slope = std::exp(z);
    default: slope = 1; return z;
  }
}

template <class T> std::vector<Wide<T>> naive_softmax(const std::vector<Wide<T>>& z) {
  using W = Wide<T>;
  std::vector<W> p(z.size());
  const W largest = *std::max_element(z.begin(), z.end());
  W total = 0;
  for (size_t j = 0; j < z.size(); ++j) total += p[j] = std::exp(z[j] - largest);
  for (W& value : p) value /= total;
  return p;
}

template <class T> void Check<T>::activate(Size m, Size n, Size variant) {
  using W = Wide<T>;
  const Size ld = padded(n, variant);
  for (int f = IDENTITY; f <= EXP; ++f)
    for (int with_slope = 0; with_slope < 2; ++with_slope) {
      T* z = reals(operand[0], "z", m, n, ld, FIRST);
      T* slope = with_slope ? operand[1].place<T>("slope", m * ld) : nullptr;
      at("activate", "activation=%d m=%td n=%td ld=%td slope=%d", f, m, n, ld, with_slope);
      k.activate(f, parameter, z, slope, ld, m, n);
      for (Size i = 0; i < m; ++i) {
        std::vector<W> row;
        for (Size j = 0; j < n; ++j) row.push_back(W(T(0.75) * T(integer(i, j, FIRST))));
        const std::vector<W> p = f == SOFTMAX ? naive_softmax<T>(row) : row;
        for (Size j = 0; j < n; ++j) {
          W expected_slope = 0;
          const W a =
              f == SOFTMAX ? p[size_t(j)] : naive_activation<T>(f, row[size_t(j)], expected_slope);
          close<T>(z[i * ld + j], a, 1 + std::fabs(a), "z", i, j);
          if (with_slope && f != SOFTMAX)
            close<T>(slope[i * ld + j], expected_slope, 1 + std::fabs(expected_slope), "slope", i,
                     j);
        }
        for (Size j = n; j < up(n); ++j) zero_pad(z[i * ld + j], "z", i, j);
        if (f == SOFTMAX) continue;
        for (Size j = up(n); j < ld; ++j) zero_pad(z[i * ld + j], "z", i, j);
        for (Size j = n; with_slope && j < ld; ++j) zero_pad(slope[i * ld + j], "slope", i, j);
      }
    }
}

template <class T> void Check<T>::times_slope(Size m, Size n, Size variant) {
  using W = Wide<T>;
  const Size ld = padded(n, variant);
  for (int f = IDENTITY; f < SOFTMAX; ++f) {
    if (slope_needs_z(f)) continue;
    T* a = reals(operand[1], "a", m, n, ld, FIRST);
    T* d = reals(operand[0], "d", m, n, ld, SECOND);
    for (Size i = 0; i < m; ++i)
      for (Size j = n; j < ld; ++j) a[i * ld + j] = d[i * ld + j] = 0;
    operand[1].protect();
    at("times_slope", "activation=%d m=%td n=%td ld=%td", f, m, n, ld);
    k.times_slope(f, parameter, d, a, ld, m);
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        const W y = a[i * ld + j];
        const W slope = f == SIGMOID        ? y * (1 - y)
                        : f == TANH         ? 1 - y * y
                        : f == RELU         ? W(y > 0)
                        : f == LEAKY_RELU   ? y > 0 ? W(1) : W(parameter)
                        : f == ELU          ? y > 0 ? W(1) : y + W(parameter)
                        : f == SOFTPLUS     ? -std::expm1(-parameter * y)
                        : f == SELU         ? y > 0 ? W(1.0507009873554804934L)
                                                    : y + W(1.7580993408473768599L)
                        : f == SOFTSIGN     ? (1 - std::fabs(y)) * (1 - std::fabs(y))
                        : f == RELU6        ? W(y > 0 && y < 6)
                        : f == HARD_SIGMOID ? W(y > 0 && y < 1) / 6
                        : f == HARD_TANH    ? W(y > -1 && y < 1)
                                            : W(1);
        const W want = W(T(0.75) * T(integer(i, j, SECOND))) * slope;
        close<T>(d[i * ld + j], want, 40 + std::fabs(want), "d", i, j);
      }
      for (Size j = n; j < ld; ++j) zero_pad(d[i * ld + j], "d", i, j);
    }
  }
}

// A NaN stays NaN, and no value is undefined behaviour.
template <class T> void Check<T>::extreme_values() {
  const std::vector<T> all = extremes<T>();
  const Size n = Size(all.size()), ld = up(n);
  for (int f = IDENTITY; f <= EXP; ++f) {
    if (f == SOFTMAX) continue;
    T* z = operand[0].place<T>("z", ld);
    T* slope = operand[1].place<T>("slope", ld);
    std::copy(all.begin(), all.end(), z);
    at("activate", "activation=%d on extreme values", f);
    k.activate(f, parameter, z, slope, ld, 1, n);
    for (Size j = 0; j < n; ++j) {
      ++values;
      if (std::isnan(all[size_t(j)]) && !std::isnan(z[j])) fail("NaN became %g", double(z[j]));
      // 0 · ∞ in gelu alone.
      if (!std::isnan(all[size_t(j)]) && std::isnan(z[j]) && f != GELU)
        fail("%g became NaN", double(all[size_t(j)]));
    }
    T* d = operand[2].place<T>("d", ld);
    T* a = operand[3].place<T>("a", ld);
    std::fill(d, d + ld, T(1));
    std::fill(a, a + ld, T(0));
    std::copy(all.begin(), all.end(), a);
    operand[3].protect();
    k.times_slope(f, parameter, d, a, ld, 1);
  }
}

template <class T> void Check<T>::check_activations() {
  at_both_sides([&] {
    for_each_two([&](Size m, Size n, Size variant) {
      activate(m, n, variant);
      times_slope(m, n, variant);
    });
    extreme_values();
  });
}

template void Check<float>::check_activations();
template void Check<double>::check_activations();

template double naive_activation<float>(int, double, double&);
template long double naive_activation<double>(int, long double, long double&);
template std::vector<double> naive_softmax<float>(const std::vector<double>&);
template std::vector<long double> naive_softmax<double>(const std::vector<long double>&);
