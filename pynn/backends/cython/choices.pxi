cdef double density(Plan* p, Py_ssize_t together) noexcept nogil:
    """Share of x that is not zero, by so many columns together, from rows spread over the data set."""
    cdef Py_ssize_t samples = min(p.n, 64), i, j, left, count = 0, total = 0, n_in = p.layer[0].n_in
    cdef Py_ssize_t apart
    cdef const char* value
    cdef bint lit = False
    if p.n == 0:
        return 0
    if p.source == SOURCE_SPARSE:
        return (p.x_starts[p.n] - p.x_starts[0]) / (<double>p.n * n_in)
    # Divided once: tens of thousands of divisions would be most of a short fit.
    apart = p.n // samples * p.x_row
    for i in range(samples):
        value = p.x + i * apart
        left = together
        for j in range(n_in):
            if p.source == SOURCE_UINT8:
                lit = lit or (<const uint8_t*>value)[0] != 0
            elif p.source == SOURCE_FLOAT32:
                lit = lit or (<const float*>value)[0] != 0
            else:
                lit = lit or (<const double*>value)[0] != 0
            value += p.x_col
            left -= 1
            if left == 0 or j == n_in - 1:
                count += lit
                total += 1
                lit = False
                left = together
    return count / <double>total


cdef bint narrow_pays(Plan* p, Layer* l, Py_ssize_t batch) noexcept nogil:
    """Whether a layer of fewer outputs than a vector has lanes does better by dot products along k.

    In vector instructions for a row, forward and gradient: these leave no lane idle, but to add up the
    lanes of one takes about eight; else about two for each input, twice, since a tile one vector wide
    waits for its broadcasts, and, if dz · wᵀ is needed, for each of so many rows a share of the
    transpose, six for each input. Measured on a Zen 4, 8 to 100 inputs. Of predictions the shape alone
    decides: their bits do not depend on the rows beside them.
    """
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width, wide = 4 * l.n_in
    if batch > 0:
        wide += 6.0 * l.n_in / batch
    return l.n_out < p.k.width and l.n_out * (2 * vectors + 8) < wide


cdef bint dots_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether dz · wᵀ does better without a transpose of w, which each update makes anew.

    In vector instructions for a row of w: adding up the lanes of a dot product takes about eight,
    once for each row of the batch; the transpose about five for each vector of the row.
    """
    if l.narrow or l.bf16 or p.rows > DOT_ROWS:
        return False
    return p.rows * 8 < l.n_out // p.k.width * 5


cdef bint columns_pay(Plan* p, Layer* l) noexcept nogil:
    """Whether threads had better share the outputs of a layer than the rows of a batch.

    Weights that no cache of one core holds are then read by one thread each, not by all; worth two
    more barriers where the few rows are soon done.
    """
    if l.narrow or l.bf16 or p.team_size == 1 or p.rows > COLUMN_ROWS * p.team_size:
        return False
    return l.n_in * l.n_out * p.k.itemsize >= COLUMN_BYTES


cdef Py_ssize_t part_of(Plan* p, Py_ssize_t n_out) noexcept nogil:
    """Inputs that a sparse product goes through at a time: as much of a narrow layer fits the cache as
    of a panel of a wide one."""
    cdef Py_ssize_t vectors = (n_out + p.k.width - 1) // p.k.width, part = SPARSE_PART
    while part * vectors < 8 * SPARSE_PART:
        part *= 2
    return part


cdef bint sparse_pays(Plan* p) noexcept nogil:
    """Whether the first layer does better without the zeros of x.

    In vector instructions for each input and row: dense takes one for each vector of outputs, or the
    part of one that a narrow layer fills; sparse takes half as many again for each input that is not
    zero, to find the row and the factor too, and half of one to find out which are. Measured on a
    Zen 4, 10 to 256 outputs wide and 5 to 60 % dense.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_out + p.k.width - 1) // p.k.width, share = density(p, 1)
    cdef double dense = <double>l.n_out / p.k.width if l.narrow else vectors
    p.lit.part = part_of(p, l.n_out)
    if p.source == SOURCE_SPARSE:
        while p.lit.part < SPARSE_GROUP and p.lit.part * share < <double>FEW_LIT:
            p.lit.part *= 2
        return True
    if l.n_in >= SPARSE_GROUP:
        return False
    # Rounded products skip zeros only in training: their sums have other bits than dense ones, and a
    # prediction must not depend on the rows beside it.
    if l.bf16 and not p.gradients:
        return False
    # A tile of one or two rows waits for its few accumulators; a sparse product has eight.
    if p.direct and p.n <= 2:
        return True
    if p.n < 16:
        return False
    return share * 1.5 * (vectors + 0.5) + 0.5 < (dense / p.k16.gain if l.bf16 else dense)


