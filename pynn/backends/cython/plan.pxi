# The plan of a run: every size, setting, choice and pointer that the passes and the loop use.
#
# T is the network's dtype, float or double. One code serves both, so pointers to T are char*, and
# ``at`` computes addresses from the bytes of an element. n is the number of rows of the data set,
# rows that of a chunk (a batch, or one of the equal parts of a large one).

cdef enum:
    MAX_LAYERS = 64         # the struct holds an array of layers
    MAX_VECTORS = 4         # MAX_SLOTS of kernels.h, and an average of the parameters
    MAX_ARRAYS = 4          # parameters of a layer: weights; biases, scale and shift
    # Rows of a chunk at most. A larger batch is processed in equal parts, whose gradients are
    # added: more rows would not make the products faster, but h, z and dz larger.
    MAX_ROWS = 512
    ALIGNMENT = 64          # bytes of a cache line, and of the widest vector
    # Bytes of gradient that a thread computes before it updates the weights: it should stay in L2
    # beside the weights and the optimizer slots, with Adam 4 x 512 KiB in all.
    BLOCK_BYTES = 512 * 1024
    # Rows of a block if dz does not fit in L2: a taller block reads dz less often.
    WIDE_ROWS = 256
    CACHE_BYTES = 1024 * 1024       # L2 cache of a core: 1 MiB on a Zen 4, 2 MiB on a Xeon
    PANEL = 32              # columns of a panel of bf16 pairs; see kernels.h

    # --- Reading x ---
    # Bytes of a chunk's h at most, unless that is less than MIN_ROWS rows: 512 rows of 32,768
    # floats.
    GATHER_BYTES = 64 * 1024 * 1024
    # As GATHER_BYTES, for predictions from compressed rows: they read each row once, so h stays in
    # L2.
    SPREAD_BYTES = 2 * 1024 * 1024
    MIN_ROWS = 16
    # Bytes of h and z of a chunk of a prediction at most, a quarter of L2, which holds the weights
    # too, unless these exceed it.
    PREDICTION_BYTES = 512 * 1024
    FETCH_BYTES = 128 * 1024        # of x prefetched: 1/8 of L2, which holds the weights too
    # Rows of x are compressed, or codes; the other sources are in kernels.h.
    SOURCE_SPARSE = 100
    SOURCE_CODES = 101

    # --- Products that skip zeros ---
    # Inputs, or rows of a batch, per part of a sparse product: 64 rows of a panel of eight AVX-512
    # vectors are 32 KiB, an L1 cache.
    SPARSE_PART = 64
    # A part with fewer non-zeros per row reuses nothing in L1, so parts then have more inputs.
    MIN_PART_NONZERO = 8
    SPARSE_GROUP = 65536    # lists hold columns as 16 bits: modulo this
    # Gradient rows whose non-zeros within a part of the batch are listed at a time: 128 x 64
    # floats are 32 KiB, an L1 cache.
    TURNED_ROWS = 128
    TURNED_LD = SPARSE_PART + 32    # uint16 of a list; find_nonzero writes up to a vector more
    # A gradient whose rows have at most these bytes, three AVX-512 vectors, is added to in place.
    SCATTER_BYTES = 192
    # Rows of a batch up to which SGD scatters into the weights themselves. Each weight is then
    # rounded once per row that has its input, instead of once per batch.
    SCATTER_ROWS = 16
    COUNT_EVERY = 16        # chunks between two counts of zeros in layers that do not skip them

    # --- Choices between kernels ---
    DOT_ROWS = 32           # rows of a chunk up to which dz · wᵀ may do without a transpose of w
    # Split by output columns instead of batch rows when the weights exceed COLUMN_BYTES, half of an
    # L2, and a thread would get at most COLUMN_ROWS rows.
    COLUMN_BYTES = 512 * 1024
    COLUMN_ROWS = 32
    TRANSPOSED_ROWS = 256   # compressed rows from which on a prediction transposes a narrow w
    DX_ROWS = 32            # rows of the gradient of x that a thread computes at a time
    # Blocks per thread into which a prediction is divided by rows, or each layer by columns. A thread
    # that loses its core delays the others by the time of a block, but smaller blocks read the
    # weights, or x, more often.
    ROW_CLAIMS = 8
    COLUMN_CLAIMS = 2
    CLAIM_ROWS = 32         # rows of a block at least
    CLAIM_VECTORS = 4       # vectors of columns of a block at least
    LAST_PHASE = 0xFFFFFFFF # of ``Plan.claims``: nothing more will be offered
    # Predictions for at most this many rows use the weights in place: a copy takes longer than the
    # cache misses of rows that are not padded.
    DIRECT_ROWS = 512
    DIRECT_LANES = 64       # the same for layers whose transpose multiplies many rows faster
    DENSITY_ROWS = 64       # rows of x that are searched for zeros before a training,
    DENSITY_GLANCE = 8      # and before a prediction
    # Plans of predictions that an engine keeps for later ones, with arenas of at most KEPT_BYTES.
    KEPT_PLANS = 4
    KEPT_BYTES = 4 * 1024 * 1024
    # Predictions after which a plan is made again, since zeros of x may have become more or fewer.
    PLAN_USES = 100

    # --- Copies ---
    PACK_BYTES = 4 * 1024 * 1024    # a smaller copy is over before a second thread is awake
    # Bytes of parameters that are updated before they are averaged, while in L1.
    AVERAGE_BYTES = 8 * 1024
    CHECK_ROWS = 8          # rows of a copy checked for finite values at a time, while in L1
    # Matrices of at least FAR_BYTES, more than an L3 cache usually holds, with rows of at least
    # FAR_ROW bytes, two pages, are copied with non-temporal stores.
    FAR_BYTES = 64 * 1024 * 1024
    FAR_ROW = 8 * 1024

    # Counters per (thread, layer): 8 of 8 bytes fill a cache line, which avoids false sharing.
    COUNTERS = 8
    MAX_BALANCED = 128      # threads; larger teams share work equally

