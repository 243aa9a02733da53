// Checks the kernels that go over rows: rows.h.

#include "checker.h"

template <class T> void Check<T>::transpose(Size m, Size n, Size variant) {
  const Size lds = padded(n, variant), ldd = padded(m, variant / 2);
  T* src = operand[0].place<T>("src", (m - 1) * lds + up(n));
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) src[i * lds + j] = T(i * 100 + j + 1);
  operand[0].protect();
  T* dst = operand[1].place<T>("dst", (n - 1) * ldd + up(m));
  at("transpose", "m=%td n=%td lds=%td ldd=%td", m, n, lds, ldd);
  k.transpose(src, lds, dst, ldd, m, n);
  for (Size j = 0; j < n; ++j) {
    for (Size i = 0; i < m; ++i) equal(dst[j * ldd + i], double(i * 100 + j + 1), "dst", j, i);
    for (Size i = m; i < up(m); ++i) zero_pad(dst[j * ldd + i], "dst", j, i);
    for (Size i = up(m); j + 1 < n && i < ldd; ++i) unwritten(dst[j * ldd + i], "dst", j, i);
  }
}

template <class T> void Check<T>::column_sum(Size m, Size n, Size variant) {
  const Size ldd = padded(n, variant);
  const T* d = matrix(operand[0], "d", m, n, ldd, FIRST);
  operand[0].protect();
  for (int add = 0; add < 2; ++add) {
    T* out = add ? matrix(operand[1], "out", 1, n, n, SECOND) : operand[1].place<T>("out", up(n));
    at("column_sum", "m=%td n=%td ldd=%td add=%d", m, n, ldd, add);
    k.column_sum(d, ldd, m, n, out, add);
    for (Size j = 0; j < n; ++j) {
      double want = add ? integer(0, j, SECOND) : 0;
      for (Size i = 0; i < m; ++i) want += integer(i, j, FIRST);
      equal(out[j], want, "out", 0, j);
    }
    for (Size j = n; j < up(n); ++j) zero_pad(out[j], "out", 0, j);
  }
}

// The data set belongs to the user: any strides, any alignment, and no access beyond it.
template <class T> template <class S>
void Check<T>::gather_from(int source, Size m, Size n, Size variant) {
  const Size item = sizeof(S), rows = m + 2, ldo = padded(n, variant);
  const Size strides[] = {item, -item, 2 * item, item + 1}, column = strides[variant % 4];
  const Size span = (n - 1) * std::abs(column) + item;  // bytes of a row
  const Size row = (variant % 3 == 0 ? 1 : -1) * (span + (variant % 5 ? 1 : 0));
  // From 0 to 16, or 0 in a whole vector, rarely or mostly depending on the variant.
  const auto element = [&](Size i, Size j) {
    const bool zero_vector = integer(i, j / width, ZERO_VECTORS) < variant % 19 - 9;
    return zero_vector ? 0 : integer(i, j, FIRST) + 8;
  };
  const int factor = std::is_same_v<S, uint8_t> ? 15 : 1;  // up to 240 in a byte
  char* bytes = operand[0].place<char>("x", (rows - 1) * std::abs(row) + span);
  char* x = bytes + (row < 0 ? (rows - 1) * -row : 0) + (column < 0 ? span - item : 0);
  for (Size i = 0; i < rows; ++i)
    for (Size j = 0; j < n; ++j) {
      const S value = S(element(i, j) * factor);
      std::memcpy(x + i * row + j * column, &value, sizeof value);
    }
  operand[0].protect();
  uint32_t* order = nullptr;
  if (variant % 2) {
    order = operand[1].place<uint32_t>("order", m);
    for (Size i = 0; i < m; ++i) order[i] = uint32_t((i * 7 + 3) % rows);
    operand[1].protect();
  }
  T* out = operand[2].place<T>("out", (m - 1) * ldo + up(n));
  const uint32_t* next = order && variant % 4 == 1 ? order + m / 2 : nullptr;
  at("gather", "source=%d m=%td n=%td row_stride=%td col_stride=%td order=%d ldo=%td", source, m, n,
     row, column, order != nullptr, ldo);
  const Size words = (ldo / width + 63) / 64;
  uint64_t* marks = variant % 3 ? operand[3].place<uint64_t>("marks", m * words) : nullptr;
  k.gather(source, x, row, column, order, m, n, out, ldo, next, next ? m - m / 2 : 0, marks);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      const int value = element(order ? Size(order[i]) : i, j) * factor;
      const T want = source == SOURCE_UINT8 ? T(value) * T(1.0 / 255) : T(value);
      equal(out[i * ldo + j], double(want), "out", i, j);
    }
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

