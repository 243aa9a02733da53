// Loss functions, their gradients with respect to z, and the share of correct decisions: the
// formulas of pynn/backends/losses.py.
//
// To add a loss: a line in PYNN_LOSSES of kernels.h, its formula in ``term`` or a function of its
// own, and a case in ``loss_of_row``.
#pragma once

#include "activations.h"
#include "maths.h"
#include "rows.h"
#include "simd.h"

#include <cmath>

namespace {

using pynn::Targets;

// --- One row at a time ---------------------------------------------------------------------------

// p clipped to least … 1 − least; a NaN stays NaN.
template <class T> inline T clip(T p, T least) {
  return p < least ? least : p > T(1) - least ? T(1) - least : p;
}

// A row of the batch: its outputs, which the gradient replaces if ``gradient`` is set, and its
// target.
template <class T> struct Row {
  T* z;  // (n,)
  Size n;
  const T* target;  // (n,), or null if there is a label
  int32_t label;
  T scale;  // of the gradient
  bool gradient;
  T least;  // probabilities are clipped to least … 1 − least if it is above 0
  const double* parameters;  // of the loss
  Size n_targets;

  T clipped(T p) const { return clip(p, least); }
  T at(Size j) const { return target ? target[j] : T(j == label); }
  // The targets of ``count`` outputs from number j on, at most a vector.
  V<T> targets(Size j, Size count) const {
    if (target) return count < width<T> ? load_first<T, T>(target + j, count) : load(target + j);
    const V<T> zero = set1(T(0)), one = set1(T(1));
    if (label < j || label >= j + count) return zero;
    return select(first_lanes<T>(label - j), zero, select(first_lanes<T>(label - j + 1), one, zero));
  }
};

// Whether the label is the first of the largest elements.
template <class T> bool label_wins(const T* z, Size n, int32_t label) {
  for (Size j = 0; j < label; ++j)
    if (!(z[j] < z[label])) return false;
  for (Size j = label + 1; j < n; ++j)
    if (!(z[j] <= z[label])) return false;
  return true;
}

template <class T> int32_t first_largest(const T* v, Size n) {
  Size best = 0;
  for (Size j = 1; j < n; ++j)
    if (v[j] > v[best]) best = j;
  return int32_t(best);
}

// ln(1 + d) for finite d ≥ 0: the factor d / (sum − 1) corrects the rounding of 1 + d (Goldberg
// 1991, theorem 4). Faster than log1p of the C library.
inline double log_one_plus(double d) {
  const double sum = 1 + d;
  return sum == 1 ? d : std::log(sum) * (d / (sum - 1));
}

// The gradient of the cross entropy, from z = e^(z − max): softmax(z) − target, times the scale.
// For the element ``best``, whose p is near 1, rest / total = 1 − p avoids the cancellation of p −
// 1.
template <class T>
inline void cross_entropy_gradient(const Row<T>& r, Size best, T rest, T total) {
  if (r.target) {
    const T d = rest < T(1) ? (T(1) - r.target[best]) - rest / total
                            : r.z[best] / total - r.target[best];
    for (Size j = 0; j < r.n; ++j) r.z[j] = (r.z[j] / total - r.target[j]) * r.scale;
    r.z[best] = d * r.scale;
    return;
  }
  const V<T> divisor = set1(total), scale = set1(r.scale);
  for (Size j = 0; j < r.n; j += width<T>) store(r.z + j, load(r.z + j) / divisor * scale);
  r.z[best] = -(rest / total) * r.scale;
}

// One exponential, that of the label or of the largest target, is left out of the sum ``rest``. Its
// 1 − p is then rest / total: near p = 1, where most losses are, loss and gradient keep their
// relative precision.
template <class T> double cross_entropy(const Row<T>& r) {
  const Size best = r.target ? first_largest(r.z, r.n) : r.label;
  const T most = row_maximum(r.z, r.n);
  double picked = 0, weight = 0;  // Σ y·(z − max) and Σ y
  if (r.target) {
    for (Size j = 0; j < r.n; ++j) {
      picked += double(r.target[j]) * (double(r.z[j]) - double(most));
      weight += double(r.target[j]);
    }
  } else {
    picked = double(r.z[best]) - double(most);
    weight = 1;
  }
  const T rest = exponentials(r.z, r.n, most, best), total = rest + r.z[best];
  const double above_one = double(rest) + (double(r.z[best]) - 1);  // total − 1
  double clipped = 0;
  if (r.least > 0)
    for (Size j = 0; j < r.n; ++j)
      if (r.at(j) > 0) clipped -= double(r.at(j)) * std::log(double(r.clipped(r.z[j] / total)));
  if (r.gradient) cross_entropy_gradient(r, best, rest, total);
  if (r.least > 0) return clipped;
  return weight * log_one_plus(above_one) - picked;
}

// The mean over the outputs of max(z, 0) − t·z + ln(1 + e^-|z|), or of the logarithms of the
// clipped probabilities.
template <class T> double binary_cross_entropy(const Row<T>& r) {
  double total = 0;
  for (Size j = 0; j < r.n; j += width<T>) {
    const V<T> z = load(r.z + j), zero = set1(T(0)), one = set1(T(1));
    const V<T> e = exponential<T>(zero - absolute(z));  // e^-|z|
    const V<T> q = e / (one + e);                       // sigmoid(−|z|)
    const auto positive = greater(z, zero);
    // sigmoid(z) = answer + offset, where answer is 0 or 1, so that sigmoid(z) − t does not cancel.
    T zs[width<T>], ramps[width<T>], logs[width<T>], answer[width<T>], offset[width<T>];
    store(zs, z);
    store(ramps, maximum<T>(z, zero));
    store(logs, log_one_plus<T>(e));
    store(answer, select(positive, one, zero));
    store(offset, select(positive, zero - q, q));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) {
      const T t = r.at(j + u);
      if (r.least > 0) {
        const T p = r.clipped(answer[u] + offset[u]);
        if (t > 0) total -= double(t) * std::log(double(p));
        if (t < 1) total -= double(T(1) - t) * std::log(double(T(1) - p));
      } else {
        total += double(ramps[u]) - double(t) * double(zs[u]) + double(logs[u]);
      }
      if (r.gradient) r.z[j + u] = ((answer[u] - t) + offset[u]) * r.scale;
    }
  }
  return total / double(r.n);
}

