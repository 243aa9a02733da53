// Checks the dense matrix products: tile.h, and the dense part of narrow.h.

#include "checker.h"

// The C that a product finds: integers if it is read, or else poison.
template <class T> T* Check<T>::initial_c(Size m, Size n, Size ldc, int finish, uint32_t salt) {
  if (finish == FINISH_ADD || finish == FINISH_SGD) return matrix(operand[2], "c", m, n, ldc, salt);
  return operand[2].place<T>("c", (m - 1) * ldc + up(n));
}

// Compares c with ``product``, finished as ``finish`` says; bias and former C are integers of the
// salts.
template <class T> void Check<T>::check_product(const T* c, Size ldc, Size m, Size n, int finish,
                                                const Step& step, uint32_t salt_bias,
                                                uint32_t salt_start, bool pads) {
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      const double sum = product[size_t(i * n + j)], start = integer(i, j, salt_start);
      const double want = finish == FINISH_STORE  ? sum
                          : finish == FINISH_BIAS ? sum + integer(0, j, salt_bias)
                          : finish == FINISH_ADD  ? sum + start
                                                  : start - step.rate * (sum + step.l2 * start);
      equal(c[i * ldc + j], want, "c", i, j);
    }
    for (Size j = n; pads && j < up(n); ++j) zero_pad(c[i * ldc + j], "c", i, j);
    for (Size j = up(n); i + 1 < m && j < ldc; ++j) unwritten(c[i * ldc + j], "c", i, j);
  }
}

template <class T> void Check<T>::matmul(Size m, Size n, Size depth, Size variant) {
  product.assign(size_t(m * n), 0);
  for (Size i = 0; i < m; ++i)
    for (Size q = 0; q < depth; ++q)
      for (Size j = 0; j < n; ++j)
        product[size_t(i * n + j)] += integer(i, q, FIRST) * integer(q, j, SECOND);
  for (int by_column = 0; by_column < 2; ++by_column) {
    const Size across = by_column ? m : depth, down = by_column ? depth : m;
    const Size lda = variant % 3 == 0   ? across
                     : variant % 3 == 1 ? padded(across, variant)
                                        : across + 3;
    T* a = operand[0].place<T>("a", (down - 1) * lda + across);
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q)
        a[by_column ? q * lda + i : i * lda + q] = T(integer(i, q, FIRST));
    // Rows of B without pads, as predictions for a few rows read the weights in place: the last
    // vector of a row then extends into the next row.
    const bool unpadded = variant % 5 == 2 && n >= width;
    const Size ldb = unpadded ? n : padded(n, variant / 3), ldc = padded(n, variant / 2);
    T* b = operand[1].place<T>("b", (depth - 1) * ldb + up(n));
    for (Size q = 0; q < depth; ++q) {
      for (Size j = 0; j < n; ++j) b[q * ldb + j] = T(integer(q, j, SECOND));
      for (Size j = n; !unpadded && j < up(n); ++j) b[q * ldb + j] = 0;
    }
    T* bias = matrix(operand[3], "bias", 1, n, n, THIRD);
    for (int i : {0, 1, 3}) operand[i].protect();
    for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
      T* c = initial_c(m, n, ldc, finish, FOURTH);
      at("matmul", "m=%td n=%td k=%td lda=%td ldb=%td ldc=%td by_column=%d finish=%d", m, n, depth,
         lda, ldb, ldc, by_column, finish);
      k.matmul(a, lda, by_column, b, ldb, c, ldc, m, n, depth, finish,
               finish == FINISH_BIAS ? bias : nullptr, finish == FINISH_SGD ? &sgd : nullptr);
      check_product(c, ldc, m, n, finish, sgd, THIRD, FOURTH, !unpadded);
    }
  }
}

template <class T> void Check<T>::matmul_narrow(Size m, Size n, Size depth, Size variant) {
  const Size ldx = padded(depth, variant), ldw = padded(depth, variant / 2),
             ldz = padded(n, variant / 3);
  const T* x = matrix(operand[0], "x", m, depth, ldx, FIRST);
  const T* wt = matrix(operand[1], "wt", n, depth, ldw, SECOND);
  T* bias = operand[3].place<T>("bias", n);
  for (Size j = 0; j < n; ++j) bias[j] = T(integer(0, j, THIRD));
  for (int i : {0, 1, 3}) operand[i].protect();
  T* z = operand[2].place<T>("z", (m - 1) * ldz + n);
  at("matmul_narrow", "m=%td n=%td k=%td ldx=%td ldw=%td ldz=%td", m, n, depth, ldx, ldw, ldz);
  k.matmul_narrow(x, ldx, wt, ldw, z, ldz, m, n, depth, bias);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      double want = integer(0, j, THIRD);
      for (Size q = 0; q < depth; ++q) want += integer(i, q, FIRST) * integer(j, q, SECOND);
      equal(z[i * ldz + j], want, "z", i, j);
    }
    for (Size j = n; i + 1 < m && j < ldz; ++j) unwritten(z[i * ldz + j], "z", i, j);
  }
}

