# The passes, in the order of reference.py: read_rows, forward, loss_and_output_gradient, backward.
#
# Each thread runs them on its own rows start … start + m of a chunk. Layers that are shared by
# output columns work on all ``chunk_rows`` rows between two barriers. ``row`` is the place of the
# chunk in the order.

# --- read_rows ------------------------------------------------------------------------------------

cdef void gather(Plan* p, int source, const char* rows, Py_ssize_t row_stride,
                 Py_ssize_t col_stride, Py_ssize_t place, Py_ssize_t m, Py_ssize_t n, char* out,
                 Py_ssize_t ld, uint64_t* marks) noexcept nogil:
    """out (m, ld) = m rows of x or of the targets from ``place`` in the order; prefetch later
    ones."""
    cdef Py_ssize_t later = place + p.data.ahead
    if source == SOURCE_CODES:
        # Only trainings read codes, and they have an order.
        p.coder.decode(&p.data.codes, <const uint8_t*>rows, row_stride, p.data.order + place, m, n,
                       out, ld, p.data.order + later, p.data.n - later, marks)
    elif p.data.order == NULL:
        p.k.gather(source, rows + place * row_stride, row_stride, col_stride, NULL, m, n, out, ld,
                   NULL, 0, marks)
    else:
        p.k.gather(source, rows, row_stride, col_stride, p.data.order + place, m, n, out, ld,
                   p.data.order + later, p.data.n - later, marks)


cdef void gather_standardized(Plan* p, Py_ssize_t place, Py_ssize_t m, char* out) noexcept nogil:
    """out (m, ld_in) = m standardised rows of x from ``place`` in the order; prefetch later ones."""
    cdef Data* data = &p.data
    cdef Py_ssize_t later = place + data.ahead, n = p.layer[0].n_in, ld = p.layer[0].ld_in
    if data.order == NULL:
        p.k.gather_standardized(data.source, data.x + place * data.x_row, data.x_row, data.x_col,
                                NULL, m, n, out, ld, NULL, 0, data.mean, data.inverse)
    else:
        p.k.gather_standardized(data.source, data.x, data.x_row, data.x_col, data.order + place, m,
                                n, out, ld, data.order + later, data.n - later, data.mean,
                                data.inverse)


cdef inline Py_ssize_t row_at(Plan* p, Py_ssize_t place) noexcept nogil:
    """The row of the data set at a place in the order."""
    return <Py_ssize_t>p.data.order[place] if p.data.order != NULL else place


cdef inline char* own_h(Plan* p, Py_ssize_t row, Py_ssize_t column, int thread) noexcept nogil:
    """Element (row, column) of the first layer's h, in this thread's copy of it if there is one."""
    return at(p.layer[0].h + thread * p.zeros.h_step, row, p.layer[0].ld_in, column, p.k.itemsize)


cdef inline double round_half_even(double x) noexcept nogil:
    """Python's round(), which the reference uses, exact for 0 ≤ x < 2³²: 1.5 · 2⁵² leaves a double
    no bits for a fraction."""
    return (x + 6755399441055744.0) - 6755399441055744.0


cdef inline uint32_t drop_below(double probability) noexcept nogil:
    """A random word is below it with this probability, as ``philox.dropout_threshold``."""
    return <uint32_t>min(round_half_even(probability * 4294967296.0), 4294967295.0)


