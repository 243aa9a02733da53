# Which kernels a layer uses. The unit of the cost models is a vector instruction; a vector FMA of
# the dense kernel costs 1. They were fitted to measurements on a Zen 4; only ``skipping_pays`` uses
# costs measured on this machine.

cdef double density(Plan* p, Py_ssize_t group) noexcept nogil:
    """Fraction of groups of adjacent columns of x with a non-zero, sampled from rows spread over the
    data set; of compressed rows, the fraction of non-zero values."""
    cdef Data* data = &p.data
    cdef Py_ssize_t most = DENSITY_ROWS if p.settings.gradients else DENSITY_GLANCE
    cdef Py_ssize_t samples = min(data.n, most), i, j, left, count = 0, total = 0
    cdef Py_ssize_t n_in = p.layer[0].n_in, step
    cdef const char* value
    cdef bint nonzero = False
    if data.n == 0:
        return 0
    if data.source == SOURCE_SPARSE:
        return (data.x_starts[data.n] - data.x_starts[0]) / (<double>data.n * n_in)
    step = data.n // samples * data.x_row
    for i in range(samples):
        value = data.x + i * step
        # Columns left in the group. A division per column would take most of the time of a short
        # fit.
        left = group
        for j in range(n_in):
            if data.source == SOURCE_UINT8 or data.source == SOURCE_CODES:
                nonzero = nonzero or (<const uint8_t*>value)[0] != 0
            elif data.source == SOURCE_FLOAT32:
                nonzero = nonzero or (<const float*>value)[0] != 0
            else:
                nonzero = nonzero or (<const double*>value)[0] != 0
            value += data.x_col
            left -= 1
            if left == 0 or j == n_in - 1:
                count += nonzero
                total += 1
                nonzero = False
                left = group
    return count / <double>total


cdef bint narrow_pays(Plan* p, Layer* l, Py_ssize_t batch) noexcept nogil:
    """Whether a layer with fewer outputs than a vector has lanes is faster by dot products over k.

    Unit: vector instructions per row, forward and gradient. Dot products use every lane, and adding
    up the lanes takes about 8 per output. The wide kernel takes about 2 per input, twice, because a
    tile one vector wide waits for its broadcasts; and if dz · wᵀ is needed, 6 per input for the
    transpose, divided among the rows of the batch. Measured with 8 to 100 inputs. For predictions
    batch is 0: the choice depends on the shape alone, so that the result of a row does not depend
    on the number of rows. Kernels for few rows and for lists keep the order of these sums.
    """
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width, wide = 4 * l.n_in
    if batch > 0:
        wide += 6.0 * l.n_in / batch
    return l.n_out < p.k.width and l.n_out * (2 * vectors + 8) < wide


cdef bint dots_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether dz · wᵀ is faster without the transpose of w, which every update makes again.

    Unit: vector instructions per row of w. Adding up the lanes of a dot product takes about 8, per
    row of the batch; the transpose about 5 per vector of the row.
    """
    if l.narrow or l.bf16 or p.rows > DOT_ROWS:
        return False
    return p.rows * 8 < l.n_out // p.k.width * 5


cdef bint columns_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether threads share the outputs of a layer instead of the rows of the batch.

    Then one thread reads each weight from memory, not all of them, at the price of two more
    barriers. That pays if the weights exceed the cache of a core and the rows are few.
    """
    if (l.lanes or l.bf16 or p.pace.team_size == 1
            or p.rows > COLUMN_ROWS * p.pace.team_size):
        return False
    return l.n_in * l.n_out * p.k.itemsize >= COLUMN_BYTES


cdef bint claims_columns(Plan* p) noexcept nogil:
    """Whether a prediction is divided by the columns of its layers: few rows, and weights that one
    core should not read alone."""
    cdef int i
    cdef Layer* l
    if p.k16 != NULL or p.pace.team_size == 1 or p.data.n > COLUMN_ROWS * p.pace.team_size:
        return False
    for i in range(p.n_layers):
        l = &p.layer[i]
        if not l.lanes and l.n_in * l.n_out * p.k.itemsize >= COLUMN_BYTES:
            return True
    return False


