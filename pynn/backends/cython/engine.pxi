# What Python sees: Engine, Trainer and the objective. contract.py documents their methods.

cdef PlanOwner prediction_plan(object net, object threads, object parameters, object x, object y,
                               object sample_weight, bint missing, PlanOwner packed=None,
                               bint copies=False):
    """A plan to compute outputs or losses of x, without gradients.

    It uses the weights that ``packed`` has packed, if given; if it ``copies``, it packs all."""
    cdef PlanOwner owner = PlanOwner.__new__(PlanOwner)
    owner.p.settings.batch_size = len(x)
    owner.p.settings.direct = len(x) <= DIRECT_ROWS and not copies
    owner.p.settings.answers = y is None
    owner.p.settings.rule = -1
    if packed is not None:
        owner.packed = packed
        owner.p.packed = &packed.p
    owner.set_up(net, threads, x, y, sample_weight, missing)
    owner.pack(parameters)
    return owner


cdef class Objective:
    """The function that ``Engine.objective`` returns: planned once, called many times."""
    cdef PlanOwner owner
    cdef object net

    def __init__(self, net, threads, data, settings):
        cdef Settings* chosen
        self.net = net
        self.owner = PlanOwner.__new__(PlanOwner)
        chosen = &self.owner.p.settings
        chosen.gradients = True
        chosen.rule = -1
        chosen.batch_size = len(data.x)
        chosen.l2 = settings.l2
        chosen.sklearn = settings.convention == "sklearn"
        chosen.by_rows = settings.convention == "keras"
        self.owner.set_up(net, threads, data.x, data.y, data.sample_weight, data.missing)
        sum_batch_weights(&self.owner.p)

    def __call__(self, parameters):
        cdef Plan* p = &self.owner.p
        cdef double weight = weight_of_batch(p, 0), l2 = p.settings.l2
        if p.settings.sklearn:
            l2 /= weight
        p.pace.threads = p.pace.team_size
        self.owner.pack(parameters)
        p.position.row = 0
        p.position.batch_loss = p.position.correct_sum = 0
        run_in_slices(p, sweep, False)
        gradient = np.empty(self.net.n_parameters, self.net.dtype)
        cdef Held held = Held(gradient, PyBUF_WRITABLE | PyBUF_SIMPLE)
        unpack_gradient(p, <char*>held.view.buf)
        loss = p.position.batch_loss / weight * p.settings.loss_factor
        if l2:
            weights, _ = self.net.views(parameters)
            for w, dw in zip(weights, self.net.views(gradient)[0]):
                dw += l2 * w
                loss += 0.5 * l2 * float(np.square(w, dtype=np.float64).sum())
        return loss, gradient


cdef int copy_trials(Engine engine, Trials* dst, const Trials* src) except -1:
    """Copy to or from an engine, with a lock: several threads may use an engine. A trainer belongs
    to one thread, and the plan of a prediction to one call."""
    with cython.critical_section(engine):
        dst[0] = src[0]
    return 0


cdef inline Py_ssize_t largest(const Real* a, Py_ssize_t n, bint* finite) noexcept nogil:
    """Index of the first largest of n numbers; ``finite`` becomes False if one is not."""
    cdef Py_ssize_t i, best = 0
    cdef Real sum = 0
    for i in range(n):
        if a[i] > a[best]:
            best = i
        sum += a[i] * 0
    if sum != 0:
        finite[0] = False
    return best


cdef inline int source_of(const char* number_format) noexcept:
    """The dtype of rows of x by the format of their buffer, or -1 for others."""
    if number_format == NULL or number_format[0] == 0 or number_format[1] != 0:
        return -1
    if number_format[0] == c"f":
        return SOURCE_FLOAT32
    if number_format[0] == c"d":
        return SOURCE_FLOAT64
    return SOURCE_UINT8 if number_format[0] == c"B" else -1


cdef inline bint takes_bytes(object pixels):
    """Whether uint8 counts as value / 255, without a look at the values."""
    return pixels is True or pixels is None


