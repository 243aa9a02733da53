cdef enum:
    MAX_LAYERS = 64
    # A batch of more rows goes through in equal chunks that add into the gradient.
    MAX_ROWS = 512
    # Bytes of gradient that a thread computes before it updates those weights: what stays in L2
    # beside the weights and the state of the optimizer.
    BLOCK_BYTES = 512 * 1024
    # Rows of a block whose product takes dz from afar, which is then read so much less often.
    WIDE_ROWS = 256
    ALIGNMENT = 64
    # Inputs, or rows of a batch, that a sparse product goes through at a time: so many rows of a
    # panel of eight vectors fit the nearest cache. Where fewer than FEW_LIT of so many inputs are
    # not zero, there is nothing to keep in it, and a part has more inputs.
    SPARSE_PART = 64
    FEW_LIT = 8
    # Batches of so many rows may do without a transpose of the weights.
    DOT_ROWS = 32
    # Threads share the outputs of layers with so many bytes of weights, if each had but so few rows.
    COLUMN_BYTES = 512 * 1024
    COLUMN_ROWS = 32
    # Rows of a gradient of so few bytes are added to in place, each row of the batch in turn.
    SCATTER_BYTES = 192
    # And those of so few rows to the weights themselves: a weight is then rounded as often as rows
    # of the batch have its input, rather than once.
    SCATTER_ROWS = 16
    # Rows of a gradient whose lists of what is not zero in a part of the batch are made at a time.
    TURNED_ROWS = 128
    TURNED_LD = SPARSE_PART + 32
    # Chunks from one count of the zeros that a layer multiplies to the next, if it does not skip them.
    COUNT_EVERY = 16
    # Lists hold columns as 16 bits, counted from the last multiple of this.
    SPARSE_GROUP = 65536
    # Bytes of x that are gathered at a time at most, if that leaves MIN_ROWS rows.
    GATHER_BYTES = 64 * 1024 * 1024
    # The same of compressed rows that need no gradient: what stays in cache.
    SPREAD_BYTES = 2 * 1024 * 1024
    MIN_ROWS = 16
    # Bytes of x that are fetched before they are needed, beside all else that a thread's cache holds.
    FETCH_BYTES = 128 * 1024
    PACK_BYTES = 4 * 1024 * 1024
    # The second cache of a core, or what it may be taken for.
    CACHE_BYTES = 1024 * 1024
    # Numbers of a thread and a layer in ``found``, in a line of their own.
    FOUND = 8
    # Rows of a copy that are looked at together, while they are in the nearest cache.
    LOOK_ROWS = 8
    # A matrix that is copied past the caches, and the least that its rows are to have.
    FAR_BYTES = 64 * 1024 * 1024
    FAR_ROW = 8 * 1024
    # So few rows are not worth a copy of the weights into whole vectors.
    DIRECT_ROWS = 16
    # Columns of a panel of what is rounded; see kernels.h.
    PANEL = 32
    # Where the rows of x are compressed: beside the sources of kernels.h.
    SOURCE_SPARSE = 100

# What a thread does in a step, for a profile. The gradient's is with SGD's update, if that is fused.
cdef enum:
    READ, FORWARD, LOSS, BACKWARD, GRADIENT, UPDATE, TRANSPOSE, WAIT, N_PHASES

_PHASES = ("read", "forward", "loss", "backward", "gradient", "update", "transpose", "wait")


cdef double FLOPS_A_THREAD = 250e3   # below this a further thread costs more than it does
cdef double SHORT_SWEEP = 100e6      # a prediction of less is over before a second thread is awake
cdef double LONG_CHUNK = 1e9         # such a chunk is not tried on one thread before the first trial is due
cdef double SLICE_SECONDS = 0.05     # how long the loop runs before it asks for signals
cdef double TRIAL_SECONDS = 0.002    # how long it runs to find out how fast it goes
cdef double MARGIN = 1.05            # by which one thread has to be faster than all
cdef double TRIAL_EVERY = 0.8        # seconds of work between two trials of the other number of threads,
cdef double FAR_COST = 1.8           # vectors that a value costs, at least, whose weights no near cache holds
cdef double TRIAL_FLOPS = 1e9        # and one for so many operations of a chunk, if that is more
cdef double UNEVEN = 1.02            # by which the slowest thread may be later than all on average

# Zeros in one operand of a product, and whether it skips them. Only thread 0 writes ``on``, while no
# thread reads it.
cdef struct Zeros:
    bint may, on

# What is not zero in each row of a chunk: its columns, by parts of so many.
cdef struct Lists:
    uint16_t* columns
    Py_ssize_t ld
    uint32_t* starts       # (parts + 1, rows)
    Py_ssize_t part, parts

