// Checks the losses, their gradients and the share of correct decisions: loss.h.

#include "checker.h"

namespace {

// Naive loss and gradient of one row, and a scale for their tolerances.
template <class T> struct ExpectedRow {
  Wide<T> loss = 0, scale = 1;
  std::vector<Wide<T>> dz;  // (n,)
};

// x and target: (n,). least: probabilities are clipped to least … 1 − least if it is above 0.
template <class T> ExpectedRow<T> expected_row(int which, int output, const std::vector<Wide<T>>& x,
                                               const std::vector<Wide<T>>& target, Wide<T> least,
                                               bool labels) {
  using W = Wide<T>;
  const size_t n = x.size();
  const std::vector<W> p = naive_softmax<T>(x);
  const bool clipped = least > 0;
  const auto clip = [&](W q) { return std::min(std::max(q, least), 1 - least); };
  ExpectedRow<T> e;
  e.dz.assign(n, 0);
  W inner = 0;  // Σ p·(p − y), for the derivative of softmax
  if (which == MEAN_SQUARED_ERROR && output == SOFTMAX)
    for (size_t j = 0; j < n; ++j) inner += p[j] * (p[j] - target[j]);
  for (size_t j = 0; j < n; ++j) {
    const W y = target[j], z = x[j];
    W slope, q = 1 / (1 + std::exp(-z));
    if (which == CROSS_ENTROPY) {
      if (y > 0) e.loss -= y * std::log(clipped ? clip(p[j]) : p[j]);
      e.dz[j] = p[j] - y;
      if (!labels) e.scale += 8 * y;
    } else if (which == BINARY_CROSS_ENTROPY) {
      e.dz[j] = (q - y) / W(n);
      if (clipped) q = clip(q);
      if (y > 0) e.loss -= y * std::log(q) / W(n);
      if (y < 1) e.loss -= (1 - y) * std::log1p(-q) / W(n);
      // 1 − q has the precision of T where q is near 1.
      if (clipped && q > 1 - 2 * least) e.scale += 8;
    } else if (which == POISSON) {
      e.loss += (std::exp(z) - y * z - y + (y > 0 ? y * std::log(y) : 0)) / W(n);
      e.dz[j] = (std::exp(z) - y) / W(n);
      e.scale += std::exp(z) / W(n);
    } else {
      const W a = output == SOFTMAX ? p[j] : naive_activation<T>(output, z, slope);
      e.loss += (a - y) * (a - y) / W(n);
      e.dz[j] = 2 * (output == SOFTMAX ? p[j] * (a - y - inner) : (a - y) * slope) / W(n);
      e.scale += a * a / W(n);
    }
  }
  return e;
}

// The share of correct decisions, or NaN where the task has none.
template <class W> double expected_right(int which, const std::vector<W>& x,
                                         const std::vector<W>& target, bool labels) {
  const size_t n = x.size();
  const bool decides = which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY;
  if (!decides && !(labels && n > 1)) return NAN;
  if (n > 1 && (which != BINARY_CROSS_ENTROPY || labels)) {
    const auto best = std::max_element(x.begin(), x.end()) - x.begin();
    const auto truth = std::max_element(target.begin(), target.end()) - target.begin();
    return double(best == truth);
  }
  double right = 0;
  for (size_t j = 0; j < n; ++j) right += (x[j] > 0) == (target[j] > 0.5);
  return right / double(n);
}

}  // namespace