// The mean over the outputs of e^z − t·z − t + t·ln t.
template <class T> double poisson(const Row<T>& r) {
  double total = 0;
  for (Size j = 0; j < r.n; j += width<T>) {
    T e[width<T>];
    store(e, exponential_of_any<T>(load(r.z + j)));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) {
      const T t = r.at(j + u);
      total += double(e[u]) - double(t) * double(r.z[j + u]) - double(t);
      if (t > 0) total += double(t) * std::log(double(t));
      if (r.gradient) r.z[j + u] = (e[u] - t) * r.scale;
    }
  }
  return total / double(r.n);
}

// The mean over the outputs of (f(z) − t)². Its gradient takes the derivative of the output
// activation into account; for softmax that is p_j·((p_j − t_j) − Σ_i p_i·(p_i − t_i)).
template <class T> double mean_squared_error(const Row<T>& r, int output, double parameter) {
  double total = 0, inner = 0;
  const T twice = T(2) * r.scale;
  if (output == pynn::SOFTMAX) {
    softmax_rows<T>(r.z, round_up<T>(r.n), 1, r.n);
    for (Size j = 0; j < r.n; ++j) inner += double(r.z[j]) * double(r.z[j] - r.at(j));
  }
  for (Size j = 0; j < r.n; j += width<T>) {
    const Size count = r.n - j < width<T> ? r.n - j : width<T>;
    T error[width<T>];
    V<T> slope = set1(T(0)), a = load(r.z + j);
    if (output != pynn::SOFTMAX) a = activation_of<T>(output, a, set1(T(parameter)), slope);
    const V<T> e = a - r.targets(j, count);
    store(error, e);
    for (Size u = 0; u < count; ++u) total += double(error[u]) * double(error[u]);
    if (!r.gradient) continue;
    if (output != pynn::SOFTMAX) {
      store(r.z + j, e * slope * set1(twice));
      continue;
    }
    T p[width<T>];
    store(p, a);
    for (Size u = 0; u < count; ++u) r.z[j + u] = p[u] * T(double(error[u]) - inner) * twice;
  }
  return total / double(r.n);
}

