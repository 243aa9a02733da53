// Optimizers: the formulas of pynn/backends/updates.py.
#pragma once

#include "maths.h"
#include "simd.h"
#include "tile.h"

namespace {

using pynn::Step;

// Adam's update of one vector. A struct, because products with a sparse matrix can end with it.
template <class T> struct Adam {
  V<T> rate, l2, stay, beta1, beta2, rest1, rest2, epsilon;

  explicit Adam(const Step* step)
      : rate(set1(T(step->rate))), l2(set1(T(step->l2))),
        stay(set1(T(1)) - set1(T(step->decay))),
        beta1(set1(T(step->beta1))), beta2(set1(T(step->beta2))),
        // Subtracted in double: 1 − 0.999 in float has lost three digits.
        rest1(set1(T(1 - step->beta1))), rest2(set1(T(1 - step->beta2))),
        epsilon(set1(T(step->epsilon))) {}

  PYNN_INLINE void update(V<T> gradient, T* w_, T* s1, T* s2) const {
    const V<T> w = load(w_), g = fma(l2, w, gradient);
    const V<T> m = fma(beta1, load(s1), rest1 * g), v = fma(beta2, load(s2), rest2 * g * g);
    store(s1, m);
    store(s2, v);
    store(w_, w * stay - rate * m / (square_root(v) + epsilon));
  }
};

// −1 or 1; 0 and NaN stay.
template <class T> PYNN_INLINE V<T> sign(V<T> x) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  return select(greater(x, zero), one, select(greater(zero, x), zero - one, x));
}

// Adam's relatives: AMSGrad and NAdam.
template <class T, int RULE>
PYNN_INLINE void update_moments(const Adam<T>& adam, V<T> of_g, V<T> gradient, T* w_, T* s1, T* s2,
                                T* s3) {
  const V<T> w = load(w_), g = fma(adam.l2, w, gradient);
  const V<T> m = fma(adam.beta1, load(s1), adam.rest1 * g);
  const V<T> v = fma(adam.beta2, load(s2), adam.rest2 * g * g);
  store(s1, m);
  store(s2, v);
  V<T> u = v, step = adam.rate * m;
  if constexpr (RULE == pynn::RULE_AMSGRAD) {
    u = maximum<T>(v, load(s3));  // NaN if v is
    store(s3, u);
  } else {
    step = fma(of_g, g, step);
  }
  store(w_, w * adam.stay - step / (square_root(u) + adam.epsilon));
}

// RMSProp with momentum, with the mean gradient, or with both.
template <class T, int RULE>
PYNN_INLINE V<T> update_spread(const Adam<T>& adam, V<T> inside, V<T> g, V<T> w, T* s1, T* s2,
                               T* s3) {
  constexpr bool pushes = RULE != pynn::RULE_RMSPROP_CENTERED;
  const V<T> s = fma(adam.beta1, load(s1), adam.rest1 * g * g);
  store(s1, s);
  V<T> spread = s;
  if constexpr (RULE != pynn::RULE_RMSPROP_MOMENTUM) {
    T* mean = pushes ? s3 : s2;
    const V<T> a = fma(adam.beta1, load(mean), adam.rest1 * g);
    store(mean, a);
    spread = maximum<T>(s - a * a, set1(T(0)));  // rounding may make it negative
  }
  V<T> move = adam.rate * g / (square_root(spread + inside) + adam.epsilon);
  if constexpr (pushes) {
    move = fma(adam.beta2, load(s2), move);
    store(s2, move);
  }
  return w - move;
}