# Streams of the random numbers, as in spec/philox.py.
cdef enum:
    DROPOUT_STREAM = 1              # of the first hidden layer
    NOISE_STREAM = 1 << 24          # of the inputs; the next one is that of the first hidden layer
cdef uint32_t INPUT_DROPOUT_STREAM = 0xFFFFFFFDu

# Phases of a step, for a profile. GRADIENT includes SGD's update where the product applies it.
cdef enum:
    READ, FORWARD, LOSS, BACKWARD, GRADIENT, UPDATE, TRANSPOSE, WAIT, N_PHASES

_PHASES = ("read", "forward", "loss", "backward", "gradient", "update", "transpose", "wait")

# Two kinds of work that threads share, each with shares of its own.
cdef enum:
    BATCH_ROWS, WEIGHTS, N_WORKS

# Work and time. Those without a derivation were chosen by measuring.
cdef double FLOPS_A_THREAD = 250e3  # of a chunk, per thread: with fewer, synchronising costs more
cdef double SHORT_SWEEP = 100e6     # FLOPs of a prediction that ends before a second thread wakes
cdef double READ_FLOPS = 8          # FLOPs in the time of reading a byte of weights from memory
cdef double LONG_CHUNK = 1e9        # from this many FLOPs per chunk, skip the initial trials
cdef double SHORT_CALL = 1e6        # FLOPs of a prediction that keeps the GIL: it takes microseconds
cdef double SLICE_SECONDS = 0.05    # between two checks for signals: Ctrl-C acts at once
cdef double TRIAL_SECONDS = 0.002   # length of a trial of one number of threads
cdef double TRIAL_EVERY = 0.8       # seconds between trials: 3 of 2 ms cost less than 1 %
cdef double TRIAL_FLOPS = 1e9       # one second between trials per this many FLOPs of a chunk
cdef double MARGIN = 1.05           # one thread is preferred if faster than all by this factor
cdef double UNEVEN = 1.02           # slowest thread's time over the mean, above which shares change
cdef double CHECK_FLOPS = 1e7       # FLOPs between two readings of the clock: 1 ms at 10 GFLOP/s
cdef double CLIP_EPSILON = 1e-6     # added to the norm of a gradient, as in PyTorch
cdef double FAR_COST = 1.8          # vector FMAs per non-zero vector, at least, if w exceeds L2


