_ACTIVATION = {
    "identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU,
    "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "softplus": SOFTPLUS, "softmax": SOFTMAX,
    "exp": EXP,
}


_LOSS = {
    "cross_entropy": CROSS_ENTROPY, "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "mse": MEAN_SQUARED_ERROR, "poisson": POISSON,
}


_RULE = {
    "sgd": RULE_SGD, "momentum": RULE_MOMENTUM, "nesterov": RULE_NESTEROV, "rmsprop": RULE_RMSPROP,
    "adagrad": RULE_ADAGRAD, "adam": RULE_ADAM, "adam_hat": RULE_ADAM, "adamw": RULE_ADAM,
}


cdef class Held:
    """A buffer of a Python object, held for as long as this lives."""
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, object array, int flags):
        self.held = False
        PyObject_GetBuffer(array, &self.view, flags)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef int move_flat(Plan* p, int slot, Held flat, bint pack) except -1:
    """Copy between a flat vector and parameters (slot -1) or a state of the optimizer."""
    p.flat, p.moved, p.packing = <char*>flat.view.buf, slot, pack
    with nogil:
        run_on_team(p, move_share, flat.view.len)
    return 0


cdef class _Plan:
    """Owner of a Plan, its arena, and the arrays that it points into."""
    cdef Plan p
    cdef Held x, y, x_starts, x_columns, sample_weight, parameters, memory
    cdef object lent
    cdef Py_ssize_t n_parameters

    cdef int set_up(self, object net, object threads, object x, object y, Py_ssize_t batch_size,
                    bint gradients, bint training, int slots, double l2=0, object sample_weight=None,
                    bint sums=False) except -1:
        cdef Plan* p = &self.p
        cdef Layer* l
        cdef size_t size
        cdef double flops = 0, total, share
        cdef int i, fill
        p.k = kernels(_isa.load(), F32 if net.dtype == "float32" else F64)
        p.k16 = NULL
        p.row_unit = 1
        if net.precision == "bf16":
            p.k16 = bf16_kernels(_isa.load())
            p.row_unit = 2
            p.direct = False
            if p.k16 == NULL:
                raise ImportError("precision: found 'bf16', which the instruction set does not have")
        p.n_layers = net.n_layers
        self.n_parameters = net.n_parameters
        p.loss = _LOSS[net.loss]
        p.output = _ACTIVATION[net.activations[net.n_layers - 1]]
        p.gradients = gradients
        p.training = training
        p.slots = slots
        p.batch_size = batch_size
        p.l2 = l2
        self.point_at(x, y, sample_weight)
        for i in range(p.n_layers):
            l = &p.layer[i]
            l.n_in = net.sizes[i]
            l.n_out = net.sizes[i + 1]
            l.ld_in = padded(p.k, l.n_in)
            l.ld = padded(p.k, l.n_out)
            l.bf16 = net.rounds(i)
            # Vectors past the end of such weights end in the biases. Rounded ones are packed anew.
            l.direct = (p.direct and l.n_out >= p.k.width) or (l.bf16 and not training)
            l.ld_w = l.n_out if l.direct else l.ld
            # The faster the product, the more it waits for dz, which comes anew for each block.
            l.block = block_rows(
                p.k, l.ld, 2 * BLOCK_BYTES if l.bf16 and p.k16.gain > 4 else BLOCK_BYTES)
            # The first layer of sparse rows goes by lists of columns, which narrow ones cannot.
            l.narrow = (i > 0 or p.source != SOURCE_SPARSE) and narrow_pays(
                p, l, max(1, min(batch_size, p.n)) if i > 0 and gradients else 0)
            l.activation = _ACTIVATION[net.activations[i]]
            l.dropout = net.dropout[i] if i < p.n_layers - 1 else 0.0
            l.keep_slope = i < p.n_layers - 1 and (
                l.activation == GELU or (training and l.dropout > 0))
            share = density(p, 1) if i == 0 and p.source == SOURCE_SPARSE else 1.0
            flops += 2.0 * l.n_in * l.n_out * share * (3 if gradients else 1)
        p.sparse = sparse_pays(p)
        p.scatter = p.layer[0].n_out * p.k.itemsize <= SCATTER_BYTES
        if p.sparse:
            p.layer[0].narrow = False
        self.use_convention(net, sums)
        p.ld_targets = padded(p.k, p.layer[p.n_layers - 1].n_out)
        cdef Py_ssize_t batch = max(1, min(batch_size, p.n))
        cdef Py_ssize_t most = GATHER_BYTES
        if p.source == SOURCE_SPARSE and not gradients:
            most = SPREAD_BYTES
        most //= p.layer[0].ld_in * p.k.itemsize
        most = max(<Py_ssize_t>MIN_ROWS, min(<Py_ssize_t>MAX_ROWS, most))
        p.rows = (batch + (batch + most - 1) // most - 1) // ((batch + most - 1) // most)
        # The same rows of the next chunk, which the same thread will read, if so many fit its cache.
        p.ahead = p.rows if p.rows * p.layer[0].n_in * p.x_col <= FETCH_BYTES else MIN_ROWS
        total = flops * p.n
        flops *= p.rows
        if threads is None:
            p.threads = <int>max(1.0, min(<double>usable_processors(), flops / FLOPS_A_THREAD))
            if not gradients and total < SHORT_SWEEP:
                p.threads = 1
        else:
            p.threads = threads
        p.team_size = p.threads
        p.widest = p.columns = p.counts = 0
        p.counting = True
        for i in range(p.n_layers):
            l = &p.layer[i]
            p.widest = max(p.widest, l.ld_in)
            l.dots = i > 0 and gradients and dots_pay(p, l)
            l.by_columns = columns_pay(p, l) and not (i == 0 and p.sparse)
            p.columns = p.columns or l.by_columns
        for i in range(p.n_layers):
            may_skip(p, i)
            l = &p.layer[i]
            if (not l.bf16 and not l.narrow and not (i == 0 and p.sparse)
                    and p.rows * l.ld * p.k.itemsize > CACHE_BYTES):
                l.block = max(l.block, min(<Py_ssize_t>WIDE_ROWS, round_up(
                    (l.n_in + p.threads - 1) // p.threads, p.k.width)))
        if p.counts:
            p.costs = costs_here(_isa.load(), F32 if net.dtype == "float32" else F64)
        p.marks = NULL
        p.mark_words = 0
        p.h_step = 0
        if marks_pay(p):
            p.mark_words = (p.layer[0].ld_in // p.k.width + 63) // 64
            # Floats that another core has written come to this one dearer than bytes come from memory.
            if p.threads > 1 and p.rows * p.layer[0].ld_in * p.k.itemsize <= CACHE_BYTES // 2:
                p.h_step = round_up(p.rows * p.layer[0].ld_in * p.k.itemsize, ALIGNMENT)
        p.choosing = p.threads > 1
        p.trial_every = max(TRIAL_EVERY, flops / TRIAL_FLOPS)
        p.tries_late = flops > LONG_CHUNK
        # Threads that wait for each other within a phase take the same time for it.
        p.balanced = 1 < p.threads <= MOST_BALANCED and not p.columns
        p.slice = TRIAL_SECONDS
        # About a millisecond at 10 GFLOP/s between two looks at the clock.
        p.check_every = <Py_ssize_t>max(1.0, 1e7 / max(flops, 1.0))
        size = lay_out(p, NULL)
        try:
            self.lent = Memory(size + 2 * ALIGNMENT)
        except MemoryError:
            raise MemoryError(f"could not get {size} bytes of working memory") from None
        self.memory = Held(self.lent.bytes, PyBUF_WRITABLE)
        p.arena = <char*>(round_up(<Py_ssize_t><uintptr_t>self.memory.view.buf, ALIGNMENT))
        fill = _poison.load()
        if fill:
            # By turns, since what is blind to one may take the other for a number.
            memset(p.arena, fill, size)
            _poison.store(HUGE_BYTES if fill == NAN_BYTES else NAN_BYTES)
        lay_out(p, p.arena)
        memset(p.zeros, 0, p.widest * p.k.itemsize)
        memset(p.work, 0, p.team_size * N_WORKS * sizeof(Work))
        if p.spread != NULL:
            memset(p.spread, 0xFF, p.rows * sizeof(int64_t))
        return 0

    cdef int use_convention(self, object net, bint sums) except -1:
        cdef Plan* p = &self.p
        cdef double n_out = net.n_out
        p.sums = sums
        p.gain = p.loss_gain = 1
        p.least = 0
        if not sums:
            return 0
        if p.loss == MEAN_SQUARED_ERROR:
            p.gain, p.loss_gain = n_out / 2, 0.5
        elif p.loss != CROSS_ENTROPY:
            p.gain = p.loss_gain = n_out
        p.least = np.finfo(net.dtype).eps
        return 0

    cdef int point_at(self, object x, object y, object sample_weight) except -1:
        """Take the data set: x (n, n_in) of any strides or Sparse, y labels (n,), targets
        (n, n_out) or None, and weights (n,) or None."""
        cdef Plan* p = &self.p
        if isinstance(x, Sparse):
            self.x = Held(x.data, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_starts = Held(x.indptr, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            self.x_columns = Held(x.indices, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            p.source = SOURCE_SPARSE
            p.n, p.x_col = len(x), self.x.view.itemsize
            p.x_starts = <const int64_t*>self.x_starts.view.buf
            p.x_columns = <const int32_t*>self.x_columns.view.buf
            p.most_lit = np.diff(x.indptr).max(initial=0)
        else:
            self.x = Held(x, PyBUF_STRIDED_RO | PyBUF_FORMAT)
            p.n = self.x.view.shape[0]
            p.x_row = self.x.view.strides[0]
            p.x_col = self.x.view.strides[1]
            p.most_lit = self.x.view.shape[1]
            p.source = {b"B": SOURCE_UINT8, b"f": SOURCE_FLOAT32, b"d": SOURCE_FLOAT64}[
                <bytes>self.x.view.format]
        p.x = <const char*>self.x.view.buf
        if p.n > 0xFFFFFFFF:
            raise ValueError(f"x: found {p.n} rows, expected at most {0xFFFFFFFF}")
        p.sample_weight = NULL
        if sample_weight is not None:
            self.sample_weight = Held(sample_weight, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            p.sample_weight = <const double*>self.sample_weight.view.buf
        p.y_labels = NULL
        p.y_values = NULL
        self.y = None
        if y is not None:
            self.y = Held(y, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            if self.y.view.ndim == 1:
                p.y_labels = <const int32_t*>self.y.view.buf
            else:
                p.y_values = <const char*>self.y.view.buf
        return 0

    cdef int pack(self, object parameters) except -1:
        cdef Plan* p = &self.p
        self.parameters = Held(parameters, PyBUF_SIMPLE)
        p.flat = <char*>self.parameters.view.buf
        if self.parameters.view.len != self.n_parameters * p.k.itemsize:
            raise ValueError(
                f"parameters: found {self.parameters.view.len} bytes, expected "
                f"{self.n_parameters * p.k.itemsize}")
        with nogil:
            run_on_team(p, pack_parameters, self.parameters.view.len)
        return 0


cdef _Plan planned(object net, object threads, object parameters, object x, object y):
    cdef _Plan plan = _Plan.__new__(_Plan)
    plan.p.direct = len(x) <= DIRECT_ROWS
    plan.set_up(net, threads, x, y, len(x), False, False, 0)
    plan.p.rule = -1
    plan.pack(parameters)
    return plan


cdef class Objective:
    """The function that ``Engine.objective`` returns: planned once, called many times."""
    cdef _Plan plan
    cdef object net
    cdef double l2

    def __init__(self, net, threads, data, settings):
        self.net = net
        self.plan = _Plan.__new__(_Plan)
        self.plan.set_up(net, threads, data.x, data.y, len(data.x), True, False, 0, settings.l2,
                         data.sample_weight, settings.convention == "sklearn")
        self.plan.p.rule = -1
        weigh_batches(&self.plan.p)

    def __call__(self, parameters):
        cdef Plan* p = &self.plan.p
        cdef double weight = weight_of_batch(p, 0), l2 = p.l2 / weight if p.sums else p.l2
        p.threads = p.team_size
        self.plan.pack(parameters)
        p.row = 0
        p.batch_loss = p.right_sum = 0
        run_in_slices(p, sweep, False)
        gradient = np.empty(self.net.n_parameters, self.net.dtype)
        cdef Held held = Held(gradient, PyBUF_WRITABLE | PyBUF_SIMPLE)
        unpack_gradient(p, <char*>held.view.buf)
        loss = p.batch_loss / weight * p.loss_gain
        if l2:
            weights, _ = self.net.views(parameters)
            for w, dw in zip(weights, self.net.views(gradient)[0]):
                dw += l2 * w
                loss += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
        return loss, gradient


cdef int copy_trials(Engine engine, Trials* to, const Trials* source) except -1:
    """Copy to or from an engine. It may serve many threads, all but this without locks: a trainer
    belongs to one thread, and the plan of a prediction to one call."""
    with cython.critical_section(engine):
        to[0] = source[0]
    return 0


cdef class Engine:
    """The compiled backend; the contract is that of ``pynn.backends.Engine``."""
    cdef readonly str name
    cdef readonly object net
    cdef object _threads
    # What the last trainer found out about threads, for the next one to start from.
    cdef Trials trials, sweeps

    def __init__(self, net, threads=None):
        if net.n_layers > MAX_LAYERS:
            raise ValueError(
                f"sizes: found {net.n_layers} layers, expected at most {MAX_LAYERS} "
                "with the compiled backend; the backend 'numpy' takes any number")
        self.name = "cython"
        self.net = net
        self._threads = threads

    @property
    def threads(self):
        return usable_processors() if self._threads is None else self._threads

    def depends_on(self):
        isa = _isas[_isa.load()]
        # The instruction set amx has no kernels of its own for full precision.
        return {"isa": "avx512" if isa == "amx" and self.net.precision == "full" else isa}

    def forward(self, parameters, x):
        out = np.empty((len(x), self.net.n_out), self.net.dtype)
        if len(x) == 0:
            return out
        cdef _Plan plan = planned(self.net, self._threads, parameters, x, None)
        cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
        plan.p.out = <char*>held.view.buf
        copy_trials(self, &plan.p.trials, &self.sweeps)
        run_in_slices(&plan.p, sweep, False)
        copy_trials(self, &self.sweeps, &plan.p.trials)
        return out

    def evaluate(self, parameters, x, y):
        cdef _Plan plan = planned(self.net, self._threads, parameters, x, y)
        run_in_slices(&plan.p, sweep, False)
        return plan.p.batch_loss, plan.p.right_sum

    def objective(self, data, settings):
        return Objective(self.net, self._threads, data, settings)

    def trainer(self, parameters, state, data, settings):
        return Trainer(self, parameters, state, data, settings)


cdef class Trainer:
    """The mini-batch loop; the contract is that of ``pynn.backends.Trainer``."""
    cdef _Plan plan
    cdef Engine engine
    cdef object parameters, state
    cdef bint shuffle, ordered, given, looked_at
    cdef object profiled
    cdef Held spent, looked

    def __init__(self, Engine engine, parameters, state, data, settings):
        cdef Plan* p
        cdef Held flat
        cdef int s
        optimizer = settings.optimizer
        self.engine = engine
        self.parameters, self.state = parameters, list(state)
        self.shuffle = settings.shuffle
        self.ordered = self.given = self.looked_at = False
        self.plan = _Plan.__new__(_Plan)
        p = &self.plan.p
        self.plan.set_up(engine.net, engine._threads, data.x, data.y,
                         min(<Py_ssize_t>settings.batch_size, len(data.x)), True, True,
                         len(self.state), settings.l2, data.sample_weight,
                         settings.convention == "sklearn")
        p.rule = _RULE[optimizer.name]
        p.unscaled_epsilon = optimizer.name == "adam_hat"
        p.watch = settings.watch
        p.seed = settings.seed
        p.settings.beta1 = getattr(optimizer, "beta1", None) or getattr(
            optimizer, "momentum", None) or getattr(optimizer, "rho", None) or 0.0
        p.settings.beta2 = getattr(optimizer, "beta2", 0.0)
        p.settings.epsilon = getattr(optimizer, "epsilon", 0.0)
        p.weight_decay = getattr(optimizer, "weight_decay", 0.0)
        self.plan.pack(parameters)
        if p.slots != optimizer.slots:
            raise ValueError(f"state: found {p.slots} vectors, expected {optimizer.slots}")
        for s in range(p.slots):
            flat = Held(self.state[s], PyBUF_SIMPLE)
            if flat.view.len != self.plan.parameters.view.len:
                raise ValueError(
                    f"state: found {flat.view.len} bytes, expected {self.plan.parameters.view.len}")
            move_flat(p, s, flat, True)
        self.looked_at = True
        p.team = Team.acquire(1)
        p.team.run(square_all_weights, p)
        Team.release(p.team)

    def profile(self):
        """Take times from now on: return the phases, and seconds (threads, layers, phases) that
        ``steps`` adds to."""
        cdef Plan* p = &self.plan.p
        if self.profiled is None:
            spent = np.zeros((p.team_size, p.n_layers, N_PHASES))
            looked = np.zeros(p.team_size * ALIGNMENT // sizeof(double))
            self.spent, self.looked = Held(spent, PyBUF_WRITABLE), Held(looked, PyBUF_WRITABLE)
            p.spent, p.looked = <double*>self.spent.view.buf, <double*>self.looked.view.buf
            self.profiled = spent
        return _PHASES, self.profiled

    def order(self, rows):
        cdef Held held = Held(np.ascontiguousarray(rows, dtype=np.int64), PyBUF_SIMPLE)
        cdef const int64_t* row = <const int64_t*>held.view.buf
        cdef Plan* p = &self.plan.p
        cdef Py_ssize_t i
        if held.view.len != p.n * <Py_ssize_t>sizeof(int64_t):
            raise ValueError(f"rows: found {len(rows)}, expected {p.n}")
        for i in range(p.n):
            if not 0 <= row[i] < p.n:
                raise ValueError(f"rows: found {row[i]}, expected numbers from 0 to {p.n - 1}")
            p.order[i] = <uint32_t>row[i]
        self.given = True
        self.ordered = False

    def steps(self, epoch, Py_ssize_t first, rates, Py_ssize_t updates):
        cdef Plan* p = &self.plan.p
        cdef Py_ssize_t i
        cdef Held held
        rates = np.ascontiguousarray(rates, dtype=np.float64)
        held = Held(rates, PyBUF_SIMPLE)
        if not self.ordered or p.epoch != <uint32_t>epoch:
            p.epoch = epoch
            with nogil:
                if self.given:
                    self.ordered = True
                elif self.shuffle:
                    self.ordered = shuffle_rows(p)
                else:
                    for i in range(p.n):
                        p.order[i] = <uint32_t>i
                    self.ordered = True
                weigh_batches(p)
            if not self.ordered:
                raise MemoryError(f"could not get memory to shuffle {p.n} rows")
        self.looked_at = False
        p.rates = <const double*>held.view.buf
        p.first = first
        p.steps = len(rates)
        p.step = 0
        p.updates = updates
        p.row = first * p.batch_size
        p.batch_loss = 0
        p.diverged = False
        if first == 0:
            p.loss_sum = p.right_sum = p.right_before = 0
        copy_trials(self.engine, &p.trials, &self.engine.trials)
        try:
            run_in_slices(p, train, True)
        finally:
            copy_trials(self.engine, &self.engine.trials, &p.trials)
        return p.loss_sum, p.right_sum

    @property
    def done(self):
        return self.plan.p.step

    @done.setter
    def done(self, count):
        self.plan.p.step = count

    @property
    def diverged(self):
        return bool(self.plan.p.diverged)

    @property
    def sums(self):
        return self.plan.p.loss_sum, self.plan.p.right_before

    @sums.setter
    def sums(self, found):
        self.plan.p.loss_sum, self.plan.p.right_sum = found
        self.plan.p.right_before = self.plan.p.right_sum

    @property
    def sparse(self):
        """Whether the first layer skips the zeros of x."""
        return bool(self.plan.p.sparse)

    @property
    def marked(self):
        """Whether the first layer, a narrow one, skips the vectors of x that are zero."""
        return self.plan.p.marks != NULL

    @property
    def shares(self):
        """How the threads share a chunk, all being at work: for each the part of its rows that it has, and
        the part of the weights.

        They follow what the threads take for theirs. Those that are set are for the next steps, but have
        no effect where threads always share equally.
        """
        cdef Plan* p = &self.plan.p
        cdef Trials trials
        copy_trials(self.engine, &trials, &self.engine.trials)
        if not p.balanced or trials.team != p.team_size:
            return [[1.0 / p.team_size] * p.team_size] * N_WORKS
        return [[trials.shares[which][i + 1] - trials.shares[which][i] for i in range(p.team_size)]
                for which in range(N_WORKS)]

    @shares.setter
    def shares(self, wanted):
        cdef Plan* p = &self.plan.p
        cdef int which, i
        if [len(parts) for parts in wanted] != [p.team_size] * N_WORKS:
            raise ValueError(f"shares: found {wanted}, expected {N_WORKS} x {p.team_size}")
        if not p.balanced:
            return
        share_equally(p)
        for which in range(N_WORKS):
            for i in range(p.team_size - 1):
                p.trials.shares[which][i + 1] = p.trials.shares[which][i] + wanted[which][i]
        p.trials.made = 0
        copy_trials(self.engine, &self.engine.trials, &p.trials)

    @property
    def skips(self):
        """For each layer, whether the next step skips the zeros of its inputs and of its dz."""
        cdef int i
        return [(bool(self.plan.p.layer[i].in_h.on), bool(self.plan.p.layer[i].in_dz.on))
                for i in range(self.plan.p.n_layers)]

    def evaluate(self, x, y):
        # Through the flat vector: one text for evaluation, and a copy that costs less than a batch.
        net = self.engine.net
        parameters = np.empty(net.n_parameters, net.dtype)
        cdef Held flat = Held(parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        move_flat(&self.plan.p, -1, flat, False)
        return self.engine.evaluate(parameters, x, y)

    def would_store_finite(self):
        """Whether all that ``store`` would write is known to be finite."""
        self.see_anew()
        with nogil:
            run_on_team(&self.plan.p, look_at_share, self.plan.parameters.view.len)
        return not self.in_doubt()

    cdef int see_anew(self) except -1:
        self.looked_at = False
        memset(self.plan.p.work, 0, self.plan.p.team_size * N_WORKS * sizeof(Work))
        return 0

    cdef bint in_doubt(self) except -1:
        cdef int thread
        return any(
            [self.plan.p.work[thread * N_WORKS].in_doubt for thread in range(self.plan.p.team_size)])

    def store(self):
        self.see_anew()
        cdef Held flat = Held(self.parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        cdef int s
        move_flat(&self.plan.p, -1, flat, False)
        for s in range(self.plan.p.slots):
            flat = Held(self.state[s], PyBUF_WRITABLE | PyBUF_SIMPLE)
            move_flat(&self.plan.p, s, flat, False)
        self.looked_at = True

    @property
    def works_on_copies(self):
        """Whether it trains copies of the vectors it was made with, which only ``store`` changes."""
        return True

    @property
    def stored_is_finite(self):
        """Whether all that was last taken in or stored is known to be finite."""
        return self.looked_at and not self.in_doubt()
