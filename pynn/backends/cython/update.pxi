# The gradient of a layer, summed over all rows of a chunk, and the update of its parameters.
#
# Each thread has rows of w (or, of narrow layers, columns of the transpose) of its own, so no sum
# is divided among threads. A wide layer is processed block by block: the gradient of a block stays
# in L2 until its weights are updated.

# How the gradient of a layer is applied in this chunk.
cdef struct Stage:
    Py_ssize_t m            # rows of the chunk
    bint first              # chunk of its batch: the gradient is stored, not added
    bint updates            # the last chunk of its batch, in training: parameters are updated
    bint penalizes          # l1 and l2 are added to the gradient, which is complete
    bint applies            # the update follows the gradient at once, without a norm of all of it
    bint in_product         # the product itself applies SGD to the weights
    bint adam               # the last part of a sparse product applies Adam
    int finish              # of the product: FINISH_STORE, FINISH_ADD or FINISH_SGD
    Step steps[MAX_ARRAYS]  # coefficients of the update of the weights, and of each row of b


cdef inline void group_step(const Plan* p, const Layer* l, int array, Step* step) noexcept nogil:
    """Coefficients of the update of the weights (array 0), biases, scale or shift of a layer."""
    cdef const Group* group = &l.group[array]
    step[0] = p.position.coefficients
    step.l2 = (step.l2 if array == 0 else 0) + group.decay
    step.decay = p.position.rate * group.decoupled * group.rate
    step.rate *= group.rate
    step.gradient_rate *= group.rate


cdef void choose_stage(Plan* p, Layer* l, Py_ssize_t m, bint first, bint last,
                       Stage* stage) noexcept nogil:
    """Decide how the gradient of layer l is applied."""
    cdef bint sparse = p.zeros.sparse and l == &p.layer[0]
    cdef bint scatter = sparse and p.zeros.scatter
    cdef bint listed = not scatter and (sparse or l.gradient_skips)
    cdef int i
    stage.m = m
    stage.first = first
    stage.updates = last and p.settings.training
    if stage.updates:
        for i in range(1 + l.vectors):
            group_step(p, l, i, &stage.steps[i])
    stage.penalizes = stage.updates and p.settings.penalizes
    stage.applies = stage.updates and p.settings.clip_norm == 0
    # SGD needs no sum of its own if there is one chunk, in one part, and no decoupled decay.
    stage.in_product = (stage.updates and first and p.settings.rule == RULE_SGD
                        and not stage.penalizes and stage.steps[0].decay == 0)
    if scatter:
        stage.in_product = (stage.in_product and m <= SCATTER_ROWS
                            and stage.steps[0].l2 == 0)
    elif listed and m > SPARSE_PART:
        stage.in_product = False
    # Weights and moments that exceed L2 are read faster by the update of whole blocks.
    stage.adam = (stage.updates and p.settings.rule == RULE_ADAM and listed and not l.narrow
                  and not stage.penalizes
                  and l.n_in * l.ld * p.k.itemsize <= CACHE_BYTES)
    if stage.in_product:
        stage.finish = FINISH_SGD
    else:
        stage.finish = FINISH_STORE if first else FINISH_ADD


cdef inline void optimizer_step(Plan* p, const Step* step, char* w, const char* g, char** slots,
                                Py_ssize_t offset, Py_ssize_t count,
                                bint final) noexcept nogil:
    """Update ``count`` parameters at w, with gradient g, and their average, unless max_norm may
    still change them; ``offset`` is the byte offset of w in the layer's matrix and its optimizer
    slots."""
    cdef bint averages = final and p.settings.ema > 0
    cdef Py_ssize_t item = p.k.itemsize, done = 0, part = count
    cdef void* state[MAX_SLOTS]
    cdef int i
    if averages:
        part = AVERAGE_BYTES // item
    while done < count:
        part = min(part, count - done)
        for i in range(p.settings.slots):
            state[i] = slots[i] + offset
        p.k.update(p.settings.rule, step, w, g, state, part)
        if averages:
            p.k.average(slots[p.settings.slots] + offset, w, p.position.ema_rest, part)
        w += part * item
        g += part * item
        offset += part * item
        done += part