cdef struct Layer:
    Py_ssize_t n_in, n_out, ld_in, ld, ld_w, block
    int activation
    bint narrow, keep_slope
    bint dots              # dz · wᵀ by dot products with the rows of w, and no transpose
    bint by_columns        # threads share its outputs, not the rows of the batch
    bint direct            # weights stay where they are, in rows of n_out
    Zeros in_h, in_dz      # of what the layers below and this one have switched off
    bint skips             # whether its gradient skips those in h
    double dropout
    char *w
    char *wt
    char *b
    char *dw
    char *db
    char *sw[2]
    char *sb[2]
    char *h
    char *z
    char *slope
    char *dz
    bint bf16              # operands of its products are rounded
    char *h16
    char *h_pairs
    char *w_pairs
    char *w_rounded
    char *dz16
    char *dz_pairs
    char *dz_rounded
    double *squares        # of weights: for each row or, of narrow layers, each vector of columns
    Py_ssize_t n_squares

# What a thread did: rows of a batch, or weights, and the seconds that they took.
cdef enum:
    BATCH_ROWS, WEIGHTS, N_WORKS
    MOST_BALANCED = 128    # larger teams share equally

cdef struct Work:
    double amount, seconds
    double in_doubt        # whether what it copied may not be finite
    double apart           # two of them fill a line

cdef struct Trials:
    double pace[2]         # chunks a second, by all and by one
    int made               # of the three that a choice takes
    double worked          # seconds, in all that share these
    double due             # at how many to try both again
    int team               # how many share a chunk, and where the share of each begins, of 1
    double shares[N_WORKS][MOST_BALANCED + 1]

cdef struct Plan:
    const Kernels* k
    const Bf16Kernels* k16  # null: precision "full"
    Team* team
    int n_layers, loss, output, threads, slots, rule
    bint gradients, training
    bint direct            # whether wide layers may be direct
    Py_ssize_t rows        # of a chunk, at most
    Py_ssize_t row_unit    # whole units of them for each thread
    Layer layer[MAX_LAYERS]
    # The arena, and what is carved from it beside the layers.
    char* arena
    int32_t* labels
    char* targets
    Py_ssize_t ld_targets
    char* zeros            # as many as the widest layer has inputs
    Py_ssize_t widest
    bint columns           # whether threads share the outputs of some layer
    double* row_loss
    double* row_right
    double* row_weight     # null: all count the same
    double* batch_weight   # their sums, for each batch of an epoch
    char* blocks           # a gradient block for each thread
    size_t block_bytes
    # Where most of x is zero: what is not, and turned round for each thread, the rows that are not, for
    # each column of a block.
    bint sparse, scatter
    uint64_t* marks        # or null: which vectors of each row of x, for a narrow layer, are not zero
    Py_ssize_t mark_words
    size_t h_step          # bytes from one thread's copy of x to the next one's, or 0: one for all
    Lists lit
    int64_t* spread        # compressed rows: which lies in each row of h, or -1
    char* turned
    size_t turned_bytes
    # The same of hidden layers, for one at a time.
    bint counts            # whether some hidden layer may skip zeros
    bint counting          # whether those are counted that it does not skip
    Costs costs
    Lists listed
    uint64_t* found        # (threads, layers, FOUND): values of h and of dz that were not zero
    # The data set.
    const char* x
    Py_ssize_t n, x_row, x_col
    int source
    const int64_t* x_starts   # compressed rows, and their columns, rising
    const int32_t* x_columns
    Py_ssize_t ahead          # rows of the order from one that is read to one that is fetched
    Py_ssize_t most_lit       # values that a row of x may have beside zeros
    const double* sample_weight
    const int32_t* y_labels
    const char* y_values
    uint32_t* order        # null: rows as they stand
    # Settings and position of a run.
    Step settings
    Step step_w
    Step step_b
    double weight_decay, l2
    # The convention of scikit-learn: the factors on dz and on loss that make sums of means, the least
    # probability that counts, and the L2 term of this batch, which is part of its loss.
    bint sums
    double gain, loss_gain, least, penalty
    bint unscaled_epsilon
    uint64_t seed
    uint32_t epoch
    const double* rates
    Py_ssize_t batch_size, first, steps, step, row, updates
    double loss_sum, right_sum, batch_loss, until
    double right_before   # right_sum without the chunks of a batch that is not whole yet
    Py_ssize_t check_every, chunks_done
    bint stop
    bint watch, diverged   # stop before an update whose batch has a loss that is not finite
    # The choice between one thread and all, made by measuring: chunks a second with each.
    bint choosing, tries_late
    double trial_every
    Trials trials
    int team_size
    bint balanced          # whether all share work by what they took for it
    Work* work             # (team_size, N_WORKS): since that was last looked at
    double slice           # seconds until then, at most
    char* out              # forward: (n, n_out), not padded
    char* flat             # pack and unpack
    int moved              # -1 for parameters, or which state of the optimizer
    bint packing
    # A profile: seconds (threads, layers, phases) and when each thread last looked, or null.
    double* spent
    double* looked


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef Py_ssize_t padded(const Kernels* k, Py_ssize_t n) noexcept nogil:
    """Whole vectors, and off multiples of 1 KiB, where the rows of a panel would share cache sets."""
    cdef Py_ssize_t ld = round_up(n, k.width)
    if ld * k.itemsize % 1024 == 0:
        ld += k.width
    return ld


