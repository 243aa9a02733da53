// Checks the losses, their gradients and the share of correct decisions: loss.h.

#include "checker.h"

namespace {

// Naive loss and gradient of one row, and a scale for their tolerances.
template <class T> struct ExpectedRow {
  Wide<T> loss = 0, scale = 1;
  std::vector<Wide<T>> dz;  // (n,)
};

// The parameters of a loss, as Targets.parameters.
std::vector<double> parameters_of(int which, int output, Size per_target) {
  if (which == HUBER) return {0.5};
  if (which == QUANTILE && per_target == 3) return {0.1, 0.5, 0.8};
  if (which == QUANTILE) return {0.3};
  if (which == TWEEDIE) return {1.4};
  if (which == FOCAL && output == SOFTMAX) return {1.5, 1, 1};
  if (which == FOCAL) return {1.5, 0.25, 0.75};
  return {0};
}

// The loss of an output a for the target t, and its slope by a. p: the parameters of output j.
template <class W> W naive_term(int which, W a, W t, const std::vector<double>& p, W& slope) {
  const W d = a - t, size = std::fabs(d), sign = W((d > 0) - (d < 0)), q = W(p[0]);
  const W s = 2 * t - 1, margin = std::max(W(0), 1 - s * a);
  switch (which) {
    case MEAN_ABSOLUTE_ERROR: slope = sign; return size;
    case HUBER:
      slope = size < q ? d : sign * q;
      return size < q ? d * d / 2 : q * (size - q / 2);
    case LOG_COSH: slope = std::tanh(d); return std::log(std::cosh(d));
    case QUANTILE:
      slope = d > 0 ? 1 - q : d < 0 ? -q : 0;
      return d * slope;
    case GAMMA: slope = 1 - t * std::exp(-a); return t * std::exp(-a) + a - 1 - std::log(t);
    case TWEEDIE: {
      const W b = 2 - q, c = q - 1;
      slope = std::exp(b * a) - t * std::exp(-c * a);
      return std::exp(b * a) / b + t * std::exp(-c * a) / c - std::pow(t, b) / (b * c);
    }
    case HINGE: slope = margin > 0 ? -s : 0; return margin;
    case SQUARED_HINGE: slope = -2 * s * margin; return margin * margin;
    default: {  // FOCAL
      const W yes = 1 / (1 + std::exp(-a)), no = 1 - yes, u = W(p[1]) * t, v = W(p[2]) * (1 - t);
      slope = u * std::pow(no, q) * (q * yes * std::log(yes) - no) -
              v * std::pow(yes, q) * (q * no * std::log(no) - yes);
      return -u * std::pow(no, q) * std::log(yes) - v * std::pow(yes, q) * std::log(no);
    }
  }
}

// Losses that are means over the outputs a of ``naive_term``; output is IDENTITY for those of z.
template <class T>
ExpectedRow<T> expected_terms(int which, int output, const std::vector<Wide<T>>& x,
                              const std::vector<Wide<T>>& target, Size per_target) {
  using W = Wide<T>;
  const size_t n = x.size(), targets = n / size_t(per_target);
  const std::vector<W> softmax = naive_softmax<T>(x);
  const std::vector<double> all = parameters_of(which, output, per_target);
  const bool of_z = which >= GAMMA;
  std::vector<W> da(n), slope(n, 1);
  ExpectedRow<T> e;
  e.dz.assign(n, 0);
  W inner = 0;
  for (size_t j = 0; j < n; ++j) {
    W a = x[j];
    if (!of_z) a = output == SOFTMAX ? softmax[j] : naive_activation<T>(output, x[j], slope[j]);
    std::vector<double> p = all;
    if (per_target > 1) p = {all[j / targets]};
    const W loss = naive_term<W>(which, a, target[j % targets], p, da[j]);
    e.loss += loss / W(n);
    e.scale += (std::fabs(loss) + a * a + (of_z ? 4 * std::exp(std::fabs(x[j])) : 0)) / W(n);
    inner += softmax[j] * da[j];
  }
  for (size_t j = 0; j < n; ++j)
    e.dz[j] = (!of_z && output == SOFTMAX ? softmax[j] * (da[j] - inner) : da[j] * slope[j]) / W(n);
  return e;
}

template <class T>
ExpectedRow<T> expected_focal(const std::vector<Wide<T>>& x, const std::vector<Wide<T>>& target) {
  using W = Wide<T>;
  const size_t n = x.size();
  const W gamma = W(1.5);
  const std::vector<W> p = naive_softmax<T>(x);
  ExpectedRow<T> e;
  e.dz.assign(n, 0);
  e.scale = 16;
  std::vector<W> c(n);
  W total = 0;
  for (size_t j = 0; j < n; ++j) {
    e.loss -= target[j] * std::pow(1 - p[j], gamma) * std::log(p[j]);
    c[j] = -target[j] * (std::pow(1 - p[j], gamma) -
                         gamma * p[j] * std::pow(1 - p[j], gamma - 1) * std::log(p[j]));
    total += c[j];
    e.scale += 8 * target[j];
  }
  for (size_t j = 0; j < n; ++j) e.dz[j] = c[j] - p[j] * total;
  return e;
}

template <class T>
ExpectedRow<T> expected_gaussian(const std::vector<Wide<T>>& x,
                                 const std::vector<Wide<T>>& target) {
  using W = Wide<T>;
  const size_t n = x.size() / 2;
  ExpectedRow<T> e;
  e.dz.assign(2 * n, 0);
  for (size_t j = 0; j < n; ++j) {
    const W s = x[n + j], v = std::log1p(std::exp(s)) + W(1e-6), d = x[j] - target[j];
    e.loss += (std::log(v) + d * d / v) / 2 / W(n);
    e.dz[j] = d / v / W(n);
    e.dz[n + j] = (1 - d * d / v) / v / (1 + std::exp(-s)) / 2 / W(n);
    e.scale += (1 + d * d / v) * (1 + 1 / v) / W(n);
  }
  return e;
}

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

bool decides(int which) {
  return which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY || which == HINGE ||
         which == SQUARED_HINGE || which == FOCAL;
}

// The share of correct decisions, or NaN where the task has none.
template <class W> double expected_right(int which, bool independent, const std::vector<W>& x,
                                         const std::vector<W>& target, bool labels) {
  const size_t n = x.size();
  if (!decides(which) && !(labels && n > 1)) return NAN;
  if (n > 1 && (!independent || labels)) {
    const auto best = std::max_element(x.begin(), x.end()) - x.begin();
    const auto truth = std::max_element(target.begin(), target.end()) - target.begin();
    return double(best == truth);
  }
  double right = 0;
  for (size_t j = 0; j < n; ++j) right += (x[j] > 0) == (target[j] > 0.5);
  return right / double(n);
}

}  // namespace