// --- Losses of one output and its target ---------------------------------------------------------

// The losses of outputs a, and their slopes by a.
template <class T> struct Term {
  V<T> loss, slope;
};

// below, 0 or above, by the sign of d.
template <class T> PYNN_INLINE V<T> by_sign(V<T> d, V<T> below, V<T> above) {
  const V<T> zero = set1(T(0));
  return select(greater(d, zero), above, select(greater(zero, d), below, zero));
}

// Focal loss of a yes or no (Lin et al. 2017, eq. 5), in logits z: (1 − p)^γ is e^(−γ·softplus(z)).
// p: γ, the weight of a yes, the weight of a no.
template <class T> PYNN_INLINE Term<T> focal_of_logits(V<T> z, V<T> t, const V<T>* p) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  const V<T> e = exponential<T>(zero - absolute(z)), log = log_one_plus<T>(e);
  const V<T> likely = one / (one + e), rare = e / (one + e);
  const auto negative = greater(zero, z);
  const V<T> yes = select(negative, rare, likely), no = select(negative, likely, rare);
  const V<T> above = maximum<T>(z, zero) + log, below = maximum<T>(zero - z, zero) + log;
  const V<T> a = p[1] * t * exponential<T>(zero - p[0] * above);
  const V<T> b = p[2] * (one - t) * exponential<T>(zero - p[0] * below);
  return {a * below + b * above,
          b * (p[0] * no * above + yes) - a * (p[0] * yes * below + no)};
}

// Of outputs a and their targets t; for the losses with one output activation, a is z. p: the
// parameters of the loss.
template <class T, int L> PYNN_INLINE Term<T> term(V<T> a, V<T> t, const V<T>* parameters) {
  const V<T> zero = set1(T(0)), one = set1(T(1)), d = a - t, p = parameters[0];
  if constexpr (L == pynn::GAMMA) {  // but for the term of t alone: see ``constant``
    const V<T> ratio = t * exponential_of_any<T>(zero - a);
    return {ratio + a, one - ratio};
  } else if constexpr (L == pynn::TWEEDIE) {
    const V<T> up = set1(T(2)) - p, down = p - one;
    const V<T> mean = exponential_of_any<T>(up * a);
    // 0·∞ would be a NaN.
    const V<T> rest = select(greater(t, zero), t * exponential_of_any<T>(zero - down * a), zero);
    return {mean / up + rest / down, mean - rest};
  } else if constexpr (L == pynn::HINGE || L == pynn::SQUARED_HINGE) {
    const V<T> sign = t + t - one, margin = maximum<T>(one - sign * a, zero);
    if constexpr (L == pynn::HINGE)
      return {margin, select(greater(margin, zero), zero - sign, zero)};
    return {margin * margin, zero - (sign + sign) * margin};
  } else if constexpr (L == pynn::FOCAL) {
    return focal_of_logits<T>(a, t, parameters);
  } else if constexpr (L == pynn::HUBER) {
    const V<T> size = absolute(d), near = minimum<T>(size, p);
    return {near * (size - set1(T(0.5)) * near), with_sign(near, d)};
  } else if constexpr (L == pynn::LOG_COSH) {
    const V<T> size = absolute(d), log = log_one_plus<T>(exponential<T>(zero - (size + size)));
    return {size + log - set1(T(0.69314718055994530942)), hyperbolic_tangent<T>(d)};
  } else if constexpr (L == pynn::QUANTILE) {
    const V<T> slope = by_sign<T>(d, zero - p, one - p);
    return {d * slope, slope};
  } else {  // MEAN_ABSOLUTE_ERROR
    return {absolute(d), by_sign<T>(d, zero - one, one)};
  }
}

// The part of a loss that depends on its target alone, so that a perfect output loses 0.
template <int L> inline double constant(double t, const double* p) {
  if (L == pynn::GAMMA) return -1 - std::log(t);
  if (L == pynn::TWEEDIE && t > 0) return -std::pow(t, 2 - p[0]) / ((2 - p[0]) * (p[0] - 1));
  return 0;
}