template <class T> void Check<T>::loss(int which, int output, Size m, Size n, Size variant) {
  using W = Wide<T>;
  const bool gradient = variant % 2, labels = variant / 2 % 2 && n > 1, weighted = variant % 3 == 0;
  const bool clipped =
      variant % 5 == 0 && (which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY);
  const Size ld = padded(n, variant), ldt = n + variant % 3;
  const double scale = 0.25;
  T* z = reals(operand[0], "z", m, n, ld, FIRST, T(0.5));
  Targets t = {nullptr, nullptr, ldt, nullptr, clipped ? double(epsilon<T>()) : 0};
  if (labels) {
    auto* label = operand[1].place<int32_t>("labels", m);
    for (Size i = 0; i < m; ++i) label[i] = int32_t((i * 5 + variant) % n);
    t.labels = label;
  } else {
    T* target = operand[1].place<T>("targets", (m - 1) * ldt + n);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j) target[i * ldt + j] = T((integer(i, j, SECOND) + 8) / 16.0);
    t.values = target;
  }
  if (weighted) {
    double* weight = operand[2].place<double>("weights", m);
    for (Size i = 0; i < m; ++i) weight[i] = (integer(i, 0, THIRD) + 8) / 4.0;
    t.weights = weight;
    operand[2].protect();
  }
  operand[1].protect();
  double* row_loss = operand[3].place<double>("row_loss", m);
  double* row_right = operand[4].place<double>("row_right", m);
  at("loss",
     "loss=%d output=%d m=%td n=%td ld=%td labels=%d ldt=%td weights=%d least=%g gradient=%d",
     which, output, m, n, ld, labels, ldt, weighted, t.least, gradient);
  k.loss(which, output, parameter, z, ld, m, n, &t, gradient, scale, row_loss, row_right);

  for (Size i = 0; i < m; ++i) {
    std::vector<W> row, target;
    for (Size j = 0; j < n; ++j) {
      row.push_back(W(T(0.5) * T(integer(i, j, FIRST))));
      target.push_back(labels ? W(t.labels[i] == j) : W(((const T*)t.values)[i * ldt + j]));
    }
    const W weight = weighted ? t.weights[i] : 1;
    const ExpectedRow<T> e = expected_row<T>(which, output, row, target, W(T(t.least)), labels);
    close<T>(row_loss[i], e.loss * weight, (8 + e.scale + e.loss) * (1 + weight), "row_loss", i, 0);
    for (Size j = 0; gradient && j < n; ++j)
      close<T>(z[i * ld + j], e.dz[size_t(j)] * weight * W(scale), (2 + e.scale) * (1 + weight),
               "dz", i, j);
    for (Size j = n; gradient && j < ld; ++j) zero_pad(z[i * ld + j], "dz", i, j);
    close<double>(row_right[i], expected_right(which, row, target, labels), 1, "row_right", i, 0);
  }
}

template <class T> void Check<T>::losses(Size m, Size n, Size variant) {
  for (Size more = 0; more < (short_run ? 1 : 2); ++more) {
    loss(CROSS_ENTROPY, SOFTMAX, m, n, variant + 7 * more);
    loss(BINARY_CROSS_ENTROPY, SIGMOID, m, n, variant + 3 + 7 * more);
    loss(POISSON, EXP, m, n, variant + 5 + 7 * more);
    for (int output = IDENTITY; output <= SOFTMAX; ++output)
      loss(MEAN_SQUARED_ERROR, output, m, n, variant + output + 7 * more);
  }
}

// The same of losses: one output of a row is extreme.
template <class T> void Check<T>::extreme_outputs() {
  const std::vector<T> all = extremes<T>();
  const Size n = Size(all.size());
  for (int which = CROSS_ENTROPY; which <= POISSON; ++which)
    for (Size j = 0; j < n; ++j) {
      const int output = which == CROSS_ENTROPY          ? SOFTMAX
                         : which == BINARY_CROSS_ENTROPY ? SIGMOID
                         : which == POISSON              ? EXP
                                                         : IDENTITY;
      T* z = reals(operand[0], "z", 1, 5, padded(5, 0), FIRST);
      z[3] = all[size_t(j)];
      T* target = matrix(operand[1], "targets", 1, 5, 5, SECOND, false);
      for (int u = 0; u < 5; ++u) target[u] = std::fabs(target[u]) / 8;
      operand[1].protect();
      double* row_loss = operand[2].place<double>("row_loss", 1);
      double* row_right = operand[3].place<double>("row_right", 1);
      const Targets t = {nullptr, target, 5, nullptr, 0};
      at("loss", "loss=%d with z[3]=%g", which, double(all[size_t(j)]));
      k.loss(which, output, parameter, z, padded(5, 0), 1, 5, &t, 1, 1, row_loss, row_right);
      if (std::isnan(all[size_t(j)]) && !std::isnan(row_loss[0]))
        fail("NaN became %g", row_loss[0]);
    }
}

template <class T> void Check<T>::check_losses() {
  at_both_sides([&] {
    for_each_two([&](Size m, Size n, Size variant) { losses(m, n, variant); });
    extreme_outputs();
  });
}

template void Check<float>::check_losses();
template void Check<double>::check_losses();