template <class T> void Check<T>::loss(int which, int output, Size m, Size targets, Size variant) {
  using W = Wide<T>;
  const Size per_target = which == GAUSSIAN ? 2 : which == QUANTILE && variant % 4 == 1 ? 3 : 1;
  const Size n = targets * per_target;
  const std::vector<double> parameters = parameters_of(which, output, per_target);
  const bool independent = decides(which) && output != SOFTMAX;
  const bool gradient = variant % 2, labels = variant / 2 % 2 && n > 1 && per_target == 1 && which != GAMMA,
             weighted = variant % 3 == 0;
  const bool clipped =
      variant % 5 == 0 && (which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY);
  const bool missing = variant % 4 == 1 && !labels && output != SOFTMAX;
  const Size ld = padded(n, variant), ldt = targets + variant % 3;
  const double scale = 0.25;
  T* z = reals(operand[0], "z", m, n, ld, FIRST, T(0.5));
  Targets t = {nullptr,           nullptr,    ldt,           nullptr,     clipped ? epsilon<T>() : 0,
               parameters.data(), per_target, decides(which), independent, missing};
  if (labels) {
    auto* label = operand[1].place<int32_t>("labels", m);
    for (Size i = 0; i < m; ++i) label[i] = int32_t((i * 5 + variant) % n);
    t.labels = label;
  } else {
    T* target = operand[1].place<T>("targets", (m - 1) * ldt + targets);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < targets; ++j)
        target[i * ldt + j] = missing && (i + j * j) % 3 == 0
                                  ? std::numeric_limits<T>::quiet_NaN()
                                  : T((integer(i, j, SECOND) + 8 + (which == GAMMA)) / 16.0);
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
     "loss=%d output=%d m=%td n=%td ld=%td labels=%d ldt=%td weights=%d least=%g gradient=%d "
     "missing=%d",
     which, output, m, n, ld, labels, ldt, weighted, t.least, gradient, missing);
  k.loss(which, output, parameter, z, ld, m, n, &t, gradient, scale, row_loss, row_right);

  for (Size i = 0; i < m; ++i) {
    std::vector<W> row, target;
    std::vector<Size> known;  // targets that are not missing
    for (Size j = 0; j < targets; ++j) {
      const W value = labels ? W(t.labels[i] == j) : W(((const T*)t.values)[i * ldt + j]);
      if (std::isnan(value)) continue;
      target.push_back(value);
      known.push_back(j);
    }
    for (Size u = 0; u < per_target; ++u)
      for (Size j : known) row.push_back(W(T(0.5) * T(integer(i, u * targets + j, FIRST))));
    const W weight = weighted ? t.weights[i] : 1;
    const ExpectedRow<T> e =
        known.empty()       ? ExpectedRow<T>()
        : which <= POISSON     ? expected_row<T>(which, output, row, target, W(T(t.least)), labels)
        : which == GAUSSIAN ? expected_gaussian<T>(row, target)
        : which == FOCAL && output == SOFTMAX
            ? expected_focal<T>(row, target)
            : expected_terms<T>(which, output, row, target, per_target);
    close<T>(row_loss[i], e.loss * weight, (8 + e.scale + e.loss) * (1 + weight), "row_loss", i, 0);
    std::vector<W> dz(size_t(n), 0);
    for (size_t k = 0; k < row.size(); ++k) {
      const size_t place = k / known.size() * size_t(targets) + size_t(known[k % known.size()]);
      dz[place] = e.dz[k] * weight * W(scale);
    }
    for (Size j = 0; gradient && j < n; ++j)
      close<T>(z[i * ld + j], dz[size_t(j)], (2 + e.scale) * (1 + weight), "dz", i, j);
    for (Size j = n; gradient && j < ld; ++j) zero_pad(z[i * ld + j], "dz", i, j);
    const double share =
        known.empty() ? 0 : expected_right(which, independent, row, target, labels);
    close<double>(row_right[i], share, 1, "row_right", i, 0);
  }
}

