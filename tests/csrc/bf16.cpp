// Checks the products of bfloat16 and the rounding of their operands: bf16.cpp and amx.h.

#include "checker.h"

static_assert(sizeof(Bf16Kernels) == 5 * sizeof(void (*)()),
              "a kernel was added to the table or removed from it: change CheckBf16");

namespace {

struct CheckBf16 : Check<float> {
  const Bf16Kernels& k16;

  CheckBf16(const Kernels& kernels, const Bf16Kernels& bf16) : Check(kernels), k16(bf16) {}

  static uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }

  // The 16 bits of the nearest bfloat16; of two that are equally near, of the even one.
  static uint32_t bf16_bits(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 31 << 15;
    if (std::isnan(value)) return bits >> 16 | 0x40;
    if (!std::isnormal(value) && !std::isinf(value)) return sign;
    const uint32_t below = bits >> 16, rest = bits & 0xffff;
    return below + (rest > 0x8000 || (rest == 0x8000 && below % 2));
  }

  // Floats of all kinds: ties, values that round to infinity, NaN, subnormal numbers, random bits.
  static float any(Size i, Size j, uint32_t salt) {
    static constexpr uint32_t specials[] = {
        0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff, 0xff7f8000,
        0x7f800000, 0xff800000, 0x7fc00001, 0x7f800001, 0xffffffff, 0x00000000,
        0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0xbf8e8000, 0x3f7fffff};
    constexpr int count = int(sizeof specials / sizeof specials[0]);
    const uint32_t variant =
        uint32_t(integer(i, j, salt) + 8) * 17 + uint32_t(integer(j, i, salt + 1) + 8);
    uint32_t bits = (uint32_t(i) * 0x9e3779b1u ^ uint32_t(j) * 0x85ebca77u) * 0xc2b2ae3du ^ salt;
    if (variant % 4 == 0) bits = specials[variant / 4 % count];
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  void equal_bits(float got, uint32_t want, const char* name, Size i, Size j) {
    ++values;
    if (bits_of(got) != want)
      fail("%s[%td, %td] is %08x, expected %08x", name, i, j, bits_of(got), want);
  }

  float* source(Size m, Size n, Size lds) {
    float* src = operand[0].place<float>("src", (m - 1) * lds + n);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j) src[i * lds + j] = any(i, j, FIRST);
    operand[0].protect();
    return src;
  }

  // The pair of elements (i, j) and (i + down, j + right); 0 in place of elements outside (m, n).
  static uint32_t pair(Size i, Size j, Size down, Size right, Size m, Size n) {
    const uint32_t first = i < m && j < n ? bf16_bits(any(i, j, FIRST)) : 0;
    i += down, j += right;
    return first | (i < m && j < n ? bf16_bits(any(i, j, FIRST)) << 16 : 0);
  }

  void round_rows(Size m, Size n, Size variant) {
    const Size lds = n + variant % 3, ldr = up(n) / 2 + variant % 2, half = (m + 1) / 2;
    const bool panels = variant % 2;
    const Size ldp = panels ? 32 : up(n) + variant % 5,
               panel = panels ? half * 32 + variant % 3 : 32;
    // Index of the pair of rows 2·i and 2·i + 1 in column j.
    const auto place = [&](Size i, Size j) { return j / 32 * panel + i * ldp + j % 32; };
    const Size size = place(half - 1, up(n) - 1) + 1;
    const float* src = source(m, n, lds);
    for (int asked = 1; asked < 4; ++asked) {
      float *rows = nullptr, *pairs = nullptr;
      if (asked & 1) rows = operand[1].place<float>("rows", (m - 1) * ldr + up(n) / 2);
      if (asked & 2) pairs = operand[2].place<float>("pairs", size);
      at("round_rows", "m=%td n=%td lds=%td ldr=%td ldp=%td panel=%td asked=%d", m, n, lds, ldr,
         ldp, panel, asked);
      k16.round_rows(src, lds, m, n, rows, ldr, pairs, ldp, panel);
      for (Size i = 0; rows && i < m; ++i) {
        for (Size j = 0; j < up(n) / 2; ++j)
          equal_bits(rows[i * ldr + j], pair(i, 2 * j, 0, 1, m, n), "rows", i, j);
        for (Size j = up(n) / 2; i + 1 < m && j < ldr; ++j)
          unwritten(rows[i * ldr + j], "rows", i, j);
      }
      if (!pairs) continue;
      std::vector<bool> written(size_t(size), false);
      for (Size i = 0; i < half; ++i)
        for (Size j = 0; j < up(n); ++j) {
          equal_bits(pairs[place(i, j)], pair(2 * i, j, 1, 0, m, n), "pairs", i, j);
          written[size_t(place(i, j))] = true;
        }
      for (Size i = 0; i < size; ++i)
        if (!written[size_t(i)]) unwritten(pairs[i], "pairs", 0, i);
    }
  }

