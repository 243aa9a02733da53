// Checks the lists of non-zero elements and the products that use them: sparse.h.

#include "checker.h"

template <class T> void Check<T>::find_nonzero(Size m, Size n, Size variant) {
  const Size ldx = padded(n, variant), part = variant % 3 == 0   ? width
                                              : variant % 3 == 1 ? 64
                                                                 : 128;
  const Size beside = std::max(width, Size(8));
  const Size list_ld = n + beside + variant % 4, starts_ld = m + variant % 3,
             parts = (n + part - 1) / part;
  const T specials[] = {T(-0.0), std::numeric_limits<T>::denorm_min(),
                        std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()};
  T* x = matrix(operand[0], "x", m, n, ldx, FIRST);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) {
      T& value = x[i * ldx + j];
      if (is_zero(i, j, variant)) value = 0;
      if (integer(i, j, SPECIALS) == 8) value = specials[(i + j) % 4];
    }
  operand[0].protect();
  auto* list = operand[1].place<uint16_t>("list", (m - 1) * list_ld + n + beside);
  auto* starts = operand[2].place<uint32_t>("starts", parts * starts_ld + m);
  at("find_nonzero", "m=%td n=%td ldx=%td part=%td list_ld=%td starts_ld=%td", m, n, ldx, part,
     list_ld, starts_ld);
  k.find_nonzero(x, ldx, m, n, part, list, list_ld, starts, starts_ld);
  for (Size i = 0; i < m; ++i) {
    uint32_t count = 0;
    for (Size j = 0; j < n; ++j) {
      if (j % part == 0) equal(starts[j / part * starts_ld + i], count, "starts", j / part, i);
      if (x[i * ldx + j] == 0) continue;
      equal(list[i * list_ld + count], double(j), "list", i, count);
      ++count;
    }
    equal(starts[parts * starts_ld + i], count, "starts", parts, i);
  }
}

// Lists the elements that are not zero, without the first quarter and the last eighth of each row.
// Elements that are not listed are poison.
template <class T> SparseOperand<T> Check<T>::sparse_operand(Size m, Size depth, Size a_row,
                                                             Size a_step, Size list_ld,
                                                             Size variant) {
  SparseOperand<T> s = {operand[0].place<T>("a", (m - 1) * a_row + (depth - 1) * a_step + 1),
                        a_row,
                        a_step,
                        operand[4].place<uint16_t>("list", (m - 1) * list_ld + depth),
                        list_ld,
                        operand[5].place<uint32_t>("from", m),
                        operand[6].place<uint32_t>("to", m)};
  for (Size i = 0; i < m; ++i) {
    uint32_t count = 0;
    for (Size q = 0; q < depth; ++q)
      if (!is_zero(i, q, variant)) s.list[i * list_ld + count++] = uint16_t(q);
    s.from[i] = count / 4;
    s.to[i] = count - count / 8;
    for (uint32_t u = s.from[i]; u < s.to[i]; ++u) {
      const Size q = s.list[i * list_ld + u];
      s.a[i * a_row + q * a_step] = T(integer(i, q, FIRST));
    }
  }
  for (int i : {0, 4, 5, 6}) operand[i].protect();
  return s;
}

