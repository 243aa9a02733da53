// Checks every kernel of every instruction set that this machine has, and the team of threads.
//
//   kernels_test [--short] [--team] [--isa NAME] …
//
// --short takes fewer pairs of sizes, --team leaves out all but the team.
// Each result is compared with naive loops in a wider type, at all sizes from 1 to 70. It lies
// between pages that nothing may touch: in one pass it ends where its pages end, in the other it
// begins where they begin, so that one element too many is a fault. Operands that a kernel only
// reads are write-protected. Whatever a kernel may not use is NaN, and to valgrind undefined.
// Matrix products are of small integers, whose sums are exact in any order: they have to be equal.

#include "kernels.h"
#include "team.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
constexpr bool address_sanitizer = true;
#else
constexpr bool address_sanitizer = false;
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

using namespace pynn;
using Size = std::ptrdiff_t;

static_assert(sizeof(Kernels) == sizeof(void*) + 4 * sizeof(int) + 20 * sizeof(void (*)()),
              "a kernel was added to or taken from the table: do the same in check_all");
static_assert(sizeof(Bf16Kernels) == 5 * sizeof(void (*)()), "the same in CheckBf16");

namespace {

constexpr Size most = 70;  // the largest size of any dimension
bool brief = false, team_alone = false;
long long calls = 0, values = 0;

// --- Saying what went wrong ----------------------------------------------------------------------

char where[400];

[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: ", where);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::_Exit(1);
}

// --- Operands between guard pages -----------------------------------------------------------------

enum Side { ENDS, BEGINS } side = ENDS;

// A byte that valgrind takes for undefined, whatever it holds.
uint8_t fog() {
  static const volatile uint8_t* bytes = (const uint8_t*)std::malloc(64);
  return bytes[17];
}

// A NaN of which the lowest byte is undefined, so that a decision made by it is found.
template <class T> T poison() {
  T value;
  if constexpr (sizeof(T) == 4) {
    const uint32_t bits = 0x7fd5a500u | fog();
    std::memcpy(&value, &bits, sizeof value);
  } else if constexpr (sizeof(T) == 8) {
    const uint64_t bits = 0x7ffd5a5a5a5a5a00u | fog();
    std::memcpy(&value, &bits, sizeof value);
  } else {
    value = T(~T(0) ^ (fog() & 3));
  }
  return value;
}
template <class T> bool untouched(T value) {
  std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t> bits;
  std::memcpy(&bits, &value, sizeof value);
  return sizeof(T) == 8 ? uint64_t(bits) >> 8 == 0x7ffd5a5a5a5a5au : bits >> 8 == 0x7fd5a5u;
}

class Operand {
 public:
  Operand() {
    page_ = size_t(sysconf(_SC_PAGESIZE));
    take(usual);
  }

  // Room for count elements, all poison, at a guard page.
  template <class T> T* place(const char* name, Size count) {
    if (read_only_) mprotect(map_ + page_, room_, PROT_READ | PROT_WRITE);
    read_only_ = false;
    name_ = name;
    bytes_ = size_t(count) * sizeof(T);
    if (bytes_ > room_ || (room_ > usual + page_ && bytes_ <= usual)) {
      ASAN_UNPOISON_MEMORY_REGION(map_ + page_, room_);
      munmap(map_, room_ + 2 * page_);
      take(bytes_ > usual ? bytes_ : usual);
    }
    char* first = map_ + page_;
    at_ = side == ENDS ? first + room_ - bytes_ : first;
    ASAN_UNPOISON_MEMORY_REGION(first, room_);
    ASAN_POISON_MEMORY_REGION(first, size_t(at_ - first));
    ASAN_POISON_MEMORY_REGION(at_ + bytes_, size_t(first + room_ - at_) - bytes_);
    T* to = (T*)at_;
    std::fill(to, to + count, poison<T>());
    return to;
  }

  // Read only, until the next place.
  void protect() {
    if (!read_only_) mprotect(map_ + page_, room_, PROT_READ);
    read_only_ = true;
  }

  // What an access to the address did wrong, if it is of this operand.
  bool explain(const char* address, char* text, size_t size) const {
    if (address < map_ || address >= map_ + room_ + 2 * page_ || !at_) return false;
    if (address >= at_ + bytes_)
      std::snprintf(text, size, "touches %s, of %zu bytes, %td bytes past its end", name_, bytes_,
                    address - (at_ + bytes_));
    else if (address < at_)
      std::snprintf(text, size, "touches %s, of %zu bytes, %td bytes before its start", name_,
                    bytes_, at_ - address);
    else
      std::snprintf(text, size, "writes into %s, which it may only read, at byte %td", name_,
                    address - at_);
    return true;
  }

 private:
  static constexpr size_t usual = 128 * 1024;

  void take(size_t room) {
    room_ = (room + page_ - 1) / page_ * page_;
    map_ = (char*)mmap(nullptr, room_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map_ == MAP_FAILED) fail("no memory");
    mprotect(map_ + page_, room_, PROT_READ | PROT_WRITE);
  }

  size_t page_, room_ = 0, bytes_ = 0;
  char *map_, *at_ = nullptr;
  const char* name_ = "";
  bool read_only_ = false;
};

Operand* operand;  // ten of them

void on_fault(int number, siginfo_t* info, void*) {
  char text[300] = "touches memory that is none of its operands";
  for (int i = 0; i < 10; ++i)
    if (operand[i].explain((const char*)info->si_addr, text, sizeof text)) break;
  char line[800];
  const int length = std::snprintf(line, sizeof line, "%s: %s (signal %d)\n", where, text, number);
  if (write(2, line, size_t(length)) < 0) std::_Exit(4);
  std::_Exit(3);
}

// --- Values, and how they are compared -------------------------------------------------------------

template <class T> using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

// Reproducible integers from -8 to 8.
int small(Size i, Size j, uint32_t salt) {
  uint32_t h = uint32_t(i) * 0x9e3779b1u ^ uint32_t(j) * 0x85ebca77u ^ salt * 0xc2b2ae3du;
  h = (h ^ (h >> 15)) * 0x2c1b3c6du;
  return int((h ^ (h >> 13)) % 17) - 8;
}

template <class T> T epsilon() { return std::numeric_limits<T>::epsilon(); }

template <class T> void equal(T got, double want, const char* name, Size i, Size j) {
  ++values;
  if (!(double(got) == want))
    fail("%s[%td, %td] is %.17g, expected %.17g", name, i, j, double(got), want);
}
template <class T> void zero(T got, const char* name, Size i, Size j) {
  ++values;
  if (!(got == 0)) fail("the pad %s[%td, %td] is %.17g, expected 0", name, i, j, double(got));
}
template <class T> void left(T got, const char* name, Size i, Size j) {
  ++values;
  if (!untouched(got)) fail("%s[%td, %td] was written: %.17g", name, i, j, double(got));
}
// Within so many units of the last place of scale.
template <class T, class U>
void close(U got, Wide<T> want, Wide<T> scale, const char* name, Size i, Size j) {
  ++values;
  if (std::isnan(want) ? std::isnan(got)
                       : std::fabs(Wide<T>(got) - want) <= Wide<T>(32 * epsilon<T>()) * scale)
    return;
  fail("%s[%td, %td] is %.17g, expected %.17g", name, i, j, double(got), double(want));
}

template <class T> struct Check {
  const Kernels& k;
  const Size width;
  const char* dtype;

  explicit Check(const Kernels& kernels)
      : k(kernels), width(kernels.width), dtype(sizeof(T) == 4 ? "float32" : "float64") {}

  __attribute__((format(printf, 3, 4))) void at(const char* kernel, const char* format, ...) {
    const int used =
        std::snprintf(where, sizeof where, "%s %s %s, operands %s at a guard page, ", k.isa, dtype,
                      kernel, side == ENDS ? "end" : "begin");
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(where + used, sizeof where - size_t(used), format, arguments);
    va_end(arguments);
    ++calls;
  }

  Size up(Size n) const { return (n + width - 1) / width * width; }
  // The two leading dimensions of the core: whole vectors, and one more where that is a multiple of
  // 1 KiB.
  Size padded(Size n, Size which) const { return up(n) + (which % 2 ? width : 0); }

  // Rows of small integers with zeros in the pads of the last vector, and poison past it.
  T* matrix(Operand& o, const char* name, Size m, Size n, Size ld, uint32_t salt, bool pads = true) {
    const Size columns = pads ? up(n) : n;
    T* to = o.place<T>(name, (m - 1) * ld + columns);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < columns; ++j) to[i * ld + j] = j < n ? T(small(i, j, salt)) : T(0);
    return to;
  }

  // --- Matrix products -----------------------------------------------------------------------------

  std::vector<double> product;

