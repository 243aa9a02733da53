cdef void update_layer(Plan* p, Layer* l, Py_ssize_t row, Py_ssize_t m, bint first, bint last,
                       int thread) noexcept nogil:
    """Sum the gradient over the m rows of the chunk at ``row``; with the last of a batch, update."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, start, stop, i, j, rows, at
    cdef int finish = FINISH_STORE if first else FINISH_ADD
    cdef bint sparse = p.sparse and l == &p.layer[0]
    cdef bint fused = p.training and first and last and p.rule == RULE_SGD
    if sparse and p.scatter:
        fused = fused and m <= SCATTER_ROWS and p.step_w.l2 == 0
    elif (sparse or l.skips) and m > SPARSE_PART:
        fused = False
    # Where the product goes by lists, Adam takes sums as they end; but weights and moments from afar come
    # sooner in whole blocks.
    cdef bint adam = (p.training and last and p.rule == RULE_ADAM and not l.narrow
                      and (not p.scatter if sparse else l.skips)
                      and l.n_in * l.ld * item <= CACHE_BYTES)
    cdef Step step = p.step_w
    step.w = 0
    cdef char *g
    cdef Py_ssize_t number = l - &p.layer[0]
    if l.narrow:
        share_work(p, WEIGHTS, l.n_in, k.width, thread, &start, &stop)
        if start < stop:
            g = l.w if fused else l.dw
            if fused:
                finish = FINISH_SGD
            if number == 0 and p.marks != NULL:
                k.gradient_marked(l.dz, l.ld, l.h + thread * p.h_step, l.ld_in, p.marks, g, l.ld_in,
                                  l.n_out, start, stop, m, finish, &p.step_w)
            else:
                k.matmul(l.dz, l.ld, 1, l.h + start * item, l.ld_in, g + start * item, l.ld_in, l.n_out,
                         stop - start, m, finish, NULL, &p.step_w)
            tick(p, thread, GRADIENT, number)
            if not fused and last and p.training:
                for j in range(l.n_out):
                    at = (j * l.ld_in + start) * item
                    k.update(p.rule, &p.step_w, l.w + at, l.dw + at,
                             NULL if p.slots < 1 else l.sw[0] + at,
                             NULL if p.slots < 2 else l.sw[1] + at, round_up(stop - start, k.width))
            if last and l.squares != NULL:
                square_weights(p, l, start, stop)
    else:
        share_work(p, WEIGHTS, l.n_in, k.width, thread, &start, &stop)
        i = start
        while i < stop:
            rows = min(l.block, stop - i)
            at = i * l.ld * item
            g = l.w + at
            if not fused:
                g = p.blocks + thread * p.block_bytes if l.dw == NULL else l.dw + at
            if adam:
                step.w, step.s1, step.s2 = l.w + at - g, l.sw[0] + at - g, l.sw[1] + at - g
            if sparse:
                gradient_sparse(p, m, i, rows, g, FINISH_SGD if fused else finish, &step, thread)
            elif l.skips:
                gradient_listed(p, l, m, i, rows, g, FINISH_SGD if fused else finish, &step, thread)
            elif l.bf16:
                p.k16.matmul(l.h_pairs + i * 4, l.ld_in, 1, l.dz_pairs, panel_size(p.rows) // 4, g,
                             l.ld, rows, l.n_out, (m + 1) // 2, FINISH_SGD if fused else finish,
                             NULL, &p.step_w)
            else:
                k.matmul(l.h + i * item, l.ld_in, 1, l.dz, l.ld, g, l.ld, rows, l.n_out, m,
                         FINISH_SGD if fused else finish, NULL, &p.step_w)
            tick(p, thread, GRADIENT, number)
            if not fused and not adam:
                if last and p.training:
                    k.update(p.rule, &p.step_w, l.w + at, g,
                             NULL if p.slots < 1 else l.sw[0] + at,
                             NULL if p.slots < 2 else l.sw[1] + at, rows * l.ld)
                    tick(p, thread, UPDATE, number)
            if last and p.training:
                refresh_transpose(p, l, i, i + rows)
                tick(p, thread, TRANSPOSE, number)
                if l.squares != NULL:
                    square_weights(p, l, i, i + rows)
            i += rows
    share(l.n_out, k.width, thread, p.threads, &start, &stop)
    if start < stop:
        at = start * item
        k.column_sum(l.dz + at, l.ld, m, stop - start, l.db + at, not first)
        if last and p.training:
            k.update(p.rule, &p.step_b, l.b + at, l.db + at,
                     NULL if p.slots < 1 else l.sb[0] + at,
                     NULL if p.slots < 2 else l.sb[1] + at, round_up(stop - start, k.width))
    tick(p, thread, UPDATE, number)


cdef void square_weights(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Squares of the weights that inputs start … stop have, to be summed for the L2 term."""
    cdef Py_ssize_t i, j, item = p.k.itemsize
    cdef double row[64]
    if not l.narrow:
        p.k.square_sum(l.w + start * l.ld * item, l.ld, stop - start, l.n_out, l.squares + start)
        return
    for i in range(start // p.k.width, (stop + p.k.width - 1) // p.k.width):
        p.k.square_sum(l.w + i * p.k.width * item, l.ld_in, l.n_out, p.k.width, row)
        l.squares[i] = 0
        for j in range(l.n_out):
            l.squares[i] += row[j]


cdef void square_all_weights(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef int i
    for i in range(p.n_layers):
        if p.layer[i].squares != NULL:
            square_weights(p, &p.layer[i], 0, p.layer[i].n_in)


cdef double sum_squares(Plan* p) noexcept nogil:
    cdef Py_ssize_t j
    cdef int i
    cdef double total = 0
    for i in range(p.n_layers):
        for j in range(p.layer[i].n_squares):
            total += p.layer[i].squares[j]
    return total


cdef void prepare_step(Plan* p, double rate, double batch_weight) noexcept nogil:
    """Coefficients of one update, those of reference.update; the step counts from 1."""
    cdef double t = <double>(p.updates + p.step + 1), c, l2 = p.l2
    if p.sums:
        l2 /= batch_weight
        if p.l2 > 0:
            p.penalty = 0.5 * l2 * sum_squares(p)
    p.step_w = p.settings
    p.step_w.rate = rate
    if p.rule == RULE_ADAM:
        c = sqrt(1.0 - pow(p.settings.beta2, t))
        p.step_w.rate = rate * c / (1.0 - pow(p.settings.beta1, t))
        p.step_w.epsilon = p.settings.epsilon if p.unscaled_epsilon else c * p.settings.epsilon
    p.step_b = p.step_w
    p.step_b.l2 = 0
    p.step_b.decay = 0
    p.step_w.l2 = l2
    p.step_w.decay = rate * p.weight_decay
