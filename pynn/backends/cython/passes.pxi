cdef void gather(Plan* p, int source, const char* rows, Py_ssize_t row_stride, Py_ssize_t col_stride,
                 Py_ssize_t at, Py_ssize_t m, Py_ssize_t n, char* out, Py_ssize_t ld,
                 uint64_t* marks) noexcept nogil:
    """Gather m rows of n from place ``at`` of the order on, and fetch those that are next."""
    if p.order == NULL:
        p.k.gather(source, rows + at * row_stride, row_stride, col_stride, NULL, m, n, out, ld, NULL, 0,
                   marks)
    else:
        p.k.gather(source, rows, row_stride, col_stride, p.order + at, m, n, out, ld,
                   p.order + at + p.ahead, p.n - at - p.ahead, marks)


cdef void read_rows(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m, int thread) noexcept nogil:
    """Gather rows start … start + m of the chunk that begins at ``row`` of the order."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = p.k.itemsize, i, at = row + start
    cdef uint64_t* marks = NULL
    if p.marks != NULL:
        marks = p.marks + start * p.mark_words
    if p.source == SOURCE_SPARSE:
        for i in range(m):
            spread_row(p, <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i, start + i)
    else:
        gather(p, p.source, p.x, p.x_row, p.x_col, at, m, l.n_in,
               l.h + thread * p.h_step + start * l.ld_in * item, l.ld_in, marks)
    round_h(p, l, start, m)
    if p.row_weight != NULL:
        for i in range(m):
            p.row_weight[start + i] = p.sample_weight[
                <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i]
    if p.y_labels != NULL:
        for i in range(m):
            p.labels[start + i] = p.y_labels[
                <Py_ssize_t>p.order[at + i] if p.order != NULL else at + i]
    elif p.y_values != NULL:
        l = &p.layer[p.n_layers - 1]
        gather(p, SOURCE_FLOAT32 if item == 4 else SOURCE_FLOAT64, p.y_values, l.n_out * item, item, at, m,
               l.n_out, p.targets + start * p.ld_targets * item, p.ld_targets, NULL)


cdef void read_columns(Plan* p, Py_ssize_t row, Py_ssize_t start, Py_ssize_t m, int thread) noexcept nogil:
    """Gather of other threads' rows start … start + m what this one's share of the gradient needs."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t first, end
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &first, &end)
    if m > 0 and first < end:
        gather(p, p.source, p.x + first * p.x_col, p.x_row, p.x_col, row + start, m, end - first,
               l.h + thread * p.h_step + (start * l.ld_in + first) * p.k.itemsize, l.ld_in, NULL)


cdef void forward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t all_rows, Py_ssize_t row,
                  int thread) noexcept nogil:
    """Read rows start … start + m of the chunk of all_rows that begins at ``row``; on to the last z."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize
    cdef Layer* l
    cdef Lists lists = p.listed
    cdef Dropout drop
    cdef char *z
    cdef char *slope
    cdef Py_ssize_t first, end
    cdef int i
    read_rows(p, row, start, m, thread)
    tick(p, thread, READ, 0)
    for i in range(p.n_layers):
        l = &p.layer[i]
        z = l.z + start * l.ld * item
        if l.by_columns:
            wait(p, thread)
            share(l.n_out, k.width, thread, p.threads, &first, &end)
            k.matmul(l.h, l.ld_in, 0, l.w + first * item, l.ld_w, l.z + first * item, l.ld, all_rows,
                     end - first, l.n_in, FINISH_BIAS, l.b + first * item, NULL)
            tick(p, thread, FORWARD, i)
            wait(p, thread)
        elif i == 0 and p.sparse:
            forward_sparse(p, start, m)
        elif l.bf16:
            p.k16.matmul(l.h16 + start * l.ld_in * 2, l.ld_in // 2, 0, l.w_pairs,
                         panel_size(l.n_in) // 4, z, l.ld, m, l.n_out, (l.n_in + 1) // 2,
                         FINISH_BIAS, l.b, NULL)
        elif i == 0 and p.marks != NULL:
            k.narrow_marked(l.h + thread * p.h_step + start * l.ld_in * item, l.ld_in,
                            p.marks + start * p.mark_words, l.w, l.ld_in, z, l.ld, m, l.n_out, l.n_in,
                            l.b)
        elif l.narrow:
            k.matmul_narrow(l.h + start * l.ld_in * item, l.ld_in, l.w, l.ld_in, z, l.ld, m,
                            l.n_out, l.n_in, l.b)
        elif l.in_h.on:
            list_hidden(p, &lists, i, 0, start, m, thread)
            times_listed(p, &lists, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
        else:
            if l.in_h.may and p.counting:
                list_hidden(p, &lists, i, 0, start, m, thread)
            k.matmul(l.h + start * l.ld_in * item, l.ld_in, 0, l.w, l.ld_w, z, l.ld, m, l.n_out,
                     l.n_in, FINISH_BIAS, l.b, NULL)
        if i < p.n_layers - 1:
            slope = NULL
            if l.slope != NULL:
                slope = l.slope + start * l.ld * item
            k.activate(l.activation, z, slope, l.ld, m, l.n_out)
            if p.training and l.dropout > 0:
                drop.seed = p.seed
                drop.epoch = p.epoch
                drop.stream = 1 + i
                drop.first_row = <uint32_t>(row + start)
                drop.threshold = <uint32_t>min(round_half_even(l.dropout * 4294967296.0),
                                               4294967295.0)
                drop.scale = 1.0 / (1.0 - l.dropout)
                k.dropout(z, slope, l.ld, m, l.n_out, &drop, 0)
            round_h(p, &p.layer[i + 1], start, m)
        tick(p, thread, FORWARD, i)


cdef inline double round_half_even(double x) noexcept nogil:
    # Python's round(), which the reference uses; x is below 2**32, so this is exact.
    return (x + 6755399441055744.0) - 6755399441055744.0


cdef void times_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m, Py_ssize_t first,
                          Py_ssize_t end, char* out, Py_ssize_t ld) noexcept nogil:
    """Columns first … end of dz · wᵀ, for rows start … start + m."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, i
    cdef const char* dz = l.dz + start * l.ld * item
    out += (start * ld + first) * item
    if first >= end:
        return
    if l.dots:
        k.matmul_narrow(dz, l.ld, l.w + first * l.ld * item, l.ld, out, ld, m, end - first, l.n_out,
                        p.zeros)
        if end == l.n_in:
            for i in range(m):
                memset(out + (i * ld + end - first) * item, 0, (ld - end) * item)
    else:
        k.matmul(dz, l.ld, 0, (l.w if l.narrow else l.wt) + first * item, l.ld_in, out, ld, m,
                 end - first, l.n_out, FINISH_STORE, NULL, NULL)


