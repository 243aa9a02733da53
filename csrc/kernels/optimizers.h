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

// w, g, s1, s2: (count,); s1 and s2 are read only by the rules that have such a state.
template <class T, int RULE>
void update_rule(const Step* step, T* w_, const T* g_, T* s1, T* s2, Size count) {
  const Adam<T> adam(step);
  const V<T> rate = adam.rate, beta1 = adam.beta1;
  for (Size j = 0; j < count; j += width<T>) {
    if constexpr (RULE == pynn::RULE_ADAM) {
      adam.update(load(g_ + j), w_ + j, s1 + j, s2 + j);
      continue;
    }
    V<T> w = load(w_ + j);
    const V<T> g = fma(adam.l2, w, load(g_ + j));
    if constexpr (RULE == pynn::RULE_SGD) {
      w = fma(set1(T(0)) - rate, g, w);
    } else if constexpr (RULE == pynn::RULE_MOMENTUM || RULE == pynn::RULE_NESTEROV) {
      const V<T> push = rate * g, v = fma(beta1, load(s1 + j), set1(T(0)) - push);
      store(s1 + j, v);
      w = RULE == pynn::RULE_MOMENTUM ? w + v : w + fma(beta1, v, set1(T(0)) - push);
    } else {
      const V<T> s = RULE == pynn::RULE_ADAGRAD ? fma(g, g, load(s1 + j))
                                                : fma(beta1, load(s1 + j), adam.rest1 * g * g);
      store(s1 + j, s);
      w = w - rate * g / (square_root(s) + adam.epsilon);
    }
    store(w_ + j, w);
  }
}

template <class T>
void update(int rule, const Step* step, void* w, const void* g, void* s1, void* s2, Size count) {
  auto* f = rule == pynn::RULE_SGD        ? update_rule<T, pynn::RULE_SGD>
            : rule == pynn::RULE_MOMENTUM ? update_rule<T, pynn::RULE_MOMENTUM>
            : rule == pynn::RULE_NESTEROV ? update_rule<T, pynn::RULE_NESTEROV>
            : rule == pynn::RULE_RMSPROP  ? update_rule<T, pynn::RULE_RMSPROP>
            : rule == pynn::RULE_ADAGRAD  ? update_rule<T, pynn::RULE_ADAGRAD>
                                          : update_rule<T, pynn::RULE_ADAM>;
  f(step, (T*)w, (const T*)g, (T*)s1, (T*)s2, count);
}

}  // namespace