template <class T> template <class S>
void Check<T>::gather_standardized_from(int source, Size m, Size n, Size variant) {
  const Size item = sizeof(S), ldo = padded(n, variant), column = variant % 2 ? item : item + 3;
  const Size row = (n - 1) * column + item + variant % 5;
  char* x = operand[0].place<char>("x", m * row - variant % 5);
  double* mean = operand[1].place<double>("mean", n);
  double* inverse = operand[2].place<double>("inverse", n);
  for (Size j = 0; j < n; ++j) {
    mean[j] = integer(0, j, SECOND) / 7.0;
    inverse[j] = 1 / (integer(1, j, SECOND) + 9.3);
    for (Size i = 0; i < m; ++i) {
      const S value = S(integer(i, j, FIRST) + 8);
      std::memcpy(x + i * row + j * column, &value, sizeof value);
    }
  }
  for (int i = 0; i < 3; ++i) operand[i].protect();
  uint32_t* order = operand[3].place<uint32_t>("order", m);
  for (Size i = 0; i < m; ++i) order[i] = uint32_t((i * 7 + 3) % m);
  operand[3].protect();
  T* out = operand[4].place<T>("out", (m - 1) * ldo + up(n));
  at("gather_standardized", "source=%d m=%td n=%td row_stride=%td col_stride=%td ldo=%td", source,
     m, n, row, column, ldo);
  const bool ordered = variant % 3;
  k.gather_standardized(source, x, row, column, ordered ? order : nullptr, m, n, out, ldo,
                        ordered ? order + m / 2 : nullptr, ordered ? m - m / 2 : 0, mean, inverse);
  for (Size i = 0; i < m; ++i) {
    for (Size j = 0; j < n; ++j) {
      double value = integer(ordered ? Size(order[i]) : i, j, FIRST) + 8;
      if (source == SOURCE_UINT8) value *= 1.0 / 255;
      equal(out[i * ldo + j], double(T((value - mean[j]) * inverse[j])), "out", i, j);
    }
    for (Size j = n; j < up(n); ++j) zero_pad(out[i * ldo + j], "out", i, j);
    for (Size j = up(n); i + 1 < m && j < ldo; ++j) unwritten(out[i * ldo + j], "out", i, j);
  }
}

template <class T> template <class S>
void Check<T>::within_bounds(int source, Size m, Size n, Size variant) {
  const Size item = sizeof(S), column = variant % 2 ? item : item + 3;
  const Size row = (n - 1) * column + item + variant % 5;
  char* x = operand[0].place<char>("x", m * row - variant % 5);
  const auto put = [&](Size i, Size j, double value) {
    const S rounded = S(value);
    std::memcpy(x + i * row + j * column, &rounded, sizeof rounded);
  };
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) put(i, j, (i + j) % 3 * 0.5);
  at("within", "source=%d m=%td n=%td row_stride=%td col_stride=%td", source, m, n, row, column);
  const auto good = [&] { return k.within(source, x, row, column, m, n, 0, 1); };
  if (!good()) fail("0, 0.5 and 1 are not within 0 and 1");
  const double largest = double(std::numeric_limits<S>::max());
  for (double wrong : {double(NAN), double(INFINITY), -double(INFINITY), 1.25, -0.25, largest}) {
    const Size cell = (m * n - 1) * (variant % 4) / 3, i = cell / n, j = cell % n;
    put(i, j, wrong);
    if (good()) fail("%g in row %td, column %td is within 0 and 1", wrong, i, j);
    put(i, j, 0);
  }
}

