// Lists the instruction sets that were compiled in, and detects those that this processor has.
//
// Compiled for the baseline instruction set: nothing here may need an instruction that the
// processor might lack.

#include "kernels.h"

#include <cstring>

#ifdef PYNN_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pynn {

// The build defines PYNN_ISAS as PYNN_WITH(name) PYNN_WITH(name) …, one for each instruction set,
// lowest first. PYNN_WITH is defined here to declare the tables, and below to list them.
#define PYNN_WITH(isa)                    \
  namespace isa {                         \
  extern const Kernels tables[N_DTYPES]; \
  extern const CodeKernels code_tables[N_DTYPES]; \
  }
PYNN_ISAS
#undef PYNN_WITH
#ifdef PYNN_BF16
namespace bf16 {
extern const Bf16Kernels table;
}
#endif
#ifdef PYNN_AMX
namespace amx {
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
#ifdef PYNN_BF16
bool has_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif
#ifdef PYNN_AMX
// Whether the processor has AMX and the kernel permits this process to use it. A process must
// request permission, because the tile registers add 8 KiB to its saved state
// (https://docs.kernel.org/arch/x86/xstate.html).
bool ask_for_amx() {
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  constexpr int request_permission = 0x1023, tile_data = 18;
  unsigned a, b, c, d;
  return has_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_bf16) &&
         (d & amx_tile) &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
bool has_amx() {
  static const bool there = ask_for_amx();
  return there;
}
#endif

struct Isa {
  const char* name;
  bool (*present)();
  const Kernels* tables;
  const CodeKernels* code_tables;
};

#define has_plain always
#define has_neon always
#define PYNN_WITH(isa) {#isa, has_##isa, isa::tables, isa::code_tables},
const Isa isas[] = {
    PYNN_ISAS
#ifdef PYNN_AMX
    // Differs from avx512 only in the bfloat16 kernels.
    {"amx", has_amx, avx512::tables, avx512::code_tables},
#endif
};
#undef PYNN_WITH

}  // namespace

void* scratch() {
  alignas(64) static thread_local char bytes[SCRATCH_BYTES];
  return bytes;
}

int isa_count() { return int(sizeof isas / sizeof isas[0]); }
const char* isa_name(int isa) { return isas[isa].name; }
bool isa_usable(int isa) { return isas[isa].present(); }
const char* loss_name(int loss) {
#define PYNN_NAME(number, name) name,
  static constexpr const char* names[] = {PYNN_LOSSES(PYNN_NAME)};
#undef PYNN_NAME
  return names[loss];
}
const char* activation_name(int activation) {
#define PYNN_NAME(number, name, needs_z) name,
  static constexpr const char* names[] = {PYNN_ACTIVATIONS(PYNN_NAME)};
#undef PYNN_NAME
  return names[activation];
}
bool slope_needs_z(int activation) {
#define PYNN_NEEDS_Z(number, name, needs_z) needs_z,
  static constexpr bool needs[] = {PYNN_ACTIVATIONS(PYNN_NEEDS_Z)};
#undef PYNN_NEEDS_Z
  return needs[activation];
}

const Kernels* kernels(int isa, int dtype) { return &isas[isa].tables[dtype]; }
const CodeKernels* code_kernels(int isa, int dtype) { return &isas[isa].code_tables[dtype]; }

const Bf16Kernels* bf16_kernels([[maybe_unused]] int isa) {
  [[maybe_unused]] const auto is = [&](const char* name) {
    return !std::strcmp(isa_name(isa), name);
  };
#ifdef PYNN_AMX
  if (is("amx") && has_amx()) return &amx::table;
#endif
#ifdef PYNN_BF16
  if (is("avx512") && has_bf16()) return &bf16::table;
#endif
  return nullptr;
}

}  // namespace pynn
