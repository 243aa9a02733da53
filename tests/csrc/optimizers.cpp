// Checks one step of each optimizer, penalties and limits of norms: optimizers.h and penalties.h.

#include "checker.h"

template <class T> void Check<T>::update(Size vectors) {
  using W = Wide<T>;
  const Size count = vectors * width;
  const Step step = {0.01, 0.5, 0.001, 0.9, 0.99, 1e-5, 0.003, 0.25, 0, 0, 0};
  for (int rule = RULE_SGD; rule < N_RULES; ++rule) {
    const bool moments = rule == RULE_ADAM || rule == RULE_AMSGRAD || rule == RULE_NADAM;
    const bool centers = rule == RULE_RMSPROP_CENTERED || rule == RULE_RMSPROP_BOTH;
    const bool pushes = rule == RULE_RMSPROP_MOMENTUM || rule == RULE_RMSPROP_BOTH;
    const bool three = rule == RULE_AMSGRAD || rule == RULE_RMSPROP_BOTH;
    const int slots = rule == RULE_SGD ? 0 : three ? 3 : moments || centers || pushes ? 2 : 1;
    T* w = matrix(operand[0], "w", 1, count, count, FIRST);
    const T* g = matrix(operand[1], "g", 1, count, count, SECOND);
    operand[1].protect();
    T* s1 = slots > 0 ? matrix(operand[2], "s1", 1, count, count, THIRD) : nullptr;
    T* s2 = slots > 1 ? matrix(operand[3], "s2", 1, count, count, FOURTH) : nullptr;
    T* s3 = slots > 2 ? matrix(operand[4], "s3", 1, count, count, FOURTH) : nullptr;
    const bool squares = rule == RULE_RMSPROP || rule == RULE_ADAGRAD || centers || pushes;
    for (Size j = 0; squares && j < count; ++j) s1[j] = std::fabs(s1[j]);
    for (Size j = 0; s2 && j < count; ++j) s2[j] = std::fabs(s2[j]);
    for (Size j = 0; s3 && j < count; ++j) s3[j] = j % 2 ? 40 : 0;
    at("update", "rule=%d count=%td", rule, count);
    void* state[] = {s1, s2, s3};
    k.update(rule, &step, w, g, state, count);
    for (Size j = 0; j < count; ++j) {
      const W old = integer(0, j, FIRST), rate = step.rate,
              d = W(integer(0, j, SECOND)) + W(step.l2) * old;
      const W one = squares ? std::abs(integer(0, j, THIRD)) : integer(0, j, THIRD);
      const W two = std::abs(integer(0, j, FOURTH)), b1 = step.beta1, b2 = step.beta2,
              tiny = step.epsilon;
      const W kept = old * (1 - W(step.decay));
      W want = kept - rate * d, first = 0, second = 0, third = 0;
      if (rule == RULE_MOMENTUM || rule == RULE_NESTEROV) {
        first = b1 * one - rate * d;
        want = kept + (rule == RULE_MOMENTUM ? first : b1 * first - rate * d);
      } else if (squares) {
        first = rule == RULE_ADAGRAD ? one + d * d : b1 * one + (1 - b1) * d * d;
        W spread = first, mean = 0;
        if (centers) {
          mean = b1 * (pushes ? W(j % 2 ? 40 : 0) : two) + (1 - b1) * d;
          spread = std::max(first - mean * mean, W(0));
        }
        W move = rate * d / (std::sqrt(spread + W(step.inside)) + tiny);
        if (pushes) second = move = b2 * two + move;
        if (centers) (pushes ? third : second) = mean;
        want = kept - move;
      } else if (moments) {
        first = b1 * one + (1 - b1) * d;
        second = b2 * two + (1 - b2) * d * d;
        third = rule == RULE_AMSGRAD ? std::max(second, W(j % 2 ? 40 : 0)) : second;
        const W direct = rule == RULE_NADAM ? W(step.gradient_rate) * d : W(0);
        want = kept - (rate * first + direct) / (std::sqrt(third) + tiny);
      } else if (rule == RULE_LION) {
        const W move = b1 * one + (1 - b1) * d;
        first = b2 * one + (1 - b2) * d;
        want = kept - rate * ((move > 0) - (move < 0));
        // Where the two terms cancel, rounding decides the sign.
        if (std::fabs(move) < W(32 * epsilon<T>())) want = w[j];
      }
      // A state of zeros divides by epsilon alone.
      const W sharp = squares || moments ? rate / tiny * (d == 0 || second == 0) : W(0);
      close<T>(w[j], want, 16 + std::fabs(want) + sharp, "w", 0, j);
      if (s1) close<T>(s1[j], first, 16 + std::fabs(first), "s1", 0, j);
      if (s2) close<T>(s2[j], second, 16 + std::fabs(second), "s2", 0, j);
      if (s3) close<T>(s3[j], third, 16 + std::fabs(third), "s3", 0, j);
    }
  }
}