# Whether a product of a hidden layer may skip the zeros of an operand, and whether it does. Thread
# 0 writes ``on`` between the barriers, while no thread reads it.
cdef struct Skip:
    bint may, on

# The non-zero elements of each row of a chunk: their columns, ascending, in parts of equal width.
cdef struct Lists:
    uint16_t* columns       # (rows, ld), modulo SPARSE_GROUP
    Py_ssize_t ld
    uint32_t* starts        # (parts + 1, rows): index in ``columns`` where each part begins
    Py_ssize_t part, parts  # columns of a part; number of parts

# Factor on the learning rate, coupled and decoupled decay of one array of parameters.
cdef struct Group:
    double rate, decay, decoupled

cdef struct Layer:
    # Shape
    Py_ssize_t n_in, n_out  # units
    Py_ssize_t ld_in, ld    # leading dimensions of h and of z: n_in and n_out, padded
    Py_ssize_t ld_w         # leading dimension of w: ld, or n_out if direct
    Py_ssize_t ld_h         # leading dimension of h: ld_in, or that of x if it is read in place
    int activation
    double parameter        # of the activation
    double dropout          # probability that a unit is dropped
    double noise            # standard deviation of what is added to f(z)
    # Kernels
    bint bf16               # operands of the products are rounded to bfloat16
    bint lanes              # z is summed as in narrow.h: one sum per lane of k
    bint narrow             # of such a layer w is stored transposed (n_out, ld_in), and wt is not
    bint direct             # w is in the caller's flat vector, with rows of n_out
    bint shared             # w, b and w_pairs are those of ``Plan.packed``
    bint dots               # dz · wᵀ by dot products with the rows of w; wt is not stored
    bint by_columns         # threads share its outputs instead of the rows of the chunk
    Group group[MAX_ARRAYS]     # of the weights, and of each row of b
    bint frozen             # its parameters and their optimizer slots stay as they are
    bint residual           # h is added to f(z)
    bint normed_before      # z is normalised before the activation,
    bint normed_after       # f(z) after it
    bint centers            # by layer norm; otherwise by rms norm
    bint over_rows          # by batch norm
    double epsilon
    double momentum         # of the running statistics
    bint unbiased           # running variance of m - 1 degrees of freedom
    Py_ssize_t vectors      # rows of b: biases; scale; shift
    bint keep_slope         # f'(z) is stored; otherwise it is computed from f(z)
    Skip skip_h, skip_dz    # zeros that the layer below, or this one, has switched off
    bint gradient_skips     # whether this chunk's gradient skips the zeros of h
    Py_ssize_t block        # rows of w whose gradient a thread computes at a time
    # Parameters and their gradient
    char *w                 # T (n_in, ld_w), or narrow: (n_out, ld_in)
    char *wt                # T (n_out, ld_in); bf16: pairs (n_out / 2, ld_in) in panels; or null
    char *b                 # T (vectors, ld)
    char *dw                # as w; null if the gradient of a block is enough
    char *db                # T (vectors, ld)
    char *sw[MAX_VECTORS]   # optimizer slots, then the average of the parameters; as w
    char *sb[MAX_VECTORS]   # the same, as b
    # Groups have k.width inputs, or outputs; the thread that updates one computes its sums.
    Py_ssize_t groups, bias_groups
    double *gradient_norms  # (groups + vectors·bias_groups,): Σg² per group; null without clip_norm
    double *unit_squares    # (groups, n_out): Σw² of each unit per group; null without max_norm
    double *squares         # (n_squares,): Σw² per row or, if narrow, per vector of columns
    Py_ssize_t n_squares
    # Rows of a chunk
    char *h                 # T (rows, ld_in): input of the layer; the z of the layer below
    char *z                 # T (rows, ld): h · w + b, then f(z) with norm, plus h if residual
    char *slope             # T (rows, ld): f'(z), or null
    char *mask              # T (rows, ld): factors of dropout if it follows a norm, or null
    char *kept              # slope, or the mask if there is one. In residual layers the backward pass
                            # puts the gradient of the outputs here, which is added to that of h
    char *normed            # T (rows, ld): normalised values, then their products with the gradient
                            # of scaled ones; or null
    char *inverse           # T (rows,): by what they were multiplied
    char *moments           # T (3, ld): mean, variance and factor 1 / √(variance + ε) of batch norm
    char *running           # T (4, ld): running mean and variance, and the averages of both
    char *passed            # T (rows, ld): gradient of scaled and shifted values, or null
    char *dz                # T (rows, ld); in the output layer it is z
    # Rounded to bfloat16: pairs of 4 bytes, or floats
    char *h16               # pairs (rows, ld_in / 2)
    char *h_pairs           # pairs (rows / 2, ld_in)
    char *dz16              # pairs (rows, ld / 2)
    char *dz_pairs          # pairs (rows / 2, ld) in panels
    char *w_pairs           # pairs (n_in / 2, ld) in panels
    char *w_rounded         # float (n_in, ld): of a first layer that skips zeros
    char *dz_rounded        # float (rows, ld): of a first layer that skips zeros

