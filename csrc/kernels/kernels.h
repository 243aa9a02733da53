// The vector kernels, as a table of functions per instruction set and dtype.
//
// Matrices are row-major; (m, n) in a comment is the shape, and ld, lda, … the leading dimension:
// the number of elements from one row to the next. T is the dtype of the table, float or double;
// pointers to T are void*, because the passes in Cython serve both dtypes with one code.
//
// Padding. In the core every leading dimension is a multiple of the vector width. The columns of a
// row from n on are pads. They are 0 in every operand, and every kernel keeps them 0, so that inner
// loops need no masks. Rows are accessed up to the next multiple of the vector width, the last row
// too; activate, times_slope, multiply, multiply_keeping, add, and z of loss: m·ld elements.
// Accessed exactly are A of the matrix products, z and bias of matmul_narrow, x and order of gather,
// lists, targets, and arrays with one element per row. The pads that activate and loss read may hold
// anything.
//
// Alignment. Operands need the alignment of their elements only; x of gather needs none.
//
// Order of sums. An element of a result never depends on m, on the tile that it lies in, or on how
// rows or columns are divided among threads. Sums over k run upwards, with one accumulator per
// element (matmul, matmul_sparse) or per lane (matmul_narrow, narrow_marked, matmul_lanes,
// sparse_lanes). tests/csrc checks all of this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn {

enum Dtype : int { F32, F64, N_DTYPES };
enum Source : int { SOURCE_UINT8, SOURCE_FLOAT32, SOURCE_FLOAT64 };

// The activations: X(number, name in pynn/spec/names.py, whether f'(z) needs z because it is not a
// function of f(z)).
#define PYNN_ACTIVATIONS(X)             \
  X(IDENTITY, "identity", false)        \
  X(SIGMOID, "sigmoid", false)          \
  X(TANH, "tanh", false)                \
  X(RELU, "relu", false)                \
  X(LEAKY_RELU, "leaky_relu", false)    \
  X(ELU, "elu", false)                  \
  X(GELU, "gelu", true)                 \
  X(SOFTPLUS, "softplus", false)        \
  X(SILU, "silu", true)                 \
  X(MISH, "mish", true)                 \
  X(SELU, "selu", false)                \
  X(SOFTSIGN, "softsign", false)        \
  X(RELU6, "relu6", false)              \
  X(HARD_SIGMOID, "hard_sigmoid", false) \
  X(HARD_SWISH, "hard_swish", true)     \
  X(HARD_TANH, "hard_tanh", false)      \
  X(GELU_TANH, "gelu_tanh", true)       \
  X(SOFTMAX, "softmax", false)          \
  X(EXP, "exp", false)
#define PYNN_NUMBER(number, name, needs_z) number,
enum Activation : int { PYNN_ACTIVATIONS(PYNN_NUMBER) N_ACTIVATIONS };
#undef PYNN_NUMBER

// The losses: X(number, name in pynn/spec/losses.py).
#define PYNN_LOSSES(X)                             \
  X(CROSS_ENTROPY, "cross_entropy")                \
  X(BINARY_CROSS_ENTROPY, "binary_cross_entropy")  \
  X(MEAN_SQUARED_ERROR, "mse")                     \
  X(POISSON, "poisson")                            \
  X(MEAN_ABSOLUTE_ERROR, "mae")                    \
  X(HUBER, "huber")                                \
  X(LOG_COSH, "log_cosh")                          \
  X(QUANTILE, "quantile")                          \
  X(GAMMA, "gamma")                                \
  X(TWEEDIE, "tweedie")                            \
  X(HINGE, "hinge")                                \
  X(SQUARED_HINGE, "squared_hinge")                \
  X(FOCAL, "focal")                                \
  X(GAUSSIAN, "gaussian_nll")
#define PYNN_LOSS_NUMBER(number, name) number,
enum Loss : int { PYNN_LOSSES(PYNN_LOSS_NUMBER) N_LOSSES };
#undef PYNN_LOSS_NUMBER

enum Rule : int {
  RULE_SGD, RULE_MOMENTUM, RULE_NESTEROV, RULE_RMSPROP, RULE_ADAGRAD, RULE_ADAM, RULE_AMSGRAD,
  RULE_NADAM, RULE_LION,
  // RMSProp with other state beside s: v of its momentum, the mean a of the gradient, or v and a.
  RULE_RMSPROP_MOMENTUM, RULE_RMSPROP_CENTERED, RULE_RMSPROP_BOTH, N_RULES
};
enum { MAX_SLOTS = 3 };  // state vectors of a rule at most