cdef inline void average(Plan* p, const char* w, char** slots, Py_ssize_t offset,
                         Py_ssize_t count) noexcept nogil:
    """Update the average of ``count`` parameters, if there is one, at w and at a byte offset in the
    layer's slots."""
    if p.settings.ema > 0:
        p.k.average(slots[p.settings.slots] + offset, w + offset, p.position.ema_rest, count)


cdef void average_layer(Plan* p, Layer* l, int thread) noexcept nogil:
    """This thread's share of the average of a layer whose parameters stay as they are."""
    cdef Py_ssize_t item = p.k.itemsize, start, stop, j
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &start, &stop)
    if start < stop and l.narrow:
        for j in range(l.n_out):
            average(p, l.w, l.sw, (j * l.ld_in + start) * item, round_up(stop - start, p.k.width))
    elif start < stop:
        average(p, l.w, l.sw, start * l.ld * item, (stop - start) * l.ld)
    share(l.n_out, p.k.width, thread, p.pace.threads, &start, &stop)
    if start < stop:
        for j in range(l.vectors):
            average(p, l.b, l.sb, (j * l.ld + start) * item, round_up(stop - start, p.k.width))


cdef void square_weights(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Sums of squares of the weights of inputs start … stop, for the L2 term."""
    cdef Py_ssize_t i, j, item = p.k.itemsize, width = p.k.width
    cdef double row[64]     # a narrow layer has fewer outputs than a vector has lanes
    if not l.narrow:
        p.k.square_sum(at(l.w, start, l.ld, 0, item), l.ld, stop - start, l.n_out,
                       l.squares + start)
        return
    for i in range(start // width, (stop + width - 1) // width):
        p.k.square_sum(at(l.w, 0, 0, i * width, item), l.ld_in, l.n_out, width, row)
        l.squares[i] = 0
        for j in range(l.n_out):
            l.squares[i] += row[j]


cdef void penalize(Plan* p, Layer* l, char* g, Py_ssize_t offset, Py_ssize_t count) noexcept nogil:
    """Add l1 and l2 to the gradient g of ``count`` weights from this byte offset on."""
    p.k.penalize(p.settings.l1, p.settings.l2, l.w + offset, g, count)


cdef void sum_gradient(Plan* p, Layer* l, const char* g, Py_ssize_t start,
                       Py_ssize_t stop) noexcept nogil:
    """Σg² of the groups of the inputs start … stop, whose gradient begins at g."""
    cdef Py_ssize_t i = start, some
    while i < stop:
        some = min(<Py_ssize_t>p.k.width, stop - i)
        if l.narrow:
            l.gradient_norms[i // p.k.width] = p.k.square_total(
                g + (i - start) * p.k.itemsize, l.ld_in, l.n_out, some)
        else:
            l.gradient_norms[i // p.k.width] = p.k.square_total(
                at(g, i - start, l.ld, 0, p.k.itemsize), l.ld, some, l.n_out)
        i += some


cdef void sum_units(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Σw² of each unit in the groups of the inputs start … stop."""
    cdef Py_ssize_t i = start, j, some, item = p.k.itemsize
    cdef double* squares
    while i < stop:
        some = min(<Py_ssize_t>p.k.width, stop - i)
        squares = l.unit_squares + i // p.k.width * l.n_out
        if l.narrow:
            for j in range(l.n_out):
                squares[j] = p.k.square_total(at(l.w, j, l.ld_in, i, item), l.ld_in, 1, some)
        else:
            p.k.column_squares(at(l.w, i, l.ld, 0, item), l.ld, some, l.n_out, squares)
        i += some


cdef void apply_narrow(Plan* p, Layer* l, const Stage* stage, Py_ssize_t start,
                       Py_ssize_t stop) noexcept nogil:
    """Update the weights of inputs start … stop, unless the product has."""
    cdef Py_ssize_t j, offset
    for j in range(l.n_out):
        offset = (j * l.ld_in + start) * p.k.itemsize
        if not stage.in_product:
            optimizer_step(p, &stage.steps[0], l.w + offset, l.dw + offset, l.sw, offset,
                           round_up(stop - start, p.k.width), l.unit_squares == NULL)
        elif l.unit_squares == NULL:
            average(p, l.w, l.sw, offset, round_up(stop - start, p.k.width))
    if l.unit_squares != NULL:
        sum_units(p, l, start, stop)
    if l.squares != NULL:
        square_weights(p, l, start, stop)


cdef void update_narrow(Plan* p, Layer* l, const Stage* stage, int thread) noexcept nogil:
    """This thread's columns of the transposed weights (n_out, ld_in)."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, start, stop, j, offset, number = l - &p.layer[0]
    cdef char* g = l.w if stage.in_product else l.dw
    share_work(p, WEIGHTS, l.n_in, k.width, thread, &start, &stop)
    if start >= stop:
        return
    if number == 0 and p.zeros.marks != NULL:
        k.gradient_marked(l.dz, l.ld, own_h(p, 0, 0, thread), l.ld_in, p.zeros.marks, g, l.ld_in,
                          l.n_out, start, stop, stage.m, stage.finish, &stage.steps[0])
    else:
        k.matmul(l.dz, l.ld, 1, at(l.h, 0, 0, start, item), l.ld_in, at(g, 0, 0, start, item),
                 l.ld_in, l.n_out, stop - start, stage.m, stage.finish, NULL, &stage.steps[0])
    tick(p, thread, GRADIENT, number)
    if stage.penalizes:
        for j in range(l.n_out):
            offset = (j * l.ld_in + start) * item
            penalize(p, l, l.dw + offset, offset, round_up(stop - start, k.width))
    if stage.applies:
        apply_narrow(p, l, stage, start, stop)
    elif stage.updates:
        sum_gradient(p, l, at(l.dw, 0, 0, start, item), start, stop)


cdef void block_gradient(Plan* p, Layer* l, const Stage* stage, Py_ssize_t i, Py_ssize_t rows,
                         char* g, const Step* step, int thread) noexcept nogil:
    """Rows i … i + rows of hᵀ · dz into g (rows, ld)."""
    cdef Py_ssize_t item = p.k.itemsize, m = stage.m
    if p.zeros.sparse and l == &p.layer[0]:
        if p.zeros.scatter:
            scatter_gradient(p, m, i, rows, g, stage.finish, thread)
        else:
            gradient_sparse(p, m, i, rows, g, stage.finish, step, thread)
    elif l.gradient_skips:
        gradient_listed(p, l, m, i, rows, g, stage.finish, step, thread)
    elif l.bf16:
        p.k16.matmul(at(l.h_pairs, 0, 0, i, sizeof(float)), l.ld_in, 1, l.dz_pairs,
                     panel_pairs(p.rows), g, l.ld, rows, l.n_out, (m + 1) // 2, stage.finish, NULL,
                     &stage.steps[0])
    else:
        p.k.matmul(at(l.h, 0, 0, i, item), l.ld_in, 1, l.dz, l.ld, g, l.ld, rows, l.n_out, m,
                   stage.finish, NULL, &stage.steps[0])


cdef void apply_wide(Plan* p, Layer* l, const Stage* stage, const char* g, Py_ssize_t start,
                     Py_ssize_t rows, int thread) noexcept nogil:
    """Update rows start … start + rows of the weights with the gradient g, unless the product has,
    and what is computed from them."""
    cdef Py_ssize_t offset = start * l.ld * p.k.itemsize, number = l - &p.layer[0]
    if not stage.in_product and not stage.adam:
        optimizer_step(p, &stage.steps[0], l.w + offset, g, l.sw, offset, rows * l.ld,
                       l.unit_squares == NULL)
        tick(p, thread, UPDATE, number)
    elif l.unit_squares == NULL:
        average(p, l.w, l.sw, offset, rows * l.ld)
    if l.unit_squares != NULL:
        sum_units(p, l, start, start + rows)  # limit_units brings the transpose up to date
        tick(p, thread, UPDATE, number)
    else:
        refresh_transpose(p, l, start, start + rows)
        tick(p, thread, TRANSPOSE, number)
    if l.squares != NULL:
        square_weights(p, l, start, start + rows)


cdef void update_wide(Plan* p, Layer* l, const Stage* stage, int thread) noexcept nogil:
    """This thread's rows of the weights (n_in, ld), block by block."""
    cdef Py_ssize_t item = p.k.itemsize, start, stop, rows, offset, number = l - &p.layer[0]
    cdef Step step = stage.steps[0]
    cdef char *g
    step.w = 0
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &start, &stop)
    while start < stop:
        rows = min(l.block, stop - start)
        offset = start * l.ld * item
        if stage.in_product:
            g = l.w + offset
        elif l.dw != NULL:
            g = l.dw + offset
        else:
            g = p.buffers.blocks + thread * p.buffers.block_bytes
        if stage.adam:
            step.w = l.w + offset - g
            step.s1, step.s2 = l.sw[0] + offset - g, l.sw[1] + offset - g
        block_gradient(p, l, stage, start, rows, g, &step, thread)
        tick(p, thread, GRADIENT, number)
        if stage.penalizes:
            penalize(p, l, g, offset, rows * l.ld)
        if stage.applies:
            apply_wide(p, l, stage, g, start, rows, thread)
        elif stage.updates:
            sum_gradient(p, l, g, start, start + rows)
        start += rows


