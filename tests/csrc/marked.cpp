// Checks the products that skip vectors of zeros: narrow.h.

#include "checker.h"

// Rows of integers with marks: the unmarked vectors, few or many depending on the variant, hold
// ``other``.
template <class T> T* Check<T>::marked_rows(Operand& o, Operand& marks_of, Size m, Size n, Size ld,
                                            Size variant, T other, uint64_t*& marks) {
  T* x = matrix(o, "x", m, n, ld, FIRST);
  const Size words = (ld / width + 63) / 64;
  marks = marks_of.place<uint64_t>("marks", m * words);
  std::fill(marks, marks + m * words, 0);
  for (Size i = 0; i < m; ++i)
    for (Size v = 0; v < up(n) / width; ++v)
      if (integer(i, v, ZEROS) > variant % 19 - 10)
        marks[i * words + v / 64] |= uint64_t(1) << v % 64;
      else
        std::fill_n(x + i * ld + v * width, width, other);
  o.protect();
  marks_of.protect();
  return x;
}

template <class T> void Check<T>::narrow_marked(Size m, Size n, Size depth, Size variant) {
  if (n >= width) return;
  const Size ldx = padded(depth, variant), ldw = padded(depth, variant / 2),
             ldz = padded(n, variant / 3);
  uint64_t* marks;
  const T* x = marked_rows(operand[0], operand[4], m, depth, ldx, variant, T(0), marks);
  const T* wt = matrix(operand[1], "wt", n, depth, ldw, SECOND);
  T* bias = operand[3].place<T>("bias", n);
  for (Size j = 0; j < n; ++j) bias[j] = T(integer(0, j, THIRD));
  for (int i : {1, 3}) operand[i].protect();
  T* z = operand[2].place<T>("z", (m - 1) * ldz + n);
  at("narrow_marked", "m=%td n=%td k=%td ldx=%td ldw=%td ldz=%td", m, n, depth, ldx, ldw, ldz);
  k.narrow_marked(x, ldx, marks, wt, ldw, z, ldz, m, n, depth, bias);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      double want = integer(0, j, THIRD);
      for (Size q = 0; q < depth; ++q)
        if (is_marked(marks, (ldx / width + 63) / 64, i, q / width))
          want += integer(i, q, FIRST) * integer(j, q, SECOND);
      equal(z[i * ldz + j], want, "z", i, j);
    }
    for (Size j = n; i + 1 < m && j < ldz; ++j) unwritten(z[i * ldz + j], "z", i, j);
  }
}

template <class T> void Check<T>::gradient_marked(Size m, Size n, Size depth, Size variant) {
  if (m >= width) return;
  const Size ldd = m + variant % 3, ldx = padded(n, variant), ldc = padded(n, variant / 2);
  const Size start = variant % 5 == 0 ? up(n) / width / 3 * width : 0;
  const Size stop = variant % 7 == 0 ? std::max(start, up(n) / width / 2 * width) : n;
  if (start >= stop) return;
  uint64_t* marks;
  const T* x = marked_rows(operand[0], operand[4], depth, n, ldx, variant, poison<T>(), marks);
  T* d = operand[1].place<T>("d", (depth - 1) * ldd + m);
  for (Size q = 0; q < depth; ++q)
    for (Size i = 0; i < m; ++i) d[q * ldd + i] = T(integer(q, i, SECOND));
  operand[1].protect();
  for (int finish : {FINISH_STORE, FINISH_ADD, FINISH_SGD}) {
    T* c = initial_c(m, n, ldc, finish, FOURTH);
    at("gradient_marked", "m=%td n=%td k=%td ldd=%td ldx=%td ldc=%td start=%td stop=%td finish=%d",
       m, n, depth, ldd, ldx, ldc, start, stop, finish);
    k.gradient_marked(d, ldd, x, ldx, marks, c, ldc, m, start, stop, depth, finish,
                      finish == FINISH_SGD ? &sgd : nullptr);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < up(n); ++j) {
        const double old = j < n ? integer(i, j, FOURTH) : 0;
        if (j < start || j >= up(stop)) {
          if (finish == FINISH_STORE)
            unwritten(c[i * ldc + j], "c", i, j);
          else
            equal(c[i * ldc + j], old, "c", i, j);
          continue;
        }
        double sum = 0;
        for (Size q = 0; j < n && q < depth; ++q)
          if (is_marked(marks, (ldx / width + 63) / 64, q, j / width))
            sum += integer(q, i, SECOND) * integer(q, j, FIRST);
        equal(c[i * ldc + j],
              finish == FINISH_STORE ? sum
              : finish == FINISH_ADD ? sum + old
                                     : old - sgd.rate * (sum + sgd.l2 * old),
              "c", i, j);
      }
  }
}

// A row does not depend on the row that is computed with it, nor on marks of that row.
template <class T> void Check<T>::order_of_marked_sums(Size m, Size n, Size depth) {
  const Size ld = up(depth), words = (ld / width + 63) / 64;
  T* x = matrix(operand[0], "x", m, depth, ld, FIRST);
  T* w = matrix(operand[1], "wt", n, depth, ld, SECOND);
  T* bias = operand[2].place<T>("bias", n);
  uint64_t* marks = operand[3].place<uint64_t>("marks", m * words);
  std::fill(marks, marks + m * words, 0);
  std::fill(bias, bias + n, T(0));
  for (Size j = 0; j < n; ++j)
    for (Size q = 0; q < depth; ++q) w[j * ld + q] /= 7;
  for (Size i = 0; i < m; ++i)
    for (Size v = 0; v < ld / width; ++v) {
      // Every fourth row has no marks, so it and its neighbour are computed one by one.
      const bool marked = i % 4 && integer(i, v, ZEROS) > i % 19 - 10;
      if (marked) marks[i * words + v / 64] |= uint64_t(1) << v % 64;
      for (Size q = v * width; q < (v + 1) * width; ++q) x[i * ld + q] *= T(marked) / 3;
    }
  for (int i : {0, 1, 2, 3}) operand[i].protect();
  T* all = operand[4].place<T>("z", m * n);
  T* one = operand[5].place<T>("one", n);
  at("narrow_marked", "order of sums: m=%td n=%td k=%td", m, n, depth);
  k.narrow_marked(x, ld, marks, w, ld, all, n, m, n, depth, bias);
  for (Size i = 0; i < m; ++i) {
    k.narrow_marked(x + i * ld, ld, marks + i * words, w, ld, one, n, 1, n, depth, bias);
    for (Size j = 0; j < n; ++j) equal(one[j], double(all[i * n + j]), "z alone", i, j);
  }
}

template <class T> void Check<T>::check_marked() {
  at_both_sides([&] {
    for_each_three([&](Size m, Size n, Size depth, Size variant) {
      narrow_marked(m, n, depth, variant);
      gradient_marked(m, n, depth, variant);
    });
    // More vectors than a word has bits, and more rows.
    for (Size n : {1023, 1024, 1025, 2060}) {
      narrow_marked(3, width - 1, n, n);
      gradient_marked(width - 1, n, 3, n);
    }
    for (Size n = 1; n < width; ++n)
      for (Size depth : {5, 50, 784, 1100}) order_of_marked_sums(37, n, depth);
    for (Size depth : {127, 128, 500, int(MARKED_ROWS)}) gradient_marked(1, 5, depth, depth);
  });
}

template void Check<float>::check_marked();
template void Check<double>::check_marked();
