// Checks kernels against naive loops. Parts that all checks share: operands between guard pages,
// data, comparisons. README.md of csrc/kernels says how to build and run the program.
//
// An operand lies between pages that nothing may access. In one pass it ends where its pages end,
// in the other it begins where they begin, so that an access to one element too many is a fault.
// Operands that a kernel only reads are write-protected. Everything that a kernel may not use is
// NaN, and undefined for valgrind.
#pragma once

#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
constexpr bool address_sanitizer = true;
#else
constexpr bool address_sanitizer = false;
#endif

using namespace pynn;
using Size = std::ptrdiff_t;

constexpr Size max_size = 70;  // of any dimension
extern bool short_run;         // takes fewer pairs of sizes
extern long long calls, values;

// --- Failures ------------------------------------------------------------------------------------

extern char where[400];  // the call that is being checked

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);
void report_faults();  // explains accesses outside of operands

// --- Operands between guard pages ----------------------------------------------------------------

enum Side { ENDS, BEGINS };
extern Side guard_side;

// A byte that valgrind considers undefined.
uint8_t undefined_byte();

// A NaN whose lowest byte is undefined: valgrind reports a branch that depends on it.
template <class T> T poison() {
  T value;
  if constexpr (sizeof(T) == 4) {
    const uint32_t bits = 0x7fd5a500u | undefined_byte();
    std::memcpy(&value, &bits, sizeof value);
  } else if constexpr (sizeof(T) == 8) {
    const uint64_t bits = 0x7ffd5a5a5a5a5a00u | undefined_byte();
    std::memcpy(&value, &bits, sizeof value);
  } else {
    value = T(~T(0) ^ (undefined_byte() & 3));
  }
  return value;
}
template <class T> bool untouched(T value) {
  std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t> bits;
  std::memcpy(&bits, &value, sizeof value);
  return sizeof(T) == 8 ? uint64_t(bits) >> 8 == 0x7ffd5a5a5a5a5au : bits >> 8 == 0x7fd5a5u;
}

// Memory for an operand, between two pages that nothing may access.
class Operand {
 public:
  Operand();

  // An array of count elements, all poison, that ends or begins at a guard page.
  template <class T> T* place(const char* name, Size count) {
    T* to = (T*)place_bytes(name, size_t(count) * sizeof(T));
    std::fill(to, to + count, poison<T>());
    return to;
  }

  // Makes the array read-only, until the next call of place.
  void protect();

  // If the address lies in this operand or its guard pages, describes the faulty access in
  // ``text``.
  bool explain(const char* address, char* text, size_t size) const;

 private:
  static constexpr size_t usual = 128 * 1024;

  char* place_bytes(const char* name, size_t bytes);
  void map(size_t size);

  size_t page_, size_ = 0, bytes_ = 0;
  char *map_, *at_ = nullptr;
  const char* name_ = "";
  bool read_only_ = false;
};

constexpr int operands = 10;
extern Operand* operand;  // (operands,)

// Calls f with operands at either guard page.
template <class F> void at_both_sides(F f) {
  for (Side side : {ENDS, BEGINS}) {
    // The address sanitizer guards both ends of an operand in the first pass already.
    if (address_sanitizer && short_run && side == BEGINS) break;
    guard_side = side;
    f();
  }
}

// --- Data, and comparisons -----------------------------------------------------------------------

// The type in which expected values are computed.
template <class T> using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

// Different operands of a kernel, as the salt of ``integer``.
enum Salt : uint32_t { FIRST = 1, SECOND, THIRD, FOURTH, ZEROS, SPECIALS, ZERO_VECTORS = 9 };

// A reproducible integer from −8 to 8 for each element (i, j) of an operand. Sums of products of
// such integers are exact in every order, so matrix products must equal the naive loops.
inline int integer(Size i, Size j, uint32_t salt) {
  uint32_t h = uint32_t(i) * 0x9e3779b1u ^ uint32_t(j) * 0x85ebca77u ^ salt * 0xc2b2ae3du;
  h = (h ^ (h >> 15)) * 0x2c1b3c6du;
  return int((h ^ (h >> 13)) % 17) - 8;
}

// Whether element (i, j) of a sparse operand is zero: 16 − variant % 16 of 17 elements are.
inline bool is_zero(Size i, Size j, Size variant) {
  return integer(i, j, ZEROS) > variant % 16 - 8;
}

template <class T> T epsilon() { return std::numeric_limits<T>::epsilon(); }