template <class T> void Check<T>::gather(Size m, Size n, Size variant) {
  within_bounds<float>(SOURCE_FLOAT32, m, n, variant);
  within_bounds<double>(SOURCE_FLOAT64, m, n, variant);
  gather_from<uint8_t>(SOURCE_UINT8, m, n, variant);
  gather_from<float>(SOURCE_FLOAT32, m, n, variant);
  gather_from<double>(SOURCE_FLOAT64, m, n, variant);
  gather_standardized_from<uint8_t>(SOURCE_UINT8, m, n, variant);
  gather_standardized_from<float>(SOURCE_FLOAT32, m, n, variant);
  gather_standardized_from<double>(SOURCE_FLOAT64, m, n, variant);
}

template <class T> void Check<T>::multiply(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant);
  T* d = reals(operand[0], "d", m, ld, ld, FIRST, T(1));
  const T* s = reals(operand[1], "s", m, ld, ld, SECOND, T(1));
  operand[1].protect();
  at("multiply", "m=%td n=%td ld=%td", m, n, ld);
  k.multiply(d, s, ld, m);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < ld; ++j)
      equal(d[i * ld + j], double(integer(i, j, FIRST) * integer(i, j, SECOND)), "d", i, j);
}

template <class T> void Check<T>::multiply_keeping(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant);
  T* d = reals(operand[0], "d", m, ld, ld, FIRST, T(1));
  T* s = reals(operand[1], "s", m, ld, ld, SECOND, T(1));
  at("multiply_keeping", "m=%td n=%td ld=%td", m, n, ld);
  k.multiply_keeping(d, s, ld, m);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < ld; ++j) {
      equal(d[i * ld + j], double(integer(i, j, FIRST) * integer(i, j, SECOND)), "d", i, j);
      equal(s[i * ld + j], double(integer(i, j, FIRST)), "s", i, j);
    }
}

template <class T> void Check<T>::add(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant);
  T* d = reals(operand[0], "d", m, ld, ld, FIRST, T(1));
  const T* s = reals(operand[1], "s", m, ld, ld, SECOND, T(1));
  operand[1].protect();
  at("add", "m=%td n=%td ld=%td", m, n, ld);
  k.add(d, s, ld, m);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < ld; ++j)
      equal(d[i * ld + j], double(integer(i, j, FIRST) + integer(i, j, SECOND)), "d", i, j);
}

