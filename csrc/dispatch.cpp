// Which instruction sets were compiled in, and which of them this machine has.
//
// Compiled for the lowest set: nothing here may run code that the machine might lack.

#include "kernels.h"

#include <cstring>

namespace pynn {

// One line for each set that the build compiled: PYNN_ISAS is PYNN_WITH(name) PYNN_WITH(name) …
#define PYNN_WITH(isa)                    \
  namespace isa {                         \
  extern const Kernels tables[N_DTYPES]; \
  }
PYNN_ISAS
#undef PYNN_WITH
#ifdef PYNN_BF16
namespace bf16 {
extern const Bf16Kernels table;
}
#endif

namespace {

bool always() { return true; }

#if (defined(__x86_64__)) && (defined(__GNUC__) || defined(__clang__))
bool has_sse4() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
bool has_avx2() {
  return has_sse4() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

struct Isa {
  const char* name;
  bool (*present)();
  const Kernels* tables;
};

#define has_plain always
#define has_neon always
#define PYNN_WITH(isa) {#isa, has_##isa, isa::tables},
const Isa isas[] = {PYNN_ISAS};
#undef PYNN_WITH

}  // namespace

int isa_count() { return int(sizeof isas / sizeof isas[0]); }
const char* isa_name(int isa) { return isas[isa].name; }
bool isa_usable(int isa) { return isas[isa].present(); }
const Kernels* kernels(int isa, int dtype) { return &isas[isa].tables[dtype]; }

const Bf16Kernels* bf16_kernels([[maybe_unused]] int isa) {
#ifdef PYNN_BF16
  if (!std::strcmp(isa_name(isa), "avx512") && isa_usable(isa) &&
      __builtin_cpu_supports("avx512bf16"))
    return &bf16::table;
#endif
  return nullptr;
}

}  // namespace pynn
