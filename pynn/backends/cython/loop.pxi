# The loops over chunks, which every thread of the team runs.
#
# A step is: passes over the thread's own rows; barrier; gradient and update of the thread's own
# weights; barrier. Only thread 0 changes the position, after the first barrier; all read it after
# the second one.

# The rows that all threads process together.
cdef struct Chunk:
    Py_ssize_t row, m       # place in the order; number of rows
    Py_ssize_t step         # of its batch, in this call
    Py_ssize_t batch_rows   # of its batch
    double weight           # sum of the sample weights of its batch
    bint first, last        # chunk of its batch


cdef double weight_of_batch(Plan* p, Py_ssize_t row) noexcept nogil:
    """The sum of the sample weights of the batch that begins at place ``row``, or the number of its
    rows if these are what losses are divided by."""
    cdef Py_ssize_t size = p.settings.batch_size
    if p.buffers.batch_weight != NULL and not p.settings.by_rows:
        return p.buffers.batch_weight[row // size]
    return <double>(min(row + size, p.data.n) - row)


cdef void sum_batch_weights(Plan* p) noexcept nogil:
    """Compute the sum of the sample weights of every batch of the epoch."""
    cdef Py_ssize_t i, batch, size = p.settings.batch_size
    cdef double* weight = p.buffers.batch_weight
    if weight == NULL:
        return
    for i in range(p.data.n):
        batch = i // size
        if i % size == 0:
            weight[batch] = 0
        weight[batch] += p.data.sample_weight[row_at(p, i)]


cdef void current_chunk(Plan* p, Chunk* chunk) noexcept nogil:
    cdef Py_ssize_t size = p.settings.batch_size
    cdef Py_ssize_t begin = (p.position.first + p.position.step) * size
    cdef Py_ssize_t end = min(begin + size, p.data.n)
    chunk.row = p.position.row
    chunk.step = p.position.step
    chunk.m = min(p.rows, end - chunk.row)
    chunk.batch_rows = end - begin
    chunk.weight = weight_of_batch(p, begin)
    chunk.first = chunk.row == begin
    chunk.last = chunk.row + chunk.m == end


cdef void add_losses(Plan* p, Py_ssize_t m) noexcept nogil:
    """Add the weighted losses of a chunk, and the weights of correct rows (in the
    conventions of scikit-learn and Keras their number)."""
    cdef Py_ssize_t i
    cdef const double* weight = p.buffers.row_weight
    for i in range(m):
        p.position.batch_loss += p.buffers.row_loss[i]
        if weight == NULL or p.settings.sklearn or p.settings.by_rows:
            p.position.correct_sum += p.buffers.row_correct[i]
        else:
            p.position.correct_sum += p.buffers.row_correct[i] * weight[i]


cdef bint losses_are_finite(Plan* p, Py_ssize_t m) noexcept nogil:
    """Whether the losses of all m rows of a chunk are finite; every thread computes it."""
    cdef Py_ssize_t i
    cdef double* loss = p.buffers.row_loss
    # A product is NaN if the loss is NaN or infinite. Four sums hide the latency of an addition.
    cdef double a = 0, b = 0, c = 0, d = 0
    for i in range(0, m - 3, 4):
        a += loss[i] * 0
        b += loss[i + 1] * 0
        c += loss[i + 2] * 0
        d += loss[i + 3] * 0
    for i in range(m - m % 4, m):
        a += loss[i] * 0
    return isfinite(a + b + c + d)


cdef bint slice_is_over(Plan* p) noexcept nogil:
    """Whether the time of this slice is over. A team reads the clock after every chunk, because it
    may have waited for a core that another process uses."""
    return ((p.pace.threads > 1 or p.position.chunks % p.pace.check_every == 0)
            and seconds() > p.pace.until)


# --- train ----------------------------------------------------------------------------------------

cdef void train_passes(Plan* p, const Chunk* chunk, bint timed, int thread) noexcept nogil:
    """The passes over this thread's rows of a chunk."""
    cdef Py_ssize_t start, stop, row = chunk.row, m = chunk.m
    cdef double began = seconds() if timed else 0
    share_work(p, BATCH_ROWS, m, p.pace.row_unit, thread, &start, &stop)
    if start < stop or p.pace.columns:
        forward(p, start, stop - start, m, row, thread)
        loss_and_output_gradient(p, start, stop - start, 1.0 / chunk.weight)
        tick(p, thread, LOSS, p.n_layers - 1)
        backward(p, start, stop - start, m, thread)
    elif p.zeros.counts:
        memset(p.zeros.found + thread * p.n_layers * COUNTERS, 0,
               p.n_layers * COUNTERS * sizeof(uint64_t))
    if p.zeros.h_step:
        read_columns(p, row, 0, start, thread)
        read_columns(p, row, stop, m - stop, thread)
        tick(p, thread, READ, 0)
    if timed:
        note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)