template <class T> void equal(T got, double want, const char* name, Size i, Size j) {
  ++values;
  if (!(double(got) == want))
    fail("%s[%td, %td] is %.17g, expected %.17g", name, i, j, double(got), want);
}
template <class T> void zero_pad(T got, const char* name, Size i, Size j) {
  ++values;
  if (!(got == 0)) fail("the pad %s[%td, %td] is %.17g, expected 0", name, i, j, double(got));
}
template <class T> void unwritten(T got, const char* name, Size i, Size j) {
  ++values;
  if (!untouched(got)) fail("%s[%td, %td] was written: %.17g", name, i, j, double(got));
}
// Within 32 units in the last place of ``scale``.
template <class T, class U>
void close(U got, Wide<T> want, Wide<T> scale, const char* name, Size i, Size j) {
  ++values;
  if (std::isnan(want) ? std::isnan(got)
                       : std::fabs(Wide<T>(got) - want) <= Wide<T>(32 * epsilon<T>()) * scale)
    return;
  fail("%s[%td, %td] is %.17g, expected %.17g", name, i, j, double(got), double(want));
}

// --- Sizes ---------------------------------------------------------------------------------------

// Calls f(m, n, depth, variant) with every size from 1 to 70 in each dimension, and a few sizes in
// the other two. The variant counts the calls: leading dimensions and options depend on it.
template <class F> void for_each_three(F f) {
  std::vector<Size> others = {1, 2, 7, 16, 33, 70};
  if (short_run) others = {1, 19};
  Size variant = 0;
  for (Size size = 1; size <= max_size; ++size)
    for (Size p : others)
      for (Size q : others) {
        f(size, p, q, variant++);
        f(p, size, q, variant++);
        f(p, q, size, variant++);
      }
}
// The same with two dimensions: f(m, n, variant).
template <class F> void for_each_two(F f) {
  std::vector<Size> others = {1, 2, 5, 16, 33};
  if (short_run) others = {1, 3};
  Size variant = 0;
  for (Size size = 1; size <= max_size; ++size)
    for (Size other : others) {
      f(size, other, variant++);
      f(other, size, variant++);
    }
}

// --- The checks ----------------------------------------------------------------------------------

// The left operand of a product with lists: the elements of row i that count are
// list[i·list_ld + u] for u from from[i] up to to[i].
template <class T> struct SparseOperand {
  T* a;
  Size a_row, a_step;
  uint16_t* list;
  Size list_ld;
  uint32_t *from, *to;
};

constexpr double parameter = 0.25;  // of leaky_relu, elu and softplus

// f(z) and its slope f'(z), and softmax(z), computed naively. activations.cpp
template <class T> Wide<T> naive_activation(int f, Wide<T> z, Wide<T>& slope);
template <class T> std::vector<Wide<T>> naive_softmax(const std::vector<Wide<T>>& z);

// Zeros, subnormal and large numbers, those near the limits of exp, infinities and NaN, with both
// signs.
template <class T> std::vector<T> extremes() {
  std::vector<T> all;
  const T largest = std::numeric_limits<T>::max(), tiny = std::numeric_limits<T>::denorm_min();
  for (T value : {T(0), tiny, std::numeric_limits<T>::min(), T(1e-6), T(1), T(17), T(40), T(87.3),
                  T(88.4), T(88.73), T(104), T(708.4), T(709.5), T(745.2), T(1e4), T(1e9), largest,
                  std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()})
    all.insert(all.end(), {value, -value});
  for (int sign = 0; sign < 2; ++sign) {  // NaNs with all bits of the payload set
    T value;
    std::memset(&value, 0xff, sizeof value);
    if (sign) value = std::copysign(value, T(1));
    all.push_back(value);
  }
  return all;
}

