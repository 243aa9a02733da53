// Vectors of one instruction set: arithmetic, comparison, loads and stores, transposition.
//
// Included only by files that are compiled once per instruction set. Everything here has internal
// linkage: otherwise the linker could merge two copies of an inline function and keep the one that
// was compiled for a higher instruction set than the processor has.
//
// PYNN_VECTOR_BYTES is the size of a vector register. V<T> is a vector of T: a vector extension
// type of GCC and Clang, or, with PYNN_PLAIN, a struct of an array, which any C++ compiler accepts.
//
// Rounding is explicit, because results must not depend on the compiler: fma() rounds once (twice
// where the instruction set has no FMA instruction), the operators * and + round separately, and
// the build disables contraction by the compiler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if !defined(PYNN_PLAIN) && (defined(__x86_64__) || defined(_M_X64))
#include <immintrin.h>
#endif
#if !defined(PYNN_PLAIN) && defined(__aarch64__)
#include <arm_neon.h>
#endif

// Forces inlining in the plain build: when the compiler's inlining limit is reached, it passes the
// struct Vec through memory.
#if defined(PYNN_PLAIN) && defined(__GNUC__)
#define PYNN_INLINE inline __attribute__((always_inline))
#else
#define PYNN_INLINE inline
#endif

// For functions with accumulators as an argument: a call would pass them through memory.
#if defined(__GNUC__)
#define PYNN_FORCE_INLINE inline __attribute__((always_inline))
#else
#define PYNN_FORCE_INLINE inline
#endif

// Unless a loop over an array of accumulators is fully unrolled, the compiler keeps the array on
// the stack instead of in registers. 32 is more than any of these arrays has elements in a
// dimension.
#if defined(__GNUC__)
#define PYNN_UNROLL _Pragma("GCC unroll 32")
#define PYNN_UNROLL_TWICE _Pragma("GCC unroll 2")
#else
#define PYNN_UNROLL
#define PYNN_UNROLL_TWICE
#endif