# Work of one thread, of one kind.
cdef struct Work:
    double amount           # rows of a batch, or weights
    double seconds          # that they took
    double not_finite       # 1: what was copied may hold values that are not finite
    double padding          # 32 bytes: a cache line holds both kinds of a thread

# What was learned about the team. An engine passes it from one trainer to the next.
cdef struct Trials:
    double pace[2]          # chunks per second: by all threads, by one
    int made                # trials made, of the three before a choice
    double worked           # seconds of all runs so far
    double due              # value of ``worked`` at which the next trials begin
    int team                # threads that the shares are for
    double shares[N_WORKS][MAX_BALANCED + 1]    # where each thread's share begins, from 0 to 1

cdef struct Data:
    Py_ssize_t n            # rows
    int source              # dtype of x, or SOURCE_SPARSE
    Codes codes             # what the bytes of SOURCE_CODES stand for
    const char* x           # (n, n_in), or the values of compressed rows
    Py_ssize_t x_row, x_col         # strides in bytes; compressed: x_col is the size of a value
    const int64_t* x_starts         # (n + 1,): where each compressed row begins
    const int32_t* x_columns        # columns of the compressed values, ascending within a row
    Py_ssize_t max_nonzero  # most non-zero values in a row of x
    const double* mean      # (n_in,) of standardised x, or null
    const double* inverse   # (n_in,): 1 / scale, or null
    const int32_t* labels   # (n,), or null
    const char* targets     # T (n, n_targets), or null
    const double* sample_weight     # (n,), or null
    bint missing            # targets may be NaN, which are left out
    uint32_t* order         # (n,): permutation of the rows, or null
    Py_ssize_t ahead        # places in the order from a row that is read to the one prefetched
    bint in_place           # products of the first layer read x itself instead of h
    bint checks             # x is checked while it is read: its elements must lie in
    double least, most      # these bounds
    bint wrong              # one does not