cdef void prepare_update(Plan* p, const Chunk* chunk) noexcept nogil:
    """What the update depends on; thread 0 sets it before the barrier."""
    cdef int i
    for i in range(p.n_layers):
        p.layer[i].gradient_skips = p.layer[i].skip_h.on
    if chunk.last and chunk.weight != 0:
        prepare_step(p, p.position.rates[chunk.step], chunk.weight)


cdef void finish_batch(Plan* p, const Chunk* chunk) noexcept nogil:
    """Add the mean loss of a batch to that of the epoch, times the weight of the batch, in
    scikit-learn's convention times its number of rows."""
    cdef Position* position = &p.position
    cdef double weight = <double>chunk.batch_rows if p.settings.sklearn else chunk.weight
    if chunk.weight != 0:
        position.loss_sum += (position.batch_loss / chunk.weight * p.settings.loss_factor
                              + position.penalty) * weight
    position.weight_sum += weight
    position.batch_loss = 0
    position.correct_before = position.correct_sum


cdef void finish_chunk(Plan* p, const Chunk* chunk) noexcept nogil:
    """Add up the losses and move on to the next chunk."""
    cdef Position* position = &p.position
    add_losses(p, chunk.m)
    if chunk.last:
        finish_batch(p, chunk)
    position.row = chunk.row + chunk.m
    position.step = chunk.step + chunk.last
    position.chunks += 1
    if p.zeros.counts:
        choose_skips(p, chunk.m)
    p.pace.stop = position.step == position.steps or slice_is_over(p)


cdef void train(void* context, int thread) noexcept nogil:
    """Train on chunk after chunk until ``steps`` batches are done or the slice is over."""
    cdef Plan* p = <Plan*>context
    cdef Chunk chunk
    cdef Py_ssize_t chunks = 0
    cdef bint timed, limits = p.settings.clip_norm > 0 or p.settings.max_norm > 0
    cdef double began
    cdef int i
    tick(p, thread, -1, 0)
    while True:
        timed = is_timed(p, chunks)
        chunks += 1
        current_chunk(p, &chunk)
        train_passes(p, &chunk, timed, thread)
        if thread == 0:
            prepare_update(p, &chunk)
        wait(p, thread)
        if p.settings.watch and not losses_are_finite(p, chunk.m):
            if thread == 0:
                p.position.diverged = True
            return

        began = seconds() if timed else 0
        if chunk.weight != 0:  # a batch without weight makes no update
            for i in range(p.n_layers - 1, -1, -1):
                update_layer(p, &p.layer[i], chunk.m, chunk.first, chunk.last, thread)
            if chunk.last and limits:
                limit_norms(p, chunk.m, chunk.first, thread)
        if thread == 0:
            finish_chunk(p, &chunk)
        # With limits the time includes that of waiting, which says nothing about the thread.
        if timed and chunk.weight != 0 and not limits:
            note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
        wait(p, thread)
        if p.pace.stop:
            return


# --- sweep ----------------------------------------------------------------------------------------

cdef void sweep_passes(Plan* p, Py_ssize_t row, Py_ssize_t m, bint timed,
                       int thread) noexcept nogil:
    """Losses, or losses and dz, of this thread's rows of a chunk."""
    cdef Py_ssize_t start, stop
    cdef double began = seconds() if timed else 0
    share_work(p, BATCH_ROWS, m, p.pace.row_unit, thread, &start, &stop)
    if start < stop or p.pace.columns:
        forward(p, start, stop - start, m, row, thread)
        loss_and_output_gradient(p, start, stop - start, 1.0 / weight_of_batch(p, 0))
        if p.settings.gradients:
            backward(p, start, stop - start, m, thread)
    if timed:
        note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)