cdef void sum_bias_gradient(Plan* p, Layer* l, Py_ssize_t vector, Py_ssize_t start,
                            Py_ssize_t stop) noexcept nogil:
    """Σg² of the groups of the columns start … stop of the biases, or of scale or shift."""
    cdef Py_ssize_t some
    while start < stop:
        some = min(<Py_ssize_t>p.k.width, stop - start)
        l.gradient_norms[l.groups + vector * l.bias_groups + start // p.k.width] = (
            p.k.square_total(at(l.db, vector, l.ld, start, p.k.itemsize), l.ld, 1, some))
        start += some


cdef void update_biases(Plan* p, Layer* l, const Stage* stage, int thread) noexcept nogil:
    """This thread's columns of the biases, and of scale and shift of a normalisation."""
    cdef Py_ssize_t start, stop, offset, i, row = l.ld * p.k.itemsize
    cdef char* summed[3]
    share(l.n_out, p.k.width, thread, p.pace.threads, &start, &stop)
    if start >= stop:
        return
    offset = start * p.k.itemsize
    summed[0], summed[1], summed[2] = l.dz, l.normed, l.passed
    for i in range(l.vectors):
        if i == 0 and l.over_rows and l.normed_before and uses_batch(p, l):  # the norm subtracts the bias
            memset(l.db + offset, 0, round_up(stop - start, p.k.width) * p.k.itemsize)
        elif i == 0 or not l.over_rows:     # the backward pass of batch norm has summed the others
            p.k.column_sum(summed[i] + offset, l.ld, stage.m, stop - start, l.db + i * row + offset,
                           not stage.first)
        if stage.applies:
            optimizer_step(p, &stage.steps[1 + i], l.b + i * row + offset, l.db + i * row + offset, l.sb,
                           i * row + offset, round_up(stop - start, p.k.width), True)
        elif stage.updates:
            sum_bias_gradient(p, l, i, start, stop)


