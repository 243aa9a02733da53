// The vector kernels, as one table of functions for each instruction set and dtype.
//
// Matrices are row-major with a leading dimension (elements from row to row). Inside the core every
// leading dimension is a multiple of the vector width and the columns past the last are pads: zero
// in every operand, and kept zero by every kernel, so that inner loops need no masks. Pointers are
// untyped because one text (the passes in _core.pyx) serves both dtypes; each table knows its own.
//
// What a kernel touches: rows of n up to whole vectors, the last row too; those that take a number of
// rows and ld alone, activate and the z of loss: m·ld elements. Exact to the element are
// A of the matrix products, z and bias of matmul_narrow, x and order of gather, lists, targets, and
// what there is one of for each row. What activate and loss find in pads does not matter. No operand
// needs more alignment than its elements, and x of gather none. tests/kernels.cpp holds them to it.
//
// Contract on bits: the value of an element never depends on m, on the tile that it lands in, or on
// how rows or columns were shared out among threads. Sums over k run upwards with one accumulator
// for each element (matmul) or for each lane (matmul_narrow).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pynn {

enum Dtype : int { F32, F64, N_DTYPES };
enum Source : int { SOURCE_UINT8, SOURCE_FLOAT32, SOURCE_FLOAT64 };
enum Activation : int {
  IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, GELU, SOFTPLUS, SOFTMAX, EXP
};
enum Loss : int { CROSS_ENTROPY, BINARY_CROSS_ENTROPY, MEAN_SQUARED_ERROR, POISSON };
enum Rule : int { RULE_SGD, RULE_MOMENTUM, RULE_NESTEROV, RULE_RMSPROP, RULE_ADAGRAD, RULE_ADAM };

// How matmul ends: C = A·B, C = bias + A·B, C += A·B, or C -= rate·(A·B + l2·C). With matmul_sparse it may be
// Adam's update as well, with the gradient A·B or C + A·B, of weights and moments that lie as the step says.
enum Finish : int { FINISH_STORE, FINISH_BIAS, FINISH_ADD, FINISH_SGD, FINISH_ADAM, FINISH_ADD_ADAM };

// Coefficients of one optimizer step; what each rule reads is in kernels.cpp. For FINISH_ADAM how many bytes
// from C the weights and the two moments are: rows of all are as far apart as C's.
struct Step {
  double rate, l2, decay, beta1, beta2, epsilon;
  std::ptrdiff_t w, s1, s2;
};

// Targets of a batch: labels, or rows of n_out values; the other pointer is null. Rows may have
// weights (or null). With least above 0, cross entropies are logarithms of rounded probabilities
// between least and 1 - least; else they are exact.
struct Targets {
  const int32_t* labels;
  const void* values;
  std::ptrdiff_t ld;
  const double* weights;
  double least;
};

struct Dropout {
  uint64_t seed;
  uint32_t epoch, stream, first_row, threshold;
  double scale;
};

// Memory of each thread's own, in which nothing lasts from one call of a kernel to the next.
enum { SCRATCH_BYTES = 704 * 1024 };
void* scratch();

// Rows whose marks gradient_marked can turn at a time.
enum { MARKED_ROWS = 512 };

struct Kernels {
  const char* isa;
  int width;    // elements in a vector
  int rows;     // rows of a matmul tile that is two vectors wide
  int sparse_cols;  // vectors of a row that matmul_sparse takes at a time
  int itemsize;

