# One batch, pass by pass, for custom training steps; and updates with a gradient that is given.
#
# The passes and the gradient are those of a trainer, on a plan whose chunk is the whole batch. Every
# method is a run of the team over the rows; the gradient is one over the weights.

cdef double TAPE_FLOPS = 2e6        # of a run, per thread: the team may have to wake up
cdef double TAPE_BLOCK = 1e9        # of the runs over the rows, between which signals are checked
cdef Py_ssize_t UPDATE_VALUES = 256 * 1024  # parameters of an update from which on the team works


ctypedef fused Real:
    float
    double


cdef void softmax_back(const Real* a, Real* d, Py_ssize_t n) noexcept nogil:
    """d = a ⊙ (d − Σ a·d), the gradient through a softmax with the outputs a."""
    cdef Real total = 0
    cdef Py_ssize_t j
    for j in range(n):
        total += a[j] * d[j]
    for j in range(n):
        d[j] = a[j] * (d[j] - total)


# --- Runs of the team -----------------------------------------------------------------------------

cdef inline bint own_rows(Plan* p, int thread, Py_ssize_t* start, Py_ssize_t* m) noexcept nogil:
    """This thread's rows of a run; return whether it takes part."""
    cdef Py_ssize_t first, end
    share(p.tape.end - p.tape.first, p.pace.row_unit, thread, p.pace.threads, &first, &end)
    start[0], m[0] = p.tape.first + first, end - first
    return first < end or p.pace.columns