// What a product does with P = A·B:
enum Finish : int {
  FINISH_STORE,     // C = P
  FINISH_BIAS,      // C = P + bias
  FINISH_ADD,       // C = P + C
  FINISH_SGD,       // C = C − rate·(P + l2·C)
  FINISH_ADAM,      // Adam's update with gradient P; only matmul_sparse
  FINISH_ADD_ADAM,  // Adam's update with gradient P + C; only matmul_sparse
};

// Coefficients of one optimizer step; optimizers.h has the rules. gradient_rate is NAdam's factor on
// the gradient itself, beside the rate of its first moment; inside is added inside the root of
// RMSProp and Adagrad, and beta2 is RMSProp's momentum. The last three are for FINISH_ADAM and
// FINISH_ADD_ADAM: distances in bytes from an element of C to its weight and to its two moments,
// which have C's leading dimension.
struct Step {
  double rate, l2, decay, beta1, beta2, epsilon, gradient_rate, inside;
  std::ptrdiff_t w, s1, s2;
};

// Targets of the m rows of a batch, and what the loss needs to know of them.
struct Targets {
  const int32_t* labels;  // (m,), or null
  const void* values;     // T (m, ld), of which all targets are read; null if there are labels
  std::ptrdiff_t ld;
  const double* weights;  // (m,), or null
  double least;           // above 0: cross entropies clip probabilities to least … 1 − least
  const double* parameters;  // of the loss, as LossFunction.numbers of pynn/spec/losses.py
  std::ptrdiff_t per_target;  // outputs of each target; output j is of target j modulo n_targets
  int decides;               // outputs are classes
  int independent;           // values are a yes or no for each output
  int missing;            // values may be NaN, which are left out; not of a softmax
};

// A unit of row i is dropped if its random word is below the threshold. Words depend on seed,
// epoch, stream and first_row + i.
struct Dropout {
  uint64_t seed;
  uint32_t epoch, stream, first_row, threshold;
  double scale;  // of the units that are kept
};

// Noise of a standard deviation. Words depend on seed, epoch, stream and first_row + i.
struct Noise {
  uint64_t seed;
  uint32_t epoch, stream, first_row;
  double deviation;
};

// Scratch memory of the calling thread, 64-byte aligned. Kernels keep nothing in it between calls.
// 704 KiB = 128 KiB for a packed block of B, and 576 KiB for a packed A of 256 x 576 floats
// (tile.h).
enum { SCRATCH_BYTES = 704 * 1024 };
void* scratch();

// The most rows of x that gradient_marked takes: it keeps a word per row on the stack.
enum { MARKED_ROWS = 512 };

struct Kernels {
  const char* isa;
  int width;        // elements of a vector
  int rows;         // rows of a matmul tile of two vectors
  int sparse_cols;  // vectors of a row that matmul_sparse computes at a time
  int itemsize;     // bytes of T

  // --- Matrix products ---