  // c as left by a kernel that ends with finish, in place of start (rows of small integers of salt).
  void check_product(const T* c, Size ldc, Size m, Size n, int finish, const Step& step,
                     uint32_t salt_bias, uint32_t salt_start, bool pads) {
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        const double sum = product[size_t(i * n + j)], start = small(i, j, salt_start);
        const double want = finish == FINISH_STORE  ? sum
                            : finish == FINISH_BIAS ? sum + small(0, j, salt_bias)
                            : finish == FINISH_ADD  ? sum + start
                                                    : start - step.rate * (sum + step.l2 * start);
        equal(c[i * ldc + j], want, "c", i, j);
      }
      for (Size j = n; pads && j < up(n); ++j) zero(c[i * ldc + j], "c", i, j);
      for (Size j = up(n); i + 1 < m && j < ldc; ++j) left(c[i * ldc + j], "c", i, j);
    }
  }

  T* before(Size m, Size n, Size ldc, int finish, uint32_t salt) {
    if (finish == FINISH_ADD || finish == FINISH_SGD) return matrix(operand[2], "c", m, n, ldc, salt);
    return operand[2].place<T>("c", (m - 1) * ldc + up(n));
  }

  // Exact in float32 as well.
  static constexpr Step sgd = {0.5, 0.25, 0, 0, 0, 0};

  void matmul(Size m, Size n, Size depth, Size turn) {
    product.assign(size_t(m * n), 0);
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q)
        for (Size j = 0; j < n; ++j) product[size_t(i * n + j)] += small(i, q, 1) * small(q, j, 2);
    for (int by_column = 0; by_column < 2; ++by_column) {
      const Size across = by_column ? m : depth, down = by_column ? depth : m;
      const Size lda = turn % 3 == 0 ? across : turn % 3 == 1 ? padded(across, turn) : across + 3;
      T* a = operand[0].place<T>("a", (down - 1) * lda + across);
      for (Size i = 0; i < m; ++i)
        for (Size q = 0; q < depth; ++q)
          a[by_column ? q * lda + i : i * lda + q] = T(small(i, q, 1));
      // Rows without pads, as predictions for a few rows read the weights: a vector that begins in
      // one goes on into the next.
      const bool bare = turn % 5 == 2 && n >= width;
      const Size ldb = bare ? n : padded(n, turn / 3), ldc = padded(n, turn / 2);
      T* b = operand[1].place<T>("b", (depth - 1) * ldb + up(n));
      for (Size q = 0; q < depth; ++q) {
        for (Size j = 0; j < n; ++j) b[q * ldb + j] = T(small(q, j, 2));
        for (Size j = n; !bare && j < up(n); ++j) b[q * ldb + j] = 0;
      }
      T* bias = matrix(operand[3], "bias", 1, n, n, 3);
      for (int i : {0, 1, 3}) operand[i].protect();
      for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
        T* c = before(m, n, ldc, finish, 4);
        at("matmul", "m=%td n=%td k=%td lda=%td ldb=%td ldc=%td by_column=%d finish=%d", m, n, depth,
           lda, ldb, ldc, by_column, finish);
        k.matmul(a, lda, by_column, b, ldb, c, ldc, m, n, depth, finish,
                 finish == FINISH_BIAS ? bias : nullptr, finish == FINISH_SGD ? &sgd : nullptr);
        check_product(c, ldc, m, n, finish, sgd, 3, 4, !bare);
      }
    }
  }

  void matmul_narrow(Size m, Size n, Size depth, Size turn) {
    const Size ldx = padded(depth, turn), ldw = padded(depth, turn / 2), ldz = padded(n, turn / 3);
    const T* x = matrix(operand[0], "x", m, depth, ldx, 1);
    const T* wt = matrix(operand[1], "wt", n, depth, ldw, 2);
    T* bias = operand[3].place<T>("bias", n);
    for (Size j = 0; j < n; ++j) bias[j] = T(small(0, j, 3));
    for (int i : {0, 1, 3}) operand[i].protect();
    T* z = operand[2].place<T>("z", (m - 1) * ldz + n);
    at("matmul_narrow", "m=%td n=%td k=%td ldx=%td ldw=%td ldz=%td", m, n, depth, ldx, ldw, ldz);
    k.matmul_narrow(x, ldx, wt, ldw, z, ldz, m, n, depth, bias);
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        double want = small(0, j, 3);
        for (Size q = 0; q < depth; ++q) want += small(i, q, 1) * small(j, q, 2);
        equal(z[i * ldz + j], want, "z", i, j);
      }
      for (Size j = n; i + 1 < m && j < ldz; ++j) left(z[i * ldz + j], "z", i, j);
    }
  }

  // Rows of small integers, some vectors of which are not marked, and filled with another value.
  T* marked_rows(Operand& o, Operand& marks_of, Size m, Size n, Size ld, Size turn, T other,
                 uint64_t*& marks) {
    T* x = matrix(o, "x", m, n, ld, 1);
    const Size words = (ld / width + 63) / 64;
    marks = marks_of.place<uint64_t>("marks", m * words);
    std::fill(marks, marks + m * words, 0);
    for (Size i = 0; i < m; ++i)
      for (Size v = 0; v < up(n) / width; ++v)
        if (small(i, v, 5) > Size(turn % 19) - 10)
          marks[i * words + v / 64] |= uint64_t(1) << v % 64;
        else
          std::fill_n(x + i * ld + v * width, width, other);
    o.protect();
    marks_of.protect();
    return x;
  }

  static bool is_marked(const uint64_t* marks, Size words, Size i, Size v) {
    return marks[i * words + v / 64] >> v % 64 & 1;
  }

  void narrow_marked(Size m, Size n, Size depth, Size turn) {
    if (n >= width) return;
    const Size ldx = padded(depth, turn), ldw = padded(depth, turn / 2), ldz = padded(n, turn / 3);
    uint64_t* marks;
    const T* x = marked_rows(operand[0], operand[4], m, depth, ldx, turn, T(0), marks);
    const T* wt = matrix(operand[1], "wt", n, depth, ldw, 2);
    T* bias = operand[3].place<T>("bias", n);
    for (Size j = 0; j < n; ++j) bias[j] = T(small(0, j, 3));
    for (int i : {1, 3}) operand[i].protect();
    T* z = operand[2].place<T>("z", (m - 1) * ldz + n);
    at("narrow_marked", "m=%td n=%td k=%td ldx=%td ldw=%td ldz=%td", m, n, depth, ldx, ldw, ldz);
    k.narrow_marked(x, ldx, marks, wt, ldw, z, ldz, m, n, depth, bias);
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        double want = small(0, j, 3);
        for (Size q = 0; q < depth; ++q)
          if (is_marked(marks, (ldx / width + 63) / 64, i, q / width))
            want += small(i, q, 1) * small(j, q, 2);
        equal(z[i * ldz + j], want, "z", i, j);
      }
      for (Size j = n; i + 1 < m && j < ldz; ++j) left(z[i * ldz + j], "z", i, j);
    }
  }

  void gradient_marked(Size m, Size n, Size depth, Size turn) {
    if (m >= width) return;
    const Size ldd = m + turn % 3, ldx = padded(n, turn), ldc = padded(n, turn / 2);
    const Size start = turn % 5 == 0 ? up(n) / width / 3 * width : 0;
    const Size stop = turn % 7 == 0 ? std::max(start, up(n) / width / 2 * width) : n;
    if (start >= stop) return;
    uint64_t* marks;
    const T* x = marked_rows(operand[0], operand[4], depth, n, ldx, turn, poison<T>(), marks);
    T* d = operand[1].place<T>("d", (depth - 1) * ldd + m);
    for (Size q = 0; q < depth; ++q)
      for (Size i = 0; i < m; ++i) d[q * ldd + i] = T(small(q, i, 2));
    operand[1].protect();
    for (int finish : {FINISH_STORE, FINISH_ADD, FINISH_SGD}) {
      T* c = before(m, n, ldc, finish, 4);
      at("gradient_marked", "m=%td n=%td k=%td ldd=%td ldx=%td ldc=%td start=%td stop=%td finish=%d", m,
         n, depth, ldd, ldx, ldc, start, stop, finish);
      k.gradient_marked(d, ldd, x, ldx, marks, c, ldc, m, start, stop, depth, finish,
                        finish == FINISH_SGD ? &sgd : nullptr);
      for (Size i = 0; i < m; ++i)
        for (Size j = 0; j < up(n); ++j) {
          const double old = j < n ? small(i, j, 4) : 0;
          if (j < start || j >= up(stop)) {
            if (finish == FINISH_STORE)
              left(c[i * ldc + j], "c", i, j);
            else
              equal(c[i * ldc + j], old, "c", i, j);
            continue;
          }
          double sum = 0;
          for (Size q = 0; j < n && q < depth; ++q)
            if (is_marked(marks, (ldx / width + 63) / 64, q, j / width))
              sum += small(q, i, 2) * small(q, j, 1);
          equal(c[i * ldc + j],
                finish == FINISH_STORE ? sum
                : finish == FINISH_ADD ? sum + old
                                       : old - sgd.rate * (sum + sgd.l2 * old),
                "c", i, j);
        }
    }
  }

  // The bits of an element do not depend on the rows and columns that come with it.
  void bits(Size m, Size n, Size depth) {
    const Size ld = up(n), lda = up(depth);
    T* a = matrix(operand[0], "a", m, depth, lda, 1);
    T* b = matrix(operand[1], "b", depth, n, ld, 2);
    T* w = matrix(operand[3], "wt", n, depth, lda, 2);
    T* bias = operand[5].place<T>("bias", up(n));
    std::fill(bias, bias + up(n), T(0));
    // Thirds round: the order of the sum shows.
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q) a[i * lda + q] /= 3;
    for (Size q = 0; q < depth; ++q)
      for (Size j = 0; j < n; ++j) b[q * ld + j] /= 7, w[j * lda + q] /= 7;
    for (int i : {0, 1, 3, 5}) operand[i].protect();
    T* all = operand[2].place<T>("c", m * ld);
    T* one = operand[4].place<T>("one", ld);
    T* transposed = operand[6].place<T>("at", depth * up(m));
    at("matmul", "bits: m=%td n=%td k=%td", m, n, depth);
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
    at("matmul_narrow", "bits: m=%td n=%td k=%td", m, n, depth);
    k.matmul_narrow(a, lda, w, lda, all, ld, m, n, depth, bias);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j) {
        k.matmul_narrow(a + i * lda, lda, w + j * lda, lda, one, ld, 1, 1, depth, bias);
        equal(one[0], double(all[i * ld + j]), "z alone", i, j);
      }
  }

  // Which vectors of a row are not marked, and which row is beside it, makes no difference either.
  void bits_marked(Size m, Size n, Size depth) {
    const Size ld = up(depth), words = (ld / width + 63) / 64;
    T* x = matrix(operand[0], "x", m, depth, ld, 1);
    T* w = matrix(operand[1], "wt", n, depth, ld, 2);
    T* bias = operand[2].place<T>("bias", n);
    uint64_t* marks = operand[3].place<uint64_t>("marks", m * words);
    std::fill(marks, marks + m * words, 0);
    std::fill(bias, bias + n, T(0));
    for (Size j = 0; j < n; ++j)
      for (Size q = 0; q < depth; ++q) w[j * ld + q] /= 7;
    for (Size i = 0; i < m; ++i)
      for (Size v = 0; v < ld / width; ++v) {
        // Of every fourth row nothing is marked: it and its neighbour then go one by one.
        const bool lit = i % 4 && small(i, v, 5) > Size(i % 19) - 10;
        if (lit) marks[i * words + v / 64] |= uint64_t(1) << v % 64;
        for (Size q = v * width; q < (v + 1) * width; ++q) x[i * ld + q] *= T(lit) / 3;
      }
    for (int i : {0, 1, 2, 3}) operand[i].protect();
    T* all = operand[4].place<T>("z", m * n);
    T* one = operand[5].place<T>("one", n);
    at("narrow_marked", "bits: m=%td n=%td k=%td", m, n, depth);
    k.narrow_marked(x, ld, marks, w, ld, all, n, m, n, depth, bias);
    for (Size i = 0; i < m; ++i) {
      k.narrow_marked(x + i * ld, ld, marks + i * words, w, ld, one, n, 1, n, depth, bias);
      for (Size j = 0; j < n; ++j) equal(one[j], double(all[i * n + j]), "z alone", i, j);
    }
  }

  // --- Products with a matrix of many zeros ----------------------------------------------------------

  void find_nonzero(Size m, Size n, Size turn) {
    const Size ldx = padded(n, turn), part = turn % 3 == 0 ? width : turn % 3 == 1 ? 64 : 128;
    const Size beside = std::max(width, Size(8));
    const Size list_ld = n + beside + turn % 4, starts_ld = m + turn % 3, parts = (n + part - 1) / part;
    const T specials[] = {T(-0.0), std::numeric_limits<T>::denorm_min(),
                          std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()};
    T* x = matrix(operand[0], "x", m, n, ldx, 1);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j) {
        T& value = x[i * ldx + j];
        if (small(i, j, 5) > Size(turn % 16) - 8) value = 0;
        if (small(i, j, 6) == 8) value = specials[(i + j) % 4];
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

  void matmul_sparse(Size m, Size n, Size depth, Size turn) {
    const bool forward = turn % 2;  // rows of x, or columns of it
    const Size a_row = forward ? depth + turn % 4 : 1, a_step = forward ? 1 : m + turn % 4;
    const Size list_ld = depth + turn % 3, ldb = padded(n, turn / 3), ldc = padded(n, turn / 2);
    auto* list = operand[4].place<uint16_t>("list", (m - 1) * list_ld + depth);
    auto* from = operand[5].place<uint32_t>("from", m);
    auto* to = operand[6].place<uint32_t>("to", m);
    T* a = operand[0].place<T>("a", (m - 1) * a_row + (depth - 1) * a_step + 1);
    product.assign(size_t(m * n), 0);
    for (Size i = 0; i < m; ++i) {
      uint32_t count = 0;
      for (Size q = 0; q < depth; ++q) {
        if (small(i, q, 5) > Size(turn % 16) - 8) continue;
        list[i * list_ld + count++] = uint16_t(q);
      }
      from[i] = count / 4;
      to[i] = count - count / 8;
      for (uint32_t u = from[i]; u < to[i]; ++u) {
        const Size q = list[i * list_ld + u];
        a[i * a_row + q * a_step] = T(small(i, q, 1));
        for (Size j = 0; j < n; ++j) product[size_t(i * n + j)] += small(i, q, 1) * small(q, j, 2);
      }
    }
    const T* b = matrix(operand[1], "b", depth, n, ldb, 2);
    const T* bias = matrix(operand[3], "bias", 1, n, n, 3);
    for (int i : {0, 1, 3, 4, 5, 6}) operand[i].protect();
    for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
      T* c = before(m, n, ldc, finish, 4);
      at("matmul_sparse", "m=%td n=%td k=%td a_row=%td a_step=%td list_ld=%td ldb=%td ldc=%td finish=%d",
         m, n, depth, a_row, a_step, list_ld, ldb, ldc, finish);
      k.matmul_sparse(a, a_row, a_step, list, list_ld, from, to, b, ldb, c, ldc, m, n, finish,
                      finish == FINISH_BIAS ? bias : nullptr, finish == FINISH_SGD ? &sgd : nullptr);
      check_product(c, ldc, m, n, finish, sgd, 3, 4, true);
    }
    if (turn % 8 != 0 && turn % 8 != 3) return;
    for (int finish : {FINISH_ADAM, FINISH_ADD_ADAM}) {
      const bool adds = finish == FINISH_ADD_ADAM;
      Step adam = {0.01, 0.5, 0.001, 0.9, 0.99, 1e-5, 0, 0, 0};
      T* c = before(m, n, ldc, adds ? FINISH_ADD : FINISH_STORE, 4);
      k.matmul_sparse(a, a_row, a_step, list, list_ld, from, to, b, ldb, c, ldc, m, n,
                      adds ? FINISH_ADD : FINISH_STORE, nullptr, nullptr);
      // What the update makes of it afterwards, and then what both make at once.
      const Size size = (m - 1) * ldc + up(n);
      std::vector<T> g(c, c + size), kept[3];
      T* of[3];
      for (int v = 0; v < 3; ++v) {
        of[v] = matrix(operand[7 + v], v == 0 ? "w" : v == 1 ? "s1" : "s2", m, n, ldc, 6 + v);
        for (Size i = 0; v == 2 && i < m; ++i)
          for (Size j = 0; j < n; ++j) of[v][i * ldc + j] = std::fabs(of[v][i * ldc + j]);
        kept[v].assign(of[v], of[v] + size);
      }
      for (Size i = 0; i < m; ++i)
        k.update(RULE_ADAM, &adam, &kept[0][size_t(i * ldc)], &g[size_t(i * ldc)], &kept[1][size_t(i * ldc)],
                 &kept[2][size_t(i * ldc)], up(n));
      c = before(m, n, ldc, adds ? FINISH_ADD : FINISH_STORE, 4);
      operand[2].protect();
      adam.w = (char*)of[0] - (char*)c, adam.s1 = (char*)of[1] - (char*)c, adam.s2 = (char*)of[2] - (char*)c;
      at("matmul_sparse", "m=%td n=%td k=%td a_row=%td a_step=%td list_ld=%td ldb=%td ldc=%td finish=%d",
         m, n, depth, a_row, a_step, list_ld, ldb, ldc, finish);
      k.matmul_sparse(a, a_row, a_step, list, list_ld, from, to, b, ldb, c, ldc, m, n, finish, nullptr, &adam);
      for (int v = 0; v < 3; ++v)
        for (Size i = 0; i < m; ++i) {
          for (Size j = 0; j < up(n); ++j)
            equal(of[v][i * ldc + j], double(kept[v][size_t(i * ldc + j)]), v == 0 ? "w" : "state", i, j);
          for (Size j = up(n); i + 1 < m && j < ldc; ++j) left(of[v][i * ldc + j], "w or state", i, j);
        }
    }
  }

  // Where sums have become too small for T and all that is left of them is a sign.
  void no_signed_zeros(Size m, Size n, Size depth, Size turn) {
    const Size lda = padded(depth, turn), ldb = padded(n, turn), ldc = padded(n, turn / 2);
    const Size ld = depth + std::max(width, Size(8));
    T* a = matrix(operand[0], "a", m, depth, lda, 1);
    T* b = matrix(operand[1], "b", depth, n, ldb, 2);
    const T tiny = std::sqrt(std::numeric_limits<T>::denorm_min()) / 4;
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q)
        a[i * lda + q] = small(i, q, 5) > 0 ? T(0) : T(small(i, q, 1)) * tiny;
    for (Size q = 0; q < depth; ++q)
      for (Size j = 0; j < n; ++j) b[q * ldb + j] = T(small(q, j, 2)) * tiny;
    auto* list = operand[4].place<uint16_t>("list", m * ld);
    auto* starts = operand[6].place<uint32_t>("starts", 2 * m);
    at("no_signed_zeros", "m=%td n=%td k=%td", m, n, depth);
    k.find_nonzero(a, lda, m, depth, 128, list, ld, starts, m);
    T* dense = matrix(operand[2], "dense", m, n, ldc, 3);
    k.matmul(a, lda, 0, b, ldb, dense, ldc, m, n, depth, FINISH_STORE, nullptr, nullptr);
    std::vector<T> found(size_t(m * n));
    for (Size i = 0; i < m; ++i) std::memcpy(&found[size_t(i * n)], dense + i * ldc, size_t(n) * sizeof(T));
    T* c = matrix(operand[2], "c", m, n, ldc, 3);
    k.matmul_sparse(a, lda, 1, list, ld, starts, starts + m, b, ldb, c, ldc, m, n, FINISH_STORE, nullptr,
                    nullptr);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j)
        if (std::memcmp(c + i * ldc + j, &found[size_t(i * n + j)], sizeof(T)))
          fail("(%td, %td): %g and %g", i, j, double(c[i * ldc + j]), double(found[size_t(i * n + j)]));
  }

  void matmul_scatter(Size m, Size n, Size depth, Size turn) {
    const Size lda = depth + turn % 4, list_ld = depth + turn % 3;
    const Size ldd = padded(n, turn / 3), ldc = padded(n, turn / 2);
    auto* list = operand[4].place<uint16_t>("list", (m - 1) * list_ld + depth);
    auto* from = operand[5].place<uint32_t>("from", m);
    auto* to = operand[6].place<uint32_t>("to", m);
    T* a = operand[0].place<T>("a", (m - 1) * lda + depth);
    const double scale = turn % 2 ? 1 : -0.5;
    product.assign(size_t(depth * n), 0);
    for (Size i = 0; i < m; ++i) {
      uint32_t count = 0;
      for (Size q = 0; q < depth; ++q)
        if (small(i, q, 5) <= Size(turn % 16) - 8) list[i * list_ld + count++] = uint16_t(q);
      from[i] = count / 4;
      to[i] = count - count / 8;
      for (uint32_t u = from[i]; u < to[i]; ++u) {
        const Size q = list[i * list_ld + u];
        a[i * lda + q] = T(small(i, q, 1));
        for (Size j = 0; j < n; ++j)
          product[size_t(q * n + j)] += scale * small(i, q, 1) * small(i, j, 2);
      }
    }
    const T* d = matrix(operand[1], "d", m, n, ldd, 2);
    for (int i : {0, 1, 4, 5, 6}) operand[i].protect();
    T* c = before(depth, n, ldc, FINISH_ADD, 4);
    at("matmul_scatter", "m=%td n=%td k=%td lda=%td list_ld=%td ldd=%td ldc=%td scale=%g", m, n, depth,
       lda, list_ld, ldd, ldc, scale);
    k.matmul_scatter(a, lda, list, list_ld, from, to, d, ldd, c, ldc, m, n, scale);
    check_product(c, ldc, depth, n, FINISH_ADD, sgd, 3, 4, true);
  }

  // --- Moving ----------------------------------------------------------------------------------------

  void transpose(Size m, Size n, Size turn) {
    const Size lds = padded(n, turn), ldd = padded(m, turn / 2);
    T* src = operand[0].place<T>("src", (m - 1) * lds + up(n));
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; ++j) src[i * lds + j] = T(i * 100 + j + 1);
    operand[0].protect();
    T* dst = operand[1].place<T>("dst", (n - 1) * ldd + up(m));
    at("transpose", "m=%td n=%td lds=%td ldd=%td", m, n, lds, ldd);
    k.transpose(src, lds, dst, ldd, m, n);
    for (Size j = 0; j < n; ++j) {
      for (Size i = 0; i < m; ++i) equal(dst[j * ldd + i], double(i * 100 + j + 1), "dst", j, i);
      for (Size i = m; i < up(m); ++i) zero(dst[j * ldd + i], "dst", j, i);
      for (Size i = up(m); j + 1 < n && i < ldd; ++i) left(dst[j * ldd + i], "dst", j, i);
    }
  }

  void column_sum(Size m, Size n, Size turn) {
    const Size ldd = padded(n, turn);
    const T* d = matrix(operand[0], "d", m, n, ldd, 1);
    operand[0].protect();
    for (int add = 0; add < 2; ++add) {
      T* out = add ? matrix(operand[1], "out", 1, n, n, 2) : operand[1].place<T>("out", up(n));
      at("column_sum", "m=%td n=%td ldd=%td add=%d", m, n, ldd, add);
      k.column_sum(d, ldd, m, n, out, add);
      for (Size j = 0; j < n; ++j) {
        double want = add ? small(0, j, 2) : 0;
        for (Size i = 0; i < m; ++i) want += small(i, j, 1);
        equal(out[j], want, "out", 0, j);
      }
      for (Size j = n; j < up(n); ++j) zero(out[j], "out", 0, j);
    }
  }

  // The data set is the user's: rows and columns in any order, at any address, and not a byte more.
  template <class S> void gather_from(int source, Size m, Size n, Size turn) {
    const Size item = sizeof(S), rows = m + 2;
    const Size step = turn % 4 == 0 ? item : turn % 4 == 1 ? -item : turn % 4 == 2 ? 2 * item : item + 1;
    const Size span = (n - 1) * std::abs(step) + item;
    const Size row = (turn % 3 == 0 ? 1 : -1) * (span + (turn % 5 ? 1 : 0)), ldo = padded(n, turn);
    const auto element = [&](Size i, Size j) {
      return small(i, j / width, 9) < Size(turn % 19) - 9 ? -8 : small(i, j, 1);
    };
    const bool bytes_are_shifted = std::is_same_v<S, uint8_t>;
    char* bytes = operand[0].place<char>("x", (rows - 1) * std::abs(row) + span);
    char* x = bytes + (row < 0 ? (rows - 1) * -row : 0) + (step < 0 ? span - item : 0);
    for (Size i = 0; i < rows; ++i)
      for (Size j = 0; j < n; ++j) {
        const S value = S((element(i, j) + 8) * (bytes_are_shifted ? 15 : 1));
        std::memcpy(x + i * row + j * step, &value, sizeof value);
      }
    operand[0].protect();
    uint32_t* order = nullptr;
    if (turn % 2) {
      order = operand[1].place<uint32_t>("order", m);
      for (Size i = 0; i < m; ++i) order[i] = uint32_t((i * 7 + 3) % rows);
      operand[1].protect();
    }
    T* out = operand[2].place<T>("out", (m - 1) * ldo + up(n));
    const uint32_t* next = order && turn % 4 == 1 ? order + m / 2 : nullptr;
    at("gather", "source=%d m=%td n=%td row_stride=%td col_stride=%td order=%d ldo=%td", source, m, n,
       row, step, order != nullptr, ldo);
    const Size words = (ldo / width + 63) / 64;
    uint64_t* marks = turn % 3 ? operand[3].place<uint64_t>("marks", m * words) : nullptr;
    k.gather(source, x, row, step, order, m, n, out, ldo, next, next ? m - m / 2 : 0, marks);
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        const int value = element(order ? Size(order[i]) : i, j) + 8;
        const T want = source == SOURCE_UINT8 ? T(value * 15) * T(1.0 / 255) : T(value);
        equal(out[i * ldo + j], double(want), "out", i, j);
      }
      for (Size j = n; j < up(n); ++j) zero(out[i * ldo + j], "out", i, j);
      for (Size j = up(n); i + 1 < m && j < ldo; ++j) left(out[i * ldo + j], "out", i, j);
      for (Size v = 0; marks && v < words * 64; ++v) {
        bool lit = false;
        for (Size j = v * width; j < std::min((v + 1) * width, n); ++j) lit |= out[i * ldo + j] != 0;
        if (is_marked(marks, words, i, v) != lit) fail("the mark of vector %td of row %td is %d", v, i, !lit);
      }
    }
  }

  void gather(Size m, Size n, Size turn) {
    gather_from<uint8_t>(SOURCE_UINT8, m, n, turn);
    gather_from<float>(SOURCE_FLOAT32, m, n, turn);
    gather_from<double>(SOURCE_FLOAT64, m, n, turn);
  }

  // --- Activations -----------------------------------------------------------------------------------

  using W = Wide<T>;

  // f(z) and f'(z).
  static W naive(int f, W z, W& slope) {
    switch (f) {
      case SIGMOID: {
        const W a = 1 / (1 + std::exp(-z));
        slope = a * (1 - a);
        return a;
      }
      case TANH: {
        const W a = std::tanh(z);
        slope = 1 - a * a;
        return a;
      }
      case RELU: slope = z > 0; return z > 0 ? z : 0;
      case LEAKY_RELU: slope = z > 0 ? W(1) : W(0.01); return z * slope;
      case ELU: slope = z > 0 ? W(1) : std::exp(z); return z > 0 ? z : std::expm1(z);
      case GELU: {
        const W cdf = std::erfc(-z / std::sqrt(W(2))) / 2;
        slope = cdf + z * std::exp(-z * z / 2) / std::sqrt(8 * std::atan(W(1)));
        return z * cdf;
      }
      case SOFTPLUS:
        slope = 1 / (1 + std::exp(-z));
        return (z > 0 ? z : 0) + std::log1p(std::exp(-std::fabs(z)));
      case EXP: return slope = std::exp(z);
      default: slope = 1; return z;
    }
  }

  static std::vector<W> naive_softmax(const std::vector<W>& z) {
    std::vector<W> p(z.size());
    const W largest = *std::max_element(z.begin(), z.end());
    W total = 0;
    for (size_t j = 0; j < z.size(); ++j) total += p[j] = std::exp(z[j] - largest);
    for (W& value : p) value /= total;
    return p;
  }

  // Reals from -6 to 6; NaN in the pads, which may hold anything.
  T* reals(Operand& o, const char* name, Size m, Size n, Size ld, uint32_t salt, T step = T(0.75)) {
    T* to = o.place<T>(name, m * ld);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < ld; ++j) to[i * ld + j] = j < n ? step * T(small(i, j, salt)) : T(NAN);
    return to;
  }

  void activate(Size m, Size n, Size turn) {
    const Size ld = padded(n, turn);
    for (int f = IDENTITY; f <= EXP; ++f)
      for (int sloped = 0; sloped < 2; ++sloped) {
        T* z = reals(operand[0], "z", m, n, ld, 1);
        T* slope = sloped ? operand[1].place<T>("slope", m * ld) : nullptr;
        at("activate", "activation=%d m=%td n=%td ld=%td slope=%d", f, m, n, ld, sloped);
        k.activate(f, z, slope, ld, m, n);
        for (Size i = 0; i < m; ++i) {
          std::vector<W> row;
          for (Size j = 0; j < n; ++j) row.push_back(W(T(0.75) * T(small(i, j, 1))));
          const std::vector<W> p = f == SOFTMAX ? naive_softmax(row) : row;
          for (Size j = 0; j < n; ++j) {
            W by = 0;
            const W a = f == SOFTMAX ? p[size_t(j)] : naive(f, row[size_t(j)], by);
            close<T>(z[i * ld + j], a, 1 + std::fabs(a), "z", i, j);
            if (sloped && f != SOFTMAX)
              close<T>(slope[i * ld + j], by, 1 + std::fabs(by), "slope", i, j);
          }
          for (Size j = n; j < up(n); ++j) zero(z[i * ld + j], "z", i, j);
          if (f == SOFTMAX) continue;
          for (Size j = up(n); j < ld; ++j) zero(z[i * ld + j], "z", i, j);
          for (Size j = n; sloped && j < ld; ++j) zero(slope[i * ld + j], "slope", i, j);
        }
      }
  }

  // What is no number stays none, and no value is undefined behaviour.
  void extremes() {
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
    const Size n = Size(all.size()), ld = up(n);
    for (int f = IDENTITY; f <= EXP; ++f) {
      if (f == SOFTMAX) continue;
      T* z = operand[0].place<T>("z", ld);
      T* slope = operand[1].place<T>("slope", ld);
      std::copy(all.begin(), all.end(), z);
      at("activate", "activation=%d on extreme values", f);
      k.activate(f, z, slope, ld, 1, n);
      for (Size j = 0; j < n; ++j) {
        ++values;
        if (std::isnan(all[size_t(j)]) && !std::isnan(z[j])) fail("NaN became %g", double(z[j]));
      }
      T* d = operand[2].place<T>("d", ld);
      T* a = operand[3].place<T>("a", ld);
      std::fill(d, d + ld, T(1));
      std::fill(a, a + ld, T(0));
      std::copy(all.begin(), all.end(), a);
      operand[3].protect();
      k.times_slope(f, d, a, ld, 1);
    }
    for (int which = CROSS_ENTROPY; which <= POISSON; ++which)
      for (Size j = 0; j < n; ++j) {
        const int output = which == CROSS_ENTROPY          ? SOFTMAX
                           : which == BINARY_CROSS_ENTROPY ? SIGMOID
                           : which == POISSON              ? EXP
                                                           : IDENTITY;
        T* z = reals(operand[0], "z", 1, 5, padded(5, 0), 1);
        z[3] = all[size_t(j)];
        T* target = matrix(operand[1], "targets", 1, 5, 5, 2, false);
        for (int u = 0; u < 5; ++u) target[u] = std::fabs(target[u]) / 8;
        operand[1].protect();
        double* row_loss = operand[2].place<double>("row_loss", 1);
        double* row_right = operand[3].place<double>("row_right", 1);
        const Targets t = {nullptr, target, 5, nullptr, 0};
        at("loss", "loss=%d with z[3]=%g", which, double(all[size_t(j)]));
        k.loss(which, output, z, padded(5, 0), 1, 5, &t, 1, 1, row_loss, row_right);
        if (std::isnan(all[size_t(j)]) && !std::isnan(row_loss[0])) fail("NaN became %g", row_loss[0]);
      }
  }

  void times_slope(Size m, Size n, Size turn) {
    const Size ld = padded(n, turn);
    for (int f : {IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS}) {
      T* a = reals(operand[1], "a", m, n, ld, 1);
      T* d = reals(operand[0], "d", m, n, ld, 2);
      for (Size i = 0; i < m; ++i)
        for (Size j = n; j < ld; ++j) a[i * ld + j] = d[i * ld + j] = 0;
      operand[1].protect();
      at("times_slope", "activation=%d m=%td n=%td ld=%td", f, m, n, ld);
      k.times_slope(f, d, a, ld, m);
      for (Size i = 0; i < m; ++i) {
        for (Size j = 0; j < n; ++j) {
          const W y = a[i * ld + j];
          const W by = f == SIGMOID      ? y * (1 - y)
                       : f == TANH       ? 1 - y * y
                       : f == RELU       ? W(y > 0)
                       : f == LEAKY_RELU ? y > 0 ? W(1) : W(0.01)
                       : f == ELU        ? y > 0 ? W(1) : y + 1
                       : f == SOFTPLUS   ? -std::expm1(-y)
                                         : W(1);
          const W want = W(T(0.75) * T(small(i, j, 2))) * by;
          close<T>(d[i * ld + j], want, 40 + std::fabs(want), "d", i, j);
        }
        for (Size j = n; j < ld; ++j) zero(d[i * ld + j], "d", i, j);
      }
    }
  }

  void multiply(Size m, Size n, Size turn) {
    const Size ld = padded(n, turn);
    T* d = reals(operand[0], "d", m, ld, ld, 1, T(1));
    const T* s = reals(operand[1], "s", m, ld, ld, 2, T(1));
    operand[1].protect();
    at("multiply", "m=%td n=%td ld=%td", m, n, ld);
    k.multiply(d, s, ld, m);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < ld; ++j)
        equal(d[i * ld + j], double(small(i, j, 1) * small(i, j, 2)), "d", i, j);
  }

  // --- Random numbers --------------------------------------------------------------------------------

  // Word u of the stream, one block at a time (Salmon et al. 2011, section 3.3).
  static uint32_t word(uint64_t seed, uint32_t u, uint32_t row, uint32_t epoch, uint32_t stream) {
    uint32_t c[4] = {u / 4, row, epoch, stream};
    for (uint32_t round = 0; round < 10; ++round) {
      const uint64_t p = uint64_t(c[0]) * 0xD2511F53u, q = uint64_t(c[2]) * 0xCD9E8D57u;
      const uint32_t next[4] = {uint32_t(q >> 32) ^ c[1] ^ (uint32_t(seed) + round * 0x9E3779B9u),
                                uint32_t(q),
                                uint32_t(p >> 32) ^ c[3] ^ (uint32_t(seed >> 32) + round * 0xBB67AE85u),
                                uint32_t(p)};
      std::copy(next, next + 4, c);
    }
    return c[u % 4];
  }

  void philox(Size blocks) {
    auto* out = operand[0].place<uint32_t>("out", 4 * blocks);
    const uint64_t seed = 0xfedcba9876543210u + uint64_t(blocks);
    at("philox", "blocks=%td", blocks);
    k.philox(seed, 5, 0xffffffffu, 3, blocks, out);
    for (Size u = 0; u < 4 * blocks; ++u)
      equal(out[u], word(seed, uint32_t(u), 5, 0xffffffffu, 3), "out", u / 4, u % 4);
  }

  void dropout(Size m, Size n, Size turn) {
    const Size ld = padded(n, turn), used = (m - 1) * ld + up(n);
    T* a = matrix(operand[0], "a", m, n, ld, 1);
    T* slope = matrix(operand[1], "slope", m, n, ld, 2);
    const Dropout how = {0x123456789abcdefu, 7, 2, 0xfffffff0u, 0x60000000u, 2};
    at("dropout", "m=%td n=%td ld=%td", m, n, ld);
    k.dropout(a, slope, ld, m, n, &how, 9);
    for (Size i = 0; i < m; ++i) {
      for (Size j = 0; j < n; ++j) {
        const uint32_t row = how.first_row + uint32_t(9 + i);
        const bool stays = word(how.seed, uint32_t(j), row, how.epoch, how.stream) >= how.threshold;
        equal(a[i * ld + j], stays ? 2 * small(i, j, 1) : 0, "a", i, j);
        equal(slope[i * ld + j], stays ? 2 * small(i, j, 2) : 0, "slope", i, j);
      }
      for (Size j = n; j < up(n); ++j) zero(a[i * ld + j], "a", i, j), zero(slope[i * ld + j], "slope", i, j);
      for (Size j = up(n); i * ld + j < used && j < ld; ++j)
        left(a[i * ld + j], "a", i, j), left(slope[i * ld + j], "slope", i, j);
    }
  }

  // --- Losses ----------------------------------------------------------------------------------------

  void loss(int which, int output, Size m, Size n, Size turn) {
    const bool gradient = turn % 2, labels = turn / 2 % 2 && n > 1, weighed = turn % 3 == 0;
    const bool clipped = turn % 5 == 0 && (which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY);
    const Size ld = padded(n, turn), ldt = n + turn % 3;
    const double scale = 0.25;
    T* z = reals(operand[0], "z", m, n, ld, 1, T(0.5));
    Targets t = {nullptr, nullptr, ldt, nullptr, clipped ? double(epsilon<T>()) : 0};
    if (labels) {
      auto* label = operand[1].place<int32_t>("labels", m);
      for (Size i = 0; i < m; ++i) label[i] = int32_t((i * 5 + turn) % n);
      t.labels = label;
    } else {
      T* target = operand[1].place<T>("targets", (m - 1) * ldt + n);
      for (Size i = 0; i < m; ++i)
        for (Size j = 0; j < n; ++j) target[i * ldt + j] = T((small(i, j, 2) + 8) / 16.0);
      t.values = target;
    }
    if (weighed) {
      double* weight = operand[2].place<double>("weights", m);
      for (Size i = 0; i < m; ++i) weight[i] = (small(i, 0, 3) + 8) / 4.0;
      t.weights = weight;
      operand[2].protect();
    }
    operand[1].protect();
    double* row_loss = operand[3].place<double>("row_loss", m);
    double* row_right = operand[4].place<double>("row_right", m);
    at("loss", "loss=%d output=%d m=%td n=%td ld=%td labels=%d ldt=%td weights=%d least=%g gradient=%d",
       which, output, m, n, ld, labels, ldt, weighed, t.least, gradient);
    k.loss(which, output, z, ld, m, n, &t, gradient, scale, row_loss, row_right);

    const bool wrong_or_right = which == CROSS_ENTROPY || which == BINARY_CROSS_ENTROPY;
    const W least = T(t.least);
    for (Size i = 0; i < m; ++i) {
      std::vector<W> row, target;
      for (Size j = 0; j < n; ++j) {
        row.push_back(W(T(0.5) * T(small(i, j, 1))));
        target.push_back(labels ? W(t.labels[i] == j) : W(((const T*)t.values)[i * ldt + j]));
      }
      const W weight = weighed ? t.weights[i] : 1;
      const std::vector<W> p = naive_softmax(row);
      auto clip = [&](W q) { return std::min(std::max(q, least), 1 - least); };
      W total = 0, inner = 0, size = 1;
      std::vector<W> dz(size_t(n), 0);
      if (which == MEAN_SQUARED_ERROR && output == SOFTMAX)
        for (size_t j = 0; j < size_t(n); ++j) inner += p[j] * (p[j] - target[j]);
      for (size_t j = 0; j < size_t(n); ++j) {
        const W y = target[j], x = row[j];
        W slope, q = 1 / (1 + std::exp(-x));
        if (which == CROSS_ENTROPY) {
          if (y > 0) total -= y * std::log(clipped ? clip(p[j]) : p[j]);
          dz[j] = p[j] - y;
          if (!labels) size += 8 * y;
        } else if (which == BINARY_CROSS_ENTROPY) {
          dz[j] = (q - y) / W(n);
          if (clipped) q = clip(q);
          if (y > 0) total -= y * std::log(q) / W(n);
          if (y < 1) total -= (1 - y) * std::log1p(-q) / W(n);
          // 1 − q has the precision of T where q is near 1.
          if (clipped && q > 1 - 2 * least) size += 8;
        } else if (which == POISSON) {
          total += (std::exp(x) - y * x - y + (y > 0 ? y * std::log(y) : 0)) / W(n);
          dz[j] = (std::exp(x) - y) / W(n);
          size += std::exp(x) / W(n);
        } else {
          const W a = output == SOFTMAX ? p[j] : naive(output, x, slope);
          total += (a - y) * (a - y) / W(n);
          dz[j] = 2 * (output == SOFTMAX ? p[j] * (a - y - inner) : (a - y) * slope) / W(n);
          size += a * a / W(n);
        }
      }
      close<T>(row_loss[i], total * weight, (8 + size + total) * (1 + weight), "row_loss", i, 0);
      for (Size j = 0; gradient && j < n; ++j)
        close<T>(z[i * ld + j], dz[size_t(j)] * weight * W(scale), (2 + size) * (1 + weight), "dz", i, j);
      for (Size j = n; gradient && j < ld; ++j) zero(z[i * ld + j], "dz", i, j);

      double want;
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      const auto truth = std::max_element(target.begin(), target.end()) - target.begin();
      if (n == 1 || (which == BINARY_CROSS_ENTROPY && !labels)) {
        want = 0;
        for (size_t j = 0; j < size_t(n); ++j) want += (row[j] > 0) == (target[j] > 0.5);
        want /= double(n);
      } else {
        want = double(best == truth);
      }
      if (!wrong_or_right && !(labels && n > 1)) want = NAN;
      close<double>(row_right[i], want, 1, "row_right", i, 0);
    }
  }

  void losses(Size m, Size n, Size turn) {
    for (Size more = 0; more < (brief ? 1 : 2); ++more) {
      loss(CROSS_ENTROPY, SOFTMAX, m, n, turn + 7 * more);
      loss(BINARY_CROSS_ENTROPY, SIGMOID, m, n, turn + 3 + 7 * more);
      loss(POISSON, EXP, m, n, turn + 5 + 7 * more);
      for (int output = IDENTITY; output <= SOFTMAX; ++output)
        loss(MEAN_SQUARED_ERROR, output, m, n, turn + output + 7 * more);
    }
  }

  // --- Optimizers ------------------------------------------------------------------------------------

  void update(Size vectors) {
    const Size count = vectors * width;
    const Step step = {0.01, 0.5, 0.001, 0.9, 0.99, 1e-5};
    for (int rule = RULE_SGD; rule <= RULE_ADAM; ++rule) {
      const int slots = rule == RULE_SGD ? 0 : rule == RULE_ADAM ? 2 : 1;
      T* w = matrix(operand[0], "w", 1, count, count, 1);
      const T* g = matrix(operand[1], "g", 1, count, count, 2);
      operand[1].protect();
      T* s1 = slots > 0 ? matrix(operand[2], "s1", 1, count, count, 3) : nullptr;
      T* s2 = slots > 1 ? matrix(operand[3], "s2", 1, count, count, 4) : nullptr;
      const bool squares = rule == RULE_RMSPROP || rule == RULE_ADAGRAD;
      for (Size j = 0; squares && j < count; ++j) s1[j] = std::fabs(s1[j]);
      for (Size j = 0; s2 && j < count; ++j) s2[j] = std::fabs(s2[j]);
      at("update", "rule=%d count=%td", rule, count);
      k.update(rule, &step, w, g, s1, s2, count);
      for (Size j = 0; j < count; ++j) {
        const W old = small(0, j, 1), rate = step.rate, d = W(small(0, j, 2)) + W(step.l2) * old;
        const W one = squares ? std::abs(small(0, j, 3)) : small(0, j, 3);
        const W two = std::abs(small(0, j, 4)), b1 = step.beta1, b2 = step.beta2, tiny = step.epsilon;
        W want = old - rate * d, first = 0, second = 0;
        if (rule == RULE_MOMENTUM || rule == RULE_NESTEROV) {
          first = b1 * one - rate * d;
          want = old + (rule == RULE_MOMENTUM ? first : b1 * first - rate * d);
        } else if (squares) {
          first = rule == RULE_RMSPROP ? b1 * one + (1 - b1) * d * d : one + d * d;
          want = old - rate * d / (std::sqrt(first) + tiny);
        } else if (rule == RULE_ADAM) {
          first = b1 * one + (1 - b1) * d;
          second = b2 * two + (1 - b2) * d * d;
          want = old * (1 - W(step.decay)) - rate * first / (std::sqrt(second) + tiny);
        }
        // A state of zeros divides by epsilon alone.
        const W sharp = squares || rule == RULE_ADAM ? rate / tiny * (d == 0 || second == 0) : W(0);
        close<T>(w[j], want, 16 + std::fabs(want) + sharp, "w", 0, j);
        if (s1) close<T>(s1[j], first, 16 + std::fabs(first), "s1", 0, j);
        if (s2) close<T>(s2[j], second, 16 + std::fabs(second), "s2", 0, j);
      }
    }
  }

  void copy_far(Size m, Size n, Size turn) {
    const Size off = turn % (width + 1), ldf = n + turn % 3, ldt = n + turn % 5, last = (m - 1) * ldt + n;
    const T* from = matrix(operand[0], "from", m, n, ldf, 1, false);
    operand[0].protect();
    T* room = operand[1].place<T>("to", off + last + 3);
    at("copy_far", "m=%td n=%td ldf=%td ldt=%td off=%td", m, n, ldf, ldt, off);
    k.copy_far(from, ldf, room + off, ldt, m, n);
    for (Size j = 0; j < off + last + 3; ++j) {
      const Size i = (j - off) / ldt, column = (j - off) % ldt;
      if (j < off || j >= off + last || column >= n)
        left(room[j], "to", 0, j);
      else
        equal(room[j], double(from[i * ldf + column]), "to", i, column);
    }
  }

  void square_sum(Size m, Size n, Size turn) {
    const Size ld = padded(n, turn);
    const T* w = matrix(operand[0], "w", m, n, ld, 1);
    operand[0].protect();
    double* out = operand[1].place<double>("out", m);
    at("square_sum", "m=%td n=%td ld=%td", m, n, ld);
    k.square_sum(w, ld, m, n, out);
    for (Size i = 0; i < m; ++i) {
      double want = 0;
      for (Size j = 0; j < n; ++j) want += small(i, j, 1) * small(i, j, 1);
      equal(out[i], want, "out", i, 0);
    }
  }

  // --- All of them, at all sizes ---------------------------------------------------------------------

  // Each size of each dimension, against a few of the others.
  template <class F> static void triples(F f) {
    std::vector<Size> others = {1, 2, 7, 16, 33, 70};
    if (brief) others = {1, 19};
    Size turn = 0;
    for (Size size = 1; size <= most; ++size)
      for (Size p : others)
        for (Size q : others) {
          f(size, p, q, turn++);
          f(p, size, q, turn++);
          f(p, q, size, turn++);
        }
  }
  template <class F> static void pairs(F f) {
    std::vector<Size> others = {1, 2, 5, 16, 33};
    if (brief) others = {1, 3};
    Size turn = 0;
    for (Size size = 1; size <= most; ++size)
      for (Size other : others) {
        f(size, other, turn++);
        f(other, size, turn++);
      }
  }

  void check_all() {
    std::snprintf(where, sizeof where, "%s %s", k.isa, dtype);
    if (k.itemsize != int(sizeof(T)) || k.width < 1 || k.rows < 1) fail("the table is of another dtype");
    for (Side each : {ENDS, BEGINS}) {
      // Under that sanitizer operands have an end on both sides in the first pass already.
      if (address_sanitizer && brief && each == BEGINS) break;
      side = each;
      triples([&](Size m, Size n, Size depth, Size turn) {
        matmul(m, n, depth, turn);
        matmul_narrow(m, n, depth, turn);
        narrow_marked(m, n, depth, turn);
        gradient_marked(m, n, depth, turn);
        matmul_sparse(m, n, depth, turn);
        matmul_scatter(m, n, depth, turn);
        no_signed_zeros(m, n, depth, turn);
      });
      pairs([&](Size m, Size n, Size turn) {
        find_nonzero(m, n, turn);
        transpose(m, n, turn);
        column_sum(m, n, turn);
        gather(m, n, turn);
        activate(m, n, turn);
        times_slope(m, n, turn);
        multiply(m, n, turn);
        dropout(m, n, turn);
        losses(m, n, turn);
        square_sum(m, n, turn);
        copy_far(m, n, turn);
      });
      // Of a B that no near cache holds a part at a time, and a turned A whose rows lie far apart.
      for (Size m : {3, 8, 16, 31}) matmul(m, 401, 701, m);
      matmul(1030, 1027, 3, 1);
      matmul(1030, 1027, 17, 2);
      bits(17, 40, 7000);
      // Of a B that is copied in blocks, for so many rows of C: with a last block that is narrower and
      // a part of k that is shorter.
      matmul(257, 401, 701, 2);
      matmul(262, 900, 300, 2);
      bits(257, 300, 900);
      // Past a group of random numbers, and past a part of a list.
      for (Size n : {127, 128, 129, 200, 300}) {
        find_nonzero(3, n, n);
        dropout(3, n, n);
      }
      // Past a word of marks, and past a word of rows.
      for (Size n : {1023, 1024, 1025, 2060}) {
        gather(1, n, n);
        gather(1, n, n + 1);
        narrow_marked(3, width - 1, n, n);
        gradient_marked(width - 1, n, 3, n);
      }
      for (Size n = 1; n < width; ++n)
        for (Size depth : {5, 50, 784, 1100}) bits_marked(37, n, depth);
      for (Size depth : {127, 128, 500, int(MARKED_ROWS)}) gradient_marked(1, 5, depth, depth);
      for (Size size = 1; size <= most; ++size) {
        update(size);
        philox(size);
        if (!brief || size % 9 == 1) bits(size, 37, 29);
      }
      if (k.multiply_add(3) != 3 * k.multiply_add(1)) fail("multiply_add counts wrongly");
      extremes();
    }
  }
};