cdef char* carve(char* base, size_t* used, size_t size) noexcept nogil:
    cdef size_t at = used[0]
    used[0] += round_up(size, ALIGNMENT)
    if base == NULL:
        return NULL
    return base + at


cdef inline Py_ssize_t panels(Py_ssize_t n) noexcept nogil:
    return (n + PANEL - 1) // PANEL


cdef inline Py_ssize_t panel_size(Py_ssize_t k) noexcept nogil:
    """Bytes of a panel of pairs; those of k are rounded up."""
    return (k + 1) // 2 * PANEL * 4


cdef void carve_lists(Plan* p, Lists* lists, Py_ssize_t values, Py_ssize_t parts, char* base,
                      size_t* used) noexcept nogil:
    """Room for lists of so many values and parts a row. They are written by whole vectors."""
    lists.ld = round_up(values, 32) + 32
    lists.columns = <uint16_t*>carve(base, used, p.rows * lists.ld * sizeof(uint16_t))
    lists.starts = <uint32_t*>carve(base, used, (parts + 1) * p.rows * sizeof(uint32_t))


cdef size_t lay_out(Plan* p, char* base) noexcept nogil:
    """Carve the arena at ``base``; with NULL, tell its size. One function, so that they agree."""
    cdef size_t used = 0, item = p.k.itemsize, largest = 0
    cdef Py_ssize_t w_size, half = (p.rows + 1) // 2
    cdef Layer* l
    cdef int i, s
    for i in range(p.n_layers):
        l = &p.layer[i]
        w_size = (l.n_out * l.ld_in if l.narrow else l.n_in * l.ld) * item
        if not l.direct:
            l.w = carve(base, &used, w_size)
        l.b = carve(base, &used, l.ld * item)
        l.wt = NULL
        if i > 0 and p.gradients and l.bf16:
            l.wt = carve(base, &used, panels(l.n_in) * panel_size(l.n_out))
        elif i > 0 and p.gradients and not l.narrow and not l.dots:
            l.wt = carve(base, &used, l.n_out * l.ld_in * item)
        for s in range(p.slots):
            l.sw[s] = carve(base, &used, w_size)
            l.sb[s] = carve(base, &used, l.ld * item)
        l.dw = NULL
        l.db = NULL
        if p.gradients:
            l.db = carve(base, &used, l.ld * item)
            if l.narrow or p.batch_size > p.rows or not p.training:
                l.dw = carve(base, &used, w_size)
            elif <size_t>(l.block * l.ld) * item > largest:
                largest = <size_t>(l.block * l.ld) * item
        if i > 0:
            l.h = p.layer[i - 1].z
        elif p.h_step:
            l.h = carve(base, &used, p.team_size * p.h_step)
        else:
            l.h = carve(base, &used, p.rows * l.ld_in * item)
        l.z = carve(base, &used, p.rows * l.ld * item)
        l.dz = NULL
        l.slope = NULL
        if p.gradients:
            if i < p.n_layers - 1:
                l.dz = carve(base, &used, p.rows * l.ld * item)
            else:
                l.dz = l.z
            if l.keep_slope:
                l.slope = carve(base, &used, p.rows * l.ld * item)
        l.h16 = l.h_pairs = l.w_pairs = l.w_rounded = NULL
        l.dz16 = l.dz_pairs = l.dz_rounded = NULL
        if l.bf16 and i == 0 and p.sparse:
            l.w_rounded = carve(base, &used, w_size)
            if p.gradients:
                l.dz_rounded = carve(base, &used, p.rows * l.ld * item)
        elif l.bf16:
            l.h16 = carve(base, &used, p.rows * l.ld_in * 2)
            l.w_pairs = carve(base, &used, panels(l.n_out) * panel_size(l.n_in))
            if p.gradients:
                l.h_pairs = carve(base, &used, half * l.ld_in * 4)
                l.dz_pairs = carve(base, &used, panels(l.n_out) * panel_size(p.rows))
                if i > 0:
                    l.dz16 = carve(base, &used, p.rows * l.ld * 2)
        l.squares = NULL
        if p.training and p.sums and p.l2 > 0:
            l.n_squares = l.ld_in // p.k.width if l.narrow else l.n_in
            l.squares = <double*>carve(base, &used, l.n_squares * sizeof(double))
    p.zeros = carve(base, &used, p.widest * item)
    p.labels = <int32_t*>carve(base, &used, p.rows * sizeof(int32_t))
    p.targets = NULL
    if p.y_values != NULL:
        p.targets = carve(base, &used, p.rows * p.ld_targets * item)
    p.row_loss = <double*>carve(base, &used, p.rows * sizeof(double))
    p.row_right = <double*>carve(base, &used, p.rows * sizeof(double))
    p.row_weight = NULL
    p.batch_weight = NULL
    if p.sample_weight != NULL:
        p.row_weight = <double*>carve(base, &used, p.rows * sizeof(double))
        p.batch_weight = <double*>carve(
            base, &used, (p.n + p.batch_size - 1) // p.batch_size * sizeof(double))
    p.block_bytes = round_up(largest, ALIGNMENT)
    p.blocks = carve(base, &used, p.threads * p.block_bytes)
    p.turned = NULL
    p.spread = NULL
    if p.source == SOURCE_SPARSE:
        p.spread = <int64_t*>carve(base, &used, p.rows * sizeof(int64_t))
    p.turned_bytes = 0
    if p.sparse:
        l = &p.layer[0]
        p.lit.parts = (l.n_in + p.lit.part - 1) // p.lit.part
        carve_lists(p, &p.lit, p.most_lit, p.lit.parts, base, &used)
        p.turned_bytes = round_up(
            2 * p.rows * sizeof(uint32_t) if p.scatter
            else l.block * (SPARSE_PART * sizeof(uint16_t) + 2 * sizeof(uint32_t)), ALIGNMENT)
    if p.mark_words:
        p.marks = <uint64_t*>carve(base, &used, p.rows * p.mark_words * sizeof(uint64_t))
    p.found = NULL
    if p.counts:
        carve_lists(p, &p.listed, p.widest, p.widest // SPARSE_PART + 1, base, &used)
        p.found = <uint64_t*>carve(base, &used, p.threads * p.n_layers * FOUND * sizeof(uint64_t))
        p.turned_bytes = max(p.turned_bytes, lay_out_turned(p, NULL, NULL))
    if p.gradients and p.turned_bytes:
        p.turned = carve(base, &used, p.threads * p.turned_bytes)
    p.work = <Work*>carve(base, &used, p.team_size * N_WORKS * sizeof(Work))
    p.order = NULL
    if p.training:
        p.order = <uint32_t*>carve(base, &used, round_up(p.n, 64) * sizeof(uint32_t))
    return used


# Rows of a gradient: the columns of h that they come from, each of a part of the batch, and which of
# those values are not zero.
cdef struct Turned:
    char* columns          # (TURNED_ROWS, SPARSE_PART)
    uint16_t* lists
    uint32_t* starts       # (2, TURNED_ROWS)


cdef size_t lay_out_turned(Plan* p, char* base, Turned* turned) noexcept nogil:
    cdef size_t used = 0
    cdef Turned room
    room.columns = carve(base, &used, TURNED_ROWS * SPARSE_PART * p.k.itemsize)
    room.lists = <uint16_t*>carve(base, &used, TURNED_ROWS * TURNED_LD * sizeof(uint16_t))
    room.starts = <uint32_t*>carve(base, &used, 2 * TURNED_ROWS * sizeof(uint32_t))
    if base != NULL:
        turned[0] = room
    return used


cdef Py_ssize_t common_multiple(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t m = a
    while m % b:
        m += a
    return m


cdef Py_ssize_t block_rows(const Kernels* k, Py_ssize_t ld, Py_ssize_t size) noexcept nogil:
    """Rows of weights in a block: whole vectors for the transpose and, if they fit, whole tiles."""
    cdef Py_ssize_t fit = size // (ld * k.itemsize)
    cdef Py_ssize_t tiles = common_multiple(k.rows, k.width)
    if fit >= tiles:
        return fit // tiles * tiles
    return max(fit // k.width, 2) * k.width
