"""The vector kernels (csrc/kernels/kernels.h) and the thread team (csrc/team/team.h).

kernels.h documents every function. Here each has its shapes in one line: (m, n) is rows and
columns, ``ld…`` the elements from one row to the next, and void* the dtype of the table. Names that
Cython reserves are changed: ``from`` is ``begin`` here.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "kernels.h" namespace "pynn" nogil:
    cdef enum:
        F32, F64, N_DTYPES
        SOURCE_UINT8, SOURCE_FLOAT32, SOURCE_FLOAT64
        IDENTITY, RELU, SOFTMAX, N_ACTIVATIONS    # activation_name has the names of all activations
        MEAN_SQUARED_ERROR, N_LOSSES    # loss_name has the names of all losses
        RULE_SGD, RULE_MOMENTUM, RULE_NESTEROV, RULE_RMSPROP, RULE_ADAGRAD, RULE_ADAM
        RULE_AMSGRAD, RULE_NADAM, RULE_LION
        RULE_RMSPROP_MOMENTUM, RULE_RMSPROP_CENTERED, RULE_RMSPROP_BOTH
        MAX_SLOTS               # state vectors of a rule at most
        FINISH_STORE, FINISH_BIAS, FINISH_ADD, FINISH_SGD, FINISH_ADAM, FINISH_ADD_ADAM
        MARKED_ROWS             # the most rows that gradient_marked takes

    # Coefficients of one optimizer step.
    cdef struct Step:
        double rate, l2, decay, beta1, beta2, epsilon
        double gradient_rate    # NAdam's factor on the gradient
        double inside           # added inside the root of RMSProp and Adagrad
        Py_ssize_t w, s1, s2    # FINISH_ADAM: bytes from an element of C to its weight and moments

    # Targets of the rows of a batch: labels or values.
    cdef struct Targets:
        const int32_t* labels   # (m,), or null
        const void* values      # (m, ld), or null
        Py_ssize_t ld
        const double* weights   # (m,), or null
        double least            # above 0: probabilities are clipped to least … 1 - least
        const double* parameters        # of the loss
        Py_ssize_t per_target   # outputs of each target
        int decides             # outputs are classes
        int independent         # values are a yes or no for each output
        int missing             # values may be NaN, which are left out

    cdef struct Dropout:
        uint64_t seed
        uint32_t epoch, stream, first_row, threshold
        double scale            # of the units that are kept

    cdef struct Noise:
        uint64_t seed
        uint32_t epoch, stream, first_row
        double deviation

    cdef struct Kernels:
        const char* isa
        int width               # elements of a vector
        int rows                # rows of a matmul tile of two vectors
        int sparse_cols         # vectors of a row that matmul_sparse computes at a time
        int itemsize            # bytes of an element
        # C (m, n) = A (m, k) · B (k, n); by_column: A is stored as (k, m)
        void (*matmul)(
            const void* a, Py_ssize_t lda, int by_column, const void* b, Py_ssize_t ldb,
            void* c, Py_ssize_t ldc, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
            int finish, const void* bias, const Step* step) noexcept nogil
        # Z (m, n) = bias + X (m, k) · Wᵀ, with wt (n, k), for few columns n
        void (*matmul_narrow)(
            const void* x, Py_ssize_t ldx, const void* wt, Py_ssize_t ldw,
            void* z, Py_ssize_t ldz, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
            const void* bias) noexcept nogil
        # matmul_narrow without the unmarked vectors of x; marks (m, words)
        void (*narrow_marked)(
            const void* x, Py_ssize_t ldx, const uint64_t* marks, const void* wt, Py_ssize_t ldw,
            void* z, Py_ssize_t ldz, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
            const void* bias) noexcept nogil
        # z (m, n) = bias + x (m, k) · w (k, n), w accessed exactly: the results of matmul_narrow
        void (*matmul_lanes)(
            const void* x, Py_ssize_t ldx, const void* w, Py_ssize_t ldw, void* z, Py_ssize_t ldz,
            Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void* bias) noexcept nogil
        # Columns start … stop of C (m, …) = Dᵀ · X, with D (k, m), X (k, …) and its marks
        void (*gradient_marked)(
            const void* d, Py_ssize_t ldd, const void* x, Py_ssize_t ldx, const uint64_t* marks,
            void* c, Py_ssize_t ldc, Py_ssize_t m, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t k,
            int finish, const Step* step) noexcept nogil
        # columns (m, list_ld) and starts (parts + 1, starts_ld) of the non-zeros of x (m, n)
        void (*find_nonzero)(
            const void* x, Py_ssize_t ldx, Py_ssize_t m, Py_ssize_t n, Py_ssize_t part,
            uint16_t* columns, Py_ssize_t list_ld,
            uint32_t* starts, Py_ssize_t starts_ld) noexcept nogil
        # C (m, n) = A · B, of A only the listed elements; (i, p) of A is a[i·a_row + p·a_step]
        void (*matmul_sparse)(
            const void* a, Py_ssize_t a_row, Py_ssize_t a_step,
            const uint16_t* columns, Py_ssize_t list_ld,
            const uint32_t* begin, const uint32_t* end, const void* b, Py_ssize_t ldb,
            void* c, Py_ssize_t ldc, Py_ssize_t m, Py_ssize_t n,
            int finish, const void* bias, const Step* step) noexcept nogil
        # matmul_lanes, of x only the listed elements
        void (*sparse_lanes)(
            const void* x, Py_ssize_t ldx, const uint16_t* columns, Py_ssize_t list_ld,
            const uint32_t* starts, Py_ssize_t starts_ld, Py_ssize_t part,
            const void* w, Py_ssize_t ldw, void* z, Py_ssize_t ldz,
            Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void* bias) noexcept nogil
        # C (…, n) += Aᵀ · (scale·D), with A (m, …), of A only the listed elements, and D (m, n)
        void (*matmul_scatter)(
            const void* a, Py_ssize_t lda, const uint16_t* columns, Py_ssize_t list_ld,
            const uint32_t* begin, const uint32_t* end, const void* d, Py_ssize_t ldd,
            void* c, Py_ssize_t ldc, Py_ssize_t m, Py_ssize_t n, double scale) noexcept nogil
        # dst (n, m) = src (m, n)ᵀ
        void (*transpose)(
            const void* src, Py_ssize_t lds, void* dst, Py_ssize_t ldd,
            Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # out (n,) = Σ rows of d (m, n)
        void (*column_sum)(
            const void* d, Py_ssize_t ldd, Py_ssize_t m, Py_ssize_t n,
            void* out, int add) noexcept nogil
        # out (m, n) = rows order[0 … m - 1] of x; strides in bytes; marks (m, words) or null;
        # rows next[0 … known - 1] are prefetched
        void (*gather)(
            int source, const char* x, Py_ssize_t row_stride, Py_ssize_t col_stride,
            const uint32_t* order, Py_ssize_t m, Py_ssize_t n, void* out, Py_ssize_t ldo,
            const uint32_t* next, Py_ssize_t known, uint64_t* marks) noexcept nogil
        # whether the elements of x (m, n) lie in [least, most]
        bint (*within)(
            int source, const char* x, Py_ssize_t row_stride, Py_ssize_t col_stride, Py_ssize_t m,
            Py_ssize_t n, double least, double most) noexcept nogil
        # as gather, without marks; an element x of column j becomes (x - mean[j]) · inverse[j]
        void (*gather_standardized)(
            int source, const char* x, Py_ssize_t row_stride, Py_ssize_t col_stride,
            const uint32_t* order, Py_ssize_t m, Py_ssize_t n, void* out, Py_ssize_t ldo,
            const uint32_t* next, Py_ssize_t known, const double* mean,
            const double* inverse) noexcept nogil
        # z (m, n) becomes f(z), slope (m, n) or null f'(z)
        void (*activate)(
            int activation, double parameter, void* z, void* slope, Py_ssize_t ld,
            Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # d (m, ld) *= f'(z), from a (m, ld) = f(z)
        void (*times_slope)(
            int activation, double parameter, void* d, const void* a, Py_ssize_t ld,
            Py_ssize_t m) noexcept nogil
        # d (m, ld) *= s (m, ld)
        void (*multiply)(void* d, const void* s, Py_ssize_t ld, Py_ssize_t m) noexcept nogil
        # as multiply, and s becomes the d of before
        void (*multiply_keeping)(void* d, void* s, Py_ssize_t ld, Py_ssize_t m) noexcept nogil
        # d (m, ld) += s (m, ld)
        void (*add)(void* d, const void* s, Py_ssize_t ld, Py_ssize_t m) noexcept nogil
        # z (m, n) becomes scale · ẑ + shift; normed (m, n) or null ẑ, inverse (m,) its factor
        void (*normalize)(
            int centers, double epsilon, void* z, void* normed, void* inverse, const void* scale,
            const void* shift, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # d (m, n) becomes the gradient of z, normed d · ẑ, passed (m, n) or null d
        void (*normalize_back)(
            int centers, void* d, void* normed, const void* inverse, const void* scale,
            void* passed, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # mean, variance and factor (n,) of the columns of z (m, n)
        void (*column_moments)(
            double epsilon, const void* z, void* mean, void* variance, void* factor,
            Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # z (m, n) becomes scale · ẑ + shift, normed (m, n) or null ẑ
        void (*normalize_columns)(
            void* z, void* normed, const void* mean, const void* factor, const void* scale,
            const void* shift, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # by_normed, total (n,) = Σ rows of d · normed and d (m, n)
        void (*column_products)(
            const void* d, const void* normed, void* by_normed, void* total,
            Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # d (m, n) becomes the gradient of z
        void (*normalize_columns_back)(
            void* d, const void* normed, const void* factor, const void* scale,
            const void* by_normed, const void* total, double count, Py_ssize_t ld, Py_ssize_t m,
            Py_ssize_t n) noexcept nogil
        # average (count,) += momentum · (correction · x - average)
        void (*blend)(
            void* average, const void* x, double momentum, double correction,
            Py_ssize_t count) noexcept nogil
        # a (m, n) and slope (m, n) or null, times scale or 0
        void (*dropout)(
            void* a, void* slope, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n,
            const Dropout* how, Py_ssize_t row) noexcept nogil
        # a (m, n) += deviation · N(0, 1)
        void (*noise)(
            void* a, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n, const Noise* how,
            Py_ssize_t row) noexcept nogil
        # row_loss (m,), row_right (m,); with gradient, z (m, n) becomes dz · scale
        void (*loss)(
            int loss, int output, double parameter, void* z, Py_ssize_t ld, Py_ssize_t m,
            Py_ssize_t n, const Targets* t, int gradient, double scale,
            double* row_loss, double* row_right) noexcept nogil
        # dst (m, n) = src (m, n), with non-temporal stores
        void (*copy_far)(
            const void* src, Py_ssize_t lds, void* dst, Py_ssize_t ldd,
            Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # out (m,) = Σ squares of each row of w (m, n)
        void (*square_sum)(
            const void* w, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n, double* out) noexcept nogil
        # w, g and the rule's state vectors (count,)
        void (*update)(
            int rule, const Step* step, void* w, const void* g, void** state,
            Py_ssize_t count) noexcept nogil
        # average (count,) += rest · (w (count,) - average)
        void (*average)(
            void* average, const void* w, double rest, Py_ssize_t count) noexcept nogil
        # g (count,) += l2·w + l1·sign(w)
        void (*penalize)(
            double l1, double l2, const void* w, void* g, Py_ssize_t count) noexcept nogil
        # a (count,) *= factor
        void (*scale)(double factor, void* a, Py_ssize_t count) noexcept nogil
        # Σ squares of a (m, n)
        double (*square_total)(
            const void* a, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # out (n,) = Σ squares of each column of a (m, n)
        void (*column_squares)(
            const void* a, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n, double* out) noexcept nogil
        # column j of a (m, n) *= factor[j]
        void (*scale_columns)(
            const double* factor, void* a, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n) noexcept nogil
        # factor (n,) from squares (groups, n); whether one is not 1
        int (*unit_factors)(
            const double* squares, Py_ssize_t groups, Py_ssize_t n, double limit,
            double* factor) noexcept nogil
        # out (4·blocks,)
        void (*philox)(
            uint64_t seed, uint32_t row, uint32_t epoch, uint32_t stream, Py_ssize_t blocks,
            uint32_t* out) noexcept nogil
        # runs `rounds` rounds of independent FMA and returns their floating-point operations
        double (*multiply_add)(Py_ssize_t rounds) noexcept nogil

    # Products of float32 values rounded to bfloat16, in pairs of consecutive k (32 bits).
    cdef struct Bf16Kernels:
        double gain             # speed relative to dense products of float32
        # C (m, n) = A (m, k) · B (k, n); k, lda count pairs, ldb those from panel to panel
        void (*matmul)(
            const void* a, Py_ssize_t lda, int by_column, const void* b, Py_ssize_t ldb,
            void* c, Py_ssize_t ldc, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
            int finish, const void* bias, const Step* step) noexcept nogil
        # rows (m, n / 2): pairs along the rows of src (m, n); pairs (m / 2, n): along its columns
        void (*round_rows)(
            const float* src, Py_ssize_t lds, Py_ssize_t m, Py_ssize_t n,
            void* rows, Py_ssize_t ldr, void* pairs, Py_ssize_t ldp,
            Py_ssize_t panel) noexcept nogil
        # columns first … first + m of dst (n / 2, …), in panels ldd apart, from src (m, n)
        void (*round_transpose)(
            const float* src, Py_ssize_t lds, Py_ssize_t m, Py_ssize_t n,
            void* dst, Py_ssize_t ldd, Py_ssize_t first) noexcept nogil
        # dst (count,) = src (count,), rounded and still float32
        void (*round_values)(const float* src, float* dst, Py_ssize_t count) noexcept nogil

    # A code c of one byte stands for fma(c, high, c·low).
    cdef struct Codes:
        double high, low

    cdef struct CodeKernels:
        # as gather, of rows of codes
        void (*decode)(
            const Codes* codes, const uint8_t* x, Py_ssize_t row_stride, const uint32_t* order,
            Py_ssize_t m, Py_ssize_t n, void* out, Py_ssize_t ldo, const uint32_t* next,
            Py_ssize_t known, uint64_t* marks) noexcept nogil
        # codes (m, n) of rows of x; the index of the first row that they do not decode to, or m
        Py_ssize_t (*encode)(
            const Codes* codes, const char* x, Py_ssize_t row_stride, Py_ssize_t m, Py_ssize_t n,
            uint8_t* out) noexcept nogil

    int isa_count()
    const char* isa_name(int isa)
    bint isa_usable(int isa)
    const char* loss_name(int loss)
    const Kernels* kernels(int isa, int dtype)
    const CodeKernels* code_kernels(int isa, int dtype)
    const Bf16Kernels* bf16_kernels(int isa)   # or null
    const char* activation_name(int activation)
    bint slope_needs_z(int activation)


cdef extern from "claims.h" namespace "pynn" nogil:
    cdef cppclass Claims:
        void offer(uint32_t phase)
        uint32_t phase()
        uint32_t claimed()
        int64_t claim(uint32_t phase, uint32_t count)   # a block, or -1
        void finish()
        uint32_t finished()


cdef extern from "team.h" namespace "pynn" nogil:
    cdef cppclass Team:
        # The size includes the caller, which is thread 0; the team may be smaller.
        @staticmethod
        Team* acquire(int size) except +
        @staticmethod
        void release(Team* team)
        @staticmethod
        Team* alone()           # of the caller only; need not be released
        int size()
        void run(void (*task)(void* context, int thread) noexcept nogil, void* context)
        void run_open(void (*task)(void* context, int thread) noexcept nogil, void* context)
        @staticmethod
        bint await_workers(bint wanted)
        void barrier(int thread)
        @staticmethod
        void rest(int turn)
    double seconds()            # of a monotonic clock
