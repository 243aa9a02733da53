// Lists the instruction sets that were compiled in, and detects those that this processor has.
//
// Compiled for the baseline instruction set: nothing here may need an instruction that the
// processor might lack.

#include "kernels.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef PYNN_AMX
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

#if defined(__x86_64__)
// One register of CPUID, or 0 if the processor does not have this leaf.
enum Register { EAX, EBX, ECX, EDX };
unsigned cpuid(unsigned leaf, unsigned subleaf, Register which) {
  unsigned r[4] = {};
  __get_cpuid_count(leaf, subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
  return r[which];
}
constexpr bool all(unsigned word, unsigned bits) { return (word & bits) == bits; }

// Whether the system saves these registers of a thread: bits of XCR0. Not __builtin_cpu_supports,
// which needs a library that Clang does not link on Windows.
bool system_saves(unsigned bits) {
  constexpr unsigned osxsave = 1u << 27;
  if (!all(cpuid(1, 0, ECX), osxsave)) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return all(low, bits);
}

// Each is detected once: in a virtual machine CPUID takes up to a hundred microseconds.
bool has_sse4() {
  constexpr unsigned sse42 = 1u << 20, popcnt = 1u << 23;
  static const bool there = all(cpuid(1, 0, ECX), sse42 | popcnt);
  return there;
}
bool has_avx2() {
  constexpr unsigned fma = 1u << 12, avx = 1u << 28;                 // leaf 1
  constexpr unsigned bmi = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;  // leaf 7
  constexpr unsigned xmm_and_ymm = 1u << 1 | 1u << 2;
  static const bool there = has_sse4() && all(cpuid(1, 0, ECX), fma | avx) &&
                            system_saves(xmm_and_ymm) && all(cpuid(7, 0, EBX), bmi | avx2 | bmi2);
  return there;
}
bool has_avx512() {
  constexpr unsigned f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
#if defined(__APPLE__)
  constexpr unsigned masks_and_zmm = 0;  // macOS saves them from their first use on
#else
  constexpr unsigned masks_and_zmm = 1u << 5 | 1u << 6 | 1u << 7;
#endif
  static const bool there = has_avx2() && system_saves(masks_and_zmm) &&
                            all(cpuid(7, 0, EBX), f | dq | cd | bw | vl);
  return there;
}
#endif
#ifdef PYNN_BF16
bool has_bf16() {
  constexpr unsigned avx512_bf16 = 1u << 5;
  static const bool there = has_avx512() && all(cpuid(7, 1, EAX), avx512_bf16);
  return there;
}
#endif
#ifdef PYNN_AMX
// Whether the processor has AMX and the kernel permits this process to use it. A process must
// request permission, because the tile registers add 8 KiB to its saved state
// (https://docs.kernel.org/arch/x86/xstate.html).
bool ask_for_amx() {
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  constexpr int request_permission = 0x1023, tile_data = 18;
  return has_bf16() && all(cpuid(7, 0, EDX), amx_bf16 | amx_tile) &&
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