// The targets of ``count`` outputs of a row from number j, and the parameters of their losses.
template <class T, int L> struct Goals {
  T y[width<T>] = {}, q[width<T>] = {};
  V<T> p[3];

  explicit Goals(const Row<T>& r) {
    // A loss has three parameters at most, or is a list of quantiles.
    constexpr int parameters = L == pynn::FOCAL ? 3 : L == pynn::QUANTILE ? 0 : 1;
    for (int i = 0; i < 3; ++i) p[i] = set1(T(i < parameters ? r.parameters[i] : 0));
    if (r.n == r.n_targets) p[0] = set1(T(r.parameters[0]));
  }

  void read(const Row<T>& r, Size j, Size count) {
    if (L != pynn::QUANTILE || r.n == r.n_targets) {
      store(y, r.targets(j, count));
      return;
    }
    for (Size u = 0; u < count; ++u) {
      y[u] = r.target[(j + u) % r.n_targets];
      q[u] = T(r.parameters[(j + u) / r.n_targets]);
    }
    p[0] = load(q);
  }
};

// The mean of ``term`` over the outputs a = f(z) of a row. For softmax the gradient is
// p_j·(slope_j − Σ_i p_i·slope_i).
template <class T, int L> double mean_of_terms(const Row<T>& r, int output, double parameter) {
  constexpr Size block = 256;  // outputs whose f'(z) are on the stack
  T losses[width<T>], slopes[block];
  Goals<T, L> goals(r);
  const V<T> scale = set1(r.scale);
  const bool softmax = output == pynn::SOFTMAX;
  double total = 0, inner = 0;
  if (softmax) {
    softmax_rows<T>(r.z, round_up<T>(r.n), 1, r.n);
    for (Size j = 0; r.gradient && j < r.n; j += width<T>) {
      const Size count = r.n - j < width<T> ? r.n - j : width<T>;
      goals.read(r, j, count);
      const V<T> a = load(r.z + j);
      store(losses, a * term<T, L>(a, load(goals.y), goals.p).slope);
      for (Size u = 0; u < count; ++u) inner += double(losses[u]);
    }
  }
  for (Size begin = 0; begin < r.n; begin += block) {
    const Size end = r.n - begin < block ? r.n : begin + block;
    const bool curved = !softmax && output != pynn::IDENTITY;
    if (curved)
      activate<T>(output, parameter, r.z + begin, slopes, round_up<T>(end - begin), 1, end - begin);
    for (Size j = begin; j < end; j += width<T>) {
      const Size count = end - j < width<T> ? end - j : width<T>;
      goals.read(r, j, count);
      const V<T> a = load(r.z + j);
      const Term<T> e = term<T, L>(a, load(goals.y), goals.p);
      store(losses, e.loss);
      for (Size u = 0; u < count; ++u)
        total += double(losses[u]) + constant<L>(double(goals.y[u]), r.parameters);
      if (!r.gradient) continue;
      V<T> d = e.slope;
      if (softmax) d = a * (d - set1(T(inner)));
      if (curved) d = d * load(slopes + (j - begin));
      store(r.z + j, d * scale);
    }
  }
  return total / double(r.n);
}

// --- Focal loss of one class per row -------------------------------------------------------------

// Σ t·(1 − p)^γ·(−log p) over the outputs with targets t above 0 (Lin et al. 2017, eq. 4), and its
// slope Σ t·c by log p: dz_j = t_j·c_j − p_j·Σ t·c.
struct FocalTerm {
  double loss, slope;
};
inline FocalTerm focal_term(double log_p, double rest, double t, double gamma) {
  // (1 − p)^(γ − 1)·log p is written with log p / (1 − p), which is −1 at p = 1.
  const double power = std::pow(rest, gamma), ratio = rest > 0 ? log_p / rest : -1;
  return {-t * power * log_p, -t * power * (1 - gamma * std::exp(log_p) * ratio)};
}