// w, g: (count,); state: the vectors (count,) that the rule has.
template <class T, int RULE>
void update_rule(const Step* step, T* w_, const T* g_, void* const* state, Size count) {
  const Adam<T> adam(step);
  const V<T> rate = adam.rate, beta1 = adam.beta1, of_g = set1(T(step->gradient_rate));
  T* s1 = RULE == pynn::RULE_SGD ? nullptr : (T*)state[0];
  constexpr bool spreads = RULE == pynn::RULE_RMSPROP_MOMENTUM ||
                           RULE == pynn::RULE_RMSPROP_CENTERED || RULE == pynn::RULE_RMSPROP_BOTH;
  constexpr bool three = RULE == pynn::RULE_AMSGRAD || RULE == pynn::RULE_RMSPROP_BOTH;
  constexpr bool two = three || spreads || RULE == pynn::RULE_ADAM || RULE == pynn::RULE_NADAM;
  const V<T> inside = set1(T(step->inside));
  T* s2 = two ? (T*)state[1] : nullptr;
  T* s3 = three ? (T*)state[2] : nullptr;
  for (Size j = 0; j < count; j += width<T>) {
    if constexpr (RULE == pynn::RULE_ADAM) {
      adam.update(load(g_ + j), w_ + j, s1 + j, s2 + j);
      continue;
    } else if constexpr (RULE == pynn::RULE_AMSGRAD || RULE == pynn::RULE_NADAM) {
      update_moments<T, RULE>(adam, of_g, load(g_ + j), w_ + j, s1 + j, s2 + j,
                              RULE == pynn::RULE_AMSGRAD ? s3 + j : s3);
      continue;
    }
    V<T> w = load(w_ + j);
    const V<T> g = fma(adam.l2, w, load(g_ + j));
    w = w * adam.stay;
    if constexpr (RULE == pynn::RULE_SGD) {
      w = fma(set1(T(0)) - rate, g, w);
    } else if constexpr (RULE == pynn::RULE_MOMENTUM || RULE == pynn::RULE_NESTEROV) {
      const V<T> push = rate * g, v = fma(beta1, load(s1 + j), set1(T(0)) - push);
      store(s1 + j, v);
      w = RULE == pynn::RULE_MOMENTUM ? w + v : w + fma(beta1, v, set1(T(0)) - push);
    } else if constexpr (RULE == pynn::RULE_LION) {
      const V<T> m = load(s1 + j);
      store(s1 + j, fma(adam.beta2, m, adam.rest2 * g));
      w = w - rate * sign<T>(fma(beta1, m, adam.rest1 * g));
    } else if constexpr (spreads) {
      w = update_spread<T, RULE>(adam, inside, g, w, s1 + j, s2 + j, three ? s3 + j : s3);
    } else {
      const V<T> s = RULE == pynn::RULE_ADAGRAD ? fma(g, g, load(s1 + j))
                                                : fma(beta1, load(s1 + j), adam.rest1 * g * g);
      store(s1 + j, s);
      w = w - rate * g / (square_root(s + inside) + adam.epsilon);
    }
    store(w_ + j, w);
  }
}

template <class T>
void update(int rule, const Step* step, void* w, const void* g, void* const* state, Size count) {
  auto* f = rule == pynn::RULE_SGD        ? update_rule<T, pynn::RULE_SGD>
            : rule == pynn::RULE_MOMENTUM ? update_rule<T, pynn::RULE_MOMENTUM>
            : rule == pynn::RULE_NESTEROV ? update_rule<T, pynn::RULE_NESTEROV>
            : rule == pynn::RULE_RMSPROP  ? update_rule<T, pynn::RULE_RMSPROP>
            : rule == pynn::RULE_ADAGRAD  ? update_rule<T, pynn::RULE_ADAGRAD>
            : rule == pynn::RULE_AMSGRAD  ? update_rule<T, pynn::RULE_AMSGRAD>
            : rule == pynn::RULE_NADAM    ? update_rule<T, pynn::RULE_NADAM>
            : rule == pynn::RULE_LION     ? update_rule<T, pynn::RULE_LION>
            : rule == pynn::RULE_RMSPROP_MOMENTUM ? update_rule<T, pynn::RULE_RMSPROP_MOMENTUM>
            : rule == pynn::RULE_RMSPROP_CENTERED ? update_rule<T, pynn::RULE_RMSPROP_CENTERED>
            : rule == pynn::RULE_RMSPROP_BOTH     ? update_rule<T, pynn::RULE_RMSPROP_BOTH>
                                          : update_rule<T, pynn::RULE_ADAM>;
  f(step, (T*)w, (const T*)g, state, count);
}

// The moving average of parameters.
template <class T> void average(void* average_, const void* w_, double rest, Size count) {
  T* a = (T*)average_;
  const T* w = (const T*)w_;
  for (Size j = 0; j < count; j += width<T>) {
    const V<T> before = load(a + j);
    store(a + j, fma(set1(T(rest)), load(w + j) - before, before));
  }
}

}  // namespace