// --- Products of bfloat16 -----------------------------------------------------------------------------

struct CheckBf16 : Check<float> {
  const Bf16Kernels& k16;

  CheckBf16(const Kernels& kernels, const Bf16Kernels& bf16) : Check(kernels), k16(bf16) {}

  static uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
  }

  // The upper half of the nearest bfloat16; of two as near, of the even one.
  static uint32_t naive(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 31 << 15;
    if (std::isnan(value)) return bits >> 16 | 0x40;
    if (!std::isnormal(value) && !std::isinf(value)) return sign;
    const uint32_t below = bits >> 16, rest = bits & 0xffff;
    return below + (rest > 0x8000 || (rest == 0x8000 && below % 2));
  }

  // Floats of all kinds: ties, those that round to infinity, NaN, denormal numbers, any bits.
  static float any(Size i, Size j, uint32_t salt) {
    static constexpr uint32_t specials[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff,
                                            0xff7f8000, 0x7f800000, 0xff800000, 0x7fc00001, 0x7f800001,
                                            0xffffffff, 0x00000000, 0x80000000, 0x00000001, 0x807fffff,
                                            0x00800000, 0xbf8e8000, 0x3f7fffff};
    constexpr int count = int(sizeof specials / sizeof specials[0]);
    const uint32_t turn = uint32_t(small(i, j, salt) + 8) * 17 + uint32_t(small(j, i, salt + 1) + 8);
    uint32_t bits = (uint32_t(i) * 0x9e3779b1u ^ uint32_t(j) * 0x85ebca77u) * 0xc2b2ae3du ^ salt;
    if (turn % 4 == 0) bits = specials[turn / 4 % count];
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
      for (Size j = 0; j < n; ++j) src[i * lds + j] = any(i, j, 1);
    operand[0].protect();
    return src;
  }

  // The pair of (i, j), and of what is one further by down and right; zero where there is none.
  static uint32_t pair(Size i, Size j, Size down, Size right, Size m, Size n) {
    const uint32_t first = i < m && j < n ? naive(any(i, j, 1)) : 0;
    i += down, j += right;
    return first | (i < m && j < n ? naive(any(i, j, 1)) << 16 : 0);
  }

  void round_rows(Size m, Size n, Size turn) {
    const Size lds = n + turn % 3, ldr = up(n) / 2 + turn % 2, half = (m + 1) / 2;
    const bool panels = turn % 2;
    const Size ldp = panels ? 32 : up(n) + turn % 5, panel = panels ? half * 32 + turn % 3 : 32;
    // Where the pair of rows i and column j is.
    const auto place = [&](Size i, Size j) { return j / 32 * panel + i * ldp + j % 32; };
    const Size room = place(half - 1, up(n) - 1) + 1;
    const float* src = source(m, n, lds);
    for (int asked = 1; asked < 4; ++asked) {
      float *rows = nullptr, *pairs = nullptr;
      if (asked & 1) rows = operand[1].place<float>("rows", (m - 1) * ldr + up(n) / 2);
      if (asked & 2) pairs = operand[2].place<float>("pairs", room);
      at("round_rows", "m=%td n=%td lds=%td ldr=%td ldp=%td panel=%td asked=%d", m, n, lds, ldr, ldp,
         panel, asked);
      k16.round_rows(src, lds, m, n, rows, ldr, pairs, ldp, panel);
      for (Size i = 0; rows && i < m; ++i) {
        for (Size j = 0; j < up(n) / 2; ++j)
          equal_bits(rows[i * ldr + j], pair(i, 2 * j, 0, 1, m, n), "rows", i, j);
        for (Size j = up(n) / 2; i + 1 < m && j < ldr; ++j) left(rows[i * ldr + j], "rows", i, j);
      }
      if (!pairs) continue;
      std::vector<bool> written(size_t(room), false);
      for (Size i = 0; i < half; ++i)
        for (Size j = 0; j < up(n); ++j) {
          equal_bits(pairs[place(i, j)], pair(2 * i, j, 1, 0, m, n), "pairs", i, j);
          written[size_t(place(i, j))] = true;
        }
      for (Size i = 0; i < room; ++i)
        if (!written[size_t(i)]) left(pairs[i], "pairs", 0, i);
    }
  }

  void round_transpose(Size m, Size n, Size turn) {
    const Size lds = n + turn % 3, pairs = (n + 1) / 2, ldd = pairs * 32 + turn % 2;
    const Size from = turn % 3 * 16, first = from / 32 * ldd + from % 32;
    const auto place = [&](Size q, Size i) {
      return (from + i) / 32 * ldd + q * 32 + (from + i) % 32 - first;
    };
    const Size room = place(pairs - 1, up(m) - 1) + 1;
    const float* src = source(m, n, lds);
    float* dst = operand[1].place<float>("dst", room);
    at("round_transpose", "m=%td n=%td lds=%td ldd=%td from=%td", m, n, lds, ldd, from);
    k16.round_transpose(src, lds, m, n, dst - first, ldd, from);
    std::vector<bool> written(size_t(room), false);
    for (Size j = 0; j < pairs; ++j)
      for (Size i = 0; i < up(m); ++i) {
        equal_bits(dst[place(j, i)], pair(i, 2 * j, 0, 1, m, n), "dst", j, i);
        written[size_t(place(j, i))] = true;
      }
    for (Size i = 0; i < room; ++i)
      if (!written[size_t(i)]) left(dst[i], "dst", 0, i);
  }

  void round_values(Size n) {
    const Size count = up(n);
    const float* src = source(1, count, count);
    float* dst = operand[1].place<float>("dst", count);
    at("round_values", "count=%td", count);
    k16.round_values(src, dst, count);
    for (Size j = 0; j < count; ++j) equal_bits(dst[j], naive(any(0, j, 1)) << 16, "dst", 0, j);
    std::copy(src, src + count, dst);
    k16.round_values(dst, dst, count);
    for (Size j = 0; j < count; ++j) equal_bits(dst[j], naive(any(0, j, 1)) << 16, "in place", 0, j);
  }

  // Small integers are bfloat16, and their sums are exact.
  static uint32_t small_pair(Size i, Size q, bool turned, Size depth, uint32_t salt) {
    uint32_t both = 0;
    for (Size u = 0; u < 2 && 2 * q + u < depth; ++u)
      both |= naive(float(turned ? small(2 * q + u, i, salt) : small(i, 2 * q + u, salt))) << 16 * u;
    return both;
  }

  void matmul(Size m, Size n, Size depth, Size turn) {
    const Size pairs = (depth + 1) / 2;
    product.assign(size_t(m * n), 0);
    for (Size i = 0; i < m; ++i)
      for (Size q = 0; q < depth; ++q)
        for (Size j = 0; j < n; ++j) product[size_t(i * n + j)] += small(i, q, 1) * small(q, j, 2);
    for (int by_column = 0; by_column < (pairs > COLUMN_PAIRS ? 1 : 2); ++by_column) {
      const Size across = by_column ? m : pairs, down = by_column ? pairs : m, lda = across + turn % 3;
      const Size ldb = pairs * 32 + turn % 2, ldc = padded(n, turn / 2);
      auto* a = operand[0].place<uint32_t>("a", (down - 1) * lda + across);
      for (Size i = 0; i < m; ++i)
        for (Size q = 0; q < pairs; ++q)
          a[by_column ? q * lda + i : i * lda + q] = small_pair(i, q, false, depth, 1);
      const auto place = [&](Size q, Size j) { return j / 32 * ldb + q * 32 + j % 32; };
      auto* b = operand[1].place<uint32_t>("b", place(pairs - 1, up(n) - 1) + 1);
      for (Size q = 0; q < pairs; ++q)
        for (Size j = 0; j < up(n); ++j)
          b[place(q, j)] = j < n ? small_pair(j, q, true, depth, 2) : 0;
      const float* bias = matrix(operand[3], "bias", 1, n, n, 3);
      for (int i : {0, 1, 3}) operand[i].protect();
      for (int finish = FINISH_STORE; finish <= FINISH_SGD; ++finish) {
        float* c = before(m, n, ldc, finish, 4);
        at("bf16 matmul", "m=%td n=%td k=%td lda=%td ldb=%td ldc=%td by_column=%d finish=%d", m, n,
           pairs, lda, ldb, ldc, by_column, finish);
        k16.matmul(a, lda, by_column, b, ldb, c, ldc, m, n, pairs, finish,
                   finish == FINISH_BIAS ? bias : nullptr, finish == FINISH_SGD ? &sgd : nullptr);
        check_product(c, ldc, m, n, finish, sgd, 3, 4, true);
      }
    }
  }

  // As Check::bits, of what round_rows makes of numbers whose sums round.
  void bits(Size m, Size n, Size depth) {
    const Size lda = up(depth), ld = up(n), pairs = (depth + 1) / 2, panels = (n + 31) / 32;
    std::vector<float> x, w;
    for (Size i = 0; i < m * lda; ++i) x.push_back(float(small(i, 0, 1)) / 3);
    for (Size i = 0; i < depth * ld; ++i) w.push_back(float(small(i, 0, 2)) / 7);
    auto* a = operand[0].place<float>("a", m * lda / 2);
    auto* b = operand[1].place<float>("b", pairs * panels * 32);
    auto* turned = operand[6].place<float>("at", (m + 31) / 32 * pairs * 32);
    at("bf16 matmul", "bits: m=%td n=%td k=%td", m, n, pairs);
    k16.round_rows(x.data(), lda, m, depth, a, lda / 2, nullptr, 0, 0);
    k16.round_rows(w.data(), ld, depth, n, nullptr, 0, b, 32, pairs * 32);
    k16.round_transpose(x.data(), lda, m, depth, turned, pairs * 32, 0);
    for (int i : {0, 1, 6}) operand[i].protect();
    auto* all = operand[2].place<float>("c", m * ld);
    auto* one = operand[4].place<float>("one", ld);
    const Size step = pairs * 32;
    k16.matmul(a, lda / 2, 0, b, step, all, ld, m, n, pairs, FINISH_STORE, nullptr, nullptr);
    for (Size i = 0; i < m; ++i)
      for (Size j = 0; j < n; j += 32)
        for (int by_column = 0; by_column < 2; ++by_column) {
          k16.matmul(by_column ? turned + i / 32 * step + i % 32 : a + i * lda / 2,
                     by_column ? 32 : lda / 2, by_column, b + j / 32 * step, step, one, ld, 1,
                     std::min(Size(32), n - j), pairs, FINISH_STORE, nullptr, nullptr);
          for (Size u = 0; u < std::min(Size(32), n - j); ++u)
            equal(one[u], double(all[i * ld + j + u]), "c alone", i, j + u);
        }
  }

  void check_all() {
    for (Side each : {ENDS, BEGINS}) {
      if (address_sanitizer && brief && each == BEGINS) break;
      side = each;
      triples([&](Size m, Size n, Size depth, Size turn) { matmul(m, n, depth, turn); });
      // What goes through in parts: rows of a turned A, of an A that fits no cache, and very many.
      matmul(70, 40, 2 * COLUMN_PAIRS, 0);
      matmul(39, 5, 2 * COLUMN_PAIRS - 5, 1);
      matmul(150, 20, 4001, 2);
      matmul(530, 33, 47, 3);
      pairs([&](Size m, Size n, Size turn) {
        round_rows(m, n, turn);
        round_transpose(m, n, turn);
      });
      for (Size size = 1; size <= most; ++size) {
        round_values(size);
        if (!brief || size % 9 == 1) bits(size, 37, 29);
      }
    }
  }
};