cdef bint marks_pay(Plan* p) noexcept nogil:
    """Whether a narrow first layer does better without the vectors of x that are zero, in training.

    In vector instructions for each vector of a row: one for each output, and one more to load x where
    no further row shares it; but for the additions not to wait for each other it takes five. A row,
    and a vector of columns, ends with a branch that is guessed wrong.
    """
    cdef Layer* l = &p.layer[0]
    cdef double vectors = (l.n_in + p.k.width - 1) // p.k.width
    if not (p.training and l.narrow) or l.bf16 or p.rows < MIN_ROWS or p.rows > MARKED_ROWS:
        return False
    return density(p, p.k.width) * max(5, l.n_out + 1) + 0.5 + 20 / vectors < l.n_out


cdef inline bint switches_off(Plan* p, Py_ssize_t i) noexcept nogil:
    """Whether layer i has outputs that are 0, with a slope of 0."""
    return i < p.n_layers - 1 and (p.layer[i].activation == RELU or p.layer[i].dropout > 0)


cdef void may_skip(Plan* p, Py_ssize_t i) noexcept nogil:
    """Which products of layer i may skip the zeros of hidden layers. In training alone: a prediction
    is to see a weight that is not finite in whatever chunk its row lies."""
    cdef Layer* l = &p.layer[i]
    cdef bint wide = (p.training and not l.narrow and not l.bf16 and not l.by_columns
                      and p.rows >= MIN_ROWS)
    l.in_h.may = wide and i > 0 and switches_off(p, i - 1) and l.n_in < SPARSE_GROUP
    l.in_dz.may = wide and i > 0 and switches_off(p, i) and not l.dots and l.n_out < SPARSE_GROUP
    l.in_h.on = l.in_dz.on = l.skips = False
    p.counts = p.counts or l.in_h.may or l.in_dz.may


cdef bint skipping_pays(Plan* p, Layer* l, Py_ssize_t n_out, double share) noexcept nogil:
    """Whether a product of a hidden layer, n_out wide, does better without so many zeros.

    As ``sparse_pays`` counts, by costs measured where all weights lie in a near cache. Where none do, memory
    has a say in both products, and what is not zero costs 1.8 vectors on a Zen 4, which near ones do 1.3 of,
    and 2.1 on a Xeon, as near ones do: for 2,048 x 2,048 weights and 30 to 50 % that is not zero.
    """
    cdef double vectors = (n_out + p.k.width - 1) // p.k.width
    cdef double size = l.n_in * l.n_out * p.k.itemsize
    cdef double cost = p.costs.product
    cost += max(0.0, FAR_COST - cost) * min(1.0, size / CACHE_BYTES)
    return share * cost * (vectors + 0.5) + p.costs.listing < 0.95 * vectors


cdef void choose_skips(Plan* p, Py_ssize_t m) noexcept nogil:
    """From what was found in a chunk of m rows, what the next one skips."""
    cdef Py_ssize_t i
    cdef Layer* l
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.in_h.may and (l.in_h.on or p.counting):
            l.in_h.on = skipping_pays(p, l, l.n_out, share_found(p, i, 0, m * l.n_in))
        if l.in_dz.may and (l.in_dz.on or p.counting):
            l.in_dz.on = skipping_pays(p, l, l.n_in, share_found(p, i, 1, m * l.n_out))
    p.counting = p.chunks_done % COUNT_EVERY == 0


cdef double share_found(Plan* p, Py_ssize_t i, int which, Py_ssize_t values) noexcept nogil:
    cdef uint64_t total = 0
    cdef int thread
    for thread in range(p.threads):
        total += p.found[(thread * p.n_layers + i) * FOUND + which]
    return total / <double>values