namespace {

using Size = std::ptrdiff_t;

// Layout of an IEEE 754 number and the integers of its size.
template <class T> struct Bits;
template <> struct Bits<float> {
  using Int = int32_t;
  using Unsigned = uint32_t;
  static constexpr int mantissa = 23, bias = 127;
};
template <> struct Bits<double> {
  using Int = int64_t;
  using Unsigned = uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
};

// Elements of a vector.
template <class T> constexpr int width = PYNN_VECTOR_BYTES / int(sizeof(T));

#ifdef PYNN_PLAIN

template <class T> struct Vec {
  T lane[width<T>];
};
template <class T> struct Mask {
  bool lane[width<T>];
};

#define PYNN_LANES for (int i = 0; i < width<T>; ++i)
#define PYNN_OPERATOR(op)                                                  \
  template <class T> PYNN_INLINE Vec<T> operator op(Vec<T> a, Vec<T> b) { \
    Vec<T> r;                                                              \
    PYNN_LANES r.lane[i] = a.lane[i] op b.lane[i];                         \
    return r;                                                              \
  }
PYNN_OPERATOR(+)
PYNN_OPERATOR(-)
PYNN_OPERATOR(*)
PYNN_OPERATOR(/)
#undef PYNN_OPERATOR

template <class T> PYNN_INLINE Vec<T> set1(T x) {
  Vec<T> r;
  PYNN_LANES r.lane[i] = x;
  return r;
}
template <class T> PYNN_INLINE Mask<T> greater(Vec<T> a, Vec<T> b) {
  Mask<T> r;
  PYNN_LANES r.lane[i] = a.lane[i] > b.lane[i];
  return r;
}
template <class T> PYNN_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  Vec<T> r;
  PYNN_LANES r.lane[i] = m.lane[i] ? a.lane[i] : b.lane[i];
  return r;
}
template <class T> PYNN_INLINE Mask<T> first_lanes(std::ptrdiff_t n) {
  Mask<T> r;
  PYNN_LANES r.lane[i] = i < n;
  return r;
}
template <class T> PYNN_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) { return a * b + c; }
PYNN_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
PYNN_INLINE double square_root(double x) { return __builtin_sqrt(x); }
template <class T> PYNN_INLINE Vec<T> square_root(Vec<T> x) {
  Vec<T> r;
  PYNN_LANES r.lane[i] = square_root(x.lane[i]);
  return r;
}
// 2^k, where ``shifted`` is k + 1.5·2^mantissa, so that the low bits of its mantissa hold k.
// Unsigned arithmetic, because the bits of a NaN may be the largest integer, to which the bias
// cannot be added.
template <class T> PYNN_INLINE Vec<T> power_of_two(Vec<T> shifted) {
  Vec<T> r;
  PYNN_LANES {
    typename Bits<T>::Unsigned bits;
    std::memcpy(&bits, &shifted.lane[i], sizeof bits);
    bits = (bits + Bits<T>::bias) << Bits<T>::mantissa;
    std::memcpy(&r.lane[i], &bits, sizeof bits);
  }
  return r;
}
template <class T> PYNN_INLINE Vec<T> absolute(Vec<T> x) {
  Vec<T> r;
  PYNN_LANES r.lane[i] = x.lane[i] < 0 ? -x.lane[i] : x.lane[i];
  return r;
}
// The exponent k of x = f·2^k with f in [1, 2), as a number, and f. x is positive and normal.
template <class T> PYNN_INLINE Vec<T> split_exponent(Vec<T> x, Vec<T>* fraction) {
  using Unsigned = typename Bits<T>::Unsigned;
  constexpr Unsigned mantissa = (Unsigned(1) << Bits<T>::mantissa) - 1;
  constexpr Unsigned one = Unsigned(Bits<T>::bias) << Bits<T>::mantissa;
  Vec<T> r;
  PYNN_LANES {
    Unsigned bits;
    std::memcpy(&bits, &x.lane[i], sizeof bits);
    r.lane[i] = T(int(bits >> Bits<T>::mantissa) - Bits<T>::bias);
    bits = (bits & mantissa) | one;
    std::memcpy(&fraction->lane[i], &bits, sizeof bits);
  }
  return r;
}
// x (≥ 0) with the sign of y.
template <class T> PYNN_INLINE Vec<T> with_sign(Vec<T> x, Vec<T> y) {
  PYNN_LANES {
    typename Bits<T>::Unsigned a, b;
    std::memcpy(&a, &x.lane[i], sizeof a);
    std::memcpy(&b, &y.lane[i], sizeof b);
    a |= b & ~(~decltype(b)(0) >> 1);
    std::memcpy(&x.lane[i], &a, sizeof a);
  }
  return x;
}
template <class T> PYNN_INLINE T sum(Vec<T> v) {
  for (int half = width<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v.lane[i] = v.lane[i] + v.lane[i + half];
  return v.lane[0];
}
template <class T> using V = Vec<T>;

#else

template <class T> struct VecType {
  typedef T type __attribute__((vector_size(PYNN_VECTOR_BYTES)));
};
template <class T> using V = typename VecType<T>::type;
template <class T> using I = V<typename Bits<T>::Int>;

inline V<float> set1(float x) { return x - V<float>{}; }
inline V<double> set1(double x) { return x - V<double>{}; }
template <class A, class B> inline auto greater(A a, B b) { return a > b; }
template <class M, class A> inline A select(M m, A a, A b) { return m ? a : b; }
template <class T> inline I<T> first_lanes(std::ptrdiff_t n) {
  I<T> lane;
  for (int i = 0; i < width<T>; ++i) lane[i] = i;
  return lane < typename Bits<T>::Int(n < width<T> ? n : width<T>);
}

#if PYNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
inline V<float> fma(V<float> a, V<float> b, V<float> c) {
  return (V<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline V<double> fma(V<double> a, V<double> b, V<double> c) {
  return (V<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
inline V<float> square_root(V<float> x) { return (V<float>)_mm512_sqrt_ps((__m512)x); }
inline V<double> square_root(V<double> x) { return (V<double>)_mm512_sqrt_pd((__m512d)x); }
inline __m256 lower(V<float> v) { return _mm512_castps512_ps256((__m512)v); }
inline __m256 upper(V<float> v) { return _mm512_extractf32x8_ps((__m512)v, 1); }
inline __m256d lower(V<double> v) { return _mm512_castpd512_pd256((__m512d)v); }
inline __m256d upper(V<double> v) { return _mm512_extractf64x4_pd((__m512d)v, 1); }
#elif PYNN_VECTOR_BYTES == 32 && defined(__AVX2__)
inline V<float> fma(V<float> a, V<float> b, V<float> c) {
  return (V<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline V<double> fma(V<double> a, V<double> b, V<double> c) {
  return (V<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
inline V<float> square_root(V<float> x) { return (V<float>)_mm256_sqrt_ps((__m256)x); }
inline V<double> square_root(V<double> x) { return (V<double>)_mm256_sqrt_pd((__m256d)x); }
#elif PYNN_VECTOR_BYTES == 16 && defined(__SSE4_2__)
inline V<float> fma(V<float> a, V<float> b, V<float> c) { return a * b + c; }
inline V<double> fma(V<double> a, V<double> b, V<double> c) { return a * b + c; }
inline V<float> square_root(V<float> x) { return (V<float>)_mm_sqrt_ps((__m128)x); }
inline V<double> square_root(V<double> x) { return (V<double>)_mm_sqrt_pd((__m128d)x); }
#elif PYNN_VECTOR_BYTES == 16 && defined(__aarch64__)
inline V<float> fma(V<float> a, V<float> b, V<float> c) {
  return (V<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline V<double> fma(V<double> a, V<double> b, V<double> c) {
  return (V<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
inline V<float> square_root(V<float> x) { return (V<float>)vsqrtq_f32((float32x4_t)x); }
inline V<double> square_root(V<double> x) { return (V<double>)vsqrtq_f64((float64x2_t)x); }
#else
#error "this pair of PYNN_VECTOR_BYTES and instruction set has no vectors: define PYNN_PLAIN"
#endif

// 2^k: see power_of_two of the plain vectors above.
template <class T> inline V<T> power_of_two_of(V<T> shifted) {
  using Unsigned = typename Bits<T>::Unsigned;
  return (V<T>)(((V<Unsigned>)shifted + Unsigned(Bits<T>::bias)) << Unsigned(Bits<T>::mantissa));
}
inline V<float> power_of_two(V<float> shifted) { return power_of_two_of<float>(shifted); }
inline V<double> power_of_two(V<double> shifted) { return power_of_two_of<double>(shifted); }
// See split_exponent of the plain vectors above. The exponent is put into the mantissa of 2^mantissa,
// which makes it a number.
template <class T> inline V<T> split_exponent_of(V<T> x, V<T>* fraction) {
  using Unsigned = typename Bits<T>::Unsigned;
  constexpr int m = Bits<T>::mantissa;
  constexpr Unsigned one = Unsigned(Bits<T>::bias) << m, whole = Unsigned(Bits<T>::bias + m) << m;
  const V<Unsigned> bits = (V<Unsigned>)x;
  *fraction = (V<T>)((bits & ((Unsigned(1) << m) - 1)) | one);
  return (V<T>)((bits >> Unsigned(m)) | whole) - set1(T((Unsigned(1) << m) + Bits<T>::bias));
}
inline V<float> split_exponent(V<float> x, V<float>* f) { return split_exponent_of<float>(x, f); }
inline V<double> split_exponent(V<double> x, V<double>* f) {
  return split_exponent_of<double>(x, f);
}
inline V<float> absolute(V<float> x) { return (V<float>)((I<float>)x & INT32_MAX); }
inline V<double> absolute(V<double> x) { return (V<double>)((I<double>)x & INT64_MAX); }
inline V<float> with_sign(V<float> x, V<float> y) {
  return (V<float>)((I<float>)x | ((I<float>)y & INT32_MIN));
}
inline V<double> with_sign(V<double> x, V<double> y) {
  return (V<double>)((I<double>)x | ((I<double>)y & INT64_MIN));
}

// Horizontal sums add lane i + width / 2 to lane i, then repeat on the lower half. The order is the
// same for every instruction set of one vector width.
#if defined(__SSE4_2__)
inline float sum_quarter(__m128 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
inline double sum_quarter(__m128d v) {
  return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)));
}
#if defined(__AVX2__)
inline float sum_half(__m256 v) {
  return sum_quarter(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
inline double sum_half(__m256d v) {
  return sum_quarter(_mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)));
}
#endif
#if PYNN_VECTOR_BYTES == 64
inline float sum(V<float> v) { return sum_half(_mm256_add_ps(lower(v), upper(v))); }
inline double sum(V<double> v) { return sum_half(_mm256_add_pd(lower(v), upper(v))); }
#elif PYNN_VECTOR_BYTES == 32
inline float sum(V<float> v) { return sum_half((__m256)v); }
inline double sum(V<double> v) { return sum_half((__m256d)v); }
#else
inline float sum(V<float> v) { return sum_quarter((__m128)v); }
inline double sum(V<double> v) { return sum_quarter((__m128d)v); }
#endif
#else
inline float sum(V<float> v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline double sum(V<double> v) { return v[0] + v[1]; }
#endif

#endif  // PYNN_PLAIN

template <class T> PYNN_INLINE V<T> load(const T* p) {
  V<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T> PYNN_INLINE void store(T* p, V<T> v) { std::memcpy(p, &v, sizeof v); }

// Keeps a vector in a register. Without this the compiler may repeat the load for every use.
#if !defined(PYNN_PLAIN) && defined(__x86_64__) && defined(__GNUC__)
template <class A> inline void keep_in_register(A& v) { asm("" : "+v"(v)); }
#else
template <class A> inline void keep_in_register(A&) {}
#endif

// Non-temporal stores, to an address that is a multiple of the vector size. They bypass the caches,
// so no cache line is read before it is overwritten. They are weakly ordered until stream_fence().
#if !defined(PYNN_PLAIN) && defined(__SSE4_2__)
template <class T> inline void stream(T* p, V<T> v) {
#if PYNN_VECTOR_BYTES == 64
  _mm512_stream_si512((__m512i*)p, (__m512i)v);
#elif PYNN_VECTOR_BYTES == 32
  _mm256_stream_si256((__m256i*)p, (__m256i)v);
#else
  _mm_stream_si128((__m128i*)p, (__m128i)v);
#endif
}
inline void stream_fence() { _mm_sfence(); }
#else
template <class T> PYNN_INLINE void stream(T* p, V<T> v) { store(p, v); }
inline void stream_fence() {}
#endif

// Prefetches a cache line into L2, not L1: L2 can wait for more lines than L1 has line-fill
// buffers.
inline void prefetch(const void* at) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(at, 0, 2);
  // GCC takes a function that only prefetches for a pure one, and removes the calls.
  asm volatile("");
#endif
}

// Loads width<T> numbers of type S from any address, aligned or not, and converts them to T.
template <class T, class S> PYNN_INLINE V<T> load_as(const void* p) {
  S from[width<T>];
  T to[width<T>];
  std::memcpy(from, p, sizeof from);
  for (int i = 0; i < width<T>; ++i) to[i] = T(from[i]);
  return load(to);
}
template <> inline V<float> load_as<float, float>(const void* p) { return load((const float*)p); }
template <> inline V<double> load_as<double, double>(const void* p) {
  return load((const double*)p);
}
#ifndef PYNN_PLAIN
template <> inline V<double> load_as<double, float>(const void* p) {
  typedef float Half __attribute__((vector_size(PYNN_VECTOR_BYTES / 2)));
  Half half;
  std::memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, V<double>);
}
#endif
#if !defined(PYNN_PLAIN) && defined(__SSE4_2__)
template <> inline V<float> load_as<float, uint8_t>(const void* p) {
#if PYNN_VECTOR_BYTES == 64
  return (V<float>)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
#elif PYNN_VECTOR_BYTES == 32
  return (V<float>)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  int bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return (V<float>)_mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
#endif
}
#endif

// Loads n < width<T> numbers of type S from any address, and converts them to T; the other lanes
// become 0. Masked loads read no element beyond the last one, and do not wait for stores of single
// elements, as the load of a whole vector does after them.
template <class T, class S> PYNN_INLINE V<T> load_first(const void* p, Size n) {
  S from[width<T>] = {};
  std::memcpy(from, p, size_t(n) * sizeof(S));
  return load_as<T, S>(from);
}
#if !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
template <> inline V<float> load_first<float, float>(const void* p, Size n) {
  return (V<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
template <> inline V<float> load_first<float, uint8_t>(const void* p, Size n) {
  const __m128i bytes = _mm_maskz_loadu_epi8(__mmask16((1u << n) - 1), p);
  return (V<float>)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
template <> inline V<double> load_first<double, double>(const void* p, Size n) {
  return (V<double>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
}
template <> inline V<double> load_first<double, float>(const void* p, Size n) {
  return (V<double>)_mm512_cvtps_pd(_mm256_maskz_loadu_ps(__mmask8((1u << n) - 1), p));
}
#elif !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 32 && defined(__AVX2__)
template <> inline V<float> load_first<float, float>(const void* p, Size n) {
  return (V<float>)_mm256_maskload_ps((const float*)p, (__m256i)first_lanes<float>(n));
}
template <> inline V<double> load_first<double, double>(const void* p, Size n) {
  return (V<double>)_mm256_maskload_pd((const double*)p, (__m256i)first_lanes<double>(n));
}
#endif

// Whether any bit of the vector is set.
#if !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
template <class A> inline bool any_bits(A v) {
  return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
}
#elif !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 32 && defined(__AVX2__)
template <class A> inline bool any_bits(A v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
#elif !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 16 && defined(__SSE4_2__)
template <class A> inline bool any_bits(A v) { return !_mm_testz_si128((__m128i)v, (__m128i)v); }
#else
template <class A> PYNN_INLINE bool any_bits(A v) {
  uint64_t part, all = 0;
  for (size_t i = 0; i < sizeof v; i += sizeof part) {
    std::memcpy(&part, (const char*)&v + i, sizeof part);
    all |= part;
  }
  return all != 0;
}
#endif

// Bit i is set if lane i is not zero. A NaN counts as not zero.
#if !defined(PYNN_PLAIN) && defined(__SSE4_2__)
#if PYNN_VECTOR_BYTES == 64
inline unsigned nonzero_lanes(V<float> v) {
  return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}
inline unsigned nonzero_lanes(V<double> v) {
  return _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
}
#elif PYNN_VECTOR_BYTES == 32
inline unsigned nonzero_lanes(V<float> v) {
  return unsigned(_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
inline unsigned nonzero_lanes(V<double> v) {
  return unsigned(_mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_setzero_pd(), _CMP_NEQ_UQ)));
}
#else
inline unsigned nonzero_lanes(V<float> v) {
  return unsigned(_mm_movemask_ps(_mm_cmpneq_ps((__m128)v, _mm_setzero_ps())));
}
inline unsigned nonzero_lanes(V<double> v) {
  return unsigned(_mm_movemask_pd(_mm_cmpneq_pd((__m128d)v, _mm_setzero_pd())));
}
#endif
#endif

template <class A> PYNN_INLINE auto lane_of(A v, int i) {
#ifdef PYNN_PLAIN
  return v.lane[i];
#else
  return v[i];
#endif
}

// --- For both kinds of vector. T is an explicit template argument: V<T> does not determine it. ---

// The second argument is returned only where the comparison with it is true, so a NaN in ``a`` is
// propagated.
template <class T> PYNN_INLINE V<T> maximum(V<T> a, V<T> b) { return select(greater(b, a), b, a); }
template <class T> PYNN_INLINE V<T> minimum(V<T> a, V<T> b) { return select(greater(a, b), b, a); }

// --- Transposition of width x width elements, held in ``width`` vectors --------------------------
//
// Exchanges the off-diagonal blocks of size 1, then 2, 4, …, width / 2.

#if !defined(PYNN_PLAIN) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PYNN_SHUFFLE 1
#endif
#endif

#ifdef PYNN_SHUFFLE
template <int... Is> struct Lanes {};
template <int N, int... Is> struct LanesUpTo : LanesUpTo<N - 1, N - 1, Is...> {};
template <int... Is> struct LanesUpTo<0, Is...> {
  using type = Lanes<Is...>;
};
template <int D, class A, int... Is> PYNN_INLINE void exchange(A& a, A& b, Lanes<Is...>) {
  constexpr int W = int(sizeof...(Is));
  const A low = __builtin_shufflevector(a, b, ((Is & D) ? W + Is - D : Is)...);
  b = __builtin_shufflevector(a, b, ((Is & D) ? W + Is : Is + D)...);
  a = low;
}
template <class T, int D> PYNN_INLINE void exchange_rows(V<T>* r) {
  if constexpr (D < width<T>) {
    for (int i = 0; i < width<T>; ++i)
      if (!(i & D)) exchange<D>(r[i], r[i + D], typename LanesUpTo<width<T>>::type());
    exchange_rows<T, 2 * D>(r);
  }
}
#endif

template <class T> PYNN_INLINE void transpose_square(V<T>* r) {
#ifdef PYNN_SHUFFLE
  exchange_rows<T, 1>(r);
#else
  T cell[width<T>][width<T>], transposed[width<T>][width<T>];
  std::memcpy(cell, r, sizeof cell);
  for (int i = 0; i < width<T>; ++i)
    for (int j = 0; j < width<T>; ++j) transposed[j][i] = cell[i][j];
  std::memcpy(r, transposed, sizeof transposed);
#endif
}

// --- Unsigned 64-bit lanes for Philox, which uses their lower 32 bits ----------------------------

constexpr int word_lanes = PYNN_VECTOR_BYTES / 8;

#ifdef PYNN_PLAIN
struct Words {
  uint64_t lane[word_lanes];
};
#define PYNN_WORDS(expression)                                    \
  Words r;                                                        \
  for (int i = 0; i < word_lanes; ++i) r.lane[i] = (expression); \
  return r
PYNN_INLINE Words operator^(Words a, Words b) { PYNN_WORDS(a.lane[i] ^ b.lane[i]); }
PYNN_INLINE Words operator|(Words a, Words b) { PYNN_WORDS(a.lane[i] | b.lane[i]); }
PYNN_INLINE Words operator>>(Words a, int n) { PYNN_WORDS(a.lane[i] >> n); }
PYNN_INLINE Words operator<<(Words a, int n) { PYNN_WORDS(a.lane[i] << n); }
PYNN_INLINE Words set_words(uint64_t x) { PYNN_WORDS(x); }
PYNN_INLINE Words counting_from(uint64_t x) { PYNN_WORDS(x + uint64_t(i)); }
PYNN_INLINE Words multiply_lower(Words a, Words b) {
  PYNN_WORDS(uint64_t(uint32_t(a.lane[i])) * uint32_t(b.lane[i]));
}
#undef PYNN_WORDS
#else
typedef uint64_t Words __attribute__((vector_size(PYNN_VECTOR_BYTES)));
inline Words set_words(uint64_t x) { return x | Words{}; }
inline Words counting_from(uint64_t x) {
  Words r;
  for (int i = 0; i < word_lanes; ++i) r[i] = x + uint64_t(i);
  return r;
}
#if PYNN_VECTOR_BYTES == 64
inline Words multiply_lower(Words a, Words b) {
  return (Words)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
#elif PYNN_VECTOR_BYTES == 32
inline Words multiply_lower(Words a, Words b) {
  return (Words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#elif defined(__SSE4_2__)
inline Words multiply_lower(Words a, Words b) {
  return (Words)_mm_mul_epu32((__m128i)a, (__m128i)b);
}
#else
inline Words multiply_lower(Words a, Words b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
#endif
#endif

}  // namespace