cdef void unpad(Plan* p, const char* rows, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Copy rows of a matrix of the last layer (rows, ld) to ``tape.out`` (rows, n_out)."""
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t i, item = p.k.itemsize
    for i in range(start, start + m):
        memcpy(at(p.tape.out, i, l.n_out, 0, item), at(rows, i, l.ld, 0, item), l.n_out * item)


cdef void copy_logits(Plan* p, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Copy rows of z of the last layer to its dz, where kernels replace them."""
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t item = p.k.itemsize
    memcpy(at(l.dz, start, l.ld, 0, item), at(l.z, start, l.ld, 0, item), m * l.ld * item)


cdef void tape_forward(void* context, int thread) noexcept nogil:
    """Compute every layer's h and z."""
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t start, m, i
    if not own_rows(p, thread, &start, &m):
        return
    if p.tape.reads:
        read_rows(p, 0, start, m, thread)
    for i in range(p.n_layers):
        affine(p, i, start, m, p.tape.rows, 0, thread)
        if i < p.n_layers - 1:
            activate(p, i, start, m, p.tape.rows, 0, thread)
            if p.layer[i].residual:
                add_input(p, i, start, m, thread)
            round_h(p, &p.layer[i + 1], start, m)


cdef void tape_inputs(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t start, m, i, item = p.k.itemsize
    if own_rows(p, thread, &start, &m):
        for i in range(start, start + m):
            memcpy(at(p.tape.out, i, l.n_in, 0, item), at(l.h, i, l.ld_in, 0, item),
                   l.n_in * item)


cdef void tape_logits(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t start, m
    if own_rows(p, thread, &start, &m):
        unpad(p, p.layer[p.n_layers - 1].z, start, m)


cdef void tape_outputs(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t start, m
    if own_rows(p, thread, &start, &m):
        copy_logits(p, start, m)
        p.k.activate(l.activation, l.parameter, at(l.dz, start, l.ld, 0, p.k.itemsize), NULL, l.ld,
                     m, l.n_out)
        unpad(p, l.dz, start, m)


cdef void tape_loss(void* context, int thread) noexcept nogil:
    """The losses of the rows, and their gradient to ``tape.out``."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t start, m
    if own_rows(p, thread, &start, &m):
        copy_logits(p, start, m)
        read_targets(p, start, start, m)
        output_loss(p, l.dz, start, m, p.tape.scale)
        unpad(p, l.dz, start, m)


cdef void tape_output_gradient(void* context, int thread) noexcept nogil:
    """The gradient of the outputs at ``tape.given`` becomes that of the logits at ``tape.out``."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t start, m, i, j, item = p.k.itemsize
    cdef char* d
    cdef char* a
    cdef char* slope
    if not own_rows(p, thread, &start, &m):
        return
    d = at(p.tape.out, start, l.n_out, 0, item)
    memcpy(d, at(p.tape.given, start, l.n_out, 0, item), m * l.n_out * item)
    if l.activation == IDENTITY:
        return
    copy_logits(p, start, m)
    a = at(l.dz, start, l.ld, 0, item)
    slope = at(l.slope, start, l.ld, 0, item) if l.slope != NULL else NULL
    p.k.activate(l.activation, l.parameter, a, slope, l.ld, m, l.n_out)
    for i in range(m):
        if l.activation == SOFTMAX:
            if item == sizeof(float):
                softmax_back(<const float*>(a + i * l.ld * item), <float*>d + i * l.n_out, l.n_out)
            else:
                softmax_back(<const double*>(a + i * l.ld * item), <double*>d + i * l.n_out,
                             l.n_out)
        elif item == sizeof(float):
            for j in range(l.n_out):
                (<float*>d)[i * l.n_out + j] *= (<float*>slope)[i * l.ld + j]
        else:
            for j in range(l.n_out):
                (<double*>d)[i * l.n_out + j] *= (<double*>slope)[i * l.ld + j]


cdef void transpose_first(void* context, int thread) noexcept nogil:
    """This thread's share of the transpose of the first layer's weights."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t start, stop, item = p.k.itemsize
    share(l.n_in, p.k.width, thread, p.pace.threads, &start, &stop)
    if start < stop:
        p.k.transpose(at(l.w, start, l.ld, 0, item), l.ld, at(p.tape.wt, 0, 0, start, item),
                      l.ld_in, stop - start, l.n_out)


cdef void gradient_of_x(Plan* p, Py_ssize_t start, Py_ssize_t m, int thread) noexcept nogil:
    """Rows of dz · wᵀ of the first layer to ``tape.out`` (rows, n_in)."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = p.k.itemsize, end = start + m, some, i
    cdef char* dx = p.tape.dx + thread * DX_ROWS * l.ld_in * item
    while start < end:
        some = min(<Py_ssize_t>DX_ROWS, end - start)
        p.k.matmul(at(l.dz, start, l.ld, 0, item), l.ld, 0, l.w if l.narrow else p.tape.wt,
                   l.ld_in, dx, l.ld_in, some, l.n_in, l.n_out, FINISH_STORE, NULL, NULL)
        if l.residual:
            p.k.add(dx, at(l.kept, start, l.ld, 0, item), l.ld, some)
        if p.settings.training and p.settings.input_dropout > 0:
            drop(p, p.settings.input_dropout, INPUT_DROPOUT_STREAM, dx, NULL, l.ld_in, start, some,
                 l.n_in)
        for i in range(some):
            memcpy(at(p.tape.out, start + i, l.n_in, 0, item), dx + i * l.ld_in * item,
                   l.n_in * item)
        start += some


cdef void tape_backward(void* context, int thread) noexcept nogil:
    """dz of every layer from the gradient of the logits at ``tape.given``; and that of x."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t start, m, i, item = p.k.itemsize
    if not own_rows(p, thread, &start, &m):
        return
    for i in range(start, start + m):
        memcpy(at(l.dz, i, l.ld, 0, item), at(p.tape.given, i, l.n_out, 0, item), l.n_out * item)
        clear_pads(p, l.dz, i, l.ld, l.n_out)
    round_dz(p, l, start, m)
    backward(p, start, m, p.tape.rows, thread)
    if p.tape.inputs:
        gradient_of_x(p, start, m, thread)


cdef void tape_gradient(void* context, int thread) noexcept nogil:
    """Sum this thread's share of the gradient over all rows; copy it to ``tape.out``."""
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.tape.out
    cdef Layer* l
    cdef Stage stage
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        l.gradient_skips = False
        choose_stage(p, l, p.tape.rows, True, False, &stage)
        if l.narrow:
            update_narrow(p, l, &stage, thread)
        else:
            update_wide(p, l, &stage, thread)
        update_biases(p, l, &stage, thread)
    p.team.barrier(thread)
    for i in range(p.n_layers):
        l = &p.layer[i]
        move_layer(p, l, l.dw, l.db, flat, False, thread)
        flat = next_layer(p, l, flat)


cdef int run_task(Plan* p, void (*task)(void*, int) noexcept nogil, double flops) except -1 nogil:
    """Run a task of ``flops`` operations: one thread for every TAPE_FLOPS, up to the team's size."""
    p.pace.threads = <int>max(1.0, min(<double>p.pace.team_size, flops / TAPE_FLOPS))
    p.team = Team.acquire(p.pace.threads)
    p.pace.threads = p.team.size()
    p.team.run(task, p)
    Team.release(p.team)
    return 0


cdef int run_rows(Plan* p, void (*task)(void*, int) noexcept nogil, double flops) except -1:
    """Run a task over all rows, of ``flops`` each, in blocks between which signals are checked."""
    cdef Taped* tape = &p.tape
    cdef Py_ssize_t block = tape.rows
    if not p.pace.columns:
        block = max(<Py_ssize_t>64, <Py_ssize_t>min(TAPE_BLOCK / flops, 1e9) // 2 * 2)
    tape.end = 0
    while tape.end < tape.rows:
        tape.first, tape.end = tape.end, min(tape.end + block, tape.rows)
        with nogil:
            run_task(p, task, flops * (tape.end - tape.first))
        PyErr_CheckSignals()
        raise_pending()
    return 0


# --- Tape -----------------------------------------------------------------------------------------

cdef class Tape:
    """One batch; see ``contract.Tape``."""
    cdef PlanOwner owner
    cdef object net, threads
    cdef Py_ssize_t capacity    # rows of the plan; 0: none yet
    cdef bint averages          # some layer has running statistics
    cdef Py_ssize_t n_out
    cdef bint consumes          # the backward pass overwrites what the forward pass has kept
    cdef bint consumed
    cdef double flops           # of a pass, per row

    def __init__(self, net, threads):
        self.net, self.threads = net, threads
        self.consumes = bool(net.norms) or any(net.residual)
        self.flops = 2.0 * net.n_parameters
        self.averages, self.n_out = net.n_statistics > 0, net.n_out

    cdef int plan(self, object x, object how) except -1:
        """Plan for these rows, unless the plan of earlier ones fits."""
        cdef Settings* settings
        if (self.capacity >= len(x) and not is_sparse(x)
                and self.owner.p.data.source != SOURCE_SPARSE):
            self.owner.use_data(x, None, None)
            return 0
        self.capacity = 0
        self.owner = PlanOwner.__new__(PlanOwner)
        settings = &self.owner.p.settings
        settings.training = settings.gradients = settings.tape = True
        settings.rule = -1
        settings.batch_size = len(x)
        self.owner.set_up(self.net, self.threads, x, None, None, False)
        self.owner.p.pace.balanced = False
        self.capacity = len(x)
        return 0

    def forward(self, parameters, x, how):
        cdef Plan* p
        cdef int i
        cdef Held flat
        self.plan(x, how)
        p = &self.owner.p
        p.tape.rows = len(x)
        p.tape.transposed = False
        p.settings.training, p.settings.seed = how.training, how.seed
        p.settings.input_dropout = self.net.input_dropout if how.training else 0
        p.settings.input_noise = self.net.input_noise if how.training else 0
        p.position.epoch, p.position.first_row = how.epoch, how.first_row
        for i in range(p.n_layers):
            p.layer[i].frozen = i in how.frozen
        self.owner.pack(parameters)
        p.tape.reads = True
        self.consumed = False
        run_rows(p, tape_forward, self.flops)
        if how.training and self.averages:
            flat = Held(parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
            p.pace.threads = 1
            for i in range(p.n_layers):
                if p.layer[i].over_rows:
                    update_running(p, &p.layer[i], p.tape.rows, 0)
            move_running(p, <char*>flat.view.buf + self.owner.n_parameters * p.k.itemsize, 0, False)

    cdef object results(self, Py_ssize_t columns):
        return np.empty((self.owner.p.tape.rows, columns), self.net.dtype)

    cdef object run(self, void (*task)(void*, int) noexcept nogil, object out, double flops):
        """Run a task over all rows that writes an array, and return the array."""
        cdef Plan* p = &self.owner.p
        cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
        p.tape.out = <char*>held.view.buf
        run_rows(p, task, flops)
        return out

    def inputs(self):
        return self.run(tape_inputs, self.results(self.net.n_in), self.net.n_in)

    def logits(self):
        return self.run(tape_logits, self.results(self.n_out), self.n_out)

    def outputs(self):
        return self.run(tape_outputs, self.results(self.n_out), 50.0 * self.n_out)

    def loss(self, y, sample_weight=None, missing=False):
        cdef Plan* p = &self.owner.p
        cdef Py_ssize_t i
        cdef double weight = p.tape.rows
        cdef Held held = Held(y, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
        cdef Held weights
        if held.view.ndim == 1:
            p.data.labels = <const int32_t*>held.view.buf
        else:
            p.data.targets = <const char*>held.view.buf
        if sample_weight is not None:
            weights = Held(sample_weight, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
            p.data.sample_weight = <const double*>weights.view.buf
            p.buffers.row_weight = p.tape.row_weight
            weight = 0
            for i in range(p.tape.rows):
                weight += p.data.sample_weight[i]
        p.data.missing = missing
        p.tape.scale = 1.0 / weight
        try:
            d_logits = self.run(tape_loss, self.results(self.n_out), 100.0 * self.n_out)
        finally:
            p.data.labels = NULL
            p.data.targets = NULL
            p.data.sample_weight = NULL
            p.buffers.row_weight = NULL
        p.position.batch_loss = 0
        add_losses(p, p.tape.rows)
        return p.position.batch_loss / weight, d_logits

    def output_gradient(self, d_outputs):
        cdef Held held = Held(d_outputs, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
        self.owner.p.tape.given = <const char*>held.view.buf
        return self.run(tape_output_gradient, self.results(self.n_out), 50.0 * self.n_out)

    def backward(self, d_logits, inputs):
        cdef Plan* p = &self.owner.p
        cdef Held held = Held(d_logits, PyBUF_STRIDED_RO | PyBUF_C_CONTIGUOUS)
        if self.consumed:
            p.tape.reads = False
            run_rows(p, tape_forward, self.flops)
        self.consumed = self.consumes
        if inputs and not p.tape.transposed and p.tape.wt != NULL:
            with nogil:
                run_task(p, transpose_first, <double>(p.layer[0].n_in * p.layer[0].n_out))
            p.tape.transposed = True
        p.tape.given = <const char*>held.view.buf
        p.tape.inputs = inputs
        if not inputs:
            run_rows(p, tape_backward, self.flops)
            return None
        return self.run(tape_backward, self.results(self.net.n_in), self.flops)

    def gradient(self):
        cdef Plan* p = &self.owner.p
        cdef object out = np.empty(self.owner.n_parameters, self.net.dtype)
        cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
        p.tape.out = <char*>held.view.buf
        with nogil:
            run_task(p, tape_gradient, self.flops * p.tape.rows)
        PyErr_CheckSignals()
        raise_pending()
        return out


cdef bint is_sparse(object x):
    return isinstance(x, Sparse) or (isinstance(x, Standardized) and isinstance(x.rows, Sparse))


# --- Updates with a given gradient ----------------------------------------------------------------

cdef void update_values(Plan* p, const Step* step, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil:
    """Update values start … stop of the flat vectors. The kernel takes whole vectors, so the rest
    is copied."""
    cdef Given* given = &p.given
    cdef Py_ssize_t item = p.k.itemsize, count = (stop - start) // p.k.width * p.k.width
    cdef void* slots[MAX_SLOTS]
    cdef double rest[MAX_SLOTS + 2][8]      # a vector has at most 64 bytes
    cdef Py_ssize_t offset = start * item, size
    cdef int i
    for i in range(p.settings.slots):
        slots[i] = given.slots[i] + offset
    p.k.update(p.settings.rule, step, given.parameters + offset, given.gradient + offset, slots,
               count)
    size = (stop - start - count) * item
    if size == 0:
        return
    offset += count * item
    memset(rest, 0, sizeof(rest))
    memcpy(rest[0], given.parameters + offset, size)
    memcpy(rest[1], given.gradient + offset, size)
    for i in range(p.settings.slots):
        memcpy(rest[2 + i], given.slots[i] + offset, size)
        slots[i] = rest[2 + i]
    p.k.update(p.settings.rule, step, rest[0], rest[1], slots, p.k.width)
    memcpy(given.parameters + offset, rest[0], size)
    for i in range(p.settings.slots):
        memcpy(given.slots[i] + offset, rest[2 + i], size)


cdef void update_given(void* context, int thread) noexcept nogil:
    """This thread's share of the update of every layer that is not frozen."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l
    cdef Py_ssize_t begin = 0, start, stop, j
    cdef Step step
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if not l.frozen:
            share(l.n_in * l.n_out, 1024, thread, p.pace.threads, &start, &stop)
            if start < stop:
                group_step(p, l, 0, &step)
                update_values(p, &step, begin + start, begin + stop)
            for j in range(l.vectors if thread == 0 else 0):
                start = begin + (l.n_in + j) * l.n_out
                group_step(p, l, 1 + <int>j, &step)
                update_values(p, &step, start, start + l.n_out)
        begin += (l.n_in + l.vectors) * l.n_out


cdef class Updater:
    """Updates of one optimizer."""
    cdef Plan p
    cdef readonly object optimizer

    def __init__(self, net, optimizer, threads):
        cdef Plan* p = &self.p
        cdef int i
        self.optimizer = optimizer
        choose_kernels(p, net)
        choose_rule(&p.settings, optimizer)
        p.settings.slots = optimizer.slots
        p.n_layers = net.n_layers
        for i in range(p.n_layers):
            p.layer[i].n_in, p.layer[i].n_out = net.sizes[i], net.sizes[i + 1]
            shape_norm(&p.layer[i], net.norm(i), net.norm_after)
        p.pace.team_size = 1
        if net.n_parameters >= UPDATE_VALUES:
            p.pace.team_size = default_threads() if threads is None else threads

    def run(self, parameters, state, gradient, settings):
        cdef Plan* p = &self.p
        cdef Held w = Held(parameters, PyBUF_WRITABLE | PyBUF_SIMPLE)
        cdef Held g = Held(gradient, PyBUF_SIMPLE)
        cdef int i
        slots = [Held(slot, PyBUF_WRITABLE | PyBUF_SIMPLE) for slot in state]
        p.given.parameters, p.given.gradient = <char*>w.view.buf, <char*>g.view.buf
        for i in range(len(slots)):
            p.given.slots[i] = <char*>(<Held>slots[i]).view.buf
        for i in range(p.n_layers):
            p.layer[i].frozen = i in settings.frozen
        p.position.updates, p.position.step = settings.updates, 0
        set_groups(p, settings.groups, ())
        prepare_step(p, settings.rate, 1.0)
        with nogil:
            p.pace.threads = p.pace.team_size
            p.team = Team.acquire(p.pace.threads)
            p.pace.threads = p.team.size()
            p.team.run(update_given, p)
            Team.release(p.team)