// --- The team -------------------------------------------------------------------------------------------

// What a step of training does on a team: each thread its own rows of one product, and past a barrier
// its own rows of the next, which reads all of the first; thread 0 alone moves on what all read.
struct Chain {
  Team* team;
  const Kernels* k;
  Size n, rounds, round;
  std::vector<float> a, b, c;
  bool stop;
};

void step_of_team(void* context, int thread) {
  Chain& s = *(Chain*)context;
  const Size threads = s.team->size(), begin = s.n * thread / threads, end = s.n * (thread + 1) / threads;
  for (;;) {
    const Size round = s.round;
    const float* from = round % 2 ? s.b.data() : s.a.data();
    float* to = round % 2 ? s.a.data() : s.b.data();
    if (begin < end) {
      s.k->matmul(from + begin * s.n, s.n, 0, s.c.data(), s.n, to + begin * s.n, s.n, end - begin, s.n,
                  s.n, FINISH_STORE, nullptr, nullptr);
      s.k->activate(TANH, to + begin * s.n, nullptr, s.n, end - begin, s.n);
    }
    s.team->barrier(thread);
    if (thread == 0) {
      s.round = round + 1;
      s.stop = s.round == s.rounds;
    }
    s.team->barrier(thread);
    if (s.stop) return;
  }
}