cdef Py_ssize_t part_of(Plan* p, Py_ssize_t n_out) noexcept nogil:
    """Inputs per part of a sparse product: SPARSE_PART for 8 vectors of outputs or more, so that a
    part of the weights fits in L1; more if there are fewer."""
    cdef Py_ssize_t vectors = (n_out + p.k.width - 1) // p.k.width, part = SPARSE_PART
    while part * vectors < 8 * SPARSE_PART:
        part *= 2
    return part


cdef bint sparse_pays(Plan* p) noexcept nogil:
    """Whether the first layer is faster if it skips the zeros of x; set the width of a part.

    Unit: vector instructions per input and row. Dense products take 1 per vector of outputs, or the
    fraction of one that a narrow layer fills. Sparse products take 1.5 per vector and non-zero
    input, plus half a vector to find its row and factor, and 0.5 per input to find the non-zeros.
    Measured on a Zen 4 with 10 to 256 outputs and 5 to 60 % non-zeros. A layer with one sum per
    lane takes 4 per non-zero input, since each adds to another sum in L1, and 6 with the list of
    compressed rows. Measured on a Xeon with 10 outputs and 1 to 30 % non-zeros.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_out + p.k.width - 1) // p.k.width, share = density(p, 1)
    cdef double dense = <double>l.n_out / p.k.width if l.lanes else vectors
    cdef double product = 4.0 if l.lanes else 1.5 * (vectors + 0.5)
    cdef Py_ssize_t part = part_of(p, l.n_out)
    if p.data.source == SOURCE_SPARSE:
        while part < SPARSE_GROUP and part * share < <double>MIN_PART_NONZERO:
            part *= 2
    p.zeros.nonzero.part = part
    if p.data.source == SOURCE_SPARSE:
        # Training needs the lists for the gradient; few rows do not pay for a transpose of w.
        return (not l.narrow or p.settings.gradients or p.data.n < TRANSPOSED_ROWS
                or share * 6 < dense)
    # Values that are standardised, or have noise, are not 0.
    if l.n_in >= SPARSE_GROUP or p.data.mean != NULL or p.settings.input_noise > 0:
        return False
    share *= 1 - p.settings.input_dropout
    # Rounded products skip zeros only in training: their sums are rounded otherwise than dense
    # ones, and a prediction must not depend on the rows beside it.
    if l.bf16 and not p.settings.gradients:
        return False
    # A dense tile of one or two rows is bound by the latency of its few accumulators; a sparse
    # product has eight.
    if p.settings.direct and p.data.n <= 2 and not l.lanes:
        return True
    if p.data.n < 16:
        return False
    if l.bf16:
        dense = dense / p.k16.gain
    return share * product + 0.5 < dense


cdef bint marks_pay(Plan* p) noexcept nogil:
    """Whether a narrow first layer is faster, in training, if it skips vectors of x that are zero.

    Unit: vector instructions per vector of a row. 1 per output and 1 to load x, but at least 5, the
    latency of the additions. A row ends with a mispredicted branch, about 20.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width
    if not (p.settings.training and l.narrow) or l.bf16 or p.data.mean != NULL or p.settings.tape:
        return False
    if p.settings.input_noise > 0:
        return False
    if p.rows < MIN_ROWS or p.rows > MARKED_ROWS:
        return False
    return density(p, p.k.width) * max(5, l.n_out + 1) + 0.5 + 20 / vectors < l.n_out


# --- Zeros of hidden layers -----------------------------------------------------------------------

cdef inline bint zero_outputs(Plan* p, Py_ssize_t i) noexcept nogil:
    """Whether many outputs of layer i may be 0."""
    cdef Layer* l = &p.layer[i]
    cdef bint off = l.dropout > 0 or (l.activation == RELU and not l.normed_after)
    return i < p.n_layers - 1 and off and not l.residual