cdef void backward(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t all_rows,
                   int thread) noexcept nogil:
    """From the last dz down to the first: dz ← (dz · wᵀ) · f'(z)."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize
    cdef Layer* l
    cdef Lists lists = p.listed
    cdef Layer* below
    cdef char *dz
    cdef Py_ssize_t first, end
    cdef int i
    for i in range(p.n_layers - 1, 0, -1):
        l = &p.layer[i]
        below = &p.layer[i - 1]
        dz = below.dz + start * below.ld * item
        if l.bf16:
            p.k16.matmul(l.dz16 + start * l.ld * 2, l.ld // 2, 0, l.wt, panel_size(l.n_out) // 4,
                         dz, below.ld, m, l.n_in, (l.n_out + 1) // 2, FINISH_STORE, NULL, NULL)
        elif l.by_columns:
            wait(p, thread)
            share(l.n_in, k.width, thread, p.threads, &first, &end)
            times_transpose(p, l, 0, all_rows, first, end, below.dz, below.ld)
            tick(p, thread, BACKWARD, i)
            wait(p, thread)
        elif l.in_dz.on:
            list_hidden(p, &lists, i, 1, start, m, thread)
            times_listed(p, &lists, l.dz, l.ld, start, m, l.wt, l.ld_in, below.dz, below.ld, l.n_in, NULL)
        else:
            if l.in_dz.may and p.counting:
                list_hidden(p, &lists, i, 1, start, m, thread)
            times_transpose(p, l, start, m, 0, l.n_in, below.dz, below.ld)
        if below.slope != NULL:
            k.multiply(dz, below.slope + start * below.ld * item, below.ld, m)
        else:
            k.times_slope(below.activation, dz, l.h + start * l.ld_in * item, below.ld, m)
        round_dz(p, below, start, m)
        tick(p, thread, BACKWARD, i)


cdef void loss_and_output_gradient(Plan* p, Py_ssize_t start, Py_ssize_t m,
                                   double scale) noexcept nogil:
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Targets t
    t.labels = p.labels if p.y_labels != NULL else NULL
    t.values = p.targets
    t.ld = p.ld_targets
    t.weights = p.row_weight + start if p.row_weight != NULL else NULL
    t.least = p.least
    if t.labels != NULL:
        t.labels += start
    if t.values != NULL:
        t.values = <const char*>t.values + start * t.ld * p.k.itemsize
    p.k.loss(p.loss, p.output, l.z + start * l.ld * p.k.itemsize, l.ld, m, l.n_out, &t,
             p.gradients, scale * p.gain, p.row_loss + start, p.row_right + start)
    if p.gradients:
        round_dz(p, l, start, m)
