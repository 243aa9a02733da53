// Checks the products with narrow matrices that are stored row by row: lanes.h.

#include "checker.h"

// Both products equal matmul_narrow in every bit, with few rows and with many. Thirds and sevenths:
// their sums are rounded, so that the order of summation matters. With ``tiny``, products
// underflow, so that sums of zeros with either sign show.
template <class T> void Check<T>::lanes(Size m, Size n, Size depth, Size variant, bool tiny) {
  if (n >= width) return;
  const Size ldx = padded(depth, variant), ldt = padded(depth, variant / 2),
             ldw = variant % 3 ? n : padded(n, variant), ldz = padded(n, variant / 3);
  const Size part = variant % 2 ? 64 : 128, parts = (depth + part - 1) / part;
  const Size list_ld = depth + std::max(width, Size(8));
  const T scale = tiny ? std::sqrt(std::numeric_limits<T>::denorm_min()) / 4 : T(1);
  T* x = matrix(operand[0], "x", m, depth, ldx, FIRST);
  T* wt = matrix(operand[1], "wt", n, depth, ldt, SECOND);
  T* w = operand[2].place<T>("w", (depth - 1) * ldw + n);
  T* bias = matrix(operand[3], "bias", 1, n, up(n), tiny ? ZEROS : THIRD);
  for (Size i = 0; i < m; ++i)
    for (Size q = 0; q < depth; ++q)
      x[i * ldx + q] = is_zero(i, q, variant) ? T(0) : x[i * ldx + q] * scale / 3;
  for (Size q = 0; q < depth; ++q)
    for (Size j = 0; j < n; ++j) w[q * ldw + j] = wt[j * ldt + q] = wt[j * ldt + q] * scale / 7;
  if (tiny) std::fill(bias, bias + n, T(-0.0));
  auto* list = operand[4].place<uint16_t>("list", m * list_ld);
  auto* starts = operand[5].place<uint32_t>("starts", (parts + 1) * m);
  k.find_nonzero(x, ldx, m, depth, part, list, list_ld, starts, m);
  for (int i : {0, 1, 2, 3, 4, 5}) operand[i].protect();
  T* want = operand[6].place<T>("narrow", m * ldz);
  k.matmul_narrow(x, ldx, wt, ldt, want, ldz, m, n, depth, bias);
  const auto compare = [&](const char* kernel, auto product) {
    for (Size rows : {m, Size(1)}) {
      T* z = operand[7].place<T>("z", (rows - 1) * ldz + up(n));
      at(kernel, "m=%td n=%td k=%td ldx=%td ldw=%td ldz=%td part=%td", rows, n, depth, ldx, ldw,
         ldz, part);
      product(z, rows);
      for (Size i = 0; i < rows; ++i) {
        for (Size j = 0; j < n; ++j)
          if (std::memcmp(z + i * ldz + j, want + i * ldz + j, sizeof(T)))
            fail("z[%td, %td] is %.17g, expected %.17g", i, j, double(z[i * ldz + j]),
                 double(want[i * ldz + j]));
        for (Size j = n; j < up(n); ++j) zero_pad(z[i * ldz + j], "z", i, j);
        for (Size j = up(n); i + 1 < rows && j < ldz; ++j) unwritten(z[i * ldz + j], "z", i, j);
        values += n;
      }
    }
  };
  compare("matmul_lanes", [&](T* z, Size rows) {
    k.matmul_lanes(x, ldx, w, ldw, z, ldz, rows, n, depth, bias);
  });
  compare("sparse_lanes", [&](T* z, Size rows) {
    k.sparse_lanes(x, ldx, list, list_ld, starts, m, part, w, ldw, z, ldz, rows, n, depth, bias);
  });
}

template <class T> void Check<T>::check_lanes() {
  at_both_sides([&] {
    for_each_three([&](Size m, Size n, Size depth, Size variant) {
      lanes(m, n, depth, variant, variant % 5 == 0);
    });
    for (Size n = 1; n < width; ++n) lanes(33, n, 784, n, false);
  });
}

template void Check<float>::check_lanes();
template void Check<double>::check_lanes();