cdef void update_running(Plan* p, Layer* l, Py_ssize_t m, int thread) noexcept nogil:
    """This thread's columns of the running statistics of a batch norm over m rows, and of their
    average."""
    cdef Py_ssize_t start, stop, item = p.k.itemsize, i, count
    cdef double correction = m / (m - 1.0) if l.unbiased else 1
    share(l.n_out, p.k.width, thread, p.pace.threads, &start, &stop)
    if start >= stop:
        return
    count = round_up(stop - start, p.k.width)
    for i in range(2):
        if not l.frozen:
            p.k.blend(at(l.running, i, l.ld, start, item), at(l.moments, i, l.ld, start, item),
                      l.momentum, correction if i else 1, count)
        if p.settings.ema > 0:
            p.k.average(at(l.running, 2 + i, l.ld, start, item),
                        at(l.running, i, l.ld, start, item), p.position.ema_rest, count)


cdef void update_layer(Plan* p, Layer* l, Py_ssize_t m, bint first, bint last,
                       int thread) noexcept nogil:
    """Sum the gradient over the m rows of a chunk, the first or last of its batch; after the last,
    update."""
    cdef Stage stage
    if l.frozen:
        if last and p.settings.training:
            average_layer(p, l, thread)
            if l.over_rows:
                update_running(p, l, m, thread)
        return
    choose_stage(p, l, m, first, last, &stage)
    if l.narrow:
        update_narrow(p, l, &stage, thread)
    else:
        update_wide(p, l, &stage, thread)
    update_biases(p, l, &stage, thread)
    if l.over_rows and stage.updates:
        update_running(p, l, m, thread)
    tick(p, thread, UPDATE, l - &p.layer[0])