template <class T> void Check<T>::average(Size vectors) {
  using W = Wide<T>;
  const Size count = vectors * k.width;
  T* a = matrix(operand[0], "average", 1, count, count, FIRST);
  T* w = matrix(operand[1], "w", 1, count, count, SECOND);
  at("average", "count=%td", count);
  k.average(a, w, 0.3, count);
  for (Size j = 0; j < count; ++j) {
    const W old = integer(0, j, FIRST), want = old + W(T(0.3)) * (integer(0, j, SECOND) - old);
    close<T>(a[j], want, 16 + std::fabs(want), "average", 0, j);
    equal(w[j], integer(0, j, SECOND), "w", 0, j);
  }
}

template <class T> void Check<T>::penalize(Size vectors) {
  const Size count = vectors * width;
  const T* w = matrix(operand[0], "w", 1, count, count, FIRST);
  operand[0].protect();
  T* g = matrix(operand[1], "g", 1, count, count, SECOND);
  at("penalize", "count=%td", count);
  k.penalize(0.25, 0.5, w, g, count);
  for (Size j = 0; j < count; ++j) {
    const double old = integer(0, j, FIRST);
    const double want = integer(0, j, SECOND) + 0.5 * old + 0.25 * ((old > 0) - (old < 0));
    equal(g[j], want, "g", 0, j);
  }
  at("scale", "count=%td", count);
  k.scale(0.5, g, count);
  for (Size j = 0; j < count; ++j) {
    const double old = integer(0, j, FIRST);
    const double want = integer(0, j, SECOND) + 0.5 * old + 0.25 * ((old > 0) - (old < 0));
    equal(g[j], 0.5 * want, "a", 0, j);
  }
}

template <class T> void Check<T>::norms(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant);
  T* a = matrix(operand[0], "a", m, n, ld, FIRST);
  at("square_total, column_squares", "m=%td n=%td ld=%td", m, n, ld);
  double total = 0;
  std::vector<double> columns(size_t(n), 0.0);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) {
      total += integer(i, j, FIRST) * integer(i, j, FIRST);
      columns[size_t(j)] += integer(i, j, FIRST) * integer(i, j, FIRST);
    }
  equal(k.square_total(a, ld, m, n), total, "total", 0, 0);
  double* out = operand[1].place<double>("out", n);
  k.column_squares(a, ld, m, n, out);
  for (Size j = 0; j < n; ++j) equal(out[j], columns[size_t(j)], "out", 0, j);
  // Two groups: of these sums, and of three times as much.
  double* squares = operand[2].place<double>("squares", 2 * n);
  for (Size j = 0; j < n; ++j) squares[j] = columns[size_t(j)], squares[n + j] = 3 * squares[j];
  operand[2].protect();
  double* factor = operand[3].place<double>("factor", n);
  at("unit_factors", "m=%td n=%td", m, n);
  const int any = k.unit_factors(squares, 2, n, 10, factor);
  int expected = 0;
  for (Size j = 0; j < n; ++j) {
    const double norm = 2 * std::sqrt(columns[size_t(j)]);
    expected |= norm > 10;
    close<double>(factor[j], norm > 10 ? 10 / norm : 1, 1, "factor", 0, j);
  }
  if (any != expected) fail("unit_factors returns another number");
  for (Size j = 0; j < n; ++j) factor[j] = j % 2 ? 0.5 : 1;
  at("scale_columns", "m=%td n=%td ld=%td", m, n, ld);
  k.scale_columns(factor, a, ld, m, n);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j)
      equal(a[i * ld + j], (j % 2 ? 0.5 : 1) * integer(i, j, FIRST), "a", i, j);
}

template <class T> void Check<T>::check_optimizers() {
  at_both_sides([&] {
    for (Size vectors = 1; vectors <= max_size; ++vectors) {
      update(vectors);
      average(vectors);
      penalize(vectors);
    }
    for_each_two([&](Size m, Size n, Size variant) { norms(m, n, variant); });
  });
}

template void Check<float>::check_optimizers();
template void Check<double>::check_optimizers();