template <class T> double focal_of_classes(const Row<T>& r) {
  const double gamma = r.parameters[0];
  const Size best = first_largest(r.z, r.n);
  const double most = double(r.z[best]);
  double others = 0;  // Σ e^(z − most) without the largest
  for (Size j = 0; j < r.n; j += width<T>) {
    T e[width<T>];
    store(e, exponential<T>(load(r.z + j) - set1(T(most))));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) others += j + u == best ? 0 : double(e[u]);
  }
  const double log_sum = log_one_plus(others), total = 1 + others;
  const auto term_of = [&](Size j) {
    const double t = double(r.at(j)), log_p = (double(r.z[j]) - most) - log_sum;
    if (!(t > 0)) return FocalTerm{0, 0};
    return focal_term(log_p, j == best ? others / total : -std::expm1(log_p), t, gamma);
  };
  const Size from = r.target ? 0 : r.label, to = r.target ? r.n : r.label + 1;
  double loss = most * 0, slope = 0;  // NaN of z reaches the loss
  for (Size j = from; j < to; ++j) {
    const FocalTerm e = term_of(j);
    loss += e.loss;
    slope += e.slope;
  }
  if (!r.gradient) return loss;
  for (Size j = 0; j < r.n; j += width<T>) {
    T e[width<T>];
    store(e, exponential<T>(load(r.z + j) - set1(T(most))) / set1(T(total)));
    for (Size u = 0; u < width<T> && j + u < r.n; ++u) {
      // 1 − p of the label from the sum of the others, which avoids cancellation.
      const bool label = !r.target && j + u == r.label;
      const double rest = j + u == best ? others / total : 1 - double(e[u]);
      const double d = label      ? slope * rest
                       : r.target ? term_of(j + u).slope - double(e[u]) * slope
                                  : -double(e[u]) * slope;
      r.z[j + u] = T(d) * r.scale;
    }
  }
  return loss;
}

// --- Gaussian likelihood -------------------------------------------------------------------------

constexpr double least_variance = 1e-6;

// The mean over the targets of ½·(log v + (μ − t)²/v), with means μ in the first half of z and v =
// softplus + least_variance of the second half.
template <class T> double gaussian(const Row<T>& r) {
  const V<T> one = set1(T(1)), half = set1(T(0.5)), scale = set1(r.scale);
  double total = 0;
  for (Size j = 0; j < r.n_targets; j += width<T>) {
    const Size count = r.n_targets - j < width<T> ? r.n_targets - j : width<T>;
    T y[width<T>] = {}, mean[width<T>] = {}, raw[width<T>] = {}, v[width<T>], square[width<T>];
    for (Size u = 0; u < count; ++u) {
      y[u] = r.target[j + u];
      mean[u] = r.z[j + u];
      raw[u] = r.z[r.n_targets + j + u];
    }
    const V<T> variance = softplus<T>(load(raw)) + set1(T(least_variance));
    const V<T> d = load(mean) - load(y), q = d / variance;
    store(v, variance);
    store(square, d * q);
    for (Size u = 0; u < count; ++u)
      total += 0.5 * (std::log(double(v[u])) + double(square[u]));
    if (!r.gradient) continue;
    store(mean, q * scale);
    store(raw, half * (one - d * q) / variance * sigmoid<T>(load(raw)) * scale);
    for (Size u = 0; u < count; ++u) {
      r.z[j + u] = mean[u];
      r.z[r.n_targets + j + u] = raw[u];
    }
  }
  return total / double(r.n_targets);
}

// --- All losses of a row -------------------------------------------------------------------------

// The number of terms of which the loss of a row is the mean, as LossFunction.terms of
// pynn/spec/losses.py.
inline Size terms_of(int loss, int output, Size n, Size n_targets) {
  if (loss == pynn::CROSS_ENTROPY || (loss == pynn::FOCAL && output == pynn::SOFTMAX)) return 1;
  return loss == pynn::GAUSSIAN ? n_targets : n;
}