// Checks the kernels of one instruction set and dtype.
template <class T> struct Check {
  const Kernels& k;
  const Size width;
  const char* dtype;

  explicit Check(const Kernels& kernels)
      : k(kernels), width(kernels.width), dtype(sizeof(T) == 4 ? "float32" : "float64") {}

  // Says which call follows, for failure messages.
  __attribute__((format(printf, 3, 4))) void at(const char* kernel, const char* format, ...) {
    const int used = std::snprintf(where, sizeof where, "%s %s %s, operands %s at a guard page, ",
                                   k.isa, dtype, kernel, guard_side == ENDS ? "end" : "begin");
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(where + used, sizeof where - size_t(used), format, arguments);
    va_end(arguments);
    ++calls;
  }

  // n rounded up to whole vectors.
  Size up(Size n) const { return (n + width - 1) / width * width; }
  // Leading dimensions as in the core: whole vectors, and for every other variant one vector more.
  Size padded(Size n, Size variant) const { return up(n) + (variant % 2 ? width : 0); }

  // (m, ld): rows of n integers, with zeros up to a whole vector (unless pads is false) and poison
  // after.
  T* matrix(Operand& o, const char* name, Size m, Size n, Size ld, uint32_t salt,
            bool pads = true) {
    const Size columns = pads ? up(n) : n;
    T* to = o.place<T>(name, (m - 1) * ld + columns);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < columns; ++j) to[i * ld + j] = j < n ? T(integer(i, j, salt)) : T(0);
    return to;
  }

  // (m, ld): multiples of ``step`` from −8·step to 8·step; NaN in the pads, which may hold
  // anything.
  T* reals(Operand& o, const char* name, Size m, Size n, Size ld, uint32_t salt, T step = T(0.75)) {
    T* to = o.place<T>(name, m * ld);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < ld; ++j) to[i * ld + j] = j < n ? step * T(integer(i, j, salt)) : T(NAN);
    return to;
  }

  // products.cpp
  void check_products();
  void matmul(Size m, Size n, Size depth, Size variant);
  void matmul_narrow(Size m, Size n, Size depth, Size variant);
  void order_of_sums(Size m, Size n, Size depth);
  T* initial_c(Size m, Size n, Size ldc, int finish, uint32_t salt);
  void check_product(const T* c, Size ldc, Size m, Size n, int finish, const Step& step,
                     uint32_t salt_bias, uint32_t salt_start, bool pads);
  std::vector<double> product;  // (m, n), the product that check_product expects
  static constexpr Step sgd = {0.5, 0.25, 0, 0, 0, 0, 0, 0, 0};  // exact in float32, too

  // lanes.cpp
  void check_lanes();
  void lanes(Size m, Size n, Size depth, Size variant, bool tiny);

  // marked.cpp
  void check_marked();
  void narrow_marked(Size m, Size n, Size depth, Size variant);
  void gradient_marked(Size m, Size n, Size depth, Size variant);
  void order_of_marked_sums(Size m, Size n, Size depth);
  T* marked_rows(Operand& o, Operand& marks_of, Size m, Size n, Size ld, Size variant, T other,
                 uint64_t*& marks);
  static bool is_marked(const uint64_t* marks, Size words, Size i, Size v) {
    return marks[i * words + v / 64] >> v % 64 & 1;
  }

  // sparse.cpp
  void check_sparse();
  void find_nonzero(Size m, Size n, Size variant);
  void matmul_sparse(Size m, Size n, Size depth, Size variant);
  void sparse_adam(const SparseOperand<T>& s, const T* b, Size ldb, Size m, Size n, Size ldc);
  void matmul_scatter(Size m, Size n, Size depth, Size variant);
  void no_signed_zeros(Size m, Size n, Size depth, Size variant);
  SparseOperand<T> sparse_operand(Size m, Size depth, Size a_row, Size a_step, Size list_ld,
                                  Size variant);

  // rows.cpp
  void check_rows();
  void transpose(Size m, Size n, Size variant);
  void column_sum(Size m, Size n, Size variant);
  template <class S> void gather_from(int source, Size m, Size n, Size variant);
  template <class S> void gather_standardized_from(int source, Size m, Size n, Size variant);
  template <class S> void within_bounds(int source, Size m, Size n, Size variant);
  void gather(Size m, Size n, Size variant);
  void encode_and_decode(const CodeKernels& coder, Size m, Size n, Size variant);
  void copy_far(Size m, Size n, Size variant);
  void square_sum(Size m, Size n, Size variant);
  void multiply(Size m, Size n, Size variant);
  void multiply_keeping(Size m, Size n, Size variant);
  void add(Size m, Size n, Size variant);
  void normalize(Size m, Size n, Size variant);
  void normalize_columns(Size m, Size n, Size variant);

  // activations.cpp
  void check_activations();
  void activate(Size m, Size n, Size variant);
  void times_slope(Size m, Size n, Size variant);
  void extreme_values();

  // losses.cpp
  void check_losses();
  void loss(int which, int output, Size m, Size n, Size variant);
  void losses(Size m, Size n, Size variant);
  void extreme_outputs();

  // random.cpp
  void check_random();
  void philox(Size blocks);
  void dropout(Size m, Size n, Size variant);
  void noise(Size m, Size n, Size variant);

  // optimizers.cpp
  void check_optimizers();
  void penalize(Size vectors);
  void norms(Size m, Size n, Size variant);
  void update(Size vectors);
  void average(Size vectors);

  void check_codes(const CodeKernels& coder);
  void check_all();
};

void check_bf16(const Kernels& kernels, const Bf16Kernels& bf16);
void check_team(const Kernels* k);