  // C (m, n) = A (m, k) · B (k, n), finished as ``finish`` says. Element (i, p) of A is a[i·lda +
  // p] or, with by_column, a[p·lda + i]: the product with the transpose of a row-major (k, m).
  // bias: (n,)
  void (*matmul)(const void* a, std::ptrdiff_t lda, int by_column, const void* b,
                 std::ptrdiff_t ldb, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                 std::ptrdiff_t n, std::ptrdiff_t k, int finish, const void* bias,
                 const Step* step);
  // Z (m, n) = bias (n,) + X (m, k) · Wᵀ, with W (n, k): for few columns, by dot products along k.
  void (*matmul_narrow)(const void* x, std::ptrdiff_t ldx, const void* wt, std::ptrdiff_t ldw,
                        void* z, std::ptrdiff_t ldz, std::ptrdiff_t m, std::ptrdiff_t n,
                        std::ptrdiff_t k, const void* bias);
  // Z (m, n) = bias + X (m, k) · W, with W (k, n) accessed exactly and n less than the vector
  // width: the results of matmul_narrow. Pads of Z become 0.
  void (*matmul_lanes)(const void* x, std::ptrdiff_t ldx, const void* w, std::ptrdiff_t ldw,
                       void* z, std::ptrdiff_t ldz, std::ptrdiff_t m, std::ptrdiff_t n,
                       std::ptrdiff_t k, const void* bias);
  // matmul_narrow without the unmarked vectors of x, for n less than the vector width. Marks: (m,
  // words) with words = (ldx / width + 63) / 64, one bit per vector of a row, the lowest first.
  // Unmarked vectors of x must be 0; they may still be multiplied, so weights must be finite.
  void (*narrow_marked)(const void* x, std::ptrdiff_t ldx, const uint64_t* marks, const void* wt,
                        std::ptrdiff_t ldw, void* z, std::ptrdiff_t ldz, std::ptrdiff_t m,
                        std::ptrdiff_t n, std::ptrdiff_t k, const void* bias);
  // Columns start … stop of C (m, …) = Dᵀ · X, with D (k, m) and X (k, …) and its marks: the
  // gradient of a layer with few outputs. start is a multiple of the vector width, m less than it,
  // k at most MARKED_ROWS. finish: FINISH_STORE, FINISH_ADD or FINISH_SGD.
  void (*gradient_marked)(const void* d, std::ptrdiff_t ldd, const void* x, std::ptrdiff_t ldx,
                          const uint64_t* marks, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                          std::ptrdiff_t start, std::ptrdiff_t stop, std::ptrdiff_t k, int finish,
                          const Step* step);
  // The columns of the non-zero elements of each row of x (m, n), ascending, in list (m, list_ld);
  // and in starts (n / part rounded up + 1, starts_ld), [q·starts_ld + i], how many of row i lie
  // before column q·part. part is a multiple of the vector width. A row of the list needs room for
  // n columns and for a vector, or 8 if that is more, which may be written beside.
  void (*find_nonzero)(const void* x, std::ptrdiff_t ldx, std::ptrdiff_t m, std::ptrdiff_t n,
                       std::ptrdiff_t part, uint16_t* list, std::ptrdiff_t list_ld,
                       uint32_t* starts, std::ptrdiff_t starts_ld);
  // C (m, n) = A · B (…, n), where row i of A has the elements p = list[i·list_ld + u] only, for u
  // from from[i] up to to[i], in that order. Element (i, p) of A is a[i·a_row + p·a_step]. If the
  // list omits zeros only, the result is that of matmul, except that 0 · NaN is not seen.
  void (*matmul_sparse)(const void* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step,
                        const uint16_t* list, std::ptrdiff_t list_ld, const uint32_t* from,
                        const uint32_t* to, const void* b, std::ptrdiff_t ldb, void* c,
                        std::ptrdiff_t ldc, std::ptrdiff_t m, std::ptrdiff_t n, int finish,
                        const void* bias, const Step* step);
  // matmul_lanes with the listed elements of X only: list and starts are those of find_nonzero, of
  // columns modulo 65,536. If the list omits zeros only, the result is that of matmul_narrow,
  // except that 0 · NaN is not seen.
  void (*sparse_lanes)(const void* x, std::ptrdiff_t ldx, const uint16_t* list,
                       std::ptrdiff_t list_ld, const uint32_t* starts, std::ptrdiff_t starts_ld,
                       std::ptrdiff_t part, const void* w, std::ptrdiff_t ldw, void* z,
                       std::ptrdiff_t ldz, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k,
                       const void* bias);
  // C (…, n) += Aᵀ · (scale·D), with A (m, …), of which only the listed elements count as in
  // matmul_sparse, and D (m, n): the gradient of few columns. Rows of A are added in ascending
  // order.
  void (*matmul_scatter)(const void* a, std::ptrdiff_t lda, const uint16_t* list,
                         std::ptrdiff_t list_ld, const uint32_t* from, const uint32_t* to,
                         const void* d, std::ptrdiff_t ldd, void* c, std::ptrdiff_t ldc,
                         std::ptrdiff_t m, std::ptrdiff_t n, double scale);

  // --- Rows ---