template <class T>
double loss_of_row(int loss, int output, double parameter, const Row<T>& r) {
  switch (loss) {
    case pynn::CROSS_ENTROPY: return cross_entropy(r);
    case pynn::BINARY_CROSS_ENTROPY: return binary_cross_entropy(r);
    case pynn::POISSON: return poisson(r);
    case pynn::MEAN_ABSOLUTE_ERROR:
      return mean_of_terms<T, pynn::MEAN_ABSOLUTE_ERROR>(r, output, parameter);
    case pynn::HUBER:
      return mean_of_terms<T, pynn::HUBER>(r, output, parameter);
    case pynn::LOG_COSH:
      return mean_of_terms<T, pynn::LOG_COSH>(r, output, parameter);
    case pynn::QUANTILE:
      return mean_of_terms<T, pynn::QUANTILE>(r, output, parameter);
    case pynn::GAMMA: return mean_of_terms<T, pynn::GAMMA>(r, pynn::IDENTITY, 0);
    case pynn::TWEEDIE: return mean_of_terms<T, pynn::TWEEDIE>(r, pynn::IDENTITY, 0);
    case pynn::HINGE: return mean_of_terms<T, pynn::HINGE>(r, pynn::IDENTITY, 0);
    case pynn::SQUARED_HINGE:
      return mean_of_terms<T, pynn::SQUARED_HINGE>(r, pynn::IDENTITY, 0);
    case pynn::FOCAL:
      return output == pynn::SOFTMAX ? focal_of_classes(r)
                                     : mean_of_terms<T, pynn::FOCAL>(r, pynn::IDENTITY, 0);
    case pynn::GAUSSIAN: return gaussian(r);
    default: return mean_squared_error(r, output, parameter);
  }
}

// The share of correct decisions in a row, or NaN if the task has none: see count_correct in
// reference.py. Called before z is replaced by its gradient.
template <class T> double right(const Targets& t, const Row<T>& r) {
  if (r.n == 1 || (t.independent && r.target)) {
    if (!t.decides) return NAN;
    Size count = 0;
    for (Size j = 0; j < r.n; ++j) count += (r.z[j] > 0) == (r.at(j) > T(0.5));
    return double(count) / double(r.n);
  }
  if (!r.target) return label_wins(r.z, r.n, r.label);
  if (!t.decides) return NAN;
  return first_largest(r.z, r.n) == first_largest(r.target, r.n);
}

// --- Cross entropy of labels among few outputs ---------------------------------------------------
//
// ``width`` rows at a time, one in each lane: cell[j] holds column j of the rows. Lanes do not
// interact, so a result does not depend on the other rows.

constexpr Size most_columns = 32;  // 2 KiB of cells in AVX-512

template <class T> struct Cells {
  static constexpr int W = width<T>;
  T cell[most_columns][W];

  // From rows of z (rows, ld): by transposing W x W elements or, for few elements, one by one.
  void read(const T* z, Size ld, Size rows, Size n) {
    if (rows * n < 4 * W) {
      for (Size j = 0; j < n; ++j) store(cell[j], set1(T(0)));
      for (Size s = 0; s < rows; ++s)
        for (Size j = 0; j < n; ++j) cell[j][s] = z[s * ld + j];
      return;
    }
    for (Size j = 0; j < n; j += W) {
      V<T> r[W];
      for (int s = 0; s < W; ++s) r[s] = s < rows ? load(z + s * ld + j) : set1(T(0));
      transpose_square<T>(r);
      for (int s = 0; s < W && j + s < n; ++s) store(cell[j + s], r[s]);
    }
  }

  // To rows of z (rows, ld), with pads 0.
  void write(T* z, Size ld, Size rows, Size n) const {
    if (rows * n < 4 * W) {
      for (Size s = 0; s < rows; ++s) {
        for (Size j = 0; j < n; ++j) z[s * ld + j] = cell[j][s];
        zero_pads(z + s * ld, n, ld);
      }
      return;
    }
    for (Size j = 0; j < ld; j += W) {
      V<T> r[W];
      for (int s = 0; s < W; ++s) r[s] = j + s < n ? load(cell[j + s]) : set1(T(0));
      transpose_square<T>(r);
      for (Size s = 0; s < rows; ++s) store(z + s * ld + j, r[s]);
    }
  }
};