# --- Limits of norms ------------------------------------------------------------------------------
#
# Every thread computes the same factors, from the sums that all of them have written before a
# barrier.

cdef double clip_factor(Plan* p) noexcept nogil:
    """``clip_factor`` of penalties.py."""
    cdef Layer* l
    cdef Py_ssize_t j
    cdef int i
    cdef double total = 0, factor
    for i in range(p.n_layers):
        l = &p.layer[i]
        if not l.frozen:
            for j in range(l.groups + l.vectors * l.bias_groups):
                total += l.gradient_norms[j]
    factor = p.settings.clip_norm / (sqrt(total) + CLIP_EPSILON)
    return factor if factor < 1 else 1.0


cdef void apply_clipped(Plan* p, Layer* l, Py_ssize_t m, bint first, double factor,
                        int thread) noexcept nogil:
    """Update this thread's parameters with the gradient times a factor."""
    cdef Stage stage
    cdef Py_ssize_t start, stop, rows, j, offset, item = p.k.itemsize
    choose_stage(p, l, m, first, True, &stage)
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &start, &stop)
    if l.narrow and start < stop:
        if factor < 1:
            for j in range(l.n_out):
                p.k.scale(factor, at(l.dw, j, l.ld_in, start, item),
                          round_up(stop - start, p.k.width))
        apply_narrow(p, l, &stage, start, stop)
    while not l.narrow and start < stop:
        rows = min(l.block, stop - start)
        offset = start * l.ld * item
        if factor < 1:
            p.k.scale(factor, l.dw + offset, rows * l.ld)
        apply_wide(p, l, &stage, l.dw + offset, start, rows, thread)
        start += rows
    share(l.n_out, p.k.width, thread, p.pace.threads, &start, &stop)
    rows = round_up(stop - start, p.k.width)
    for j in range(l.vectors if start < stop else 0):
        offset = (j * l.ld + start) * item
        if factor < 1:
            p.k.scale(factor, l.db + offset, rows)
        optimizer_step(p, &stage.steps[1 + j], l.b + offset, l.db + offset, l.sb, offset, rows,
                       True)
    tick(p, thread, UPDATE, l - &p.layer[0])


cdef void limit_units(Plan* p, Layer* l, int thread) noexcept nogil:
    """Limit the norm of each unit's weights; bring average and transpose up to date."""
    cdef Py_ssize_t start, stop, j, item = p.k.itemsize
    cdef double* factor = p.buffers.factors + thread * p.buffers.widest_out
    cdef bint exceeds = p.k.unit_factors(l.unit_squares, l.groups, l.n_out, p.settings.max_norm,
                                         factor)
    share_work(p, WEIGHTS, l.n_in, p.k.width, thread, &start, &stop)
    if start >= stop:
        return
    if l.narrow:
        for j in range(l.n_out):
            if exceeds:
                p.k.scale(factor[j], at(l.w, j, l.ld_in, start, item),
                          round_up(stop - start, p.k.width))
            average(p, l.w, l.sw, (j * l.ld_in + start) * item, round_up(stop - start, p.k.width))
    else:
        if exceeds:
            p.k.scale_columns(factor, at(l.w, start, l.ld, 0, item), l.ld, stop - start, l.n_out)
        average(p, l.w, l.sw, start * l.ld * item, (stop - start) * l.ld)
    tick(p, thread, UPDATE, l - &p.layer[0])
    if not l.narrow:
        refresh_transpose(p, l, start, stop)
        tick(p, thread, TRANSPOSE, l - &p.layer[0])