  // dst (n, m) = src (m, n)ᵀ. m is rounded up to a whole vector of dst, with zeros.
  void (*transpose)(const void* src, std::ptrdiff_t lds, void* dst, std::ptrdiff_t ldd,
                    std::ptrdiff_t m, std::ptrdiff_t n);
  // out (n,) = Σ over the rows of d (m, n), in ascending order; with ``add``, added to out.
  void (*column_sum)(const void* d, std::ptrdiff_t ldd, std::ptrdiff_t m, std::ptrdiff_t n,
                     void* out, int add);
  // out (m, n) = rows order[0], order[1], … of the data set x (or 0, 1, … if order is null),
  // converted to T; bytes are divided by 255. Strides are in bytes. Rows next[0] … next[known − 1]
  // are prefetched. marks (m, words) of out are written unless null: see narrow_marked.
  void (*gather)(int source, const char* x, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride,
                 const uint32_t* order, std::ptrdiff_t m, std::ptrdiff_t n, void* out,
                 std::ptrdiff_t ldo, const uint32_t* next, std::ptrdiff_t known, uint64_t* marks);
  // As gather, without marks. An element x of column j becomes (x − mean[j]) · inverse[j], computed
  // in double and then rounded to T.
  void (*gather_standardized)(int source, const char* x, std::ptrdiff_t row_stride,
                              std::ptrdiff_t col_stride, const uint32_t* order, std::ptrdiff_t m,
                              std::ptrdiff_t n, void* out, std::ptrdiff_t ldo,
                              const uint32_t* next, std::ptrdiff_t known, const double* mean,
                              const double* inverse);
  // Whether the elements of x (m, n) lie in [least, most], which NaN does not. Strides are in bytes;
  // bytes always do.
  bool (*within)(int source, const char* x, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride,
                 std::ptrdiff_t m, std::ptrdiff_t n, double least, double most);

  // --- Activations, dropout and losses ---

  // z (m, n) becomes f(z), and slope (m, n), unless null, f'(z). Softmax writes no slope.
  // parameter: that of leaky_relu, elu and softplus.
  void (*activate)(int activation, double parameter, void* z, void* slope, std::ptrdiff_t ld,
                   std::ptrdiff_t m, std::ptrdiff_t n);
  // d (m, ld) *= f'(z), computed from a (m, ld) = f(z), for activations that permit it.
  void (*times_slope)(int activation, double parameter, void* d, const void* a, std::ptrdiff_t ld,
                      std::ptrdiff_t m);
  // d (m, ld) *= s (m, ld).
  void (*multiply)(void* d, const void* s, std::ptrdiff_t ld, std::ptrdiff_t m);
  // The same, and s becomes the d of before.
  void (*multiply_keeping)(void* d, void* s, std::ptrdiff_t ld, std::ptrdiff_t m);
  // d (m, ld) += s (m, ld).
  void (*add)(void* d, const void* s, std::ptrdiff_t ld, std::ptrdiff_t m);
  // Normalisation over the n units of each row. z (m, n) becomes scale (n,) ⊙ ẑ + shift (n,), where ẑ =
  // (z − mean) / √(variance + epsilon); not ``centers``: ẑ = z / √(mean of z² + epsilon), without
  // shift. normed (m, n) becomes ẑ and inverse (m,) the factor, unless normed is null. The pads of z
  // that are read may hold anything.
  void (*normalize)(int centers, double epsilon, void* z, void* normed, void* inverse,
                    const void* scale, const void* shift, std::ptrdiff_t ld, std::ptrdiff_t m,
                    std::ptrdiff_t n);
  // The gradient of normalize: d (m, n) is that of its results and becomes that of z. normed becomes
  // d ⊙ ẑ, whose column sums are the gradient of scale; passed (m, n), unless null, becomes d, whose
  // column sums are that of shift.
  void (*normalize_back)(int centers, void* d, void* normed, const void* inverse, const void* scale,
                         void* passed, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n);
  // Normalisation over the rows of a batch, in columns. mean, variance and factor = 1 / √(variance +
  // epsilon) (n,) of the columns of z (m, n), summed in ascending order of the rows.
  void (*column_moments)(double epsilon, const void* z, void* mean, void* variance, void* factor,
                         std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n);
  // z (m, n) becomes scale (n,) ⊙ ẑ + shift (n,) with ẑ = (z − mean) ⊙ factor, which normed (m, n)
  // becomes unless it is null.
  void (*normalize_columns)(void* z, void* normed, const void* mean, const void* factor,
                            const void* scale, const void* shift, std::ptrdiff_t ld,
                            std::ptrdiff_t m, std::ptrdiff_t n);
  // by_normed (n,) = Σ d ⊙ normed and total (n,) = Σ d over the rows of d and normed (m, n), in
  // ascending order: the gradients of scale and shift.
  void (*column_products)(const void* d, const void* normed, void* by_normed, void* total,
                          std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n);
  // d (m, n), the gradient of the results, becomes that of z, from those sums over ``count`` rows.
  void (*normalize_columns_back)(void* d, const void* normed, const void* factor, const void* scale,
                                 const void* by_normed, const void* total, double count,
                                 std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n);
  // average (count,) += momentum · (correction · x (count,) − average). count is a multiple of the
  // vector width.
  void (*blend)(void* average, const void* x, double momentum, double correction,
                std::ptrdiff_t count);
  // a and slope (m, n), unless null, *= scale where a unit is kept, and *= 0 where it is dropped.
  // ``row`` is the number of the first row within the batch.
  void (*dropout)(void* a, void* slope, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n,
                  const Dropout* how, std::ptrdiff_t row);
  // a (m, n) += deviation · N(0, 1), as noise() of pynn/spec/philox.py. ``row`` is the number of the
  // first row within the batch.
  void (*noise)(void* a, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n, const Noise* how,
                std::ptrdiff_t row);
  // row_loss (m,) and row_right (m,): the loss of each row, times its weight, and the share of
  // correct decisions. With ``gradient``, z (m, n) becomes the gradient, times scale and the row's
  // weight. The loss of a row with missing targets is the mean over the others. Loss and gradient
  // of a row of weight 0 are 0. parameter: that of the output activation.
  void (*loss)(int loss, int output, double parameter, void* z, std::ptrdiff_t ld, std::ptrdiff_t m,
               std::ptrdiff_t n, const Targets* t, int gradient, double scale, double* row_loss,
               double* row_right);