// ln(1 + x) for 0 ≤ x < n: halved until u ≤ 1 in ln(1 + x) = k·ln 2 + ln(1 + u). Where k is 0, u is
// x itself, without the rounding of 1 + x.
template <class T> inline V<T> log_of_sum(V<T> x, Size n) {
  const V<T> zero = set1(T(0)), one = set1(T(1)), two = set1(T(2)), half = set1(T(0.5)),
             ln2 = set1(T(0.69314718055994530942));
  V<T> u = x, whole = one + x, log = zero;
  for (Size power = 1; power < n; power *= 2) {
    const auto large = greater(whole, two);
    whole = select(large, whole * half, whole);
    log = select(large, log + ln2, log);
    u = select(greater(log, zero), whole - one, u);
  }
  return log + log_one_plus<T>(u);
}

// What cross_entropy_of_labels computes of ``width`` rows, one in each lane.
template <class T> struct LabelSums {
  V<T> most;     // largest z
  V<T> better;   // number of columns that win over the label, the first of equal ones winning
  V<T> rest;     // Σ e^(z − most) without the label
  V<T> e_label;  // e^(z − most) of the label
  V<T> total;    // rest + e_label
};

// Cells become e^(z − most), the label's 0. label: (width,)
template <class T>
inline LabelSums<T> sum_exponentials(Cells<T>& c, Size rows, Size n, const int32_t* label,
                                     V<T> number, V<T> z_label) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  T e_labels[width<T>] = {};
  V<T> most = load(c.cell[0]), better = zero;
  for (Size j = 0; j < n; ++j) {
    const V<T> v = load(c.cell[j]);
    most = maximum<T>(v, most);
    better = better + select(greater(number, set1(T(j))),
                             select(greater(z_label, v), zero, one),
                             select(greater(v, z_label), one, zero));
  }
  for (Size j = 0; j < n; ++j) store(c.cell[j], exponential<T>(load(c.cell[j]) - most));
  for (Size s = 0; s < rows; ++s) {
    e_labels[s] = c.cell[label[s]][s];
    c.cell[label[s]][s] = 0;
  }
  V<T> rest = load(c.cell[0]);
  for (Size j = 1; j < n; ++j) rest = rest + load(c.cell[j]);
  const V<T> e_label = load(e_labels);
  return {most, better, rest, e_label, rest + e_label};
}

template <class T>
void cross_entropy_of_labels(T* z, Size ld, Size m, Size n, const Targets* t, bool gradient,
                             double scale, double* row_loss, double* row_right) {
  constexpr int W = width<T>;
  const T least = T(t->least);
  Cells<T> c;
  for (Size i = 0; i < m; i += W) {
    const Size rows = m - i < W ? m - i : W;
    const int32_t* label = t->labels + i;
    T labels[W] = {}, z_labels[W] = {}, scales[W] = {};
    c.read(z + i * ld, ld, rows, n);
    for (Size s = 0; s < rows; ++s) {
      labels[s] = T(label[s]);
      z_labels[s] = c.cell[label[s]][s];
      scales[s] = T(scale * (t->weights ? t->weights[i + s] : 1));
    }
    const V<T> z_label = load(z_labels);
    const LabelSums<T> sums = sum_exponentials(c, rows, n, label, load(labels), z_label);
    T loss[W], better[W], p[W];
    store(loss, log_of_sum<T>(sums.rest + (sums.e_label - set1(T(1))), n) - (z_label - sums.most));
    store(better, sums.better);
    store(p, sums.e_label / sums.total);
    for (Size s = 0; s < rows; ++s) {
      const double found = least > 0 ? -std::log(double(clip(p[s], least))) : double(loss[s]);
      row_right[i + s] = better[s] == 0 && found == found;
      row_loss[i + s] = found * (t->weights ? t->weights[i + s] : 1);
    }
    if (!gradient) continue;
    const V<T> factor = load(scales);
    T d[W];
    store(d, set1(T(0)) - sums.rest / sums.total * factor);
    for (Size j = 0; j < n; ++j) store(c.cell[j], load(c.cell[j]) / sums.total * factor);
    for (Size s = 0; s < rows; ++s) c.cell[label[s]][s] = d[s];
    c.write(z + i * ld, ld, rows, n);
  }
}

// --- Missing targets -----------------------------------------------------------------------------

template <class T> Size count_known(const T* target, Size n) {
  Size known = 0;
  for (Size k = 0; k < n; ++k) known += target[k] == target[k];
  return known;
}