// An element does not depend on the other rows and columns of the product: a product of one row by
// one vector, with A read by row or by column, gives the identical element.
template <class T> void Check<T>::order_of_sums(Size m, Size n, Size depth) {
  const Size ld = up(n), lda = up(depth);
  T* a = matrix(operand[0], "a", m, depth, lda, FIRST);
  T* b = matrix(operand[1], "b", depth, n, ld, SECOND);
  T* w = matrix(operand[3], "wt", n, depth, lda, SECOND);
  T* bias = operand[5].place<T>("bias", up(n));
  std::fill(bias, bias + up(n), T(0));
  // Thirds and sevenths: their sums are rounded, so that the order of summation matters.
  for (Size i = 0; i < m; ++i)
    for (Size q = 0; q < depth; ++q) a[i * lda + q] /= 3;
  for (Size q = 0; q < depth; ++q)
    for (Size j = 0; j < n; ++j) b[q * ld + j] /= 7, w[j * lda + q] /= 7;
  for (int i : {0, 1, 3, 5}) operand[i].protect();
  T* all = operand[2].place<T>("c", m * ld);
  T* one = operand[4].place<T>("one", ld);
  T* transposed = operand[6].place<T>("at", depth * up(m));
  at("matmul", "order of sums: m=%td n=%td k=%td", m, n, depth);
  k.matmul(a, lda, 0, b, ld, all, ld, m, n, depth, FINISH_BIAS, bias, nullptr);
  k.transpose(a, lda, transposed, up(m), m, depth);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; j += width) {
      k.matmul(a + i * lda, lda, 0, b + j, ld, one, ld, 1, std::min(width, n - j), depth,
               FINISH_STORE, nullptr, nullptr);
      for (Size u = 0; u < std::min(width, n - j); ++u)
        equal(one[u], double(all[i * ld + j + u]), "c alone", i, j + u);
      k.matmul(transposed + i, up(m), 1, b + j, ld, one, ld, 1, std::min(width, n - j), depth,
               FINISH_STORE, nullptr, nullptr);
      for (Size u = 0; u < std::min(width, n - j); ++u)
        equal(one[u], double(all[i * ld + j + u]), "c by column", i, j + u);
    }
  at("matmul_narrow", "order of sums: m=%td n=%td k=%td", m, n, depth);
  k.matmul_narrow(a, lda, w, lda, all, ld, m, n, depth, bias);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) {
      k.matmul_narrow(a + i * lda, lda, w + j * lda, lda, one, ld, 1, 1, depth, bias);
      equal(one[0], double(all[i * ld + j]), "z alone", i, j);
    }
}

template <class T> void Check<T>::check_products() {
  at_both_sides([&] {
    for_each_three([&](Size m, Size n, Size depth, Size variant) {
      matmul(m, n, depth, variant);
      matmul_narrow(m, n, depth, variant);
    });
    // B exceeds L2 and is multiplied in parts of k; a transposed A with long rows is copied.
    for (Size m : {3, 8, 16, 31}) matmul(m, 401, 701, m);
    // C exceeds L2 and k is small; k just large enough for a copy.
    matmul(1030, 1027, 3, 1);
    matmul(1030, 1027, 17, 2);
    order_of_sums(17, 40, 7000);
    // B is packed in blocks; the last one is narrower, or the last part of k shorter.
    matmul(257, 401, 701, 2);
    matmul(262, 900, 300, 2);
    order_of_sums(257, 300, 900);
    for (Size size = 1; size <= max_size; ++size)
      if (!short_run || size % 9 == 1) order_of_sums(size, 37, 29);
  });
}

template void Check<float>::check_products();
template void Check<double>::check_products();

// The other files use these, too.
template float* Check<float>::initial_c(Size, Size, Size, int, uint32_t);
template double* Check<double>::initial_c(Size, Size, Size, int, uint32_t);
template void Check<float>::check_product(const float*, Size, Size, Size, int, const Step&,
                                          uint32_t, uint32_t, bool);
template void Check<double>::check_product(const double*, Size, Size, Size, int, const Step&,
                                           uint32_t, uint32_t, bool);
