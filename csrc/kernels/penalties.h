// Terms of the gradient that depend on the weights, and limits of norms: the formulas of
// pynn/backends/penalties.py. Sums are in double, in an order that depends on the shape alone.

#include <cmath>

#include "optimizers.h"

namespace {

// g (count,) += l2·w + l1·sign(w); count is a multiple of the vector width.
template <class T> void penalize(double l1, double l2, const void* w_, void* g_, Size count) {
  const T* w = (const T*)w_;
  T* g = (T*)g_;
  const V<T> of_w = set1(T(l2)), of_sign = set1(T(l1));
  for (Size j = 0; j < count; j += width<T>) {
    const V<T> v = load(w + j);
    store(g + j, fma(of_w, v, fma(of_sign, sign<T>(v), load(g + j))));
  }
}

// a (count,) *= factor; count is a multiple of the vector width.
template <class T> void scale(double factor, void* a_, Size count) {
  T* a = (T*)a_;
  const V<T> f = set1(T(factor));
  for (Size j = 0; j < count; j += width<T>) store(a + j, f * load(a + j));
}

// The sum of the squares of a (m, n), row by row: eight sums, of every eighth column. The pads after
// the columns are 0.
template <class T> double square_total(const void* a_, Size ld, Size m, Size n) {
  constexpr int lanes = width<double>, parts = 8 / lanes;
  V<double> total[parts];
  for (int s = 0; s < parts; ++s) total[s] = set1(0.0);
  const auto add = [&](int s, const T* a) {
    const V<double> x = load_as<double, T>(a);
    total[s] = total[s] + x * x;
  };
  for (Size i = 0; i < m; ++i) {
    const T* a = (const T*)a_ + i * ld;
    Size j = 0;
    for (; j + 8 <= n; j += 8)
      for (int s = 0; s < parts; ++s) add(s, a + j + s * lanes);
    for (int s = 0; s < parts && j < n; ++s, j += lanes) add(s, a + j);
  }
  double sums[8];
  for (int s = 0; s < parts; ++s) store(sums + s * lanes, total[s]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// out (n,) = the sums of the squares of the columns of a (m, n).
template <class T>
void column_squares(const void* a_, Size ld, Size m, Size n, double* out) {
  for (Size j = 0; j < n; ++j) out[j] = 0;
  for (Size i = 0; i < m; ++i) {
    const T* a = (const T*)a_ + i * ld;
    for (Size j = 0; j < n; ++j) out[j] += double(a[j]) * double(a[j]);
  }
}

// Column j of a (m, n) *= factor[j].
template <class T> void scale_columns(const double* factor, void* a_, Size ld, Size m, Size n) {
  for (Size i = 0; i < m; ++i) {
    T* a = (T*)a_ + i * ld;
    for (Size j = 0; j < n; ++j) a[j] *= T(factor[j]);
  }
}

// factor (n,): what reduces a norm √Σ squares (groups, n) above the limit to it, and 1 for others.
// Returns whether one is not 1.
inline int unit_factors(const double* squares, Size groups, Size n, double limit, double* factor) {
  int any = 0;
  for (Size j = 0; j < n; ++j) factor[j] = 0;
  for (Size i = 0; i < groups; ++i)
    for (Size j = 0; j < n; ++j) factor[j] += squares[i * n + j];
  for (Size j = 0; j < n; ++j) {
    const double norm = std::sqrt(factor[j]);
    factor[j] = norm > limit ? limit / norm : 1;
    any |= norm > limit;
  }
  return any;
}

}  // namespace