// The outputs of the known targets among first … end of a row become z (per, count): those of its
// targets k are z[k], z[n_targets + k], …
template <class T>
void copy_known(const Row<T>& r, Size n_targets, Size first, Size end, T* z) {
  for (Size j = 0; j < r.n; j += n_targets)
    for (Size k = first; k < end; ++k)
      if (r.target[k] == r.target[k]) *z++ = r.z[j + k];
}

// The inverse; the outputs of the other targets become 0.
template <class T>
void write_known(const T* z, const Row<T>& r, Size n_targets, Size first, Size end) {
  for (Size j = 0; j < r.n; j += n_targets)
    for (Size k = first; k < end; ++k)
      r.z[j + k] = r.target[k] == r.target[k] ? *z++ : T(0);
}

// The loss of a row of which only ``known`` of its targets are not NaN, and the share of them that
// are right: means over these targets. They and their outputs are copied to short rows, so that
// each loss is written for complete rows only. A target has at most 1024 outputs.
template <class T>
double loss_of_known(int loss, int output, double parameter, const Row<T>& r, Size n_targets,
                     Size known, const Targets& t, double* share_right) {
  constexpr Size most = 1024;  // a multiple of every vector width
  alignas(64) T z[most] = {};
  T target[most];
  const Size per_target = r.n / n_targets, block = most / per_target;
  double total = 0, rights = 0;
  for (Size first = 0; first < n_targets; first += block) {
    const Size end = first + block < n_targets ? first + block : n_targets;
    Size count = 0;
    for (Size k = first; k < end; ++k)
      if (r.target[k] == r.target[k]) target[count++] = r.target[k];
    if (count > 0) {
      copy_known(r, n_targets, first, end, z);
      const Row<T> part = {z,          per_target * count, target,       0,    r.scale,
                           r.gradient, r.least,            r.parameters, count};
      rights += right(t, part) * double(count);
      total += loss_of_row(loss, output, parameter, part) * double(count);
    }
    if (r.gradient) write_known(z, r, n_targets, first, end);
  }
  *share_right = known ? rights / double(known) : 0;
  return known ? total / double(known) : 0;
}

// --- A batch -------------------------------------------------------------------------------------

template <class T>
void loss_by_rows(int loss, int output, double parameter, T* z, Size ld, Size m, Size n,
                  const Targets* t, bool gradient, double scale, double* row_loss,
                  double* row_right) {
  for (Size i = 0; i < m; ++i) {
    const double weight = t->weights ? t->weights[i] : 1;
    const Size n_targets = t->labels ? n : n / t->per_target;
    Row<T> r = {z + i * ld, n,           nullptr,       0,        T(0),
                gradient,   T(t->least), t->parameters, n_targets};
    if (t->labels)
      r.label = t->labels[i];
    else
      r.target = (const T*)t->values + i * t->ld;
    const Size known = t->missing ? count_known(r.target, n_targets) : n_targets;
    const Size terms = terms_of(loss, output, n / n_targets * known, known);
    r.scale = T(scale * weight / double(terms));
    if (known < n_targets) {
      row_loss[i] = loss_of_known(loss, output, parameter, r, n_targets, known, *t, row_right + i);
    } else {
      row_right[i] = right(*t, r);
      row_loss[i] = loss_of_row(loss, output, parameter, r);
    }
    row_loss[i] *= weight;
    if (gradient) clear_pads(r.z, n, ld);
  }
}

template <class T>
void loss(int loss, int output, double parameter, void* z, Size ld, Size m, Size n,
          const Targets* t, int gradient, double scale, double* row_loss, double* row_right) {
  if (loss == pynn::CROSS_ENTROPY && t->labels && n <= most_columns)
    cross_entropy_of_labels((T*)z, ld, m, n, t, gradient != 0, scale, row_loss, row_right);
  else
    loss_by_rows(loss, output, parameter, (T*)z, ld, m, n, t, gradient != 0, scale, row_loss,
                 row_right);
  // A row without weight has no influence, even if its loss is infinite.
  for (Size i = 0; t->weights && i < m; ++i) {
    if (t->weights[i] != 0) continue;
    row_loss[i] = 0;
    for (Size j = 0; gradient && j < n; ++j) ((T*)z)[i * ld + j] = 0;
  }
}

}  // namespace