// Both norms and their gradients against the formulas.
template <class T> void Check<T>::normalize(Size m, Size n, Size variant) {
  using W = Wide<T>;
  const Size ld = padded(n, variant);
  const int centers = variant / 2 % 2, keeps = variant / 4 % 2;
  T* z = reals(operand[0], "z", m, n, ld, FIRST, T(1));
  const T* scale = matrix(operand[1], "scale", 1, n, ld, SECOND);
  const T* shift = matrix(operand[2], "shift", 1, n, ld, THIRD);
  operand[1].protect();
  operand[2].protect();
  std::vector<T> before(z, z + m * ld), gradient(size_t(m * ld), T(0));
  std::vector<T> normed(gradient), inverse(size_t(m), T(0)), passed(gradient);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) gradient[size_t(i * ld + j)] = T(integer(j, i, FOURTH)) / 8;
  std::vector<T> dz = gradient;
  at("normalize", "m=%td n=%td ld=%td centers=%d keeps=%d", m, n, ld, centers, keeps);
  k.normalize(centers, 0.25, z, keeps ? normed.data() : nullptr, inverse.data(), scale, shift, ld, m,
              n);
  if (keeps)
    k.normalize_back(centers, dz.data(), normed.data(), inverse.data(), scale,
                     centers ? passed.data() : nullptr, ld, m, n);
  for (Size i = 0; i < m; ++i) {
    const T *row = before.data() + i * ld, *dy = gradient.data() + i * ld;
    W mean = 0, square = 0, dmean = 0, through = 0;
    for (Size j = 0; j < n; ++j) mean += centers ? W(row[j]) / W(n) : W(0);
    for (Size j = 0; j < n; ++j) square += (row[j] - mean) * (row[j] - mean) / W(n);
    const W factor = 1 / std::sqrt(square + W(0.25));
    for (Size j = 0; j < n; ++j) {
      dmean += centers ? W(dy[j]) * scale[j] / W(n) : W(0);
      through += W(dy[j]) * scale[j] * (row[j] - mean) * factor / W(n);
    }
    // Values are at most 8, gradients 1, and the largest x is 8·factor.
    const W largest = 1 + 8 * factor;
    for (Size j = 0; j < n; ++j) {
      const size_t place = size_t(i * ld + j);
      const W x = (row[j] - mean) * factor;
      const W d = (W(dy[j]) * scale[j] - dmean - x * through) * factor;
      close<T>(z[place], x * scale[j] + (centers ? W(shift[j]) : W(0)), 8 * largest, "z", i, j);
      if (!keeps) continue;
      close<T>(dz[place], d, 8 * largest * largest * largest, "dz", i, j);
      close<T>(normed[place], dy[j] * x, largest, "normed", i, j);
      if (centers) equal(passed[place], double(dy[j]), "passed", i, j);
    }
    for (Size j = n; j < up(n); ++j) {
      zero_pad(z[i * ld + j], "z", i, j);
      if (keeps) zero_pad(dz[size_t(i * ld + j)], "dz", i, j);
    }
  }
}

// Batch norm and its gradient against the formulas.
template <class T> void Check<T>::normalize_columns(Size m, Size n, Size variant) {
  using W = Wide<T>;
  const Size ld = padded(n, variant);
  T* z = reals(operand[0], "z", m, n, ld, FIRST, T(1));
  const T* scale = matrix(operand[1], "scale", 1, n, ld, SECOND);
  const T* shift = matrix(operand[2], "shift", 1, n, ld, THIRD);
  operand[1].protect();
  operand[2].protect();
  std::vector<T> before(z, z + m * ld), gradient(size_t(m * ld), T(0)), normed(gradient);
  std::vector<T> mean(size_t(ld), T(0)), variance(mean), factor(mean), by_normed(mean), total(mean);
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < n; ++j) gradient[size_t(i * ld + j)] = T(integer(j, i, FOURTH)) / 8;
  std::vector<T> dz = gradient;
  at("normalize_columns", "m=%td n=%td ld=%td", m, n, ld);
  k.column_moments(0.25, z, mean.data(), variance.data(), factor.data(), ld, m, n);
  k.normalize_columns(z, normed.data(), mean.data(), factor.data(), scale, shift, ld, m, n);
  k.column_products(dz.data(), normed.data(), by_normed.data(), total.data(), ld, m, n);
  k.normalize_columns_back(dz.data(), normed.data(), factor.data(), scale, by_normed.data(),
                           total.data(), double(m), ld, m, n);
  std::vector<T> average(size_t(up(n)), T(1));
  k.blend(average.data(), mean.data(), 0.25, 2.0, up(n));
  for (Size j = 0; j < n; ++j) {
    const auto of = [&](const std::vector<T>& from, Size i) { return W(from[size_t(i * ld + j)]); };
    W mu = 0, v = 0, sum = 0, product = 0;
    for (Size i = 0; i < m; ++i) mu += of(before, i) / W(m);
    for (Size i = 0; i < m; ++i) v += (of(before, i) - mu) * (of(before, i) - mu) / W(m);
    const W f = 1 / std::sqrt(v + W(0.25)), largest = 1 + 8 * f;
    for (Size i = 0; i < m; ++i) {
      sum += of(gradient, i);
      product += of(gradient, i) * (of(before, i) - mu) * f;
    }
    close<T>(mean[size_t(j)], mu, 8, "mean", 0, j);
    close<T>(variance[size_t(j)], v, 64, "variance", 0, j);
    close<T>(factor[size_t(j)], f, 64 * f * f * f, "factor", 0, j);
    close<T>(total[size_t(j)], sum, W(m), "total", 0, j);
    close<T>(by_normed[size_t(j)], product, W(m) * largest * largest, "by_normed", 0, j);
    close<T>(average[size_t(j)], W(0.75) + W(0.5) * mu, 8, "average", 0, j);
    for (Size i = 0; i < m; ++i) {
      const W x = (of(before, i) - mu) * f, cubed = largest * largest * largest;
      const W d = scale[j] * f * (of(gradient, i) - (sum + x * product) / W(m));
      close<T>(z[i * ld + j], x * scale[j] + shift[j], 8 * cubed, "z", i, j);
      close<T>(dz[size_t(i * ld + j)], d, 8 * cubed * largest, "dz", i, j);
    }
  }
  for (Size i = 0; i < m; ++i)
    for (Size j = n; j < up(n); ++j) {
      zero_pad(z[i * ld + j], "z", i, j);
      zero_pad(dz[size_t(i * ld + j)], "dz", i, j);
    }
}