cdef struct Settings:
    bint training           # parameters are updated; of a tape: there is dropout and noise, and batch
                            # norms use the statistics of the rows
    bint tape               # the plan of a tape: rows stay, and gradients are not applied
    bint gradients          # gradients are computed
    int loss, output        # loss; activation of the output layer
    const double* loss_parameters   # LossFunction.numbers, and a 0
    bint decides            # outputs are classes
    bint independent        # targets are a yes or no for each output
    Py_ssize_t n_targets, per_target    # columns of the targets; outputs of each
    int rule, slots         # optimizer rule and the number of its slots
    int vectors             # slots, and one more if parameters are averaged
    double ema              # decay of the average of the parameters; 0 for none
    Py_ssize_t ema_offset   # updates that the optimizer had made when the average began
    Py_ssize_t batch_size
    double l2, weight_decay, momentum_decay
    double l1               # factor of Σ|w|; 0: none
    double clip_norm        # limit of the norm of the gradient; 0: none
    double max_norm         # limit of the norm of the weights of each unit; 0: none
    bint penalizes          # l1 and l2 are added to the gradient before the optimizer's step
    Step coefficients       # those of the optimizer that stay the same
    bint unscaled_epsilon   # Adam with ε added to √v̂ instead of √v
    bint direct             # wide layers may be direct
    bint answers            # of a prediction: threads claim blocks of rows, or columns
    # Convention of scikit-learn: sums instead of means over outputs, clipped probabilities, l2
    # divided by the weight of the batch, and an L2 term in its loss.
    bint sklearn
    bint by_rows            # convention of Keras: losses are divided by the number of rows
    double dz_factor, loss_factor   # on dz and on the loss; 1 otherwise
    double min_probability          # 0 otherwise
    uint64_t seed           # key of permutations, dropout and noise
    double input_dropout, input_noise   # of the inputs in training, as those of a layer
    bint watch              # stop before the update of a batch whose loss is not finite
    Py_ssize_t lowest       # the first layer that is not frozen: the backward pass ends at it

cdef struct Position:
    uint32_t epoch
    uint32_t first_row      # of a tape: place in the epoch of row 0, for dropout and noise
    const double* rates     # (steps,): learning rates
    Py_ssize_t first        # batch of the epoch that step 0 trains on
    Py_ssize_t steps, step  # batches to train on; batches done
    Py_ssize_t row          # place in the order of the next chunk
    Py_ssize_t updates      # made before step 0
    Py_ssize_t chunks       # done in all
    double rate             # learning rate of this update
    Step coefficients       # of this update, before those of the groups; l2 is that of the weights
    double momenta          # NAdam: product of the momenta of updates 1 … momenta_of
    Py_ssize_t momenta_of
    double ema_rest         # 1 - decay of the average in this update
    double batch_loss       # sum over the rows of the current batch so far
    double penalty          # L2 term of the current batch (scikit-learn)
    double loss_sum, correct_sum, weight_sum    # since the epoch began
    double correct_before   # correct_sum without the current, incomplete batch
    bint diverged           # stopped by ``watch``

cdef struct Buffers:
    char* arena             # one block of memory that holds all buffers and the layers' matrices
    int32_t* labels         # (rows,)
    char* targets           # T (rows, ld_targets), or null
    Py_ssize_t ld_targets
    double* row_loss        # (rows,)
    double* row_correct     # (rows,)
    double* row_weight      # (rows,), or null: all weigh 1
    double* batch_weight    # (batches of an epoch,): sums of row weights, or null
    char* zero_bias         # T (widest,): zeros
    Py_ssize_t widest       # the largest ld_in
    char* blocks            # (threads, block_bytes): gradient blocks
    double* factors         # (threads, widest_out): of the weights of each unit, or null
    Py_ssize_t widest_out   # the largest n_out, rounded up to a cache line
    size_t block_bytes