  // --- Weights ---

  // to (m, n) = from (m, n), with non-temporal stores where the instruction set has them: for a
  // copy that is not read soon and should not displace other data from the caches.
  void (*copy_far)(const void* from, std::ptrdiff_t ldf, void* to, std::ptrdiff_t ldt,
                   std::ptrdiff_t m, std::ptrdiff_t n);
  // out (m,) = Σ over the n elements of each row of w (m, n) of their squares.
  void (*square_sum)(const void* w, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n,
                     double* out);
  // One optimizer step on w (count,), with gradient g (count,) and the rule's state vectors
  // (count,). count is a multiple of the vector width.
  void (*update)(int rule, const Step* step, void* w, const void* g, void* const* state,
                 std::ptrdiff_t count);

  // average (count,) += rest · (w (count,) − average). count is a multiple of the vector width.
  void (*average)(void* average, const void* w, double rest, std::ptrdiff_t count);

  // --- Penalties and limits of norms ---

  // g (count,) += l2·w + l1·sign(w); count is a multiple of the vector width.
  void (*penalize)(double l1, double l2, const void* w, void* g, std::ptrdiff_t count);
  // a (count,) *= factor; count is a multiple of the vector width.
  void (*scale)(double factor, void* a, std::ptrdiff_t count);
  // The sum of the squares of a (m, n).
  double (*square_total)(const void* a, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n);
  // out (n,) = the sums of the squares of the columns of a (m, n).
  void (*column_squares)(const void* a, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n,
                         double* out);
  // Column j of a (m, n) *= factor[j].
  void (*scale_columns)(const double* factor, void* a, std::ptrdiff_t ld, std::ptrdiff_t m,
                        std::ptrdiff_t n);
  // factor (n,): limit / √Σ squares (groups, n) for norms above the limit, 1 for others. Returns
  // whether one is not 1.
  int (*unit_factors)(const double* squares, std::ptrdiff_t groups, std::ptrdiff_t n, double limit,
                      double* factor);

  // --- Others ---

  // out (4·blocks,): the words of blocks 0, 1, … of Philox 4x32-10 with counter (block, row, epoch,
  // stream).
  void (*philox)(uint64_t seed, uint32_t row, uint32_t epoch, uint32_t stream,
                 std::ptrdiff_t blocks, uint32_t* out);
  // Independent FMA without loads, to measure the peak rate of the processor. Returns the number of
  // floating-point operations.
  double (*multiply_add)(std::ptrdiff_t rounds);
};

