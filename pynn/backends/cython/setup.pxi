# Sets up a plan: takes the arrays of the caller, and decides everything that a run needs, once.

_ACTIVATION = {activation_name(i).decode(): i for i in range(N_ACTIVATIONS)}
_LOSS = {loss_name(i).decode(): i for i in range(N_LOSSES)}
_RULE = {
    "sgd": RULE_SGD, "momentum": RULE_MOMENTUM, "nesterov": RULE_NESTEROV, "rmsprop": RULE_RMSPROP,
    "adagrad": RULE_ADAGRAD, "adam": RULE_ADAM, "adam_hat": RULE_ADAM, "adamw": RULE_ADAM,
    "amsgrad": RULE_AMSGRAD, "nadam": RULE_NADAM, "lion": RULE_LION,
}


# --- Decisions, in the order in which set_up makes them -------------------------------------------

cdef int choose_kernels(Plan* p, object net) except -1:
    p.k = kernels(_isa.load(), dtype_number(net.dtype))
    p.coder = code_kernels(_isa.load(), dtype_number(net.dtype))
    p.k16 = NULL
    p.pace.row_unit = 1
    if net.precision == "bf16":
        p.k16 = bf16_kernels(_isa.load())
        p.pace.row_unit = 2     # a pair has two rows
        p.settings.direct = False
        if p.k16 == NULL:
            raise ImportError("precision: found 'bf16', which the instruction set does not have")
    return 0


cdef int choose_rule(Settings* chosen, object optimizer) except -1:
    """The update rule and its constants."""
    cdef Step* step = &chosen.coefficients
    chosen.rule = _RULE[optimizer.name]
    chosen.unscaled_epsilon = optimizer.name == "adam_hat" or getattr(optimizer, "epsilon_hat", False)
    # The first decay rate has another name in each optimizer.
    chosen.coefficients.beta1 = getattr(optimizer, "beta1", None) or getattr(
        optimizer, "momentum", None) or getattr(optimizer, "rho", None) or 0.0
    chosen.coefficients.beta2 = getattr(optimizer, "beta2", 0.0)
    chosen.coefficients.epsilon = getattr(optimizer, "epsilon", 0.0)
    step.inside = getattr(optimizer, "initial", 0.0)
    if getattr(optimizer, "epsilon_inside", False):
        step.inside, step.epsilon = step.inside + step.epsilon, 0
    if optimizer.name == "rmsprop":
        step.beta1, step.beta2 = optimizer.rho, optimizer.momentum
        if optimizer.momentum > 0 and optimizer.centered:
            chosen.rule = RULE_RMSPROP_BOTH
        elif optimizer.momentum > 0 or optimizer.centered:
            chosen.rule = RULE_RMSPROP_CENTERED if optimizer.centered else RULE_RMSPROP_MOMENTUM
    chosen.weight_decay = getattr(optimizer, "weight_decay", 0.0)
    chosen.momentum_decay = getattr(optimizer, "momentum_decay", 0.0)
    return 0


cdef int set_groups(Plan* p, object groups, object layer_rates) except -1:
    """The rates and decays of every array; only weights have the weight decay of the optimizer."""
    cdef Group* group
    cdef int i, j
    for i in range(p.n_layers):
        group = p.layer[i].group
        for j in range(MAX_ARRAYS):
            group[j].rate, group[j].decay, group[j].decoupled = 1, 0, 0
        group[0].decoupled = p.settings.weight_decay
    for i in range(len(layer_rates)):
        for j in range(MAX_ARRAYS):
            p.layer[i].group[j].rate = layer_rates[i]
    for i in range(len(groups)):
        for j in range(len(groups[i])):
            given = groups[i][j]
            group = &p.layer[i].group[j]
            group.rate, group.decay, group.decoupled = given.rate, given.decay, given.decoupled
    return 0


cdef int choose_loss(Plan* p, object net, Held parameters) except -1:
    """Whatever the loss requires; ``parameters`` are its numbers, and a 0."""
    cdef Settings* settings = &p.settings
    settings.loss = _LOSS[net.loss]
    settings.loss_parameters = <const double*>parameters.view.buf
    settings.decides = not net.regression
    settings.independent = net.independent
    settings.n_targets = net.n_targets
    settings.per_target = net.n_out // net.n_targets
    return 0