  // C (m, n) from A (m, k) and B (k, n). A is read as a[i·lda + p], or with by_column as
  // a[p·lda + i], which multiplies by the transpose of a row-major (k, m). n is rounded up to whole
  // vectors.
  void (*matmul)(const void* a, std::ptrdiff_t lda, int by_column, const void* b,
                 std::ptrdiff_t ldb, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                 std::ptrdiff_t n, std::ptrdiff_t k, int finish, const void* bias,
                 const Step* step);
  // Z (m, n) = bias + X (m, k) · Wᵀ with W given as (n, k): for few columns, where dot products
  // along k waste no lanes.
  void (*matmul_narrow)(const void* x, std::ptrdiff_t ldx, const void* wt, std::ptrdiff_t ldw,
                        void* z, std::ptrdiff_t ldz, std::ptrdiff_t m, std::ptrdiff_t n,
                        std::ptrdiff_t k, const void* bias);
  // The same, of fewer columns than a vector has, where only those vectors of a row of x count that are
  // marked. Marks are (ldx / width + 63) / 64 words for each row, a bit for each vector, the lowest
  // first. What is not marked is zero, and may meet a weight, which is then to be
  // finite.
  void (*narrow_marked)(const void* x, std::ptrdiff_t ldx, const uint64_t* marks, const void* wt,
                        std::ptrdiff_t ldw, void* z, std::ptrdiff_t ldz, std::ptrdiff_t m,
                        std::ptrdiff_t n, std::ptrdiff_t k, const void* bias);
  // Columns start … stop, from whole vectors on, of C (m, …) from Dᵀ·X with D (k, m), X (k, …) and its
  // marks: the gradient of few outputs. m is less than a vector has lanes, k at most MARKED_ROWS.
  void (*gradient_marked)(const void* d, std::ptrdiff_t ldd, const void* x, std::ptrdiff_t ldx,
                          const uint64_t* marks, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                          std::ptrdiff_t start, std::ptrdiff_t stop, std::ptrdiff_t k, int finish,
                          const Step* step);
  // Which of the n values in each of m rows of x are not zero: their columns, in order, at
  // list + i·list_ld, and in starts[q·starts_ld + i] how many of them lie before column q·part.
  // A list needs room for n columns and, what is written beside, a vector more or eight; a part is a
  // whole number of vectors.
  void (*find_nonzero)(const void* x, std::ptrdiff_t ldx, std::ptrdiff_t m, std::ptrdiff_t n,
                       std::ptrdiff_t part, uint16_t* list, std::ptrdiff_t list_ld,
                       uint32_t* starts, std::ptrdiff_t starts_ld);
  // matmul where row i of A counts only at p = list[i·list_ld + from[i]] … up to to[i], in that
  // order, and reads A as a[i·a_row + p·a_step]. Skipping zeros leaves sums of finite numbers as they
  // are, so the result is that of matmul; a NaN that would only have been multiplied by zeros is not
  // seen.
  void (*matmul_sparse)(const void* a, std::ptrdiff_t a_row, std::ptrdiff_t a_step,
                        const uint16_t* list, std::ptrdiff_t list_ld, const uint32_t* from,
                        const uint32_t* to, const void* b, std::ptrdiff_t ldb, void* c,
                        std::ptrdiff_t ldc, std::ptrdiff_t m, std::ptrdiff_t n, int finish,
                        const void* bias, const Step* step);
  // C (…, n) += Aᵀ·(scale·D) with A (m, …) and D (m, n), where row i of A counts only at p =
  // list[i·list_ld + from[i]] … up to to[i]: the gradient of few columns. Row by row, so that sums run
  // upwards.
  void (*matmul_scatter)(const void* a, std::ptrdiff_t lda, const uint16_t* list,
                         std::ptrdiff_t list_ld, const uint32_t* from, const uint32_t* to,
                         const void* d, std::ptrdiff_t ldd, void* c, std::ptrdiff_t ldc,
                         std::ptrdiff_t m, std::ptrdiff_t n, double scale);
  // dst (n, m) = src (m, n)ᵀ; m is rounded up to whole vectors of dst, which get zeros.
  void (*transpose)(const void* src, std::ptrdiff_t lds, void* dst, std::ptrdiff_t ldd,
                    std::ptrdiff_t m, std::ptrdiff_t n);
  // out (n,) = Σ rows of d (m, n), upwards; add says whether out already holds a part of the sum.
  void (*column_sum)(const void* d, std::ptrdiff_t ldd, std::ptrdiff_t m, std::ptrdiff_t n,
                     void* out, int add);
  // Rows of the data set as floats. Strides are in bytes; order may be null (rows as they stand).
  // Meanwhile the rows next[0], … of which ``known`` are known, are fetched into the cache. Where marks
  // is not null it gets those of out.
  void (*gather)(int source, const char* x, std::ptrdiff_t row_stride, std::ptrdiff_t col_stride,
                 const uint32_t* order, std::ptrdiff_t m, std::ptrdiff_t n, void* out,
                 std::ptrdiff_t ldo, const uint32_t* next, std::ptrdiff_t known, uint64_t* marks);
  // z becomes f(z); where slope is not null it gets f'(z).
  void (*activate)(int activation, void* z, void* slope, std::ptrdiff_t ld, std::ptrdiff_t m,
                   std::ptrdiff_t n);
  // d *= f'(z), from a = f(z), for the activations whose slope follows from a.
  void (*times_slope)(int activation, void* d, const void* a, std::ptrdiff_t ld, std::ptrdiff_t m);
  // d *= s.
  void (*multiply)(void* d, const void* s, std::ptrdiff_t ld, std::ptrdiff_t m);
  // a and slope are multiplied by scale where a unit stays and by 0 where it is dropped.
  void (*dropout)(void* a, void* slope, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n,
                  const Dropout* how, std::ptrdiff_t row);
  // z (m, n) becomes dz·scale, times the row's weight, where gradient is set; each row's loss, times
  // its weight, and whether it is right.
  void (*loss)(int loss, int output, void* z, std::ptrdiff_t ld, std::ptrdiff_t m,
               std::ptrdiff_t n, const Targets* t, int gradient, double scale, double* row_loss,
               double* row_right);
  // Copy rows of n elements to where nobody looks for them soon: past the caches, if the processor can.
  void (*copy_far)(const void* from, std::ptrdiff_t ldf, void* to, std::ptrdiff_t ldt, std::ptrdiff_t m,
                   std::ptrdiff_t n);
  // out (m,) = Σ over the n values of each row of their squares.
  void (*square_sum)(const void* w, std::ptrdiff_t ld, std::ptrdiff_t m, std::ptrdiff_t n,
                     double* out);
  // One optimizer step on count elements, a whole number of vectors.
  void (*update)(int rule, const Step* step, void* w, const void* g, void* s1, void* s2,
                 std::ptrdiff_t count);
  // Words of Philox 4x32-10: those of blocks 0, 1, … of (row, epoch, stream), 4·blocks of them.
  void (*philox)(uint64_t seed, uint32_t row, uint32_t epoch, uint32_t stream,
                 std::ptrdiff_t blocks, uint32_t* out);
  // Fused multiplications and additions without end: the most that the processor can do, to measure
  // the rest by. Returns how many operations so many rounds were.
  double (*multiply_add)(std::ptrdiff_t rounds);
};

