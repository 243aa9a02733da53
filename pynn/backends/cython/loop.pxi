cdef void sum_rows(Plan* p, Py_ssize_t m) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(m):
        p.batch_loss += p.row_loss[i]
        p.right_sum += p.row_right[i]


cdef bint all_finite(Plan* p, Py_ssize_t m) noexcept nogil:
    """Whether the losses of the m rows of a chunk are: each thread finds out for itself."""
    cdef Py_ssize_t i
    cdef double* loss = p.row_loss
    # Each product is NaN if the loss is NaN or infinite. Four chains, so that none waits long.
    cdef double a = 0, b = 0, c = 0, d = 0
    for i in range(0, m - 3, 4):
        a += loss[i] * 0
        b += loss[i + 1] * 0
        c += loss[i + 2] * 0
        d += loss[i + 3] * 0
    for i in range(m - m % 4, m):
        a += loss[i] * 0
    return isfinite(a + b + c + d)


cdef double weight_of_batch(Plan* p, Py_ssize_t batch) noexcept nogil:
    """The sum of the sample weights of the batch that begins at the row ``batch``."""
    if p.batch_weight != NULL:
        return p.batch_weight[batch // p.batch_size]
    return <double>(min(batch + p.batch_size, p.n) - batch)


cdef void weigh_batches(Plan* p) noexcept nogil:
    cdef Py_ssize_t i, at
    if p.batch_weight == NULL:
        return
    for i in range(p.n):
        at = i // p.batch_size
        if i % p.batch_size == 0:
            p.batch_weight[at] = 0
        p.batch_weight[at] += p.sample_weight[<Py_ssize_t>p.order[i] if p.order != NULL else i]


cdef void train(void* context, int thread) noexcept nogil:
    """Chunk after chunk from p.row on, until p.steps batches are done or the slice is over."""
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t row, batch, batch_end, m, start, stop, step, chunks = 0
    cdef bint first, last, timed
    cdef double weight, began = 0
    cdef int i
    tick(p, thread, -1, 0)
    while True:
        timed = p.balanced and chunks % p.check_every == 0 and p.threads == p.team_size
        chunks += 1
        if timed:
            began = seconds()
        # Only thread 0 moves these on, between the two barriers; all read them after the second.
        row = p.row
        step = p.step
        batch = (p.first + step) * p.batch_size
        batch_end = min(batch + p.batch_size, p.n)
        m = min(p.rows, batch_end - row)
        first = row == batch
        last = row + m == batch_end
        weight = weight_of_batch(p, batch)

        share_work(p, BATCH_ROWS, m, p.row_unit, thread, &start, &stop)
        if start < stop or p.columns:
            forward(p, start, stop - start, m, row, thread)
            loss_and_output_gradient(p, start, stop - start, 1.0 / weight)
            tick(p, thread, LOSS, p.n_layers - 1)
            backward(p, start, stop - start, m, thread)
        elif p.counts:
            memset(p.found + thread * p.n_layers * FOUND, 0, p.n_layers * FOUND * sizeof(uint64_t))
        if p.h_step:
            read_columns(p, row, 0, start, thread)
            read_columns(p, row, stop, m - stop, thread)
            tick(p, thread, READ, 0)
        if timed:
            note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)
        if thread == 0:
            for i in range(p.n_layers):
                p.layer[i].skips = p.layer[i].in_h.on
            if last:
                prepare_step(p, p.rates[step], weight)
        wait(p, thread)
        if p.watch and not all_finite(p, m):
            if thread == 0:
                p.diverged = True
            return

        if timed:
            began = seconds()
        for i in range(p.n_layers - 1, -1, -1):
            update_layer(p, &p.layer[i], row, m, first, last, thread)
        if thread == 0:
            sum_rows(p, m)
            if last:
                p.loss_sum += (p.batch_loss / weight * p.loss_gain + p.penalty) * <double>(
                    batch_end - batch)
                p.batch_loss = 0
                p.right_before = p.right_sum
            p.row = row + m
            p.step = step + last
            p.chunks_done += 1
            if p.counts:
                choose_skips(p, m)
            # Where another process has a core, a team may wait for it at every step.
            p.stop = p.step == p.steps or (
                (p.threads > 1 or p.chunks_done % p.check_every == 0) and seconds() > p.until)
        if timed:
            note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
        wait(p, thread)
        if p.stop:
            return


cdef void sweep(void* context, int thread) noexcept nogil:
    """All rows in their own order: outputs, or losses, or the gradient, with nothing updated."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l = &p.layer[p.n_layers - 1]
    cdef Py_ssize_t row = p.row, m, start, stop, i, item = p.k.itemsize, chunks = 0
    cdef bint timed
    cdef double began = 0
    cdef int k
    while row < p.n:
        timed = p.balanced and chunks % p.check_every == 0 and p.threads == p.team_size
        chunks += 1
        if timed:
            began = seconds()
        m = min(p.rows, p.n - row)
        share_work(p, BATCH_ROWS, m, p.row_unit, thread, &start, &stop)
        if start < stop or p.columns:
            forward(p, start, stop - start, m, row, thread)
            if p.out != NULL:
                p.k.activate(p.output, l.z + start * l.ld * item, NULL, l.ld, stop - start, l.n_out)
                for i in range(start, stop):
                    memcpy(p.out + (row + i) * l.n_out * item, l.z + i * l.ld * item,
                           l.n_out * item)
            else:
                loss_and_output_gradient(p, start, stop - start, 1.0 / weight_of_batch(p, 0))
                if p.gradients:
                    backward(p, start, stop - start, m, thread)
        if timed:
            note_work(p, BATCH_ROWS, thread, <double>(stop - start), began)
        # Needed for outputs too: past it, all have read p.stop and thread 0 may write it.
        p.team.barrier(thread)
        if p.out == NULL:
            if p.gradients:
                if timed:
                    began = seconds()
                for k in range(p.n_layers - 1, -1, -1):
                    update_layer(p, &p.layer[k], row, m, row == 0, row + m == p.n, thread)
                if timed:
                    note_work(p, WEIGHTS, thread, weights_of(p, thread), began)
            if thread == 0:
                sum_rows(p, m)
        row += m
        if thread == 0:
            p.chunks_done += 1
            p.row = row
            p.stop = ((p.threads > 1 or p.chunks_done % p.check_every == 0)
                      and seconds() > p.until)
        p.team.barrier(thread)
        if p.stop:
            return


cdef bint shuffle_rows(Plan* p) noexcept nogil:
    """The permutation of ``philox.permutation`` into p.order; False if there is no memory for it."""
    cdef uint32_t* word = <uint32_t*>malloc((round_up(p.n, 4) + 4) * sizeof(uint32_t))
    cdef Py_ssize_t i
    cdef uint32_t j, held
    if word == NULL:
        return False
    p.k.philox(p.seed, 0, p.epoch, 0, (p.n + 3) // 4, word)
    for i in range(p.n):
        p.order[i] = <uint32_t>i
    for i in range(p.n - 1, 0, -1):
        j = <uint32_t>((<uint64_t>word[i] * <uint64_t>(i + 1)) >> 32)
        held = p.order[i]
        p.order[i] = p.order[j]
        p.order[j] = held
    free(word)
    return True