cdef int choose_convention(Plan* p, object net) except -1:
    """The factors that make sums over outputs, as in scikit-learn, of means."""
    cdef Settings* settings = &p.settings
    cdef double terms = net.loss_terms
    settings.dz_factor = settings.loss_factor = 1
    settings.min_probability = 0
    if not settings.sklearn:
        return 0
    if settings.loss == MEAN_SQUARED_ERROR:
        settings.dz_factor, settings.loss_factor = terms / 2, 0.5
    else:
        settings.dz_factor = settings.loss_factor = terms
    settings.min_probability = np.finfo(net.dtype).eps
    return 0


cdef int shape_norm(Layer* l, object norm, bint after) except -1:
    """Set the normalisation of a layer, or None."""
    l.vectors = 1
    l.normed_before = l.normed_after = l.centers = l.over_rows = False
    if norm is not None:
        l.vectors = 1 + norm.vectors
        l.normed_before, l.normed_after, l.centers = not after, after, norm.centers
        l.epsilon, l.over_rows = norm.epsilon, norm.over_rows
        if l.over_rows:
            l.momentum, l.unbiased = norm.momentum, norm.unbiased
    return 0


cdef double shape_layers(Plan* p, object net) except -1:
    """Set shapes, precision and storage of all layers; return the FLOPs per row of x."""
    cdef Layer* l
    cdef Py_ssize_t batch = max(1, min(p.settings.batch_size, p.data.n))
    cdef double flops = 0, share
    cdef bint gradients = p.settings.gradients, hidden
    cdef int i
    p.n_layers = net.n_layers
    p.weight_bytes = 0
    if p.settings.training:
        p.settings.input_dropout, p.settings.input_noise = net.input_dropout, net.input_noise
    for i in range(p.n_layers):
        l = &p.layer[i]
        hidden = i < p.n_layers - 1
        l.n_in = net.sizes[i]
        l.n_out = net.sizes[i + 1]
        l.ld_in = padded(p.k, l.n_in)
        l.ld = padded(p.k, l.n_out)
        l.bf16 = net.rounds(i)
        # The order of sums depends on the shape, never on the number or the zeros of the rows of a
        # prediction.
        l.lanes = not l.bf16 and narrow_pays(p, l, batch if i > 0 and gradients else 0)
        # A direct row is read up to the end of its last vector, which must lie within w and b,
        # unless the kernel takes care of that. Rounded weights are copied anyway.
        if l.lanes:
            l.direct = p.settings.direct and p.data.n <= DIRECT_LANES
        else:
            l.direct = p.settings.direct and l.n_out >= p.k.width
        l.direct = (l.direct or (l.bf16 and not p.settings.training))
        l.ld_w = l.n_out if l.direct else l.ld
        l.ld_h = l.ld_in
        l.narrow = l.lanes and not l.direct     # a transpose pays for many rows
        # The faster the product, the more reading dz again for every block costs.
        l.block = block_rows(
            p.k, l.ld, 2 * BLOCK_BYTES if l.bf16 and p.k16.gain > 4 else BLOCK_BYTES)
        l.activation = _ACTIVATION[net.activations[i]]
        l.parameter = net.activation_parameter(i)
        l.dropout = net.dropout[i] if hidden else 0.0
        l.residual = net.adds_input(i)
        shape_norm(l, net.norm(i), net.norm_after)
        l.noise = net.hidden_noise[i] if hidden and net.hidden_noise else 0.0
        l.keep_slope = hidden and (
            slope_needs_z(l.activation) or l.residual or l.normed_after
            or (p.settings.training and (l.dropout > 0 or l.noise > 0)))
        if not hidden and p.settings.tape:
            l.keep_slope = l.activation != SOFTMAX      # for gradients of the outputs
        share = density(p, 1) if i == 0 and p.data.source == SOURCE_SPARSE else 1.0
        flops += 2.0 * l.n_in * l.n_out * share * (3 if gradients else 1)
        p.weight_bytes += <double>l.n_in * l.n_out * p.k.itemsize
    return flops