  void round_transpose(Size m, Size n, Size variant) {
    const Size lds = n + variant % 3, pairs = (n + 1) / 2, ldd = pairs * 32 + variant % 2;
    const Size from = variant % 3 * 16, first = from / 32 * ldd + from % 32;
    const auto place = [&](Size q, Size i) {
      return (from + i) / 32 * ldd + q * 32 + (from + i) % 32 - first;
    };
    const Size size = place(pairs - 1, up(m) - 1) + 1;
    const float* src = source(m, n, lds);
    float* dst = operand[1].place<float>("dst", size);
    at("round_transpose", "m=%td n=%td lds=%td ldd=%td from=%td", m, n, lds, ldd, from);
    k16.round_transpose(src, lds, m, n, dst - first, ldd, from);
    std::vector<bool> written(size_t(size), false);
    for (Size j = 0; j < pairs; ++j)
      for (Size i = 0; i < up(m); ++i) {
        equal_bits(dst[place(j, i)], pair(i, 2 * j, 0, 1, m, n), "dst", j, i);
        written[size_t(place(j, i))] = true;
      }
    for (Size i = 0; i < size; ++i)
      if (!written[size_t(i)]) unwritten(dst[i], "dst", 0, i);
  }

  void round_values(Size n) {
    const Size count = up(n);
    const float* src = source(1, count, count);
    float* dst = operand[1].place<float>("dst", count);
    at("round_values", "count=%td", count);
    k16.round_values(src, dst, count);
    for (Size j = 0; j < count; ++j)
      equal_bits(dst[j], bf16_bits(any(0, j, FIRST)) << 16, "dst", 0, j);
    std::copy(src, src + count, dst);
    k16.round_values(dst, dst, count);
    for (Size j = 0; j < count; ++j)
      equal_bits(dst[j], bf16_bits(any(0, j, FIRST)) << 16, "in place", 0, j);
  }

  // A pair of integers, which bfloat16 represents exactly.
  static uint32_t small_pair(Size i, Size q, bool transposed, Size depth, uint32_t salt) {
    uint32_t both = 0;
    for (Size u = 0; u < 2 && 2 * q + u < depth; ++u)
      both |=
          bf16_bits(float(transposed ? integer(2 * q + u, i, salt) : integer(i, 2 * q + u, salt)))
          << 16 * u;
    return both;
  }