// The most pairs of k in a product of bfloat16 that reads A by column.
enum { COLUMN_PAIRS = 512 };

// Products of float32 matrices whose elements are first rounded to bfloat16: to nearest, ties to
// even. Sums are float32. Subnormal numbers count as zero.
//
// A pair is 32 bits: two bfloat16 values, the first in the lower half. B lies in panels of 32
// columns, one after the other, each (k, 32); the last may have 16. n is rounded up to a multiple
// of 16.
struct Bf16Kernels {
  double gain;  // speed relative to dense products of float32, approximately

  // As Kernels::matmul, on pairs of consecutive k: k and lda count pairs; ldb is the distance from
  // panel to panel. With by_column, k is at most COLUMN_PAIRS. AMX sums the first and the second
  // elements of each 16 pairs separately, before they are added to the sum.
  void (*matmul)(const void* a, std::ptrdiff_t lda, int by_column, const void* b,
                 std::ptrdiff_t ldb, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                 std::ptrdiff_t n, std::ptrdiff_t k, int finish, const void* bias,
                 const Step* step);
  // Rounds src (m, n), which is accessed exactly. rows (m, n / 2): pairs along the rows. pairs (m /
  // 2, n): pairs along the columns. Either may be null. Halves are rounded up, n to a multiple of
  // 16; elements outside src are 0. ``pairs`` has ldp elements from row to row and ``panel`` from
  // the first columns of a panel to those of the next: in panels ldp is 32, in plain rows panel is
  // 32.
  void (*round_rows)(const float* src, std::ptrdiff_t lds, std::ptrdiff_t m, std::ptrdiff_t n,
                     void* rows, std::ptrdiff_t ldr, void* pairs, std::ptrdiff_t ldp,
                     std::ptrdiff_t panel);
  // Columns from … from + m of dst (n / 2, …), in panels ldd apart, become the transpose of src (m,
  // n), rounded to pairs along its rows. m is rounded up to a multiple of 16; from is a multiple of
  // 16.
  void (*round_transpose)(const float* src, std::ptrdiff_t lds, std::ptrdiff_t m, std::ptrdiff_t n,
                          void* dst, std::ptrdiff_t ldd, std::ptrdiff_t from);
  // dst (count,) = src (count,) rounded to bfloat16, stored as float32. count is a multiple of 16;
  // dst may be src.
  void (*round_values)(const float* src, float* dst, std::ptrdiff_t count);
};

// Instruction sets, from the lowest to the highest: isa is 0 … isa_count() − 1. A set is usable if
// it was compiled in and the processor has it.
// What codes c of one byte stand for: fma(c, high, c·low), with numbers of T.
struct Codes {
  double high, low;
};

// Rows of codes (codes.cpp), of a type T.
struct CodeKernels {
  // As Kernels::gather, of rows of codes, which lie next to each other in a row.
  void (*decode)(const Codes* codes, const uint8_t* x, std::ptrdiff_t row_stride,
                 const uint32_t* order, std::ptrdiff_t m, std::ptrdiff_t n, void* out,
                 std::ptrdiff_t ldo, const uint32_t* next, std::ptrdiff_t known, uint64_t* marks);
  // out (m, n): the codes of rows of T, which lie next to each other in a row. Returns the index of
  // the first row that codes do not decode to, in every bit, or m.
  std::ptrdiff_t (*encode)(const Codes* codes, const char* x, std::ptrdiff_t row_stride,
                           std::ptrdiff_t m, std::ptrdiff_t n, uint8_t* out);
};

int isa_count();
const char* isa_name(int isa);
bool isa_usable(int isa);
// The name of a loss in PYNN_LOSSES.
const char* loss_name(int loss);
// Columns of PYNN_ACTIVATIONS.
const char* activation_name(int activation);
bool slope_needs_z(int activation);
const Kernels* kernels(int isa, int dtype);
const CodeKernels* code_kernels(int isa, int dtype);
// The bfloat16 kernels of a set, or null if they were not compiled in or the processor lacks them.
const Bf16Kernels* bf16_kernels(int isa);

}  // namespace pynn