cdef void drop(Plan* p, double probability, uint32_t stream, char* a, char* slope, Py_ssize_t ld,
               Py_ssize_t place, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """Dropout of m rows of a (…, n), from ``place`` in the order, and of their f'(z) or null."""
    cdef Dropout how
    how.seed, how.epoch, how.stream = p.settings.seed, p.position.epoch, stream
    how.first_row = <uint32_t>place + p.position.first_row
    how.threshold = drop_below(probability)
    how.scale = 1.0 / (1.0 - probability)
    p.k.dropout(a, slope, ld, m, n, &how, 0)


cdef void add_noise(Plan* p, double deviation, uint32_t stream, char* a, Py_ssize_t ld,
                    Py_ssize_t place, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """Add noise to m rows of a (…, n), from ``place`` in the order."""
    cdef Noise how
    how.seed, how.epoch, how.stream = p.settings.seed, p.position.epoch, stream
    how.first_row = <uint32_t>place + p.position.first_row
    how.deviation = deviation
    p.k.noise(a, ld, m, n, &how, 0)


cdef inline char* input_of(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t row) noexcept nogil:
    """Row ``start`` of the h of layer i in the chunk at ``row``: of x itself if it is in place."""
    if i == 0 and p.data.in_place:
        return <char*>p.data.x + (row + start) * p.data.x_row
    return at(p.layer[i].h, start, p.layer[i].ld_in, 0, p.k.itemsize)


cdef void change_x(Plan* p, Py_ssize_t place, Py_ssize_t start, Py_ssize_t m,
                   int thread) noexcept nogil:
    """Noise and dropout of the inputs that ``read_x`` has read. ``spread_row`` drops those of
    compressed rows."""
    cdef Layer* l = &p.layer[0]
    cdef char* h = own_h(p, start, 0, thread)
    if p.settings.input_noise > 0:
        add_noise(p, p.settings.input_noise, NOISE_STREAM, h, l.ld_in, place, m, l.n_in)
    if p.settings.input_dropout > 0 and p.data.source != SOURCE_SPARSE:
        drop(p, p.settings.input_dropout, INPUT_DROPOUT_STREAM, h, NULL, l.ld_in, place, m, l.n_in)


cdef void read_x(Plan* p, Py_ssize_t place, Py_ssize_t start, Py_ssize_t m,
                 int thread) noexcept nogil:
    """Read m rows of x from ``place`` in the order into rows start … start + m of h."""
    cdef Layer* l = &p.layer[0]
    cdef uint64_t* marks = NULL
    cdef Py_ssize_t i
    if p.data.checks and not p.k.within(
            p.data.source, p.data.x + place * p.data.x_row, p.data.x_row, p.data.x_col, m, l.n_in,
            p.data.least, p.data.most):
        p.data.wrong = True
    if p.data.in_place:
        return
    if p.zeros.marks != NULL:
        marks = p.zeros.marks + start * p.zeros.mark_words
    if p.data.source == SOURCE_SPARSE:
        for i in range(m):
            spread_row(p, place + i, start + i)
    elif p.data.mean != NULL:
        gather_standardized(p, place, m, own_h(p, start, 0, thread))
    else:
        gather(p, p.data.source, p.data.x, p.data.x_row, p.data.x_col, place, m, l.n_in,
               own_h(p, start, 0, thread), l.ld_in, marks)
    change_x(p, place, start, m, thread)
    round_h(p, l, start, m)


cdef void read_targets(Plan* p, Py_ssize_t place, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Read the labels or targets of m rows, and their weights."""
    cdef Py_ssize_t item = p.k.itemsize, i, n = p.settings.n_targets
    cdef Buffers* buffers = &p.buffers
    if buffers.row_weight != NULL:
        for i in range(m):
            buffers.row_weight[start + i] = p.data.sample_weight[row_at(p, place + i)]
    if p.data.labels != NULL:
        for i in range(m):
            buffers.labels[start + i] = p.data.labels[row_at(p, place + i)]
    elif p.data.targets != NULL:
        gather(p, SOURCE_FLOAT32 if item == sizeof(float) else SOURCE_FLOAT64, p.data.targets,
               n * item, item, place, m, n,
               at(buffers.targets, start, buffers.ld_targets, 0, item), buffers.ld_targets, NULL)


cdef void read_rows(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m,
                    int thread) noexcept nogil:
    """Read rows start … start + m of the chunk at ``row``, and what belongs to them."""
    read_x(p, row + start, start, m, thread)
    read_targets(p, row + start, start, m)


cdef void read_columns(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m,
                       int thread) noexcept nogil:
    """Read, of other threads' rows start … start + m, the columns that this thread's share of the
    gradient needs: converting the bytes again is cheaper than reading floats that another core
    wrote."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t first, end
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &first, &end)
    if m > 0 and first < end:
        gather(p, p.data.source, p.data.x + first * p.data.x_col, p.data.x_row, p.data.x_col,
               row + start, m, end - first, own_h(p, start, first, thread), l.ld_in, NULL)


# --- forward --------------------------------------------------------------------------------------

cdef void affine_by_columns(Plan* p, Py_ssize_t i, Py_ssize_t chunk_rows, Py_ssize_t row,
                            int thread) noexcept nogil:
    """This thread's columns of z = h · w + b, for all rows of the chunk at ``row``."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t item = p.k.itemsize, first, end
    wait(p, thread)
    share(l.n_out, p.k.width, thread, p.pace.threads, &first, &end)
    p.k.matmul(input_of(p, i, 0, row), l.ld_h, 0, at(l.w, 0, 0, first, item), l.ld_w,
               at(l.z, 0, 0, first, item), l.ld, chunk_rows, end - first, l.n_in, FINISH_BIAS, at(l.b, 0, 0, first, item), NULL)
    tick(p, thread, FORWARD, i)
    wait(p, thread)


cdef Py_ssize_t claim_columns(Plan* p, const Layer* l) noexcept nogil:
    """Columns of a block of a layer of a prediction."""
    cdef Py_ssize_t columns = l.n_out // (COLUMN_CLAIMS * p.pace.team_size)
    return round_up(max(columns, <Py_ssize_t>1), CLAIM_VECTORS * p.k.width)


cdef bint multiply_claimed(Plan* p, Py_ssize_t i) noexcept nogil:
    """Multiply blocks of columns of layer i until all are claimed; return whether there was one."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t item = p.k.itemsize, width = claim_columns(p, l), first
    cdef uint32_t blocks = <uint32_t>((l.n_out + width - 1) // width)
    cdef int64_t block
    cdef bint some = False
    while True:
        block = p.claims.claim(<uint32_t>i + 1, blocks)
        if block < 0:
            return some
        some = True
        first = block * width
        p.k.matmul(input_of(p, i, 0, 0), l.ld_h, 0, at(l.w, 0, 0, first, item), l.ld_w,
                   at(l.z, 0, 0, first, item), l.ld, p.data.n, min(width, l.n_out - first), l.n_in,
                   FINISH_BIAS, at(l.b, 0, 0, first, item), NULL)
        p.claims.finish()


cdef void affine_claimed(Plan* p, Py_ssize_t i) noexcept nogil:
    """z of all rows of a prediction, with the help of the threads that have started."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t width = claim_columns(p, l)
    cdef uint32_t blocks = <uint32_t>((l.n_out + width - 1) // width)
    cdef int turn = 0
    p.claims.offer(<uint32_t>i + 1)
    multiply_claimed(p, i)
    while p.claims.finished() < blocks:
        Team.rest(turn)
        turn += 1


cdef void help_with_columns(Plan* p) noexcept nogil:
    """Multiply blocks of the layers that thread 0 offers."""
    cdef uint32_t phase
    cdef int turn = 0
    while True:
        phase = p.claims.phase()
        if phase == LAST_PHASE:
            return
        if phase > 0 and multiply_claimed(p, <Py_ssize_t>phase - 1):
            turn = 0
        Team.rest(turn)
        turn += 1


cdef void affine_wide(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t m, Py_ssize_t row,
                      int thread) noexcept nogil:
    """Rows of z = h · w + b by the dense kernel, or without the zeros of h."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t item = p.k.itemsize
    cdef Lists lists = p.zeros.hidden
    if l.skip_h.on or (l.skip_h.may and p.zeros.counting):
        list_hidden(p, &lists, i, 0, start, m, thread)
    if l.skip_h.on:
        multiply_listed(p, &lists, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
    else:
        p.k.matmul(input_of(p, i, start, row), l.ld_h, 0, l.w, l.ld_w,
                   at(l.z, start, l.ld, 0, item), l.ld, m, l.n_out, l.n_in, FINISH_BIAS, l.b, NULL)


cdef void affine(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows,
                 Py_ssize_t row, int thread) noexcept nogil:
    """z = h · w + b of layer i, by the kernel that was chosen for it."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t item = p.k.itemsize
    cdef char* z = at(l.z, start, l.ld, 0, item)
    if l.by_columns and p.settings.answers:
        affine_claimed(p, i)
    elif l.by_columns:
        affine_by_columns(p, i, chunk_rows, row, thread)
    elif i == 0 and p.zeros.sparse:
        affine_sparse(p, start, m)
    elif l.bf16:
        p.k16.matmul(at(l.h16, start, l.ld_in // 2, 0, sizeof(float)), l.ld_in // 2, 0, l.w_pairs,
                     panel_pairs(l.n_in), z, l.ld, m, l.n_out, (l.n_in + 1) // 2, FINISH_BIAS, l.b,
                     NULL)
    elif i == 0 and p.zeros.marks != NULL:
        p.k.narrow_marked(own_h(p, start, 0, thread), l.ld_in,
                          p.zeros.marks + start * p.zeros.mark_words, l.w, l.ld_in, z, l.ld, m,
                          l.n_out, l.n_in, l.b)
    elif l.narrow:
        p.k.matmul_narrow(at(l.h, start, l.ld_in, 0, item), l.ld_in, l.w, l.ld_in, z, l.ld, m,
                          l.n_out, l.n_in, l.b)
    elif l.lanes:
        p.k.matmul_lanes(at(l.h, start, l.ld_in, 0, item), l.ld_in, l.w, l.ld_w, z, l.ld, m,
                         l.n_out, l.n_in, l.b)
    else:
        affine_wide(p, i, start, m, row, thread)


cdef inline bint uses_batch(Plan* p, const Layer* l) noexcept nogil:
    """Whether a batch norm uses the statistics of the batch, rather than running ones."""
    return p.settings.gradients and not l.frozen and (p.settings.training or not p.settings.tape)


cdef void normalize_over_rows(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m,
                              Py_ssize_t chunk_rows, int thread) noexcept nogil:
    """Rows of the batch norm of z, with the statistics of all rows: threads share the columns."""
    cdef Py_ssize_t item = p.k.itemsize, first, end
    cdef char* normed = NULL
    if uses_batch(p, l):
        wait(p, thread)
        share(l.n_out, p.k.width, thread, p.pace.threads, &first, &end)
        if first < end:
            p.k.column_moments(
                l.epsilon, at(l.z, 0, 0, first, item), at(l.moments, 0, l.ld, first, item),
                at(l.moments, 1, l.ld, first, item), at(l.moments, 2, l.ld, first, item), l.ld,
                chunk_rows, end - first)
        wait(p, thread)
    if l.normed != NULL:
        normed = at(l.normed, start, l.ld, 0, item)
    p.k.normalize_columns(at(l.z, start, l.ld, 0, item), normed, l.moments,
                          at(l.moments, 2, l.ld, 0, item), at(l.b, 1, l.ld, 0, item),
                          at(l.b, 2, l.ld, 0, item), l.ld, m, l.n_out)


cdef void normalize(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows,
                    int thread) noexcept nogil:
    """Normalise rows of z, or of f(z) where it is."""
    cdef Py_ssize_t item = p.k.itemsize
    cdef char* normed = NULL
    if l.over_rows:
        normalize_over_rows(p, l, start, m, chunk_rows, thread)
        return
    if l.normed != NULL:
        normed = at(l.normed, start, l.ld, 0, item)
    p.k.normalize(l.centers, l.epsilon, at(l.z, start, l.ld, 0, item), normed,
                  l.inverse + start * item, at(l.b, 1, l.ld, 0, item), at(l.b, 2, l.ld, 0, item),
                  l.ld, m, l.n_out)


cdef void activate(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows,
                   Py_ssize_t row, int thread) noexcept nogil:
    """z of a hidden layer becomes f(z), with noise and dropout in training."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t item = p.k.itemsize
    cdef char* z = at(l.z, start, l.ld, 0, item)
    cdef char* slope = NULL
    if l.slope != NULL:
        slope = at(l.slope, start, l.ld, 0, item)
    if l.normed_before:
        normalize(p, l, start, m, chunk_rows, thread)
    p.k.activate(l.activation, l.parameter, z, slope, l.ld, m, l.n_out)
    if l.normed_after:
        normalize(p, l, start, m, chunk_rows, thread)
        slope = NULL
    if p.settings.training and l.noise > 0:
        add_noise(p, l.noise, NOISE_STREAM + 1 + i, z, l.ld, row + start, m, l.n_out)
    if p.settings.training and l.dropout > 0:
        if l.mask != NULL:
            slope = at(l.mask, start, l.ld, 0, item)
            p.k.activate(IDENTITY, 0, z, slope, l.ld, m, l.n_out)   # ones
        drop(p, l.dropout, DROPOUT_STREAM + i, z, slope, l.ld, row + start, m, l.n_out)


cdef void add_input(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t m,
                    int thread) noexcept nogil:
    """Rows of f(z) + h of a residual layer, which has as many outputs as inputs."""
    cdef Layer* l = &p.layer[i]
    cdef char* h = at(l.h, start, l.ld, 0, p.k.itemsize) if i > 0 else own_h(p, start, 0, thread)
    p.k.add(at(l.z, start, l.ld, 0, p.k.itemsize), h, l.ld, m)


cdef void forward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows, Py_ssize_t row,
                  int thread) noexcept nogil:
    """Read rows of the chunk at ``row``, and compute every layer's h and z."""
    cdef Py_ssize_t i
    read_rows(p, row, start, m, thread)
    tick(p, thread, READ, 0)
    for i in range(p.n_layers):
        affine(p, i, start, m, chunk_rows, row, thread)
        if i < p.n_layers - 1:
            activate(p, i, start, m, chunk_rows, row, thread)
            if p.layer[i].residual:
                add_input(p, i, start, m, thread)
            round_h(p, &p.layer[i + 1], start, m)
        tick(p, thread, FORWARD, i)


# --- loss_and_output_gradient ---------------------------------------------------------------------

cdef void output_loss(Plan* p, char* z, Py_ssize_t start, Py_ssize_t m,
                      double scale) noexcept nogil:
    """The loss of each row, and whether it is classified correctly; z (rows, ld), the outputs
    before their activation, becomes dz · scale."""
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Buffers* buffers = &p.buffers
    cdef Py_ssize_t item = p.k.itemsize
    cdef Targets t
    t.labels = buffers.labels + start if p.data.labels != NULL else NULL
    t.values = NULL
    t.ld = buffers.ld_targets
    if p.data.targets != NULL:
        t.values = at(buffers.targets, start, t.ld, 0, item)
    t.weights = buffers.row_weight + start if buffers.row_weight != NULL else NULL
    t.least = p.settings.min_probability
    t.parameters = p.settings.loss_parameters
    t.per_target = p.settings.per_target
    t.decides = p.settings.decides
    t.independent = p.settings.independent
    t.missing = p.data.missing
    p.k.loss(p.settings.loss, p.settings.output, l.parameter, at(z, start, l.ld, 0, item), l.ld, m,
             l.n_out, &t, p.settings.gradients, scale * p.settings.dz_factor,
             buffers.row_loss + start, buffers.row_correct + start)


cdef void loss_and_output_gradient(Plan* p, Py_ssize_t start, Py_ssize_t m,
                                   double scale) noexcept nogil:
    """The loss of each row; z of the last layer, which is its dz, becomes dz · scale."""
    cdef Layer* l = &p.layer[p.n_layers - 1]
    output_loss(p, l.z, start, m, scale)
    if p.settings.gradients:
        round_dz(p, l, start, m)


# --- backward -------------------------------------------------------------------------------------

cdef void times_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m, Py_ssize_t first,
                          Py_ssize_t end, char* out, Py_ssize_t ld) noexcept nogil:
    """Columns first … end of out (rows, ld) = dz · wᵀ, for rows start … start + m."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, i
    cdef const char* dz = at(l.dz, start, l.ld, 0, item)
    out = at(out, start, ld, first, item)
    if first >= end:
        return
    if l.dots:
        k.matmul_narrow(dz, l.ld, at(l.w, first, l.ld, 0, item), l.ld, out, ld, m, end - first,
                        l.n_out, p.buffers.zero_bias)
        if end == l.n_in:  # matmul_narrow writes no pads
            for i in range(m):
                memset(at(out, i, ld, end - first, item), 0, (ld - end) * item)
    else:
        k.matmul(dz, l.ld, 0, at(l.w if l.narrow else l.wt, 0, 0, first, item), l.ld_in, out, ld, m,
                 end - first, l.n_out, FINISH_STORE, NULL, NULL)


cdef void times_transpose_by_columns(Plan* p, Py_ssize_t i, Py_ssize_t chunk_rows,
                                     int thread) noexcept nogil:
    """This thread's columns of dz · wᵀ of layer i, for all rows of the chunk."""
    cdef Layer* l = &p.layer[i]
    cdef Layer* below = &p.layer[i - 1]
    cdef Py_ssize_t first, end
    wait(p, thread)
    share(l.n_in, p.k.width, thread, p.pace.threads, &first, &end)
    times_transpose(p, l, 0, chunk_rows, first, end, below.dz, below.ld)
    tick(p, thread, BACKWARD, i)
    wait(p, thread)


cdef void times_transpose_wide(Plan* p, Py_ssize_t i, Py_ssize_t start, Py_ssize_t m,
                               int thread) noexcept nogil:
    """Rows of dz · wᵀ of layer i by the dense kernel, or without the zeros of dz."""
    cdef Layer* l = &p.layer[i]
    cdef Layer* below = &p.layer[i - 1]
    cdef Lists lists = p.zeros.hidden
    if l.skip_dz.on or (l.skip_dz.may and p.zeros.counting):
        list_hidden(p, &lists, i, 1, start, m, thread)
    if l.skip_dz.on:
        multiply_listed(p, &lists, l.dz, l.ld, start, m, l.wt, l.ld_in, below.dz, below.ld, l.n_in,
                        NULL)
    else:
        times_transpose(p, l, start, m, 0, l.n_in, below.dz, below.ld)


cdef void normalize_over_rows_back(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m,
                                   Py_ssize_t chunk_rows, int thread) noexcept nogil:
    """The gradient of ``normalize_over_rows`` in rows of dz, and those of scale and shift."""
    cdef Py_ssize_t item = p.k.itemsize, first, end
    cdef char* dscale = p.buffers.zero_bias     # running statistics are constants
    cdef char* dshift = p.buffers.zero_bias
    if uses_batch(p, l) or p.settings.tape:
        wait(p, thread)
        share(l.n_out, p.k.width, thread, p.pace.threads, &first, &end)
        if first < end:
            p.k.column_products(at(l.dz, 0, 0, first, item), at(l.normed, 0, 0, first, item),
                                at(l.db, 1, l.ld, first, item), at(l.db, 2, l.ld, first, item),
                                l.ld, chunk_rows, end - first)
        wait(p, thread)
    if uses_batch(p, l):
        dscale, dshift = at(l.db, 1, l.ld, 0, item), at(l.db, 2, l.ld, 0, item)
    p.k.normalize_columns_back(at(l.dz, start, l.ld, 0, item), at(l.normed, start, l.ld, 0, item),
                               at(l.moments, 2, l.ld, 0, item), at(l.b, 1, l.ld, 0, item), dscale,
                               dshift, <double>chunk_rows, l.ld, m, l.n_out)


cdef void normalize_back(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows,
                         int thread) noexcept nogil:
    """The gradient of ``normalize`` in rows of dz."""
    cdef Py_ssize_t item = p.k.itemsize
    cdef char* passed = NULL
    if l.over_rows:
        normalize_over_rows_back(p, l, start, m, chunk_rows, thread)
        return
    if l.passed != NULL:
        passed = at(l.passed, start, l.ld, 0, item)
    p.k.normalize_back(l.centers, at(l.dz, start, l.ld, 0, item),
                       at(l.normed, start, l.ld, 0, item), l.inverse + start * item,
                       at(l.b, 1, l.ld, 0, item), passed, l.ld, m, l.n_out)


cdef void activation_gradient(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m,
                              Py_ssize_t chunk_rows, int thread) noexcept nogil:
    """dz of a hidden layer from the gradient of its outputs, which is there, and which is kept if
    the layer is residual."""
    cdef Py_ssize_t item = p.k.itemsize
    cdef char* dz = at(l.dz, start, l.ld, 0, item)
    cdef char* kept = NULL
    if l.kept != NULL:
        kept = at(l.kept, start, l.ld, 0, item)
    if l.normed_after:
        if l.mask != NULL and p.settings.training and l.dropout > 0:
            p.k.multiply_keeping(dz, kept, l.ld, m)
        elif l.residual:
            memcpy(kept, dz, m * l.ld * item)
        normalize_back(p, l, start, m, chunk_rows, thread)
        p.k.multiply(dz, at(l.slope, start, l.ld, 0, item), l.ld, m)
        return
    if l.residual:
        p.k.multiply_keeping(dz, kept, l.ld, m)
    elif l.slope != NULL:
        p.k.multiply(dz, kept, l.ld, m)
    else:
        p.k.times_slope(l.activation, l.parameter, dz, at(l.z, start, l.ld, 0, item), l.ld, m)
    if l.normed_before:
        normalize_back(p, l, start, m, chunk_rows, thread)


cdef void backward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t chunk_rows,
                   int thread) noexcept nogil:
    """dz of every hidden layer down to ``lowest``, from the one above: dz ← (dz · wᵀ) ⊙ f'(z)."""
    cdef Py_ssize_t item = p.k.itemsize
    cdef Layer* l
    cdef Layer* below
    cdef char *dz
    cdef Py_ssize_t i
    for i in range(p.n_layers - 1, p.settings.lowest, -1):
        l = &p.layer[i]
        below = &p.layer[i - 1]
        dz = at(below.dz, start, below.ld, 0, item)
        if l.bf16:
            p.k16.matmul(at(l.dz16, start, l.ld // 2, 0, sizeof(float)), l.ld // 2, 0, l.wt,
                         panel_pairs(l.n_out), dz, below.ld, m, l.n_in, (l.n_out + 1) // 2,
                         FINISH_STORE, NULL, NULL)
        elif l.by_columns:
            times_transpose_by_columns(p, i, chunk_rows, thread)
        else:
            times_transpose_wide(p, i, start, m, thread)
        if l.residual:
            p.k.add(dz, at(l.kept, start, l.ld, 0, item), l.ld, m)
        activation_gradient(p, below, start, m, chunk_rows, thread)
        round_dz(p, below, start, m)
        tick(p, thread, BACKWARD, i)