cdef void choose_first_layer(Plan* p) noexcept nogil:
    """Whether the first layer skips the zeros of x; if so, its weights are not transposed."""
    p.zeros.sparse = sparse_pays(p)
    p.zeros.scatter = p.layer[0].n_out * p.k.itemsize <= SCATTER_BYTES
    if p.zeros.sparse:
        p.layer[0].narrow = False


cdef void choose_shared(Plan* p) noexcept nogil:
    """Which layers use weights that another plan has packed."""
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        l.shared = False
        # A first layer that skips zeros may need w in a form of its own.
        if p.packed == NULL or (i == 0 and p.zeros.sparse and (l.bf16 or l.lanes)):
            continue
        if l.lanes and l.direct:
            continue
        l.shared = True
        l.direct = l.direct and l.bf16
        l.ld_w = l.n_out if l.direct else l.ld


cdef inline bint reads_in_place(Plan* p, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    """Whether rows of x with these strides in bytes are rows of a matrix product."""
    cdef Py_ssize_t item = p.k.itemsize
    return column == item and row % item == 0 and row >= p.layer[0].n_in * item


cdef void choose_input(Plan* p) noexcept nogil:
    """Whether products of the first layer read x in place. They must read no element after a row,
    nor add x elsewhere."""
    cdef Layer* l = &p.layer[0]
    cdef Data* data = &p.data
    cdef bint same = (data.source == (SOURCE_FLOAT32 if p.k.itemsize == sizeof(float)
                                      else SOURCE_FLOAT64))
    data.in_place = (same and not p.settings.gradients and not p.zeros.sparse and not l.lanes
                     and not l.bf16 and not l.residual and data.mean == NULL
                     and reads_in_place(p, data.x_row, data.x_col))
    l.ld_h = data.x_row // p.k.itemsize if data.in_place else l.ld_in


cdef bint normalizes_batches(Plan* p) noexcept nogil:
    """Whether some layer is normalised by the statistics of a batch rather than running ones."""
    cdef int i
    for i in range(p.n_layers):
        if p.layer[i].over_rows and p.settings.gradients:
            return True
    return False


cdef Py_ssize_t prediction_rows(Plan* p) noexcept nogil:
    """Rows of a chunk of a prediction: few enough for L2 if the weights fit there, so that each
    layer finds the outputs of the one below; whole tiles."""
    cdef Py_ssize_t item = p.k.itemsize, weights = 0, row = p.layer[0].ld_in, rows
    cdef int i
    for i in range(p.n_layers):
        weights += p.layer[i].n_in * p.layer[i].n_out * item
        row += p.layer[i].ld
    if weights > CACHE_BYTES:
        return MAX_ROWS
    rows = PREDICTION_BYTES // (row * item)
    return max(rows // 36, <Py_ssize_t>1) * 36  # a multiple of 9 and of 4 rows


cdef void choose_rows(Plan* p) noexcept nogil:
    """Rows of a chunk: a batch in the fewest equal parts that are small enough."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t batch = max(1, min(p.settings.batch_size, p.data.n)), chunks
    cdef Py_ssize_t most = GATHER_BYTES
    if p.data.source == SOURCE_SPARSE and not p.settings.gradients:
        most = SPREAD_BYTES
    most //= l.ld_in * p.k.itemsize
    if not p.settings.gradients:
        most = min(most, prediction_rows(p))
    most = max(<Py_ssize_t>MIN_ROWS, min(<Py_ssize_t>MAX_ROWS, most))
    chunks = (batch + most - 1) // most
    if normalizes_batches(p) or p.settings.tape:
        chunks = 1  # statistics are those of the whole batch; a tape keeps all rows
    p.rows = (batch + chunks - 1) // chunks
    # Prefetch the same row of the next chunk, which the same thread will read, if a chunk fits.
    p.data.ahead = p.rows if p.rows * l.n_in * p.data.x_col <= FETCH_BYTES else MIN_ROWS


cdef double sweep_work(Plan* p) noexcept nogil:
    """FLOPs of a prediction, or as many as it could do while it reads the weights: few rows of a
    large network take the time of reading it."""
    return max(p.flops * p.data.n, READ_FLOPS * p.weight_bytes)


cdef int choose_team(Plan* p, object threads, double flops) except -1:
    """The largest team: ``threads``, or as many as the FLOPs of a chunk, or of a prediction,
    justify."""
    cdef double most
    if not p.settings.gradients and sweep_work(p) < SHORT_SWEEP:
        p.pace.threads = 1
    elif threads is not None:
        p.pace.threads = threads
    else:
        p.pace.threads = 1
        most = flops * p.rows / FLOPS_A_THREAD
        if p.settings.answers:
            most = 2 * sweep_work(p) / SHORT_SWEEP
        # Reading the limits takes microseconds, a good part of the time of a small step.
        if most >= 2:
            p.pace.threads = <int>min(<double>default_threads(), most)
    p.pace.team_size = p.pace.threads
    return 0


cdef void choose_claims(Plan* p) noexcept nogil:
    """How threads divide a prediction: rows of a block, and of the memory for all threads."""
    cdef Py_ssize_t share
    p.claim_rows = p.rows
    p.pace.columns = claims_columns(p)
    if p.pace.columns:
        p.rows = p.data.n
    elif p.pace.team_size > 1:
        share = (p.data.n + ROW_CLAIMS * p.pace.team_size - 1) // (ROW_CLAIMS * p.pace.team_size)
        p.claim_rows = min(p.rows, max(<Py_ssize_t>CLAIM_ROWS, round_up(share, 4)))
        # More threads than blocks would only have to wake up.
        p.pace.team_size = <int>min(<Py_ssize_t>p.pace.team_size, row_blocks(p))
        p.pace.threads = p.pace.team_size
        p.rows = p.claim_rows * p.pace.team_size


cdef void choose_products(Plan* p) noexcept nogil:
    """How wide layers multiply: by dot products, by columns, without zeros; and their blocks."""
    cdef Layer* l
    cdef bint dense
    cdef int i
    p.buffers.widest = p.buffers.widest_out = 0
    p.zeros.counts = False
    if p.settings.answers:
        choose_claims(p)
    else:
        p.pace.columns = normalizes_batches(p)
    p.zeros.counting = True
    for i in range(p.n_layers):
        l = &p.layer[i]
        p.buffers.widest = max(p.buffers.widest, l.ld_in)
        p.buffers.widest_out = max(p.buffers.widest_out, round_up(l.n_out, 8))
        l.dots = i > 0 and p.settings.gradients and dots_pay(p, l)
        if p.settings.answers:
            l.by_columns = p.pace.columns and not l.lanes and l.n_out >= 2 * p.k.width
        else:
            l.by_columns = columns_pay(p, l)
        l.by_columns = l.by_columns and not (i == 0 and p.zeros.sparse)
        p.pace.columns = p.pace.columns or l.by_columns
        allow_skips(p, i)
        dense = not l.bf16 and not l.narrow and not (i == 0 and p.zeros.sparse)
        if dense and p.rows * l.ld * p.k.itemsize > CACHE_BYTES:
            l.block = max(l.block, min(<Py_ssize_t>WIDE_ROWS, round_up(
                (l.n_in + p.pace.threads - 1) // p.pace.threads, p.k.width)))


cdef void choose_marks(Plan* p) noexcept nogil:
    """Whether a narrow first layer skips vectors of x, and whether each thread has its own h."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t size = p.rows * l.ld_in * p.k.itemsize
    p.zeros.marks = NULL
    p.zeros.mark_words = 0
    p.zeros.h_step = 0
    if marks_pay(p):
        p.zeros.mark_words = (l.ld_in // p.k.width + 63) // 64
        # Floats that another core has written cost more to read than bytes from memory.
        if p.pace.threads > 1 and size <= CACHE_BYTES // 2 and p.settings.input_dropout == 0:
            p.zeros.h_step = round_up(size, ALIGNMENT)


cdef void choose_pace(Plan* p, double flops) noexcept nogil:
    """How often to read the clock, to balance the threads, and to try another number of them."""
    cdef double chunk = flops * p.rows
    p.pace.choosing = p.pace.threads > 1
    p.pace.trial_every = max(TRIAL_EVERY, chunk / TRIAL_FLOPS)
    p.pace.late_trials = chunk > LONG_CHUNK
    # Threads that wait for each other within the passes all take the same time for them.
    p.pace.balanced = 1 < p.pace.threads <= MAX_BALANCED and not p.pace.columns
    p.pace.slice = TRIAL_SECONDS
    p.pace.check_every = <Py_ssize_t>max(1.0, CHECK_FLOPS / max(chunk, 1.0))


# --- The owner of a plan --------------------------------------------------------------------------

cdef class PlanOwner:
    """Owns a Plan, its arena, and references to the arrays that it points into.

    The caller sets ``p.settings`` first, then calls ``set_up`` and ``pack``.
    """
    cdef Plan p
    cdef Held x, y, mean, inverse, x_starts, x_columns, sample_weight
    cdef Held parameters, loss_parameters, arena
    cdef object memory
    cdef object coded           # x, if its elements are codes
    cdef Py_ssize_t n_parameters, n_values
    cdef size_t arena_bytes
    cdef PlanOwner packed       # whose weights the plan uses, or None
    cdef object vector          # whose buffer ``parameters`` is
    cdef object standard        # of x, or None
    cdef int uses               # predictions with this plan

    cdef int set_up(self, object net, object threads, object x, object y, object sample_weight,
                    bint missing) except -1:
        """Decide everything. The order matters: each step uses the results of those before it."""
        cdef Plan* p = &self.p
        cdef double flops
        self.n_parameters, self.n_values = net.n_parameters, net.n_values
        choose_kernels(p, net)
        p.settings.output = _ACTIVATION[net.activations[net.n_layers - 1]]
        if y is not None or p.settings.tape:
            self.loss_parameters = Held(
                np.array([*net.loss_function.numbers(), 0.0]), PyBUF_SIMPLE)
            choose_loss(p, net, self.loss_parameters)
            choose_convention(p, net)
        self.use_data(x, y, sample_weight)
        p.data.missing = missing
        p.flops = flops = shape_layers(p, net)  # needs n and the source of x
        choose_first_layer(p)                   # needs shapes; may make layer 0 wide
        choose_shared(p)                        # needs the kernel of layer 0
        choose_input(p)                         # needs the kernel of layer 0
        choose_rows(p)                          # needs the padded width of x
        choose_team(p, threads, flops)          # needs rows
        choose_products(p)                      # needs rows, threads and the first layer
        if p.zeros.counts:
            p.zeros.costs = costs_here(_isa.load(), dtype_number(net.dtype))
        choose_marks(p)                         # needs rows, threads and whether layer 0 is narrow
        choose_pace(p, flops)                   # needs threads, and whether layers are by columns
        if y is not None or p.settings.tape:
            p.buffers.ld_targets = padded(p.k, p.settings.n_targets)
        self.allocate()                         # needs everything
        return 0

    cdef int use_data(self, object x, object y, object sample_weight) except -1:
        """Point at the data set: x (n, n_in) with any strides or Sparse, either of them
        Standardized or not, or Coded; y labels (n,), targets (n, n_targets) or None; weights (n,) or None."""
        cdef Data* data = &self.p.data
        data.mean = data.inverse = NULL
        self.standard = None
        if isinstance(x, Standardized):
            self.standard = x.standard
            self.mean = Held(x.standard.mean, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.inverse = Held(x.standard.inverse, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            data.mean = <const double*>self.mean.view.buf
            data.inverse = <const double*>self.inverse.view.buf
            x = x.rows
        if isinstance(x, Sparse):
            self.x = Held(x.data, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_starts = Held(x.indptr, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_columns = Held(x.indices, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            data.source = SOURCE_SPARSE
            data.n, data.x_col = len(x), self.x.view.itemsize
            data.x_starts = <const int64_t*>self.x_starts.view.buf
            data.x_columns = <const int32_t*>self.x_columns.view.buf
            data.max_nonzero = np.diff(x.indptr).max(initial=0)
        elif isinstance(x, Coded):
            self.coded = x
            self.x = Held(x.codes, PyBUF_STRIDED_RO)
            data.source = SOURCE_CODES
            data.n, data.x_row, data.x_col = len(x), x.codes.shape[1], 1
            data.max_nonzero = x.codes.shape[1]
            data.codes.high, data.codes.low = x.factors
        else:
            self.x = Held(x, PyBUF_STRIDED_RO | PyBUF_FORMAT)
            data.n = self.x.view.shape[0]
            data.x_row = self.x.view.strides[0]
            data.x_col = self.x.view.strides[1]
            data.max_nonzero = self.x.view.shape[1]
            data.source = {b"B": SOURCE_UINT8, b"f": SOURCE_FLOAT32, b"d": SOURCE_FLOAT64}[
                <bytes>self.x.view.format]
        data.x = <const char*>self.x.view.buf
        if data.n > 0xFFFFFFFF:
            raise ValueError(f"x: found {data.n} rows, expected at most {0xFFFFFFFF}")
        data.sample_weight = NULL
        if sample_weight is not None:
            self.sample_weight = Held(sample_weight, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            data.sample_weight = <const double*>self.sample_weight.view.buf
        data.labels = NULL
        data.targets = NULL
        if y is not None:
            self.y = Held(y, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            if self.y.view.ndim == 1:
                data.labels = <const int32_t*>self.y.view.buf
            else:
                data.targets = <const char*>self.y.view.buf
        return 0

    cdef int allocate(self) except -1:
        """Allocate the arena, and initialise what a run expects to be set."""
        cdef Plan* p = &self.p
        cdef size_t size = lay_out(p, NULL)
        cdef int fill = _poison.load()
        try:
            self.memory = Memory(size + 2 * ALIGNMENT)
        except MemoryError:
            raise MemoryError(f"could not get {size} bytes of working memory") from None
        self.arena = Held(self.memory.bytes, PyBUF_WRITABLE)
        p.buffers.arena = <char*>(
            round_up(<Py_ssize_t><uintptr_t>self.arena.view.buf, ALIGNMENT))
        if fill:
            # Alternately, since code that NaN does not affect may be affected by a number.
            memset(p.buffers.arena, fill, size)
            _poison.store(HUGE_BYTES if fill == NAN_BYTES else NAN_BYTES)
        self.arena_bytes = lay_out(p, p.buffers.arena)
        memset(p.buffers.zero_bias, 0, p.buffers.widest * p.k.itemsize)
        memset(p.pace.work, 0, p.pace.team_size * N_WORKS * sizeof(Work))
        if p.zeros.spread != NULL:
            memset(p.zeros.spread, 0xFF, p.rows * sizeof(int64_t))  # -1
        return 0

    cdef int pack(self, object parameters) except -1:
        """Copy flat parameters into the layers, or let the layers point at them."""
        cdef Plan* p = &self.p
        if parameters is not self.vector:
            self.parameters = Held(parameters, PyBUF_SIMPLE)
            self.vector = parameters
        p.copy.flat = <char*>self.parameters.view.buf
        if self.parameters.view.len != self.n_values * p.k.itemsize:
            raise ValueError(
                f"parameters: found {self.parameters.view.len} bytes, expected "
                f"{self.n_values * p.k.itemsize}")
        with nogil:
            run_on_team(p, pack_parameters, copied_bytes(p))
        return 0

    cdef bint fits(self, const Kernels* k, const Py_buffer* x, int source, object standard):
        """Whether the plan of a prediction is one for rows like these."""
        cdef const Data* data = &self.p.data
        return (data.n == x.shape[0] and data.source == source and self.p.k == k
                and self.standard is standard
                and (not data.in_place or reads_in_place(&self.p, x.strides[0], x.strides[1])))

    cdef void use_rows(self, const Py_buffer* x) noexcept:
        """Point at other rows, which the caller holds during the prediction."""
        cdef Data* data = &self.p.data
        data.x, data.x_row, data.x_col = <const char*>x.buf, x.strides[0], x.strides[1]
        if data.in_place:
            self.p.layer[0].ld_h = data.x_row // self.p.k.itemsize

    cdef int move_flat(self, int slot, Held flat, bint pack) except -1:
        """Copy between a flat vector and the parameters (slot -1) or an optimizer slot."""
        cdef Plan* p = &self.p
        p.copy.flat, p.copy.slot, p.copy.pack = <char*>flat.view.buf, slot, pack
        with nogil:
            run_on_team(p, move_share, flat.view.len)
        return 0
