// The kernels of one instruction set: compiled once for each, with PYNN_ISA as its name.
//
// The headers hold the kernels, each in an anonymous namespace; this file collects them in a table
// per dtype, the only symbol of the object file.

#include "kernels.h"

#include "activations.h"
#include "lanes.h"
#include "loss.h"
#include "narrow.h"
#include "norm.h"
#include "optimizers.h"
#include "penalties.h"
#include "random.h"
#include "rows.h"
#include "sparse.h"
#include "tile.h"

namespace {

// As many independent accumulators as a tile of matmul has, and no loads: 24 are a multiple of 8,
// the latency of the FMA (4 cycles) times 2 per cycle.
template <class T> double multiply_add(Size rounds) {
  constexpr int sums = tile_registers > 12 ? 24 : 12;
  V<T> acc[sums];
  for (int i = 0; i < sums; ++i) acc[i] = set1(T(i));
  const V<T> factor = set1(T(0.999)), more = set1(T(0.001));
  for (Size round = 0; round < rounds; ++round)
    PYNN_UNROLL
    for (int i = 0; i < sums; ++i) acc[i] = fma(acc[i], factor, more);
  T total = 0;
  for (int i = 0; i < sums; ++i) total += sum(acc[i]);
  return total < 0 ? 0 : 2.0 * sums * width<T> * double(rounds);
}

template <class T> constexpr pynn::Kernels table(const char* isa) {
  return {.isa = isa,
          .width = width<T>,
          .rows = tile_rows,
          .sparse_cols = sparse_cols,
          .itemsize = int(sizeof(T)),
          .matmul = matmul<T>,
          .matmul_narrow = matmul_narrow<T>,
          .matmul_lanes = matmul_lanes<T>,
          .narrow_marked = narrow_marked<T>,
          .gradient_marked = gradient_marked<T>,
          .find_nonzero = find_nonzero<T>,
          .matmul_sparse = matmul_sparse<T>,
          .sparse_lanes = sparse_lanes<T>,
          .matmul_scatter = matmul_scatter<T>,
          .transpose = transpose<T>,
          .column_sum = column_sum<T>,
          .gather = gather<T>,
          .gather_standardized = gather_standardized<T>,
          .within = within,
          .activate = activate<T>,
          .times_slope = times_slope<T>,
          .multiply = multiply<T>,
          .multiply_keeping = multiply_keeping<T>,
          .add = add<T>,
          .normalize = normalize<T>,
          .normalize_back = normalize_back<T>,
          .column_moments = column_moments<T>,
          .normalize_columns = normalize_columns<T>,
          .column_products = column_products<T>,
          .normalize_columns_back = normalize_columns_back<T>,
          .blend = blend<T>,
          .dropout = dropout<T>,
          .noise = noise<T>,
          .loss = loss<T>,
          .copy_far = copy_far<T>,
          .square_sum = square_sum<T>,
          .update = update<T>,
          .average = average<T>,
          .penalize = penalize<T>,
          .scale = scale<T>,
          .square_total = square_total<T>,
          .column_squares = column_squares<T>,
          .scale_columns = scale_columns<T>,
          .unit_factors = unit_factors,
          .philox = philox,
          .multiply_add = multiply_add<T>};
}

}  // namespace

#define PYNN_STRING_(x) #x
#define PYNN_STRING(x) PYNN_STRING_(x)

namespace pynn {
namespace PYNN_ISA {
extern const Kernels tables[N_DTYPES];
const Kernels tables[N_DTYPES] = {table<float>(PYNN_STRING(PYNN_ISA)),
                                  table<double>(PYNN_STRING(PYNN_ISA))};
}  // namespace PYNN_ISA
}  // namespace pynn