template <class T> void Check<T>::matmul_sparse(Size m, Size n, Size depth, Size variant) {
  const bool forward = variant % 2;  // lists go along rows of x, or along its columns
  const Size a_row = forward ? depth + variant % 4 : 1, a_step = forward ? 1 : m + variant % 4;
  const Size ldb = padded(n, variant / 3), ldc = padded(n, variant / 2);
  const SparseOperand<T> s = sparse_operand(m, depth, a_row, a_step, depth + variant % 3, variant);
  product.assign(size_t(m * n), 0);
  for (Size i = 0; i < m; ++i)
    for (uint32_t u = s.from[i]; u < s.to[i]; ++u) {
      const Size q = s.list[i * s.list_ld + u];
      for (Size j = 0; j < n; ++j)
        product[size_t(i * n + j)] += integer(i, q, FIRST) * integer(q, j, SECOND);
    }
  const T* b = matrix(operand[1], "b", depth, n, ldb, SECOND);
  const T* bias = matrix(operand[3], "bias", 1, n, n, THIRD);
  for (int i : {1, 3}) operand[i].protect();
  for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
    T* c = initial_c(m, n, ldc, finish, FOURTH);
    at("matmul_sparse",
       "m=%td n=%td k=%td a_row=%td a_step=%td list_ld=%td ldb=%td ldc=%td finish=%d", m, n, depth,
       a_row, a_step, s.list_ld, ldb, ldc, finish);
    k.matmul_sparse(s.a, a_row, a_step, s.list, s.list_ld, s.from, s.to, b, ldb, c, ldc, m, n,
                    finish, finish == FINISH_BIAS ? bias : nullptr,
                    finish == FINISH_SGD ? &sgd : nullptr);
    check_product(c, ldc, m, n, finish, sgd, THIRD, FOURTH, true);
  }
  if (variant % 8 == 0 || variant % 8 == 3) sparse_adam(s, b, ldb, m, n, ldc);
}

// A product that ends with Adam's update gives what a product and then an update give.
template <class T> void Check<T>::sparse_adam(const SparseOperand<T>& s, const T* b, Size ldb,
                                              Size m, Size n, Size ldc) {
  static const char* names[] = {"w", "s1", "s2"};
  for (int finish : {FINISH_ADAM, FINISH_ADD_ADAM}) {
    const int plain = finish == FINISH_ADD_ADAM ? FINISH_ADD : FINISH_STORE;
    Step adam = {0.01, 0.5, 0.001, 0.9, 0.99, 1e-5, 0, 0, 0, 0};
    T* c = initial_c(m, n, ldc, plain, FOURTH);
    k.matmul_sparse(s.a, s.a_row, s.a_step, s.list, s.list_ld, s.from, s.to, b, ldb, c, ldc, m, n,
                    plain, nullptr, nullptr);
    const Size size = (m - 1) * ldc + up(n);
    std::vector<T> g(c, c + size), expected[3];
    T* got[3];  // weights and both moments, of which the second is not negative
    for (int v = 0; v < 3; ++v) {
      got[v] = matrix(operand[7 + v], names[v], m, n, ldc, SPECIALS + uint32_t(v));
      for (Size i = 0; v == 2 && i < m; ++i)
        for (Size j = 0; j < n; ++j) got[v][i * ldc + j] = std::fabs(got[v][i * ldc + j]);
      expected[v].assign(got[v], got[v] + size);
    }
    for (Size i = 0; i < m; ++i) {
      const size_t row = size_t(i * ldc);
      void* state[] = {&expected[1][row], &expected[2][row]};
      k.update(RULE_ADAM, &adam, &expected[0][row], &g[row], state, up(n));
    }
    c = initial_c(m, n, ldc, plain, FOURTH);
    operand[2].protect();
    adam.w = (char*)got[0] - (char*)c;
    adam.s1 = (char*)got[1] - (char*)c;
    adam.s2 = (char*)got[2] - (char*)c;
    at("matmul_sparse", "m=%td n=%td a_row=%td a_step=%td list_ld=%td ldb=%td ldc=%td finish=%d", m,
       n, s.a_row, s.a_step, s.list_ld, ldb, ldc, finish);
    k.matmul_sparse(s.a, s.a_row, s.a_step, s.list, s.list_ld, s.from, s.to, b, ldb, c, ldc, m, n,
                    finish, nullptr, &adam);
    for (int v = 0; v < 3; ++v)
      for (Size i = 0; i < m; ++i) {
        for (Size j = 0; j < up(n); ++j)
          equal(got[v][i * ldc + j], double(expected[v][size_t(i * ldc + j)]), names[v], i, j);
        for (Size j = up(n); i + 1 < m && j < ldc; ++j)
          unwritten(got[v][i * ldc + j], names[v], i, j);
      }
  }
}

