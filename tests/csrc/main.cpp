// Checks all kernels of every instruction set that this processor has, and the team of threads.
//
//   kernels_test [--short] [--team] [--isa NAME] …
//
// --short takes fewer pairs of sizes, --team checks only the team.

#include "checker.h"
#include "team.h"

#include <set>
#include <string>

static_assert(sizeof(Kernels) == sizeof(void*) + 4 * sizeof(int) + 41 * sizeof(void (*)()),
              "a kernel was added to the table or removed from it: change Check");

static_assert(sizeof(CodeKernels) == 2 * sizeof(void (*)()), "change check_codes");

template <class T> void Check<T>::check_all() {
  std::snprintf(where, sizeof where, "%s %s", k.isa, dtype);
  if (k.itemsize != int(sizeof(T)) || k.width < 1 || k.rows < 1)
    fail("the table is of another dtype");
  if (k.multiply_add(3) != 3 * k.multiply_add(1)) fail("multiply_add counts wrongly");
  check_products();
  check_marked();
  check_lanes();
  check_sparse();
  check_rows();
  check_activations();
  check_random();
  check_losses();
  check_optimizers();
}

namespace {

void check(int isa, bool only_team) {
  const double began = seconds();
  const long long calls_before = calls, values_before = values;
  if (!only_team) {
    // amx has the float kernels of avx512.
    if (isa == 0 || kernels(isa, F32) != kernels(isa - 1, F32)) {
      Check<float>(*kernels(isa, F32)).check_all();
      Check<double>(*kernels(isa, F64)).check_all();
      Check<float>(*kernels(isa, F32)).check_codes(*code_kernels(isa, F32));
      Check<double>(*kernels(isa, F64)).check_codes(*code_kernels(isa, F64));
    }
    if (const Bf16Kernels* bf16 = bf16_kernels(isa)) check_bf16(*kernels(isa, F32), *bf16);
  }
  check_team(kernels(isa, F32));
  std::printf("%-7s %8lld calls, %11lld values, %.1f s\n", isa_name(isa), calls - calls_before,
              values - values_before, seconds() - began);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  bool only_team = false;
  std::set<std::string> wanted;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--short") {
      short_run = true;
    } else if (argument == "--team") {
      only_team = true;
    } else if (argument == "--isa" && i + 1 < count) {
      wanted.insert(arguments[++i]);
    } else {
      std::fprintf(stderr, "usage: %s [--short] [--team] [--isa NAME] …\n", arguments[0]);
      return 2;
    }
  }
  operand = new Operand[operands];
  report_faults();
  const bool all = wanted.empty();
  for (int isa = 0; isa < isa_count(); ++isa) {
    if (isa_usable(isa) && (wanted.erase(isa_name(isa)) || all))
      check(isa, only_team);
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