// Pairs of k at most where a product of bfloat16 reads A by column.
enum { COLUMN_PAIRS = 512 };

// Products of float32 matrices whose values are first rounded to bfloat16: to the nearest, ties to
// even. Sums are float32. Denormal numbers count as zero. A pair is 32 bits: two bfloat16 values, the
// first in the lower half. n and what is rounded up to whole vectors are those of float32.
// B lies in panels of 32 columns, the rows of a panel one after the other; the last may be half.
struct Bf16Kernels {
  double gain;  // over dense products of float32, about

  // As that of float32, on pairs of consecutive k: k and lda count pairs, ldb those from panel to
  // panel. By column k is at most COLUMN_PAIRS. With AMX the first
  // and the second of each sixteen pairs are added up apart, and then to the sum.
  void (*matmul)(const void* a, std::ptrdiff_t lda, int by_column, const void* b,
                 std::ptrdiff_t ldb, void* c, std::ptrdiff_t ldc, std::ptrdiff_t m,
                 std::ptrdiff_t n, std::ptrdiff_t k, int finish, const void* bias,
                 const Step* step);
  // src (m, n), of which exactly that is read, as rows (m, n / 2) of pairs along its rows, and as
  // pairs (m / 2, n) along its columns; either may be null. Halves are rounded up, n to whole vectors
  // of src; what is not in src is zero. Pairs lie ldp from row to row and ``panel`` from the columns
  // of one panel to those of the next: ldp is 32 in panels, and panel is 32 in plain rows.
  void (*round_rows)(const float* src, std::ptrdiff_t lds, std::ptrdiff_t m, std::ptrdiff_t n,
                     void* rows, std::ptrdiff_t ldr, void* pairs, std::ptrdiff_t ldp,
                     std::ptrdiff_t panel);
  // dst (n / 2, …), in panels ldd apart: its columns from … from + m become the transpose of such rows
  // of pairs. m is rounded up to whole vectors; from is a whole number of them.
  void (*round_transpose)(const float* src, std::ptrdiff_t lds, std::ptrdiff_t m, std::ptrdiff_t n,
                          void* dst, std::ptrdiff_t ldd, std::ptrdiff_t from);
  // dst = src, each value rounded and a float32 still; count is a whole number of vectors, and both
  // may be the same.
  void (*round_values)(const float* src, float* dst, std::ptrdiff_t count);
};

// Instruction sets, from the lowest to the highest. A set is usable if it was compiled in and this
// machine has it.
int isa_count();
const char* isa_name(int isa);
bool isa_usable(int isa);
const Kernels* kernels(int isa, int dtype);
// What goes with a set, where it was compiled in and this machine has it, or null.
const Bf16Kernels* bf16_kernels(int isa);

}  // namespace pynn