template <class T> void Check<T>::losses(Size m, Size n, Size variant) {
  for (Size more = 0; more < (short_run ? 1 : 2); ++more) {
    loss(CROSS_ENTROPY, SOFTMAX, m, n, variant + 7 * more);
    loss(BINARY_CROSS_ENTROPY, SIGMOID, m, n, variant + 3 + 7 * more);
    loss(POISSON, EXP, m, n, variant + 5 + 7 * more);
    for (int output = IDENTITY; output <= SOFTMAX; ++output)
      loss(MEAN_SQUARED_ERROR, output, m, n, variant + output + 7 * more);
    for (int which = MEAN_ABSOLUTE_ERROR; which <= QUANTILE; ++which) {
      loss(which, IDENTITY, m, n, variant + which + 7 * more);
      loss(which, (variant + which) % 2 ? SOFTMAX : SIGMOID, m, n, variant + which + 7 * more);
    }
    for (int which = GAMMA; which <= TWEEDIE; ++which)
      loss(which, EXP, m, n, variant + which + 7 * more);
    for (int which = HINGE; which <= GAUSSIAN; ++which)
      if (which != FOCAL) loss(which, IDENTITY, m, n, variant + which + 7 * more);
    loss(FOCAL, n > 1 && variant % 2 ? SOFTMAX : SIGMOID, m, n, variant + 7 * more);
  }
}

// The same of losses: one output of a row is extreme.
template <class T> void Check<T>::extreme_outputs() {
  const std::vector<T> all = extremes<T>();
  const Size n = Size(all.size());
  for (int which = CROSS_ENTROPY; which < GAUSSIAN; ++which)
    for (Size j = 0; j < n; ++j) {
      const int output = which == CROSS_ENTROPY          ? SOFTMAX
                         : which == BINARY_CROSS_ENTROPY ? SIGMOID
                         : which == POISSON || which == GAMMA || which == TWEEDIE ? EXP
                         : which == FOCAL                                         ? SIGMOID
                                                                                  : IDENTITY;
      const std::vector<double> parameters = parameters_of(which, output, 1);
      T* z = reals(operand[0], "z", 1, 5, padded(5, 0), FIRST);
      z[3] = all[size_t(j)];
      T* target = matrix(operand[1], "targets", 1, 5, 5, SECOND, false);
      for (int u = 0; u < 5; ++u) target[u] = std::fabs(target[u]) / 8 + T(which == GAMMA);
      operand[1].protect();
      double* row_loss = operand[2].place<double>("row_loss", 1);
      double* row_right = operand[3].place<double>("row_right", 1);
      const Targets t = {nullptr, target, 5, nullptr, 0, parameters.data(), 1, decides(which), 0, 0};
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
