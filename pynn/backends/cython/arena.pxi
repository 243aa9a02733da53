# Sizes of matrices, and their places in one block of memory, the arena.

cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef Py_ssize_t padded(const Kernels* k, Py_ssize_t n) noexcept nogil:
    """Leading dimension for n columns: whole vectors, and no multiple of 1 KiB, at which the rows
    of a panel would share cache sets."""
    cdef Py_ssize_t ld = round_up(n, k.width)
    if ld * k.itemsize % 1024 == 0:
        ld += k.width
    return ld


cdef inline Py_ssize_t panels(Py_ssize_t n) noexcept nogil:
    """Panels of bf16 pairs with n columns."""
    return (n + PANEL - 1) // PANEL


cdef inline Py_ssize_t panel_pairs(Py_ssize_t k) noexcept nogil:
    """Pairs in a panel of k rows of values, with k rounded up to even."""
    return (k + 1) // 2 * PANEL


cdef Py_ssize_t common_multiple(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t m = a
    while m % b:
        m += a
    return m


cdef Py_ssize_t block_rows(const Kernels* k, Py_ssize_t ld, Py_ssize_t size) noexcept nogil:
    """Rows of a gradient block of about ``size`` bytes: whole vectors, which the transpose needs,
    and whole tiles if they fit."""
    cdef Py_ssize_t fit = size // (ld * k.itemsize)
    cdef Py_ssize_t tiles = common_multiple(k.rows, k.width)
    if fit >= tiles:
        return fit // tiles * tiles
    return max(fit // k.width, 2) * k.width


cdef char* carve(char* base, size_t* used, size_t size) noexcept nogil:
    """Take ``size`` bytes from the arena at ``base``; with a null base only count them."""
    cdef size_t begin = used[0]
    used[0] += round_up(size, ALIGNMENT)
    if base == NULL:
        return NULL
    return base + begin


cdef void carve_lists(Plan* p, Lists* lists, Py_ssize_t values, Py_ssize_t parts, char* base,
                      size_t* used) noexcept nogil:
    """Lists of up to ``values`` non-zeros per row, plus a vector that find_nonzero may write."""
    lists.ld = round_up(values, 32) + 32
    lists.columns = <uint16_t*>carve(base, used, p.rows * lists.ld * sizeof(uint16_t))
    lists.starts = <uint32_t*>carve(base, used, (parts + 1) * p.rows * sizeof(uint32_t))


# Gradient rows of one thread: the columns of h that they come from, within a part of the batch.
cdef struct Turned:
    char* rows              # T (TURNED_ROWS, SPARSE_PART)
    uint16_t* columns       # (TURNED_ROWS, TURNED_LD): rows of the batch that are not zero
    uint32_t* starts        # (2, TURNED_ROWS)


cdef size_t lay_out_turned(Plan* p, char* base, Turned* turned) noexcept nogil:
    """Return the size of a Turned; with a base, fill it in."""
    cdef size_t used = 0
    cdef Turned t
    t.rows = carve(base, &used, TURNED_ROWS * SPARSE_PART * p.k.itemsize)
    t.columns = <uint16_t*>carve(base, &used, TURNED_ROWS * TURNED_LD * sizeof(uint16_t))
    t.starts = <uint32_t*>carve(base, &used, 2 * TURNED_ROWS * sizeof(uint32_t))
    if base != NULL:
        turned[0] = t
    return used


cdef void lay_out_parameters(Plan* p, int i, char* base, size_t* used,
                             size_t* block) noexcept nogil:
    """Weights, biases, transpose, optimizer slots and gradient of layer i; ``block`` becomes the
    size of its gradient block, if that is larger."""
    cdef Layer* l = &p.layer[i]
    cdef Settings* settings = &p.settings
    cdef size_t item = p.k.itemsize, w_size
    cdef int s
    w_size = (l.n_out * l.ld_in if l.narrow else l.n_in * l.ld) * item
    if not l.direct and not l.shared:
        l.w = carve(base, used, w_size)
    l.b = carve(base, used, l.vectors * l.ld * item)
    l.wt = NULL
    if i > 0 and settings.gradients and l.bf16:
        l.wt = carve(base, used, panels(l.n_in) * panel_pairs(l.n_out) * sizeof(float))
    elif i > 0 and settings.gradients and not l.narrow and not l.dots:
        l.wt = carve(base, used, l.n_out * l.ld_in * item)
    for s in range(settings.vectors):
        l.sw[s] = carve(base, used, w_size)
        l.sb[s] = carve(base, used, l.vectors * l.ld * item)
    l.groups = (l.n_in + p.k.width - 1) // p.k.width
    l.bias_groups = (l.n_out + p.k.width - 1) // p.k.width
    l.gradient_norms = l.unit_squares = NULL
    if settings.clip_norm > 0:
        l.gradient_norms = <double*>carve(
            base, used, (l.groups + l.vectors * l.bias_groups) * sizeof(double))
    if settings.max_norm > 0:
        l.unit_squares = <double*>carve(base, used, l.groups * l.n_out * sizeof(double))
    l.dw = NULL
    l.db = NULL
    if settings.gradients:
        l.db = carve(base, used, l.vectors * l.ld * item)
        if (l.narrow or settings.batch_size > p.rows or not settings.training
                or settings.clip_norm > 0 or settings.tape):
            l.dw = carve(base, used, w_size)
        else:
            block[0] = max(block[0], <size_t>(l.block * l.ld) * item)


cdef void lay_out_norm(Plan* p, Layer* l, char* base, size_t* used) noexcept nogil:
    """What the backward pass of a normalisation needs."""
    cdef size_t item = p.k.itemsize, z_size = p.rows * l.ld * item
    if l.vectors == 1:
        return
    l.normed = carve(base, used, z_size)
    l.inverse = carve(base, used, p.rows * item)
    if l.vectors > 2 and not l.over_rows:
        l.passed = carve(base, used, z_size)
    if l.normed_after and (l.residual or (p.settings.training and l.dropout > 0)):
        l.mask = carve(base, used, z_size)


cdef void lay_out_rows(Plan* p, int i, char* base, size_t* used) noexcept nogil:
    """h, z, dz, slope and norm of layer i. Its h is the z of the layer below."""
    cdef Layer* l = &p.layer[i]
    cdef size_t item = p.k.itemsize, z_size = p.rows * l.ld * item
    if i > 0:
        l.h = p.layer[i - 1].z
    elif p.zeros.h_step:
        l.h = carve(base, used, p.pace.team_size * p.zeros.h_step)
    else:
        l.h = carve(base, used, p.rows * l.ld_in * item)
    l.z = carve(base, used, z_size)
    if l.over_rows:
        l.moments = carve(base, used, 3 * l.ld * item)
        l.running = carve(base, used, 4 * l.ld * item)
    l.dz = NULL
    l.slope = NULL
    l.mask = l.normed = l.inverse = l.passed = NULL
    if p.settings.gradients:
        # The z of a tape's last layer stays.
        l.dz = carve(base, used, z_size) if i < p.n_layers - 1 or p.settings.tape else l.z
        if l.keep_slope:
            l.slope = carve(base, used, z_size)
        lay_out_norm(p, l, base, used)
    l.kept = l.slope if l.mask == NULL else l.mask


cdef void lay_out_rounded(Plan* p, int i, char* base, size_t* used) noexcept nogil:
    """Operands of layer i rounded to bfloat16."""
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t rows = p.rows
    cdef size_t pair = sizeof(float)
    l.h16 = l.h_pairs = l.w_pairs = l.w_rounded = NULL
    l.dz16 = l.dz_pairs = l.dz_rounded = NULL
    if not l.bf16:
        return
    if i == 0 and p.zeros.sparse:
        l.w_rounded = carve(base, used, l.n_in * l.ld * sizeof(float))
        if p.settings.gradients:
            l.dz_rounded = carve(base, used, rows * l.ld * sizeof(float))
        return
    l.h16 = carve(base, used, rows * (l.ld_in // 2) * pair)
    if not l.shared:
        l.w_pairs = carve(base, used, panels(l.n_out) * panel_pairs(l.n_in) * pair)
    if p.settings.gradients:
        l.h_pairs = carve(base, used, (rows + 1) // 2 * l.ld_in * pair)
        l.dz_pairs = carve(base, used, panels(l.n_out) * panel_pairs(rows) * pair)
        if i > 0:
            l.dz16 = carve(base, used, rows * (l.ld // 2) * pair)


cdef void lay_out_buffers(Plan* p, size_t block, char* base, size_t* used) noexcept nogil:
    """Targets, losses and weights of the rows of a chunk, and gradient blocks."""
    cdef Buffers* buffers = &p.buffers
    cdef Py_ssize_t rows = p.rows, item = p.k.itemsize, batches
    buffers.zero_bias = carve(base, used, buffers.widest * item)
    buffers.labels = <int32_t*>carve(base, used, rows * sizeof(int32_t))
    buffers.targets = NULL
    if p.data.targets != NULL or p.settings.tape:
        buffers.targets = carve(base, used, rows * buffers.ld_targets * item)
    buffers.row_loss = <double*>carve(base, used, rows * sizeof(double))
    buffers.row_correct = <double*>carve(base, used, rows * sizeof(double))
    buffers.row_weight = NULL
    buffers.batch_weight = NULL
    if p.data.sample_weight != NULL:
        buffers.row_weight = <double*>carve(base, used, rows * sizeof(double))
        batches = (p.data.n + p.settings.batch_size - 1) // p.settings.batch_size
        buffers.batch_weight = <double*>carve(base, used, batches * sizeof(double))
    buffers.factors = NULL
    if p.settings.max_norm > 0:
        buffers.factors = <double*>carve(
            base, used, p.pace.threads * buffers.widest_out * sizeof(double))
    buffers.block_bytes = round_up(block, ALIGNMENT)
    buffers.blocks = carve(base, used, p.pace.threads * buffers.block_bytes)


cdef void lay_out_zeros(Plan* p, char* base, size_t* used) noexcept nogil:
    """Lists and marks of non-zeros."""
    cdef Zeros* zeros = &p.zeros
    cdef Layer* l = &p.layer[0]
    zeros.spread = NULL
    if p.data.source == SOURCE_SPARSE:
        zeros.spread = <int64_t*>carve(base, used, p.rows * sizeof(int64_t))
    zeros.turned_bytes = 0
    if zeros.sparse:
        zeros.nonzero.parts = (l.n_in + zeros.nonzero.part - 1) // zeros.nonzero.part
        carve_lists(p, &zeros.nonzero, p.data.max_nonzero, zeros.nonzero.parts, base, used)
        if zeros.scatter:
            zeros.turned_bytes = 2 * p.rows * sizeof(uint32_t)
        else:
            zeros.turned_bytes = l.block * (SPARSE_PART * sizeof(uint16_t) + 2 * sizeof(uint32_t))
        zeros.turned_bytes = round_up(zeros.turned_bytes, ALIGNMENT)
    if zeros.mark_words:
        zeros.marks = <uint64_t*>carve(base, used, p.rows * zeros.mark_words * sizeof(uint64_t))
    zeros.found = NULL
    if zeros.counts:
        carve_lists(p, &zeros.hidden, p.buffers.widest, p.buffers.widest // SPARSE_PART + 1, base,
                    used)
        zeros.found = <uint64_t*>carve(
            base, used, p.pace.threads * p.n_layers * COUNTERS * sizeof(uint64_t))
        zeros.turned_bytes = max(zeros.turned_bytes, lay_out_turned(p, NULL, NULL))
    zeros.turned = NULL
    if p.settings.gradients and zeros.turned_bytes:
        zeros.turned = carve(base, used, p.pace.threads * zeros.turned_bytes)


cdef void lay_out_tape(Plan* p, char* base, size_t* used) noexcept nogil:
    """What a tape has beside other plans: for the gradient of x, and for weights of rows."""
    cdef Layer* l = &p.layer[0]
    p.tape.wt = NULL
    if p.settings.tape:
        if not l.narrow:
            p.tape.wt = carve(base, used, l.n_out * l.ld_in * p.k.itemsize)
        p.tape.row_weight = <double*>carve(base, used, p.rows * sizeof(double))
        p.tape.dx = carve(base, used, p.pace.team_size * DX_ROWS * l.ld_in * p.k.itemsize)


cdef size_t lay_out(Plan* p, char* base) noexcept nogil:
    """Return the size of the arena; with a base, set all pointers into it.

    One function does both, so that size and places agree.
    """
    cdef size_t used = 0, block = 0
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        lay_out_parameters(p, i, base, &used, &block)
        lay_out_rows(p, i, base, &used)
        lay_out_rounded(p, i, base, &used)
        l.squares = NULL
        if p.settings.training and p.settings.sklearn and p.settings.l2 > 0:
            # Not ld_in, which may be a vector longer than its columns.
            l.n_squares = round_up(l.n_in, p.k.width) // p.k.width if l.narrow else l.n_in
            l.squares = <double*>carve(base, &used, l.n_squares * sizeof(double))
    lay_out_buffers(p, block, base, &used)
    lay_out_zeros(p, base, &used)
    lay_out_tape(p, base, &used)
    p.pace.work = <Work*>carve(base, &used, p.pace.team_size * N_WORKS * sizeof(Work))
    p.data.order = NULL
    if p.settings.training and not p.settings.tape:
        p.data.order = <uint32_t*>carve(base, &used, round_up(p.data.n, 64) * sizeof(uint32_t))
    return used
