// Elementary functions on vectors: exp, expm1, sigmoid, tanh, log, log1p, softplus, sine and cosine,
// and the normal distribution. Errors are a few units in the last place (ulp); NaN is propagated.
//
// Included only by files that are compiled once per instruction set; everything here has internal
// linkage, for the reason given in simd.h.
#pragma once

#include "simd.h"

namespace {

// Σ c[i]·x^i by Horner's rule.
template <class T, int N> PYNN_INLINE V<T> horner(const T (&c)[N], V<T> x) {
  V<T> p = set1(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) p = fma(p, x, set1(c[i]));
  return p;
}

template <class T> struct Exp;
template <> struct Exp<float> {
  // lowest: e^lowest is the smallest normal number. highest: above it e^x is infinite. most: the
  // largest power of two. shift: adding it rounds to an integer, which lands in the low mantissa
  // bits.
  static constexpr float lowest = -0x1.5d589ep6f, highest = 89.f, most = 0x1p127f,
                         shift = 0x1.8p23f;
  // ln 2 = ln2_high + ln2_low, where k·ln2_high is exact (Cody and Waite 1980, chapter 6).
  static constexpr float log2e = 0x1.715476p0f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  // Taylor series of (e^r − 1 − r) / r²: for |r| ≤ ½ ln 2 the truncation error is below ½ ulp.
  static constexpr float series[6] = {1.f / 2, 1.f / 6, 1.f / 24, 1.f / 120, 1.f / 720, 1.f / 5040};
};
template <> struct Exp<double> {
  static constexpr double lowest = -0x1.6232bdd7abcd2p9, highest = 710, most = 0x1p1023,
                          shift = 0x1.8p52;
  static constexpr double log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42feep-1,
                          ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double series[12] = {
      1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// e^x = scale·(1 + p). Returning both parts lets e^x and e^x − 1 be computed without cancellation.
// x below Exp::lowest is treated as lowest; x above Exp::highest is not allowed.
template <class T> struct ExpParts {
  V<T> scale, p;
};
template <class T> PYNN_INLINE ExpParts<T> exp_parts(V<T> x) {
  using E = Exp<T>;
  x = maximum<T>(x, set1(E::lowest));
  const V<T> shifted = fma(x, set1(E::log2e), set1(E::shift));
  const V<T> k = shifted - set1(E::shift);
  V<T> r = fma(k, set1(-E::ln2_high), x);
  r = fma(k, set1(-E::ln2_low), r);
  return {power_of_two(shifted), fma(horner(E::series, r), r * r, r)};
}
// e^x for x ≤ 0; results below the smallest normal number become 0. 1 + p is added first, because
// scale·p may be subnormal.
template <class T> PYNN_INLINE V<T> exponential(V<T> x) {
  const ExpParts<T> e = exp_parts<T>(x);
  return select(greater(set1(Exp<T>::lowest), x), set1(T(0)), (set1(T(1)) + e.p) * e.scale);
}
// e^x for any x. For the largest results 2^k itself overflows, so it is applied as 2^(k-1) and 2.
template <class T> PYNN_INLINE V<T> exponential_of_any(V<T> x) {
  const ExpParts<T> e = exp_parts<T>(minimum<T>(x, set1(Exp<T>::highest)));
  const V<T> most = set1(Exp<T>::most), one = set1(T(1)), scale = minimum<T>(e.scale, most);
  const V<T> again = select(greater(e.scale, most), set1(T(2)), one);
  return select(greater(set1(Exp<T>::lowest), x), set1(T(0)), (one + e.p) * scale * again);
}
// e^x − 1 for x ≤ Exp::highest.
template <class T> PYNN_INLINE V<T> exponential_minus_one(V<T> x) {
  const ExpParts<T> e = exp_parts<T>(x);
  return fma(e.scale, e.p, e.scale - set1(T(1)));
}

// 1 / (1 + e^-x). With e = e^-|x| and q = e / (1 + e) it is 1 − q for x ≥ 0, and q for x < 0. The
// latter is computed as e − e·q: for small e that is rounded once after e, q itself twice.
template <class T> PYNN_INLINE V<T> sigmoid(V<T> x) {
  const V<T> zero = set1(T(0)), one = set1(T(1));
  const V<T> e = exponential<T>(zero - absolute(x)), q = e / (one + e);
  return select(greater(zero, x), fma(zero - e, q, e), one - q);
}

// (tanh(x)/x − 1) / x² as a polynomial in x² for |x| ≤ ½ ln 2: the Chebyshev series, computed with
// 60 digits and truncated where the remainder is 1/30 ulp of tanh(x).
template <class T> struct Tanh;
template <> struct Tanh<float> {
  static constexpr float series[5] = {-0.33333333317766481566f, 0.13333326847191532673f,
                                      -0.053963912025196616291f, 0.02176712884858695726f,
                                      -0.0078645945996405782397f};
};
template <> struct Tanh<double> {
  static constexpr double series[10] = {
      -0.3333333333333333333,    0.13333333333333327191,    -0.05396825396823707197,
      0.021869488534350503521,   -0.0088632354318825774631, 0.0035921249730682944541,
      -0.0014557759330449634172, 0.00058933378581985214105, -0.00023410705368356484702,
      0.000076306339166520422811};
};
// e / (e + 2) with e = e^2|x| − 1. For |x| ≤ 0.34657 (½ ln 2) the polynomial has fewer roundings.
// For 2|x| > 40 the result rounds to 1.
template <class T> PYNN_INLINE V<T> hyperbolic_tangent(V<T> x) {
  const V<T> a = absolute(x), square = a * a;
  const V<T> e = exponential_minus_one<T>(minimum<T>(a + a, set1(T(40))));
  const V<T> small = fma(a * square, horner(Tanh<T>::series, square), a);
  return with_sign(select(greater(set1(T(0.34657)), a), small, e / (e + set1(T(2)))), x);
}

// ln(1 + u) for 0 ≤ u ≤ 1, as 2·artanh(½s) with s = 2u / (2 + u) ≤ 2/3. The series needs no table,
// and s is normal whenever u is. Coefficients are those of the Taylor series of artanh(x)/x in x².
template <class T> struct Artanh;
template <> struct Artanh<float> {
  static constexpr float series[8] = {1.f,     1.f / 3,  1.f / 5,  1.f / 7,
                                      1.f / 9, 1.f / 11, 1.f / 13, 1.f / 15};
};
template <> struct Artanh<double> {
  static constexpr double series[17] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                        1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23,
                                        1.0 / 25, 1.0 / 27, 1.0 / 29, 1.0 / 31, 1.0 / 33};
};
template <class T> PYNN_INLINE V<T> log_one_plus(V<T> u) {
  const V<T> s = (u + u) / (u + set1(T(2))), half = s * set1(T(0.5));
  return s * horner(Artanh<T>::series, half * half);
}

// ln(1 + e^x).
template <class T> PYNN_INLINE V<T> softplus(V<T> x) {
  const V<T> zero = set1(T(0));
  return maximum<T>(x, zero) + log_one_plus<T>(exponential<T>(zero - absolute(x)));
}

// (1 + q)·e^(q²)·erfc(q) for q ≥ 0 as a polynomial in t = (q − 2.5) / (q + 2.5): the Chebyshev
// series, computed with 60 digits and truncated at the first term below 1 ulp.
template <class T> struct Erfc;
template <> struct Erfc<float> {
  static constexpr float series[13] = {
      0.73782227414665513063f,    -0.24704676461094653944f,   0.076344333347199865337f,
      0.016298893470634176426f,   -0.031522361095252886342f,  0.014379805004904116611f,
      -0.00085463819895897350943f, -0.0017394926125912139406f, 0.00035850175550056198724f,
      0.00022722900711908590065f, -0.000059222550199797224596f, -0.000024879592717953064292f,
      5.9044393793545584579e-6f};
};
template <> struct Erfc<double> {
  static constexpr double series[26] = {
      0.73782227421400253146,     -0.24704674851568876743,   0.076344326821923804392,
      0.016298433322187700181,    -0.031522258481489064337,  0.01438359605163137689,
      -0.0008552365738881081966,  -0.0017530814484562350989, 0.00036012310737665312614,
      0.00025162360948518848727,  -0.000061330908718875068337, -0.000047454049218017923041,
      6.9108312444187622561e-6,   0.000010201084189014654192, 3.9525304291351868906e-7,
      -2.0721378477754495967e-6,  -5.9585219998689977829e-7, 3.0837712773309654091e-7,
      2.3444738846058213611e-7,   -2.7259048434171245565e-9, -6.0320305221148396068e-8,
      -1.6266518891570182297e-8,  1.0073852159744780416e-8,  5.087196820270810473e-9,
      -8.3835154264997100915e-10, -6.1430515153705860037e-10};
};

// The standard normal distribution: Φ(x), and its density φ(x), which the computation of Φ needs.
template <class T> struct Normal {
  V<T> cdf, density;
};
template <class T> PYNN_INLINE Normal<T> normal(V<T> x) {
  const V<T> zero = set1(T(0)), one = set1(T(1)), c = set1(T(2.5));
  const V<T> q = absolute(x) * set1(T(0.70710678118654752440));
  const V<T> e = exponential<T>(x * x * set1(T(-0.5)));
  const V<T> tail = e * horner(Erfc<T>::series, (q - c) / (q + c)) / (one + q) * set1(T(0.5));
  return {select(greater(x, zero), one - tail, tail), e * set1(T(0.39894228040143267794))};
}

// artanh(x)/x in x² for |x| ≤ 0.172, and sin(x)/x and cos x in x² for |x| ≤ ½π: Taylor series,
// truncated where the remainder is below ½ ulp of ln(x), and of 1.
template <class T> struct Series;
template <> struct Series<float> {
  static constexpr float artanh[5] = {1.f, 1.f / 3, 1.f / 5, 1.f / 7, 1.f / 9};
  static constexpr float sine[7] = {
      1.f, -1.f / 6, 1.f / 120, -1.f / 5040, 1.f / 362880, -1.f / 39916800, 1.f / 6227020800.f};
  static constexpr float cosine[7] = {
      1.f, -1.f / 2, 1.f / 24, -1.f / 720, 1.f / 40320, -1.f / 3628800, 1.f / 479001600};
};
template <> struct Series<double> {
  static constexpr double artanh[11] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9, 1.0 / 11,
                                        1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21};
  static constexpr double sine[11] = {1.0,
                                      -1.0 / 6,
                                      1.0 / 120,
                                      -1.0 / 5040,
                                      1.0 / 362880,
                                      -1.0 / 39916800,
                                      1.0 / 6227020800.0,
                                      -1.0 / 1307674368000.0,
                                      1.0 / 355687428096000.0,
                                      -1.0 / 121645100408832000.0,
                                      1.0 / 51090942171709440000.0};
  static constexpr double cosine[11] = {1.0,
                                        -1.0 / 2,
                                        1.0 / 24,
                                        -1.0 / 720,
                                        1.0 / 40320,
                                        -1.0 / 3628800,
                                        1.0 / 479001600,
                                        -1.0 / 87178291200.0,
                                        1.0 / 20922789888000.0,
                                        -1.0 / 6402373705728000.0,
                                        1.0 / 2432902008176640000.0};
};

// ln x of positive normal numbers: k·ln 2 + 2·artanh((f − 1) / (f + 1)) with x = f·2^k and f between
// √½ and √2, so that results near 0 have few relative errors too.
template <class T> PYNN_INLINE V<T> logarithm(V<T> x) {
  const V<T> one = set1(T(1));
  V<T> f, k = split_exponent(x, &f);
  const auto large = greater(f, set1(T(1.41421356237309504880)));
  f = select(large, f * set1(T(0.5)), f);
  k = select(large, k + one, k);
  const V<T> s = (f - one) / (f + one);
  const V<T> log = (s + s) * horner(Series<T>::artanh, s * s);
  return fma(k, set1(Exp<T>::ln2_high), fma(k, set1(Exp<T>::ln2_low), log));
}

// The sine and the cosine of 2x for |x| ≤ ½π.
template <class T> struct OfAngle {
  V<T> sine, cosine;
};
template <class T> PYNN_INLINE OfAngle<T> of_twice(V<T> x) {
  const V<T> square = x * x, sine = x * horner(Series<T>::sine, square), two = sine + sine;
  return {two * horner(Series<T>::cosine, square), set1(T(1)) - two * sine};
}

}  // namespace