cdef void sweep(void* context, int thread) noexcept nogil:
    """All rows in the order of the data set: losses, or losses and the gradient, without
    updates."""
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t row = p.position.row, m, chunks = 0
    cdef bint timed
    cdef double began
    cdef int i
    while row < p.data.n:
        timed = is_timed(p, chunks)
        chunks += 1
        m = min(p.rows, p.data.n - row)
        sweep_passes(p, row, m, timed, thread)
        # After it all threads have read ``stop``, which thread 0 writes next.
        p.team.barrier(thread)
        if p.settings.gradients:
            began = seconds() if timed else 0
            for i in range(p.n_layers - 1, -1, -1):
                update_layer(p, &p.layer[i], m, row == 0, row + m == p.data.n, thread)
            if timed:
                note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
        if thread == 0:
            add_losses(p, m)
        row += m
        if thread == 0:
            p.position.chunks += 1
            p.position.row = row
            p.pace.stop = slice_is_over(p)
        p.team.barrier(thread)
        if p.pace.stop:
            return


# --- answer ---------------------------------------------------------------------------------------
#
# The outputs of all rows. Threads claim blocks of rows or, for few rows of a large network, blocks
# of columns of one layer after the other. Nobody waits for a thread that has not started: threads of
# other libraries may spin on its core, as they do in servers.

cdef inline Py_ssize_t row_blocks(Plan* p) noexcept nogil:
    return (p.data.n + p.claim_rows - 1) // p.claim_rows


cdef void answer_rows(Plan* p, Py_ssize_t start, Py_ssize_t m, Py_ssize_t row,
                      int thread) noexcept nogil:
    """Outputs of the rows from ``row`` on, in rows start … start + m of h and z."""
    cdef Py_ssize_t last = p.n_layers - 1, i
    cdef Layer* l = &p.layer[last]
    forward(p, start, m, m, row - start, thread)
    activate(p, last, start, m, m, row - start, thread)
    if l.residual:
        add_input(p, last, start, m, thread)
    for i in range(m):
        memcpy(at(p.out, row + i, l.n_out, 0, p.k.itemsize),
               at(l.z, start + i, l.ld, 0, p.k.itemsize), l.n_out * p.k.itemsize)


cdef void answer(void* context, int thread) noexcept nogil:
    """Compute blocks until none is left or the slice is over."""
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t row
    cdef int64_t block
    if p.pace.columns:
        if thread > 0:
            help_with_columns(p)
        else:
            answer_rows(p, 0, p.data.n, 0, 0)
            p.claims.offer(LAST_PHASE)
        return
    while True:
        block = p.claims.claim(0, <uint32_t>row_blocks(p))
        if block < 0:
            return
        row = block * p.claim_rows
        answer_rows(p, thread * p.claim_rows, min(p.claim_rows, p.data.n - row), row, thread)
        if p.pace.until > 0 and seconds() > p.pace.until:
            return


cdef inline bint is_answered(Plan* p) noexcept nogil:
    return p.pace.columns or p.claims.claimed() >= <uint32_t>row_blocks(p)


# --- The order of an epoch ------------------------------------------------------------------------

cdef bint shuffle_rows(Plan* p) noexcept nogil:
    """Write the permutation of ``philox.permutation`` to the order; return False if there is no
    memory for it."""
    cdef Py_ssize_t i, n = p.data.n
    cdef uint32_t* word = <uint32_t*>malloc((round_up(n, 4) + 4) * sizeof(uint32_t))
    cdef uint32_t* order = p.data.order
    cdef uint32_t j, swapped
    if word == NULL:
        return False
    p.k.philox(p.settings.seed, 0, p.position.epoch, 0, (n + 3) // 4, word)
    for i in range(n):
        order[i] = <uint32_t>i
    for i in range(n - 1, 0, -1):
        j = <uint32_t>((<uint64_t>word[i] * <uint64_t>(i + 1)) >> 32)
        swapped = order[i]
        order[i] = order[j]
        order[j] = swapped
    free(word)
    return True