cdef inline bint zero_gradients(Plan* p, Py_ssize_t i) noexcept nogil:
    """Whether many elements of dz of layer i may be 0: the gradient of a norm has no zeros."""
    cdef Layer* l = &p.layer[i]
    cdef bint off = l.activation == RELU or (l.dropout > 0 and not l.normed_after)
    return i < p.n_layers - 1 and off and not l.normed_before


cdef inline bint has_zeros(Plan* p, Py_ssize_t i) noexcept nogil:
    """Whether many outputs of layer i may be 0 after noise and dropout."""
    return zero_outputs(p, i) and (p.layer[i].noise == 0 or p.layer[i].dropout > 0)


cdef void allow_skips(Plan* p, Py_ssize_t i) noexcept nogil:
    """Decide which products of layer i may skip the zeros of hidden layers.

    Only in training: a prediction must show weights that are not finite, whichever rows it is
    computed with, and skipping hides 0 · NaN. Not on a tape, which has no batch before to count
    zeros in.
    """
    cdef Layer* l = &p.layer[i]
    cdef bint wide = (p.settings.training and not p.settings.tape and not l.narrow
                      and not l.bf16 and not l.by_columns and p.rows >= MIN_ROWS)
    l.skip_h.may = (wide and i > 0 and has_zeros(p, i - 1) and l.n_in < SPARSE_GROUP)
    l.skip_dz.may = (wide and i > 0 and zero_gradients(p, i) and not l.dots
                     and l.n_out < SPARSE_GROUP)
    l.skip_h.on = l.skip_dz.on = l.gradient_skips = False
    p.zeros.counts = p.zeros.counts or l.skip_h.may or l.skip_dz.may


cdef bint skipping_pays(Plan* p, Layer* l, Py_ssize_t n_out, double share) noexcept nogil:
    """Whether a product of a hidden layer with n_out columns is faster if it skips zeros, when
    ``share`` of the values are not zero.

    As in ``sparse_pays``, with costs measured while all weights are in L2. If they are not, memory
    bounds both products and a non-zero costs FAR_COST or more: with 2,048 x 2,048 weights and 30 to
    50 % non-zeros 1.8 vectors on a Zen 4 (1.3 in L2) and 2.1 on a Xeon (2.1 in L2).
    """
    cdef double vectors = (n_out + p.k.width - 1) // p.k.width
    cdef double size = l.n_in * l.n_out * p.k.itemsize
    cdef double cost = p.zeros.costs.product
    cost += max(0.0, FAR_COST - cost) * min(1.0, size / CACHE_BYTES)
    return share * cost * (vectors + 0.5) + p.zeros.costs.listing < 0.95 * vectors


cdef double share_found(Plan* p, Py_ssize_t i, int which, Py_ssize_t values) noexcept nogil:
    """Fraction of the ``values`` of h (0) or dz (1) of layer i that all threads found not zero."""
    cdef uint64_t total = 0
    cdef int thread
    for thread in range(p.pace.threads):
        total += p.zeros.found[(thread * p.n_layers + i) * COUNTERS + which]
    return total / <double>values


cdef void choose_skips(Plan* p, Py_ssize_t m) noexcept nogil:
    """Decide what the next chunk skips, from the zeros counted in this one of m rows."""
    cdef Py_ssize_t i
    cdef Layer* l
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.skip_h.may and (l.skip_h.on or p.zeros.counting):
            l.skip_h.on = skipping_pays(p, l, l.n_out, share_found(p, i, 0, m * l.n_in))
        if l.skip_dz.may and (l.skip_dz.on or p.zeros.counting):
            l.skip_dz.on = skipping_pays(p, l, l.n_in, share_found(p, i, 1, m * l.n_out))
    p.zeros.counting = p.position.chunks % COUNT_EVERY == 0