  void matmul(Size m, Size n, Size depth, Size variant) {
    const Size pairs = (depth + 1) / 2;
    product.assign(size_t(m * n), 0);
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q)
        for (Size j = 0; j < n; ++j)
          product[size_t(i * n + j)] += integer(i, q, FIRST) * integer(q, j, SECOND);
    for (int by_column = 0; by_column < (pairs > COLUMN_PAIRS ? 1 : 2); ++by_column) {
      const Size across = by_column ? m : pairs, down = by_column ? pairs : m,
                 lda = across + variant % 3;
      const Size ldb = pairs * 32 + variant % 2, ldc = padded(n, variant / 2);
      auto* a = operand[0].place<uint32_t>("a", (down - 1) * lda + across);
      for (Size i = 0; i < m; ++i)
        for (Size q = 0; q < pairs; ++q)
          a[by_column ? q * lda + i : i * lda + q] = small_pair(i, q, false, depth, FIRST);
      const auto place = [&](Size q, Size j) { return j / 32 * ldb + q * 32 + j % 32; };
      auto* b = operand[1].place<uint32_t>("b", place(pairs - 1, up(n) - 1) + 1);
      for (Size q = 0; q < pairs; ++q)
        for (Size j = 0; j < up(n); ++j)
          b[place(q, j)] = j < n ? small_pair(j, q, true, depth, SECOND) : 0;
      const float* bias = matrix(operand[3], "bias", 1, n, n, THIRD);
      for (int i : {0, 1, 3}) operand[i].protect();
      for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
        float* c = initial_c(m, n, ldc, finish, FOURTH);
        at("bf16 matmul", "m=%td n=%td k=%td lda=%td ldb=%td ldc=%td by_column=%d finish=%d", m, n,
           pairs, lda, ldb, ldc, by_column, finish);
        k16.matmul(a, lda, by_column, b, ldb, c, ldc, m, n, pairs, finish,
                   finish == FINISH_BIAS ? bias : nullptr, finish == FINISH_SGD ? &sgd : nullptr);
        check_product(c, ldc, m, n, finish, sgd, THIRD, FOURTH, true);
      }
    }
  }

  // As Check::order_of_sums, with operands from round_rows and round_transpose.
  void order_of_sums(Size m, Size n, Size depth) {
    const Size lda = up(depth), ld = up(n), pairs = (depth + 1) / 2, panels = (n + 31) / 32;
    std::vector<float> x, w;
    for (Size i = 0; i < m * lda; ++i) x.push_back(float(integer(i, 0, FIRST)) / 3);
    for (Size i = 0; i < depth * ld; ++i) w.push_back(float(integer(i, 0, SECOND)) / 7);
    auto* a = operand[0].place<float>("a", m * lda / 2);
    auto* b = operand[1].place<float>("b", pairs * panels * 32);
    auto* transposed = operand[6].place<float>("at", (m + 31) / 32 * pairs * 32);
    at("bf16 matmul", "order of sums: m=%td n=%td k=%td", m, n, pairs);
    k16.round_rows(x.data(), lda, m, depth, a, lda / 2, nullptr, 0, 0);
    k16.round_rows(w.data(), ld, depth, n, nullptr, 0, b, 32, pairs * 32);
    k16.round_transpose(x.data(), lda, m, depth, transposed, pairs * 32, 0);
    for (int i : {0, 1, 6}) operand[i].protect();
    auto* all = operand[2].place<float>("c", m * ld);
    auto* one = operand[4].place<float>("one", ld);
    const Size step = pairs * 32;
    k16.matmul(a, lda / 2, 0, b, step, all, ld, m, n, pairs, FINISH_STORE, nullptr, nullptr);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; j += 32)
        for (int by_column = 0; by_column < 2; ++by_column) {
          k16.matmul(by_column ? transposed + i / 32 * step + i % 32 : a + i * lda / 2,
                     by_column ? 32 : lda / 2, by_column, b + j / 32 * step, step, one, ld, 1,
                     std::min(Size(32), n - j), pairs, FINISH_STORE, nullptr, nullptr);
          for (Size u = 0; u < std::min(Size(32), n - j); ++u)
            equal(one[u], double(all[i * ld + j + u]), "c alone", i, j + u);
        }
  }

  void check_all() {
    at_both_sides([&] {
      for_each_three(
          [&](Size m, Size n, Size depth, Size variant) { matmul(m, n, depth, variant); });
      // Products that are computed in parts: a transposed A, an A that exceeds L2, and many rows.
      matmul(70, 40, 2 * COLUMN_PAIRS, 0);
      matmul(39, 5, 2 * COLUMN_PAIRS - 5, 1);
      matmul(150, 20, 4001, 2);
      matmul(530, 33, 47, 3);
      for_each_two([&](Size m, Size n, Size variant) {
        round_rows(m, n, variant);
        round_transpose(m, n, variant);
      });
      for (Size size = 1; size <= max_size; ++size) {
        round_values(size);
        if (!short_run || size % 9 == 1) order_of_sums(size, 37, 29);
      }
    });
  }
};

}  // namespace

void check_bf16(const Kernels& kernels, const Bf16Kernels& bf16) {
  CheckBf16(kernels, bf16).check_all();
}
