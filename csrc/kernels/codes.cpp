// Rows of numbers as codes of one byte: code c stands for fma(c, high, c·low), a multiple of the step
// high + low, which has twice the digits of either.
//
// Compiled once per instruction set, as kernels.cpp.

#include <limits>

#include "kernels.h"
#include "rows.h"
#include "simd.h"

namespace {

template <class T> struct Step {
  V<T> high, low;
  explicit Step(const pynn::Codes& codes)
      : high(set1(T(codes.high))), low(set1(T(codes.low))) {}
  PYNN_INLINE V<T> times(V<T> code) const { return fma(code, high, code * low); }
};

// As gather_row of rows.h.
template <class T, bool MARK>
void decode_row(const uint8_t* row, Size n, T* to, const Step<T>& step, uint64_t* marks) {
  constexpr int W = width<T>;
  const Size whole = n / W * W;
  for (Size from = 0; from < whole; from += marked_columns<T>) {
    const Size stop = whole - from < marked_columns<T> ? whole : from + marked_columns<T>;
    uint64_t seen = 0;
    int vector = 0;
    for (Size j = from; j < stop; j += W) {
      const V<T> x = step.times(load_as<T, uint8_t>(row + j));
      store(to + j, x);
      if (MARK) seen |= uint64_t(any_bits(x)) << vector++;
    }
    if (MARK) marks[from / marked_columns<T>] = seen;
  }
  if (whole < n) {
    uint8_t tail[W] = {};
    std::memcpy(tail, row + whole, size_t(n - whole));
    const V<T> x = step.times(load_as<T, uint8_t>(tail));
    store(to + whole, x);
    if (MARK) mark(x, whole, marks);
  }
}

template <class T>
void decode(const pynn::Codes* codes, const uint8_t* x, Size row_stride, const uint32_t* order,
            Size m, Size n, void* out, Size ldo, const uint32_t* next, Size known,
            uint64_t* marks) {
  const Step<T> step(*codes);
  const Size words = mark_words<T>(ldo);
  for (Size i = 0; i < m; ++i) {
    const uint8_t* row = x + Size(order ? order[i] : i) * row_stride;
    T* to = (T*)out + i * ldo;
    if (i < known) prefetch_row((const char*)x + Size(next[i]) * row_stride, n);
    if (!marks) {
      decode_row<T, false>(row, n, to, step, nullptr);
      continue;
    }
    std::memset(marks + i * words, 0, size_t(words) * sizeof *marks);
    decode_row<T, true>(row, n, to, step, marks + i * words);
  }
}

template <class A> PYNN_INLINE bool same_bits(A a, A b) {
#ifdef PYNN_PLAIN
  return std::memcmp(&a, &b, sizeof a) == 0;
#else
  typedef uint8_t Bytes __attribute__((vector_size(PYNN_VECTOR_BYTES)));
  return !any_bits((Bytes)a ^ (Bytes)b);
#endif
}

// Stores whole numbers from 0 to 255 as bytes.
template <class T> PYNN_INLINE void store_bytes(uint8_t* to, V<T> v) {
  T from[width<T>];
  std::memcpy(from, &v, sizeof from);
  for (int i = 0; i < width<T>; ++i) to[i] = uint8_t(from[i]);
}
#if !defined(PYNN_PLAIN) && PYNN_VECTOR_BYTES == 64 && defined(__AVX512F__)
template <> inline void store_bytes<float>(uint8_t* to, V<float> v) {
  _mm_storeu_si128((__m128i*)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
}
#endif

// A row of n numbers, next to each other; returns whether the codes decode to it.
template <class T>
bool encode_row(const char* row, Size n, const Step<T>& step, V<T> inverse, uint8_t* codes) {
  constexpr int W = width<T>;
  // Added and subtracted, it leaves no digits after the point.
  const V<T> whole = set1(T(1.5) / std::numeric_limits<T>::epsilon());
  const V<T> zero = set1(T(0)), most = set1(T(255));
  const auto encode = [&](V<T> x, uint8_t* to) {
    const V<T> rounded = (x * inverse + whole) - whole;
    const V<T> code = minimum<T>(maximum<T>(rounded, zero), most);
    store_bytes<T>(to, code);
    return same_bits(step.times(code), x);
  };
  bool same = true;
  Size j = 0;
  for (; j + W <= n; j += W) same &= encode(load_as<T, T>(row + j * Size(sizeof(T))), codes + j);
  if (j < n) {
    T tail[W] = {};
    uint8_t last[W];
    std::memcpy(tail, row + j * Size(sizeof(T)), size_t(n - j) * sizeof(T));
    same &= encode(load(tail), last);
    std::memcpy(codes + j, last, size_t(n - j));
  }
  return same;
}

template <class T>
Size encode(const pynn::Codes* codes, const char* x, Size row_stride, Size m, Size n,
            uint8_t* out) {
  const Step<T> step(*codes);
  const V<T> inverse = set1(T(1 / (codes->high + codes->low)));
  for (Size i = 0; i < m; ++i)
    if (!encode_row<T>(x + i * row_stride, n, step, inverse, out + i * n)) return i;
  return m;
}

}  // namespace

namespace pynn {
namespace PYNN_ISA {
extern const CodeKernels code_tables[N_DTYPES];
const CodeKernels code_tables[N_DTYPES] = {{decode<float>, encode<float>},
                                           {decode<double>, encode<double>}};
}  // namespace PYNN_ISA
}  // namespace pynn