template <class T> void Check<T>::matmul_scatter(Size m, Size n, Size depth, Size variant) {
  const Size lda = depth + variant % 4;
  const Size ldd = padded(n, variant / 3), ldc = padded(n, variant / 2);
  const SparseOperand<T> s = sparse_operand(m, depth, lda, 1, depth + variant % 3, variant);
  const double scale = variant % 2 ? 1 : -0.5;
  product.assign(size_t(depth * n), 0);
  for (Size i = 0; i < m; ++i)
    for (uint32_t u = s.from[i]; u < s.to[i]; ++u) {
      const Size q = s.list[i * s.list_ld + u];
      for (Size j = 0; j < n; ++j)
        product[size_t(q * n + j)] += scale * integer(i, q, FIRST) * integer(i, j, SECOND);
    }
  const T* d = matrix(operand[1], "d", m, n, ldd, SECOND);
  operand[1].protect();
  T* c = initial_c(depth, n, ldc, FINISH_ADD, FOURTH);
  at("matmul_scatter", "m=%td n=%td k=%td lda=%td list_ld=%td ldd=%td ldc=%td scale=%g", m, n,
     depth, lda, s.list_ld, ldd, ldc, scale);
  k.matmul_scatter(s.a, lda, s.list, s.list_ld, s.from, s.to, d, ldd, c, ldc, m, n, scale);
  check_product(c, ldc, depth, n, FINISH_ADD, sgd, THIRD, FOURTH, true);
}

// Sums that underflow to a zero have no sign: the sparse and the dense product are identical.
template <class T> void Check<T>::no_signed_zeros(Size m, Size n, Size depth, Size variant) {
  const Size lda = padded(depth, variant), ldb = padded(n, variant), ldc = padded(n, variant / 2);
  const Size ld = depth + std::max(width, Size(8));
  T* a = matrix(operand[0], "a", m, depth, lda, FIRST);
  T* b = matrix(operand[1], "b", depth, n, ldb, SECOND);
  const T tiny = std::sqrt(std::numeric_limits<T>::denorm_min()) / 4;
  for (Size i = 0; i < m; ++i)
    for (Size q = 0; q < depth; ++q)
      a[i * lda + q] = integer(i, q, ZEROS) > 0 ? T(0) : T(integer(i, q, FIRST)) * tiny;
  for (Size q = 0; q < depth; ++q)
    for (Size j = 0; j < n; ++j) b[q * ldb + j] = T(integer(q, j, SECOND)) * tiny;
  auto* list = operand[4].place<uint16_t>("list", m * ld);
  auto* starts = operand[6].place<uint32_t>("starts", 2 * m);
  at("no_signed_zeros", "m=%td n=%td k=%td", m, n, depth);
  k.find_nonzero(a, lda, m, depth, 128, list, ld, starts, m);
  T* dense = matrix(operand[2], "dense", m, n, ldc, THIRD);
  k.matmul(a, lda, 0, b, ldb, dense, ldc, m, n, depth, FINISH_STORE, nullptr, nullptr);
  std::vector<T> found(size_t(m * n));
  for (Size i = 0; i < m; ++i)
    std::memcpy(&found[size_t(i * n)], dense + i * ldc, size_t(n) * sizeof(T));
  T* c = matrix(operand[2], "c", m, n, ldc, THIRD);
  k.matmul_sparse(a, lda, 1, list, ld, starts, starts + m, b, ldb, c, ldc, m, n, FINISH_STORE,
                  nullptr, nullptr);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j)
      if (std::memcmp(c + i * ldc + j, &found[size_t(i * n + j)], sizeof(T)))
        fail("(%td, %td): %g and %g", i, j, double(c[i * ldc + j]),
             double(found[size_t(i * n + j)]));
}

template <class T> void Check<T>::check_sparse() {
  at_both_sides([&] {
    for_each_three([&](Size m, Size n, Size depth, Size variant) {
      matmul_sparse(m, n, depth, variant);
      matmul_scatter(m, n, depth, variant);
      no_signed_zeros(m, n, depth, variant);
    });
    for_each_two([&](Size m, Size n, Size variant) { find_nonzero(m, n, variant); });
    // More columns than a part of a list has.
    for (Size n : {127, 128, 129, 200, 300}) find_nonzero(3, n, n);
  });
}

template void Check<float>::check_sparse();
template void Check<double>::check_sparse();
