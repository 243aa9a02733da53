// Checks Philox, dropout and noise: random.h.

#include "checker.h"

namespace {

// Word u of the sequence of (row, epoch, stream), computed block by block (Salmon et al. 2011,
// 3.3).
uint32_t word(uint64_t seed, uint32_t u, uint32_t row, uint32_t epoch, uint32_t stream) {
  uint32_t c[4] = {u / 4, row, epoch, stream};
  for (uint32_t round = 0; round < 10; ++round) {
    const uint64_t p = uint64_t(c[0]) * 0xD2511F53u, q = uint64_t(c[2]) * 0xCD9E8D57u;
    const uint32_t next[4] = {
        uint32_t(q >> 32) ^ c[1] ^ (uint32_t(seed) + round * 0x9E3779B9u), uint32_t(q),
        uint32_t(p >> 32) ^ c[3] ^ (uint32_t(seed >> 32) + round * 0xBB67AE85u), uint32_t(p)};
    std::copy(next, next + 4, c);
  }
  return c[u % 4];
}

}  // namespace

template <class T> void Check<T>::philox(Size blocks) {
  auto* out = operand[0].place<uint32_t>("out", 4 * blocks);
  const uint64_t seed = 0xfedcba9876543210u + uint64_t(blocks);
  at("philox", "blocks=%td", blocks);
  k.philox(seed, 5, 0xffffffffu, 3, blocks, out);
  for (Size u = 0; u < 4 * blocks; ++u)
    equal(out[u], word(seed, uint32_t(u), 5, 0xffffffffu, 3), "out", u / 4, u % 4);
}

template <class T> void Check<T>::dropout(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant), used = (m - 1) * ld + up(n);
  T* a = matrix(operand[0], "a", m, n, ld, FIRST);
  T* slope = matrix(operand[1], "slope", m, n, ld, SECOND);
  const Dropout how = {0x123456789abcdefu, 7, 2, 0xfffffff0u, 0x60000000u, 2};
  at("dropout", "m=%td n=%td ld=%td", m, n, ld);
  if (variant % 2)
    k.dropout(a, slope, ld, m, n, &how, 9);
  else  // the inputs have no slope
    k.dropout(a, nullptr, ld, m, n, &how, 9), k.dropout(slope, nullptr, ld, m, n, &how, 9);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      const uint32_t row = how.first_row + uint32_t(9 + i);
      const bool stays = word(how.seed, uint32_t(j), row, how.epoch, how.stream) >= how.threshold;
      equal(a[i * ld + j], stays ? 2 * integer(i, j, FIRST) : 0, "a", i, j);
      equal(slope[i * ld + j], stays ? 2 * integer(i, j, SECOND) : 0, "slope", i, j);
    }
    for (Size j = n; j < up(n); ++j)
      zero_pad(a[i * ld + j], "a", i, j), zero_pad(slope[i * ld + j], "slope", i, j);
    for (Size j = up(n); i * ld + j < used && j < ld; ++j)
      unwritten(a[i * ld + j], "a", i, j), unwritten(slope[i * ld + j], "slope", i, j);
  }
}

template <class T> void Check<T>::noise(Size m, Size n, Size variant) {
  using W = Wide<T>;
  const Size ld = padded(n, variant), used = (m - 1) * ld + up(n);
  T* a = matrix(operand[0], "a", m, n, ld, FIRST);
  const pynn::Noise how = {0x123456789abcdefu, 7, 2, 0xfffffff0u, 0.5};
  at("noise", "m=%td n=%td ld=%td", m, n, ld);
  k.noise(a, ld, m, n, &how, 9);
  for (Size i = 0; i < m; ++i) {
    const uint32_t row = how.first_row + uint32_t(9 + i);
    for (Size j = 0; j < n; ++j) {
      const Size first = j / 64 * 64 + j % 32;
      const uint32_t size = word(how.seed, uint32_t(first), row, how.epoch, how.stream) >> 9;
      const uint32_t turn = word(how.seed, uint32_t(first + 32), row, how.epoch, how.stream);
      const W radius = std::sqrt(-2 * std::log((W(size) + W(0.5)) / 0x800000));
      const W angle = W(int32_t(turn) >> 8) / 0x800000 * 4 * std::atan(W(1));
      const W normal = radius * (j % 64 < 32 ? std::cos(angle) : std::sin(angle));
      const W was = integer(i, j, FIRST);
      close<T>(a[i * ld + j], was + normal / 2, 4 + std::fabs(was), "a", i, j);
    }
    for (Size j = n; j < up(n); ++j) zero_pad(a[i * ld + j], "a", i, j);
    for (Size j = up(n); i * ld + j < used && j < ld; ++j) unwritten(a[i * ld + j], "a", i, j);
  }
}

template <class T> void Check<T>::check_random() {
  at_both_sides([&] {
    for_each_two([&](Size m, Size n, Size variant) {
      dropout(m, n, variant);
      noise(m, n, variant);
    });
    // More units than a group of blocks has words.
    for (Size n : {127, 128, 129, 200, 300}) dropout(3, n, n), noise(3, n, n);
    for (Size size = 1; size <= max_size; ++size) philox(size);
  });
}

template void Check<float>::check_random();
template void Check<double>::check_random();
