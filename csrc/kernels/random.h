// Random numbers, dropout and noise: Philox 4x32-10 (Salmon et al. 2011, section 3.3).
//
// A block of four 32-bit words is a function of the seed and of a counter (block, row, epoch,
// stream), so any thread can compute any part of the sequence.
#pragma once

#include "maths.h"
#include "rows.h"
#include "simd.h"

namespace {

using pynn::Dropout;
using pynn::Noise;

constexpr int philox_blocks = 16;  // computed together: 2 vectors of AVX-512 per counter word

// The words of 16 consecutive blocks, as out (2·16,): words 0 and 1 of a block, then words 2 and 3,
// the first of both in the lower half.
void philox_group(uint64_t seed, uint32_t block, uint32_t row, uint32_t epoch, uint32_t stream,
                  uint64_t* out) {
  constexpr int parts = philox_blocks / word_lanes;
  Words c0[parts], c1[parts], c2[parts], c3[parts];
  for (int i = 0; i < parts; ++i) {
    c0[i] = counting_from(block + uint32_t(i * word_lanes));
    c1[i] = set_words(row);
    c2[i] = set_words(epoch);
    c3[i] = set_words(stream);
  }
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  // The multiplication reads lower halves only, so the upper halves need no clearing.
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < parts; ++i) {
      const Words p0 = multiply_lower(c0[i], set_words(0xD2511F53u));
      const Words p1 = multiply_lower(c2[i], set_words(0xCD9E8D57u));
      c0[i] = (p1 >> 32) ^ c1[i] ^ set_words(k0);
      c2[i] = (p0 >> 32) ^ c3[i] ^ set_words(k1);
      c1[i] = p1;
      c3[i] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < parts; ++i) {
    const Words front = ((c0[i] << 32) >> 32) | (c1[i] << 32);
    const Words back = ((c2[i] << 32) >> 32) | (c3[i] << 32);
    uint64_t f[word_lanes], k[word_lanes];
    std::memcpy(f, &front, sizeof f);
    std::memcpy(k, &back, sizeof k);
    for (int u = 0; u < word_lanes; ++u) {
      out[2 * (i * word_lanes + u)] = f[u];
      out[2 * (i * word_lanes + u) + 1] = k[u];
    }
  }
}

// Word u of the blocks.
inline uint32_t word_of(const uint64_t* pairs, Size u) {
  return uint32_t(pairs[u / 2] >> (u % 2 * 32));
}

void philox(uint64_t seed, uint32_t row, uint32_t epoch, uint32_t stream, Size blocks,
            uint32_t* out) {
  uint64_t pairs[2 * philox_blocks];
  for (Size b = 0; b < blocks; b += philox_blocks) {
    philox_group(seed, uint32_t(b), row, epoch, stream, pairs);
    const Size count = blocks - b < philox_blocks ? blocks - b : philox_blocks;
    for (Size u = 0; u < 4 * count; ++u) out[4 * b + u] = word_of(pairs, u);
  }
}

template <class T>
void dropout(void* a_, void* slope_, Size ld, Size m, Size n, const Dropout* how, Size row) {
  T *a = (T*)a_, *slope = (T*)slope_;
  constexpr Size units = 4 * philox_blocks;
  const T scale = T(how->scale);
  uint64_t pairs[units / 2];
  T factor[units];
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; j += units) {
      philox_group(how->seed, uint32_t(j / 4), how->first_row + uint32_t(row + i), how->epoch,
                   how->stream, pairs);
      for (Size u = 0; u < units; ++u)
        factor[u] = word_of(pairs, u) >= how->threshold ? scale : T(0);
      T *a_part = a + i * ld + j, *slope_part = slope ? slope + i * ld + j : nullptr;
      const Size count = round_up<T>(n) - j < units ? round_up<T>(n) - j : units;
      for (Size u = 0; u < count; u += width<T>) {
        const V<T> f = load(factor + u);
        store(a_part + u, load(a_part + u) * f);
        if (slope_part) store(slope_part + u, load(slope_part + u) * f);
      }
    }
}

// to (``left`` elements, if that is less than a vector) += v; pads stay as they are.
template <class T> PYNN_INLINE void add_to(T* to, V<T> v, Size left) {
  if (left < width<T>) v = select(first_lanes<T>(left), v, set1(T(0)));
  store(to, load(to) + v);
}

// Box and Muller 1958. In each group of 64 units, word u < 32 gives the radius, and word u + 32 the
// angle, of units u and u + 32.
template <class T> void noise(void* a_, Size ld, Size m, Size n, const Noise* how, Size row) {
  T* a = (T*)a_;
  constexpr Size units = 4 * philox_blocks, half = units / 2;
  const V<T> deviation = set1(T(how->deviation)), ulp = set1(T(0x1p-23));
  // Half of the angle, in units of 2^-23·π.
  const V<T> unit = set1(T(3.14159265358979323846 * 0x1p-24));
  uint64_t pairs[half];
  int32_t bits[units];
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; j += units) {
      philox_group(how->seed, uint32_t(j / 4), how->first_row + uint32_t(row + i), how->epoch,
                   how->stream, pairs);
      for (Size u = 0; u < half; ++u) bits[u] = int32_t(word_of(pairs, u) >> 9);
      for (Size u = half; u < units; ++u) bits[u] = int32_t(word_of(pairs, u)) >> 8;
      T* part = a + i * ld + j;
      const Size count = n - j;
      for (Size u = 0; u < half && u < count; u += width<T>) {
        const V<T> uniform = (load_as<T, int32_t>(bits + u) + set1(T(0.5))) * ulp;
        const V<T> size = set1(T(-2)) * logarithm<T>(uniform);
        const V<T> radius = deviation * square_root(size);
        const OfAngle<T> angle = of_twice<T>(load_as<T, int32_t>(bits + half + u) * unit);
        add_to<T>(part + u, radius * angle.cosine, count - u);
        if (half + u < count)
          add_to<T>(part + half + u, radius * angle.sine, count - half - u);
      }
    }
}

}  // namespace