std::vector<float> run_team(const Kernels* k, int threads, Size rounds) {
  const Size n = 32;
  Chain s = {nullptr, k, n, rounds, 0, {}, {}, {}, false};
  for (Size i = 0; i < n * n; ++i) {
    s.a.push_back(float(small(i, 0, 1)) / 7);
    s.c.push_back(float(small(i, 0, 2)) / 19);
  }
  s.b.resize(size_t(n * n));
  s.team = Team::acquire(threads);
  s.team->run(step_of_team, &s);
  Team::release(s.team);
  return rounds % 2 ? s.b : s.a;
}

void check_team(const Kernels* k) {
  const Size rounds = brief ? 40 : 400;
  for (int threads : {1, 2, 3, 5, 9}) {
    std::snprintf(where, sizeof where, "%s team of %d threads", k->isa, threads);
    const std::vector<float> want = run_team(k, 1, rounds);
    for (int again = 0; again < 5; ++again, ++calls)
      if (run_team(k, threads, rounds) != want) fail("other bits than one thread alone");
    values += 5 * Size(want.size());
  }
  // Callers at once, and more teams than are kept.
  const std::vector<float> want = run_team(k, 1, rounds);
  std::vector<std::vector<float>> found(7);
  std::vector<std::thread> callers;
  std::snprintf(where, sizeof where, "%s seven teams at once", k->isa);
  for (size_t i = 0; i < found.size(); ++i)
    callers.emplace_back([&, i] {
      for (int again = 0; again < 5; ++again) found[i] = run_team(k, 2 + int(i % 3), rounds);
    });
  for (std::thread& caller : callers) caller.join();
  for (const auto& each : found)
    if (each != want) fail("other bits than one thread alone");
  calls += 35;
}