cdef void limit_norms(Plan* p, Py_ssize_t m, bint first, int thread) noexcept nogil:
    """After the last chunk of a batch: clip the gradient and update, then limit the units."""
    cdef double factor
    cdef int i
    if p.settings.clip_norm > 0:
        wait(p, thread)
        factor = clip_factor(p)
        for i in range(p.n_layers - 1, -1, -1):
            if not p.layer[i].frozen:
                apply_clipped(p, &p.layer[i], m, first, factor, thread)
    if p.settings.max_norm > 0:
        wait(p, thread)
        for i in range(p.n_layers):
            if not p.layer[i].frozen:
                limit_units(p, &p.layer[i], thread)


# --- Coefficients of an update --------------------------------------------------------------------

cdef void square_all_weights(void* context, int thread) noexcept nogil:
    """Compute the sums of squares of every layer, before the first step."""
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


cdef double momentum_of(Plan* p, double t) noexcept nogil:
    """NAdam's momentum of update t."""
    return p.settings.coefficients.beta1 * (
        1.0 - 0.5 * pow(0.96, t * p.settings.momentum_decay))


cdef void multiply_momenta(Plan* p, Py_ssize_t t) noexcept nogil:
    """Set ``momenta`` to the product of NAdam's momenta of updates 1 … t, in this order: a function
    of t alone. The product of t - 1 is usually known."""
    cdef Position* position = &p.position
    if position.momenta_of > t or position.momenta_of == 0:
        position.momenta, position.momenta_of = 1.0, 0
    while position.momenta_of < t and position.momenta >= 1e-30:    # then 1 - momenta is 1
        position.momenta_of += 1
        position.momenta *= momentum_of(p, <double>position.momenta_of)
    position.momenta_of = t


cdef void prepare_step(Plan* p, double rate, double batch_weight) noexcept nogil:
    """Set the coefficients of this update, as in updates.py; t counts updates from 1."""
    cdef Position* position = &p.position
    cdef const Step* constant = &p.settings.coefficients
    cdef Step* step = &position.coefficients
    cdef double t = <double>(position.updates + position.step + 1), c, l2 = p.settings.l2
    if p.settings.sklearn:
        l2 /= batch_weight
        if p.settings.l2 > 0:
            position.penalty = 0.5 * l2 * sum_squares(p)
    step[0] = constant[0]
    step.rate = position.rate = rate
    if p.settings.rule in (RULE_ADAM, RULE_AMSGRAD, RULE_NADAM):
        # rate · m̂ / (√v̂ + ε) = step.rate · m / (√v + c·ε)
        c = sqrt(1.0 - pow(constant.beta2, t))
        step.rate = rate * c / (1.0 - pow(constant.beta1, t))
        step.epsilon = constant.epsilon if p.settings.unscaled_epsilon else c * constant.epsilon
    if p.settings.rule == RULE_NADAM:
        multiply_momenta(p, <Py_ssize_t>t)
        step.gradient_rate = rate * c * (1.0 - momentum_of(p, t)) / (1.0 - position.momenta)
        step.rate = rate * c * momentum_of(p, t + 1) / (
            1.0 - position.momenta * momentum_of(p, t + 1))
    t -= <double>p.settings.ema_offset
    position.ema_rest = 1.0 - min(p.settings.ema, (1.0 + t) / (10.0 + t))
    step.l2 = 0 if p.settings.penalizes else l2