cdef class Engine:
    """The compiled backend."""
    cdef readonly str name
    cdef readonly object net
    cdef object _threads
    cdef object updater
    cdef Trials trials          # what the last trainer learned about threads; the next starts from it
    cdef PlanOwner packed       # of a frozen engine: has its weights
    cdef list kept              # plans of predictions, for the next ones
    cdef Py_ssize_t n_in, n_out
    cdef object number_format   # dtype of the outputs,
    cdef int dtype              # and its number

    def __init__(self, net, threads=None):
        if net.n_layers > MAX_LAYERS:
            raise ValueError(
                f"sizes: found {net.n_layers} layers, expected at most {MAX_LAYERS} "
                "with the compiled backend; the backend 'numpy' takes any number")
        self.name = "cython"
        self.net = net
        self._threads = threads
        self.kept = []
        self.n_in, self.n_out = net.n_in, net.n_out
        self.number_format = np.dtype(net.dtype)
        self.dtype = dtype_number(net.dtype)

    @property
    def threads(self):
        return default_threads() if self._threads is None else self._threads

    def depends_on(self):
        isa = _isas[_isa.load()]
        # Without rounding the instruction set amx uses the kernels of avx512.
        return {"isa": "avx512" if isa == "amx" and self.net.precision == "full" else isa}

    def forward(self, parameters, x, out=None):
        cdef PlanOwner owner
        cdef Held held
        if out is None:
            out = np.empty((len(x), self.net.n_out), self.net.dtype)
        if len(x) == 0:
            return out
        if type(x) is not np.ndarray or self.matrix(parameters, x, out, None) is None:
            owner = prediction_plan(
                self.net, self._threads, parameters, x, None, None, False, self.packed)
            held = Held(out, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
            self.run(owner, <char*>held.view.buf)
        return out

    def forward_unchecked(self, parameters, x, pixels, standard=None, out=None):
        if type(x) is not np.ndarray:
            return None
        return self.matrix(parameters, x, out, standard, True, pixels)

    cdef object matrix(self, object parameters, object x, object out, object standard,
                       bint checks=False, object pixels=None):
        """The outputs of an array that needs no conversion, or None."""
        cdef Py_buffer rows
        cdef object found = None
        try:
            PyObject_GetBuffer(x, &rows, PyBUF_STRIDED_RO | PyBUF_FORMAT)
        except (ValueError, BufferError):
            return None
        try:
            if rows.ndim == 2 and rows.shape[0] > 0 and rows.shape[1] == self.n_in:
                found = self.matrix_of(parameters, x, &rows, out, standard, checks, pixels)
        finally:
            PyBuffer_Release(&rows)
        return found

    cdef object matrix_of(self, object parameters, object x, Py_buffer* rows, object out,
                          object standard, bint checks, object pixels):
        """As ``matrix``, of an array with the buffer ``rows``."""
        cdef const Kernels* k = kernels(_isa.load(), self.dtype)
        cdef int source = source_of(rows.format)
        cdef PlanOwner owner
        cdef Data* data
        cdef Held held
        cdef bint wrong
        if source < 0 or (checks and source == SOURCE_UINT8 and not takes_bytes(pixels)):
            return None
        if self.packed is not None and self.packed.p.k != k:
            self.freeze(parameters)     # a test has changed the instruction set
        owner = self.take(k, rows, source, standard)
        if owner is None:
            owner = prediction_plan(
                self.net, self._threads, parameters,
                x if standard is None else Standardized(x, standard), None, None, False,
                self.packed)
            owner.x = None      # the caller holds it
        else:
            owner.use_rows(rows)
            if self.packed is None:
                owner.pack(parameters)
        data = &owner.p.data
        data.checks = False
        if checks:
            self.set_bounds(data, standard, pixels)
        if out is None:
            out = np.empty((rows.shape[0], self.n_out), self.number_format)
        held = Held(out, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
        self.run(owner, <char*>held.view.buf)
        wrong = data.wrong
        self.give_back(owner)
        return None if wrong else out

    cdef int set_bounds(self, Data* data, object standard, object pixels) except -1:
        """Check x while it is read."""
        data.checks = data.source != SOURCE_UINT8
        data.most = (FLT_MAX if data.source == SOURCE_FLOAT32 or (
            self.dtype == F32 and standard is None) else DBL_MAX)
        data.least = -data.most
        if pixels is True:
            data.least, data.most = 0, 1
        return 0

    def freeze(self, parameters):
        self.kept = []
        self.packed = prediction_plan(
            self.net, self._threads, parameters, np.zeros((1, self.n_in), self.number_format), None,
            None, False, None, True)

    def labels(self, out):
        cdef Py_ssize_t n = out.shape[0], i
        cdef Held held = Held(out, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
        cdef const char* row = <const char*>held.view.buf
        cdef Held places
        cdef int64_t* place
        cdef bint finite = True
        found = np.empty(n, np.int64)
        places = Held(found, PyBUF_WRITABLE | PyBUF_SIMPLE)
        place = <int64_t*>places.view.buf
        for i in range(n):
            if self.dtype == F32:
                place[i] = largest(<const float*>row, self.n_out, &finite)
            else:
                place[i] = largest(<const double*>row, self.n_out, &finite)
            row += self.n_out * held.view.itemsize
        return found if finite else None

    cdef int run(self, PlanOwner owner, char* out) except -1:
        """Compute the outputs of all rows."""
        cdef Plan* p = &owner.p
        cdef Team* team
        p.out = out
        p.data.wrong = False
        p.pace.until = 0    # a short prediction is one slice
        p.claims.offer(0)
        if p.pace.team_size == 1 and sweep_work(p) < SHORT_CALL:
            Team.alone().run_open(answer, p)
            PyErr_CheckSignals()
            raise_pending()
            return 0
        while True:
            with nogil:
                p.pace.until = seconds() + SLICE_SECONDS
                team = Team.acquire(p.pace.team_size)
                team.run_open(answer, p)
                Team.release(team)
            PyErr_CheckSignals()
            raise_pending()
            if is_answered(p):
                return 0

    cdef PlanOwner take(self, const Kernels* k, Py_buffer* rows, int source, object standard):
        """A plan of an earlier prediction for as many such rows, or None."""
        cdef PlanOwner owner, found = None
        cdef Py_ssize_t i
        with cython.critical_section(self):
            for i in range(len(self.kept)):
                owner = self.kept[i]
                if owner.fits(k, rows, source, standard):
                    found = owner
                    del self.kept[i]
                    break
        return found

    cdef int give_back(self, PlanOwner owner) except -1:
        """Keep a plan for the next prediction."""
        owner.uses += 1
        if (owner.p.pace.team_size > 1 or owner.arena_bytes > KEPT_BYTES
                or owner.uses > PLAN_USES or lists_too_many(&owner.p)):
            return 0
        with cython.critical_section(self):
            if len(self.kept) == KEPT_PLANS:
                del self.kept[0]
            self.kept.append(owner)
        return 0

    def evaluate(self, parameters, x, y, sample_weight=None, missing=False):
        cdef PlanOwner owner = prediction_plan(
            self.net, self._threads, parameters, x, y, sample_weight, missing)
        sum_batch_weights(&owner.p)
        run_in_slices(&owner.p, sweep, False)
        return Sums(owner.p.position.batch_loss, owner.p.position.correct_sum,
                    weight_of_batch(&owner.p, 0))

    def evaluate_unchecked(self, parameters, data, pixels, standard=None):
        cdef PlanOwner owner
        cdef Held held
        cdef int source
        x = data.x
        try:
            held = Held(x, PyBUF_STRIDED_RO | PyBUF_FORMAT)
        except (TypeError, ValueError, BufferError):
            return None
        source = source_of(held.view.format)
        if (type(x) is not np.ndarray or source < 0 or held.view.ndim != 2 or len(x) == 0
                or held.view.shape[1] != self.n_in
                or (source == SOURCE_UINT8 and not takes_bytes(pixels))):
            return None
        owner = prediction_plan(
            self.net, self._threads, parameters, x if standard is None else Standardized(x, standard),
            data.y, data.sample_weight, data.missing)
        self.set_bounds(&owner.p.data, standard, pixels)
        sum_batch_weights(&owner.p)
        run_in_slices(&owner.p, sweep, False)
        if owner.p.data.wrong:
            return None
        return Sums(owner.p.position.batch_loss, owner.p.position.correct_sum,
                    weight_of_batch(&owner.p, 0))

    def objective(self, data, settings):
        return Objective(self.net, self._threads, data, settings)

    def trainer(self, parameters, state, data, settings):
        return Trainer(self, parameters, state, data, settings)

    def tape(self):
        return Tape(self.net, self._threads)

    def update(self, parameters, state, gradient, settings):
        # The updater of the last optimizer is kept; several threads may use an engine.
        cdef Updater updater = self.updater
        self.updater = None
        optimizer = settings.optimizer
        if updater is None or (updater.optimizer is not optimizer
                               and updater.optimizer != optimizer):
            updater = Updater(self.net, optimizer, self._threads)
        updater.run(parameters, state, gradient, settings)
        self.updater = updater


cdef class Trainer:
    """The mini-batch loop."""
    cdef PlanOwner owner
    cdef Engine engine
    cdef object parameters, state   # the caller's vectors
    cdef bint shuffle
    cdef bint given                 # ``order`` has set the order of the rows
    cdef bint ordered               # the order is that of the current epoch
    cdef bint checked               # copies since the last change have checked for finite values
    cdef object profiled
    cdef Held spent, last

    def __init__(self, Engine engine, parameters, state, data, settings):
        cdef Plan* p
        self.engine = engine
        self.parameters, self.state = parameters, list(state)
        self.shuffle = settings.shuffle
        self.ordered = self.given = self.checked = False
        self.owner = PlanOwner.__new__(PlanOwner)
        self.choose_settings(settings, len(data.x))
        x = read_often(data.x, engine.net.dtype, settings.epochs, engine.threads)
        self.owner.set_up(engine.net, engine._threads, x, data.y, data.sample_weight, data.missing)
        self.freeze(settings.frozen)
        set_groups(&self.owner.p, settings.groups, settings.layer_rates)
        self.owner.pack(parameters)
        self.pack_state(settings.optimizer)
        p = &self.owner.p
        p.team = Team.acquire(1)
        p.team.run(square_all_weights, p)
        Team.release(p.team)

    cdef int choose_settings(self, settings, Py_ssize_t n) except -1:
        cdef Settings* chosen = &self.owner.p.settings
        chosen.training = chosen.gradients = True
        choose_rule(chosen, settings.optimizer)
        chosen.ema, chosen.ema_offset = settings.ema, settings.ema_offset
        chosen.vectors = len(self.state)
        chosen.slots = chosen.vectors - (chosen.ema > 0)
        chosen.batch_size = min(<Py_ssize_t>settings.batch_size, n)
        chosen.l2 = settings.l2
        chosen.sklearn = settings.convention == "sklearn"
        chosen.by_rows = settings.convention == "keras"
        chosen.l1, chosen.clip_norm = settings.l1, settings.clip_norm
        chosen.max_norm = settings.max_norm
        chosen.penalizes = settings.l1 > 0 or settings.clip_norm > 0
        chosen.watch = settings.watch
        chosen.seed = settings.seed
        return 0

    cdef int freeze(self, layers) except -1:
        """Leave out the updates of these layers, and the backward pass below all others."""
        cdef Plan* p = &self.owner.p
        cdef Py_ssize_t i
        for i in layers:
            p.layer[i].frozen = True
        while p.settings.lowest < p.n_layers - 1 and p.layer[p.settings.lowest].frozen:
            p.settings.lowest += 1
        for i in range(p.settings.lowest + 1):
            p.layer[i].skip_dz.may = False  # times_transpose does not read its dz
        return 0

    cdef int pack_state(self, optimizer) except -1:
        """Copy the optimizer slots and the average into the layers."""
        cdef Held flat
        cdef int slot, slots = self.owner.p.settings.slots
        if slots != optimizer.slots:
            raise ValueError(f"state: found {slots} vectors, expected {optimizer.slots}")
        for slot in range(self.owner.p.settings.vectors):
            flat = Held(self.state[slot], PyBUF_SIMPLE)
            if flat.view.len != self.owner.parameters.view.len:
                raise ValueError(f"state: found {flat.view.len} bytes, expected "
                                 f"{self.owner.parameters.view.len}")
            self.owner.move_flat(slot, flat, True)
        self.checked = True
        return 0

    def profile(self):
        """Measure times from now on; return the names of the phases, and an array of seconds
        (threads, layers, phases) that ``steps`` adds to."""
        cdef Plan* p = &self.owner.p
        if self.profiled is None:
            spent = np.zeros((p.pace.team_size, p.n_layers, N_PHASES))
            last = np.zeros(p.pace.team_size * ALIGNMENT // sizeof(double))
            self.spent, self.last = Held(spent, PyBUF_WRITABLE), Held(last, PyBUF_WRITABLE)
            p.profile.spent = <double*>self.spent.view.buf
            p.profile.last = <double*>self.last.view.buf
            self.profiled = spent
        return _PHASES, self.profiled

    def order(self, rows):
        cdef Held held = Held(np.ascontiguousarray(rows, dtype=np.int64), PyBUF_SIMPLE)
        cdef const int64_t* row = <const int64_t*>held.view.buf
        cdef Data* data = &self.owner.p.data
        cdef Py_ssize_t i
        if held.view.len != data.n * <Py_ssize_t>sizeof(int64_t):
            raise ValueError(f"rows: found {len(rows)}, expected {data.n}")
        for i in range(data.n):
            if not 0 <= row[i] < data.n:
                raise ValueError(f"rows: found {row[i]}, expected numbers from 0 to {data.n - 1}")
            data.order[i] = <uint32_t>row[i]
        self.given = True
        self.ordered = False

    cdef int order_epoch(self, epoch) except -1:
        """Set the order of the rows in an epoch, and the weights of its batches."""
        cdef Plan* p = &self.owner.p
        cdef Py_ssize_t i
        if self.ordered and p.position.epoch == <uint32_t>epoch:
            return 0
        p.position.epoch = epoch
        with nogil:
            self.ordered = True
            if not self.given:
                if self.shuffle:
                    self.ordered = shuffle_rows(p)
                else:
                    for i in range(p.data.n):
                        p.data.order[i] = <uint32_t>i
            sum_batch_weights(p)
        if not self.ordered:
            raise MemoryError(f"could not get memory to shuffle {p.data.n} rows")
        return 0

    def steps(self, epoch, Py_ssize_t first, rates, Py_ssize_t updates):
        cdef Plan* p = &self.owner.p
        cdef Position* position = &p.position
        cdef Held held
        rates = np.ascontiguousarray(rates, dtype=np.float64)
        held = Held(rates, PyBUF_SIMPLE)
        self.order_epoch(epoch)
        self.checked = False
        position.rates = <const double*>held.view.buf
        position.first = first
        position.steps = len(rates)
        position.step = 0
        position.updates = updates
        position.row = first * p.settings.batch_size
        position.batch_loss = 0
        position.diverged = False
        if first == 0:
            position.loss_sum = position.correct_sum = position.correct_before = 0
            position.weight_sum = 0
        copy_trials(self.engine, &p.pace.trials, &self.engine.trials)
        try:
            run_in_slices(p, train, True)
        finally:
            copy_trials(self.engine, &self.engine.trials, &p.pace.trials)
        return Sums(position.loss_sum, position.correct_sum, position.weight_sum)

    @property
    def done(self):
        return self.owner.p.position.step

    @done.setter
    def done(self, count):
        self.owner.p.position.step = count

    @property
    def diverged(self):
        return bool(self.owner.p.position.diverged)

    @property
    def sums(self):
        cdef Position* position = &self.owner.p.position
        return Sums(position.loss_sum, position.correct_before, position.weight_sum)

    @sums.setter
    def sums(self, given):
        cdef Position* position = &self.owner.p.position
        position.loss_sum, position.correct_sum, position.weight_sum = given
        position.correct_before = position.correct_sum

    def evaluate(self, x, y, sample_weight=None, missing=False):
        # Through the flat vector, which costs less than a batch, so that evaluation exists once.
        net = self.engine.net
        parameters = np.empty(net.n_values, net.dtype)
        cdef Held flat = Held(parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        cdef const Settings* settings = &self.owner.p.settings
        self.owner.move_flat(settings.slots if settings.ema > 0 else -1, flat, False)
        return self.engine.evaluate(parameters, x, y, sample_weight, missing)

    # --- Writing back -----------------------------------------------------------------------------

    @property
    def works_on_copies(self):
        return True

    @property
    def stored_is_finite(self):
        return self.checked and not self.maybe_not_finite()

    def would_store_finite(self):
        self.forget_checks()
        with nogil:
            run_on_team(&self.owner.p, check_share, self.owner.parameters.view.len)
        return not self.maybe_not_finite()

    def store(self):
        self.forget_checks()
        cdef Held flat = Held(self.parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        cdef int slot
        self.owner.move_flat(-1, flat, False)
        for slot in range(self.owner.p.settings.vectors):
            flat = Held(self.state[slot], PyBUF_WRITABLE | PyBUF_SIMPLE)
            self.owner.move_flat(slot, flat, False)
        self.checked = True

    cdef int forget_checks(self) except -1:
        cdef Pace* pace = &self.owner.p.pace
        self.checked = False
        memset(pace.work, 0, pace.team_size * N_WORKS * sizeof(Work))
        return 0

    cdef bint maybe_not_finite(self) except -1:
        cdef Pace* pace = &self.owner.p.pace
        cdef int thread
        return any([pace.work[thread * N_WORKS].not_finite for thread in range(pace.team_size)])

    # --- Choices, for tests and benchmarks --------------------------------------------------------

    @property
    def sparse(self):
        """Whether the first layer skips the zeros of x."""
        return bool(self.owner.p.zeros.sparse)

    @property
    def coded(self):
        """Whether x was copied as codes of one byte."""
        return self.owner.p.data.source == SOURCE_CODES

    @property
    def marked(self):
        """Whether the first layer, a narrow one, skips vectors of x that are zero."""
        return self.owner.p.zeros.marks != NULL

    @property
    def skips(self):
        """For each layer, whether the next step skips the zeros of h and of dz."""
        cdef Plan* p = &self.owner.p
        cdef int i
        return [(bool(p.layer[i].skip_h.on), bool(p.layer[i].skip_dz.on))
                for i in range(p.n_layers)]

    @property
    def shares(self):
        """For each thread of the whole team its share of the rows of a chunk, and its share of the
        weights.

        They follow the times that the threads take. Shares that are set apply to the next steps,
        unless threads always share equally.
        """
        cdef Plan* p = &self.owner.p
        cdef Trials trials
        cdef int which, i, n = p.pace.team_size
        copy_trials(self.engine, &trials, &self.engine.trials)
        if not p.pace.balanced or trials.team != n:
            return [[1.0 / n] * n] * N_WORKS
        return [[trials.shares[which][i + 1] - trials.shares[which][i] for i in range(n)]
                for which in range(N_WORKS)]

    @shares.setter
    def shares(self, given):
        cdef Plan* p = &self.owner.p
        cdef double* begin
        cdef int which, i, n = p.pace.team_size
        if [len(parts) for parts in given] != [n] * N_WORKS:
            raise ValueError(f"shares: found {given}, expected {N_WORKS} x {n}")
        if not p.pace.balanced:
            return
        share_equally(p)
        for which in range(N_WORKS):
            begin = p.pace.trials.shares[which]
            for i in range(n - 1):
                begin[i + 1] = begin[i] + given[which][i]
        p.pace.trials.made = 0
        copy_trials(self.engine, &self.engine.trials, &p.pace.trials)