void check(int isa) {
  const double began = seconds();
  const long long calls_before = calls, values_before = values;
  if (!team_alone) {
    // Some sets multiply floats as the one below does.
    if (isa == 0 || kernels(isa, F32) != kernels(isa - 1, F32)) {
      Check<float>(*kernels(isa, F32)).check_all();
      Check<double>(*kernels(isa, F64)).check_all();
    }
    if (const Bf16Kernels* bf16 = bf16_kernels(isa))
      CheckBf16(*kernels(isa, F32), *bf16).check_all();
  }
  check_team(kernels(isa, F32));
  std::printf("%-7s %8lld calls, %11lld values, %.1f s\n", isa_name(isa), calls - calls_before,
              values - values_before, seconds() - began);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  std::set<std::string> wanted;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--short") {
      brief = true;
    } else if (argument == "--team") {
      team_alone = true;
    } else if (argument == "--isa" && i + 1 < count) {
      wanted.insert(arguments[++i]);
    } else {
      std::fprintf(stderr, "usage: %s [--short] [--team] [--isa NAME] …\n", arguments[0]);
      return 2;
    }
  }
  operand = new Operand[10];
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  for (int number : {SIGSEGV, SIGBUS}) sigaction(number, &action, nullptr);
  const bool all = wanted.empty();
  for (int isa = 0; isa < isa_count(); ++isa) {
    if (isa_usable(isa) && (wanted.erase(isa_name(isa)) || all))
      check(isa);
    else if (all)
      std::printf("%-7s not on this machine\n", isa_name(isa));
  }
  if (!wanted.empty()) {
    std::fprintf(stderr, "there are no kernels for %s on this machine\n", wanted.begin()->c_str());
    return 2;
  }
  delete[] operand;
  std::printf("all right: %lld calls, %lld values\n", calls, values);
}