cdef struct Zeros:
    # First layer
    bint sparse             # it skips the zeros of x
    bint scatter            # its gradient is added row by row
    Lists nonzero           # of x
    int64_t* spread         # (rows,): the compressed row that each row of h holds, or -1
    uint64_t* marks         # (rows, mark_words): bits of the non-zero vectors of narrow x, or null
    Py_ssize_t mark_words
    size_t h_step           # bytes from one thread's copy of h to the next one's; 0: one for all
    # Hidden layers
    bint counts             # some product may skip zeros
    bint counting           # this chunk counts zeros also where they are not skipped
    Costs costs
    Lists hidden            # of h or dz of one layer at a time
    uint64_t* found         # (threads, layers, COUNTERS): non-zeros of h and of dz
    # Both
    char* turned            # (threads, turned_bytes): lists of gradient rows
    size_t turned_bytes

cdef struct Pace:
    int team_size, threads  # threads at most; threads of this slice
    Py_ssize_t row_unit     # shares of rows are multiples of it
    bint columns            # threads wait for each other within the passes: some layer is shared by
                            # output columns, or normalised over the rows
    bint balanced           # shares follow the times that threads take
    bint choosing           # whether to time one thread against all
    bint late_trials        # chunks are long: the first trial waits
    double trial_every      # seconds of work between trials
    double slice            # seconds of a slice at most
    double until            # time at which the slice ends
    bint stop               # the slice ends after this chunk
    Py_ssize_t check_every  # chunks between two readings of the clock
    Trials trials
    Work* work              # (team_size, N_WORKS): since the last balancing

# What the passes of a tape work on.
cdef struct Taped:
    Py_ssize_t rows         # of the batch
    Py_ssize_t first, end   # rows of this run
    bint reads              # whether x is read
    bint inputs             # whether the gradient of x is computed
    const char* given       # T (rows, n_out): a gradient
    char* out               # T (rows, …), or the flat gradient: results
    char* wt                # T (n_out, ld_in): transpose of the first layer's weights, or null
    bint transposed         # whether wt is up to date
    char* dx                # T (threads, DX_ROWS, ld_in)
    double scale            # of the gradient of the losses of the rows
    double* row_weight      # (rows,): for Buffers.row_weight while a loss has weights

# An update with a flat gradient.
cdef struct Given:
    char* parameters        # T (n_parameters,)
    char* gradient          # T (n_parameters,)
    char* slots[MAX_SLOTS]  # T (n_parameters,)

# A copy between a flat vector and padded storage.
cdef struct Copy:
    char* flat              # T (parameters of the network,)
    int slot                # optimizer slot, or -1 for parameters
    bint pack               # from the flat vector
    void (*task)(void* context, int part) noexcept nogil    # copies one of the parts

cdef struct Profile:
    double* spent           # (threads, layers, N_PHASES): seconds, or null
    double* last            # (threads, 8): time of each thread's last tick, in its own cache line

cdef struct Plan:
    const Kernels* k
    const Bf16Kernels* k16  # null: precision "full"
    const CodeKernels* coder
    Team* team
    Data data
    Settings settings
    Position position
    Buffers buffers
    Zeros zeros
    Pace pace
    Copy copy
    Profile profile
    Taped tape
    Given given
    char apart[64]          # another cache line: threads write ``claims`` while they read the rest
    Claims claims           # of the blocks of a prediction
    char apart_too[64]
    Py_ssize_t claim_rows   # rows of such a block; each thread has its own in h and z
    char* out               # T (n, n_out): outputs of a prediction, or null
    double flops            # of a row of x
    double weight_bytes     # of all layers
    const Plan* packed      # plan of the same network whose weights are packed already, or null
    Py_ssize_t rows         # of a chunk at most
    int n_layers
    Layer layer[MAX_LAYERS]


cdef inline char* at(const char* base, Py_ssize_t row, Py_ssize_t ld, Py_ssize_t column,
                     Py_ssize_t item) noexcept nogil:
    """Address of element (row, column) of a matrix of elements of ``item`` bytes."""
    return <char*>base + (row * ld + column) * item
