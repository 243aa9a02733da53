// Checks the kernels of rows of codes: codes.cpp.

#include "checker.h"

// Multiples of a step: their codes, and what codes decode to. The sums are exact.
template <class T>
void Check<T>::encode_and_decode(const CodeKernels& coder, Size m, Size n, Size variant) {
  const Size ldo = padded(n, variant), ldx = n + variant % 3;
  const Codes step = variant % 2 ? Codes{0.5, 0.25} : Codes{3, 0};
  const double unit = step.high + step.low;
  const auto code_of = [&](Size i, Size j) {
    const bool zero_vector = integer(i, j / width, ZERO_VECTORS) < variant % 19 - 9;
    return zero_vector ? uint8_t(0) : uint8_t(integer(i, j, FIRST) * 31 + i + 3 * j);
  };
  T* x = operand[0].place<T>("x", (m - 1) * ldx + n);
  uint8_t* found = operand[1].place<uint8_t>("codes", m * n);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) x[i * ldx + j] = T(code_of(i, j) * unit);
  at("encode", "m=%td n=%td unit=%g ldx=%td", m, n, unit, ldx);
  const auto encode = [&] {
    return coder.encode(&step, (const char*)x, ldx * Size(sizeof(T)), m, n, found);
  };
  const Size cell = (m * n - 1) * (variant % 4) / 3, row = cell / n, column = cell % n;
  for (double wrong : {-1.0, -0.0, 0.125, 256 * unit, 1e30}) {
    x[row * ldx + column] = T(wrong);
    if (encode() != row) fail("row %td with %g has codes", row, wrong);
  }
  x[row * ldx + column] = T(code_of(row, column) * unit);
  if (encode() != m) fail("not all rows have codes");
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) equal(T(found[i * n + j]), double(code_of(i, j)), "codes", i, j);
  operand[1].protect();

  uint32_t* order = nullptr;
  if (variant % 5) {
    order = operand[2].place<uint32_t>("order", m);
    for (Size i = 0; i < m; ++i) order[i] = uint32_t(m - 1 - i);
    operand[2].protect();
  }
  T* out = operand[3].place<T>("out", (m - 1) * ldo + up(n));
  const Size words = (ldo / width + 63) / 64;
  uint64_t* marks = variant % 7 ? operand[4].place<uint64_t>("marks", m * words) : nullptr;
  at("decode", "m=%td n=%td unit=%g order=%d ldo=%td", m, n, unit, order != nullptr, ldo);
  coder.decode(&step, found, n, order, m, n, out, ldo, order, order ? m : 0, marks);
  for (Size i = 0; i < m; ++i) {
    const Size from = order ? Size(order[i]) : i;
    for (Size j = 0; j < n; ++j)
      equal(out[i * ldo + j], code_of(from, j) * unit, "out", i, j);
    for (Size j = n; j < up(n); ++j) zero_pad(out[i * ldo + j], "out", i, j);
    for (Size j = up(n); i + 1 < m && j < ldo; ++j) unwritten(out[i * ldo + j], "out", i, j);
    for (Size v = 0; marks && v < words * 64; ++v) {
      bool nonzero = false;
      for (Size j = v * width; j < std::min((v + 1) * width, n); ++j)
        nonzero |= out[i * ldo + j] != 0;
      if (is_marked(marks, words, i, v) != nonzero)
        fail("the mark of vector %td of row %td is %d", v, i, !nonzero);
    }
  }
}

template <class T> void Check<T>::check_codes(const CodeKernels& coder) {
  std::snprintf(where, sizeof where, "%s %s", k.isa, dtype);
  Size variant = 0;
  for (Size n = 1; n <= 70; ++n)
    for (Size m : {1, 2, 5}) encode_and_decode(coder, m, n, variant++);
  for (Size n : {784, 1023, 2100}) encode_and_decode(coder, 3, n, variant++);
}

template void Check<float>::check_codes(const CodeKernels&);
template void Check<double>::check_codes(const CodeKernels&);