template <class T> void Check<T>::copy_far(Size m, Size n, Size variant) {
  const Size off = variant % (width + 1), ldf = n + variant % 3, ldt = n + variant % 5;
  const Size last = (m - 1) * ldt + n;
  const T* from = matrix(operand[0], "from", m, n, ldf, FIRST, false);
  operand[0].protect();
  T* to = operand[1].place<T>("to", off + last + 3);
  at("copy_far", "m=%td n=%td ldf=%td ldt=%td off=%td", m, n, ldf, ldt, off);
  k.copy_far(from, ldf, to + off, ldt, m, n);
  for (Size j = 0; j < off + last + 3; ++j) {
    const Size i = (j - off) / ldt, column = (j - off) % ldt;
    if (j < off || j >= off + last || column >= n)
      unwritten(to[j], "to", 0, j);
    else
      equal(to[j], double(from[i * ldf + column]), "to", i, column);
  }
}

template <class T> void Check<T>::square_sum(Size m, Size n, Size variant) {
  const Size ld = padded(n, variant);
  const T* w = matrix(operand[0], "w", m, n, ld, FIRST);
  operand[0].protect();
  double* out = operand[1].place<double>("out", m);
  at("square_sum", "m=%td n=%td ld=%td", m, n, ld);
  k.square_sum(w, ld, m, n, out);
  for (Size i = 0; i < m; ++i) {
    double want = 0;
    for (Size j = 0; j < n; ++j) want += integer(i, j, FIRST) * integer(i, j, FIRST);
    equal(out[i], want, "out", i, 0);
  }
}

template <class T> void Check<T>::check_rows() {
  at_both_sides([&] {
    for_each_two([&](Size m, Size n, Size variant) {
      transpose(m, n, variant);
      column_sum(m, n, variant);
      gather(m, n, variant);
      multiply(m, n, variant);
      multiply_keeping(m, n, variant);
      add(m, n, variant);
      normalize(m, n, variant);
      normalize_columns(m, n, variant);
      square_sum(m, n, variant);
      copy_far(m, n, variant);
    });
    // More vectors than a word of marks has bits.
    for (Size n : {1023, 1024, 1025, 2060}) {
      gather(1, n, n);
      gather(1, n, n + 1);
    }
  });
}

template void Check<float>::check_rows();
template void Check<double>::check_rows();
