# Products that skip zeros: of x in the first layer, and of h and dz in hidden layers.
#
# Lists name the non-zero columns of each row, in parts, so that the part of the weights that a
# product uses stays in L1. Skipping zeros changes no sum, unless a weight is not finite.

# --- Lists of non-zeros ---------------------------------------------------------------------------

cdef uint32_t random_word(Plan* p, uint32_t unit, uint32_t row, uint32_t stream) noexcept nogil:
    """A single word of Philox 4x32-10: see csrc/kernels/random.h."""
    cdef uint32_t c0 = unit // 4, c1 = row, c2 = p.position.epoch, c3 = stream
    cdef uint32_t k0 = <uint32_t>p.settings.seed, k1 = <uint32_t>(p.settings.seed >> 32)
    cdef uint64_t p0, p1
    cdef int i
    for i in range(10):
        p0, p1 = <uint64_t>c0 * 0xD2511F53u, <uint64_t>c2 * 0xCD9E8D57u
        c0, c1 = <uint32_t>(p1 >> 32) ^ c1 ^ k0, <uint32_t>p1
        c2, c3 = <uint32_t>(p0 >> 32) ^ c3 ^ k1, <uint32_t>p0
        k0 += 0x9E3779B9u
        k1 += 0xBB67AE85u
    return (c0 if unit % 4 == 0 else c1 if unit % 4 == 1 else c2 if unit % 4 == 2 else c3)


cdef void spread_row(Plan* p, Py_ssize_t position, Py_ssize_t place) noexcept nogil:
    """Write the compressed row of x at a position in the order into row ``place`` of h.

    Dropout draws the words of the stored values only, of which there may be few in a wide row. Only the values of the row that was there before are cleared, not the whole row.
    """
    cdef Py_ssize_t i, item = p.k.itemsize, row = row_at(p, position)
    cdef const int64_t* starts = p.data.x_starts
    cdef const int32_t* columns = p.data.x_columns
    cdef const double* inverse = p.data.inverse
    cdef int64_t before = p.zeros.spread[place]
    cdef char* h = at(p.layer[0].h, place, p.layer[0].ld_in, 0, item)
    cdef double value, rate = p.settings.input_dropout
    cdef uint32_t below = drop_below(rate)
    cdef float kept32 = <float>(1.0 / (1.0 - rate))
    if before < 0:
        memset(h, 0, p.layer[0].ld_in * item)
    else:
        for i in range(starts[before], starts[before + 1]):
            memset(h + columns[i] * item, 0, item)
    p.zeros.spread[place] = row
    for i in range(starts[row], starts[row + 1]):
        if p.data.x_col == sizeof(float):
            value = (<const float*>p.data.x)[i]
        else:
            value = (<const double*>p.data.x)[i]
        if inverse != NULL:
            value *= inverse[columns[i]]    # the mean is 0
        if rate > 0:
            if random_word(p, columns[i], <uint32_t>position + p.position.first_row,
                           INPUT_DROPOUT_STREAM) < below:
                value = 0
            elif item == sizeof(float):
                value = <float>value * kept32   # rounded as in a dense row
            else:
                value *= 1.0 / (1.0 - rate)
        if p.layer[0].bf16:
            (<float*>h)[columns[i]] = rounded(<float>value)
        elif item == sizeof(float):
            (<float*>h)[columns[i]] = <float>value
        else:
            (<double*>h)[columns[i]] = value


cdef void list_compressed(Plan* p, Py_ssize_t place) noexcept nogil:
    """List the columns of the compressed row in row ``place`` of h, as ``find_nonzero`` does."""
    cdef const int64_t* x_starts = p.data.x_starts + p.zeros.spread[place]
    cdef Lists* lists = &p.zeros.nonzero
    cdef Py_ssize_t i = x_starts[0], end = x_starts[1], q, count = 0
    cdef uint16_t* columns = lists.columns + place * lists.ld
    for q in range(lists.parts):
        lists.starts[q * p.rows + place] = <uint32_t>count
        while i < end and p.data.x_columns[i] < (q + 1) * lists.part:
            columns[count] = <uint16_t>(p.data.x_columns[i] & (SPARSE_GROUP - 1))
            count += 1
            i += 1
    lists.starts[lists.parts * p.rows + place] = <uint32_t>count


cdef void list_rows(Plan* p, const Lists* lists, const char* a, Py_ssize_t ld, Py_ssize_t n,
                    Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """List the non-zeros of rows start … start + m of a (rows, n)."""
    p.k.find_nonzero(at(a, start, ld, 0, p.k.itemsize), ld, m, n, lists.part,
                     lists.columns + start * lists.ld, lists.ld, lists.starts + start, p.rows)


cdef void list_hidden(Plan* p, Lists* lists, Py_ssize_t i, int which, Py_ssize_t start,
                      Py_ssize_t m, int thread) noexcept nogil:
    """List and count the non-zeros of h (0) or dz (1) of layer i.

    ``lists`` is the thread's own struct, because other threads may be in other layers.
    """
    cdef Layer* l = &p.layer[i]
    cdef Py_ssize_t r
    cdef uint64_t total = 0
    cdef Py_ssize_t n = l.n_out if which else l.n_in
    lists.part = part_of(p, l.n_in if which else l.n_out)
    lists.parts = (n + lists.part - 1) // lists.part
    if which:
        list_rows(p, lists, l.dz, l.ld, l.n_out, start, m)
    else:
        list_rows(p, lists, l.h, l.ld_in, l.n_in, start, m)
    for r in range(start, start + m):
        total += lists.starts[lists.parts * p.rows + r]
    p.zeros.found[(thread * p.n_layers + i) * COUNTERS + which] = total


# --- h · w and dz · wᵀ ----------------------------------------------------------------------------

cdef Py_ssize_t sparse_columns(const Kernels* k, Py_ssize_t n_out) noexcept nogil:
    """Columns of a sparse product computed at a time: n_out in the fewest equal parts that the
    kernel takes, of whole vectors."""
    cdef Py_ssize_t vectors = (n_out + k.width - 1) // k.width
    cdef Py_ssize_t parts = (vectors + k.sparse_cols - 1) // k.sparse_cols
    return (vectors + parts - 1) // parts * k.width


cdef void multiply_listed(Plan* p, const Lists* lists, const char* a, Py_ssize_t lda,
                          Py_ssize_t start, Py_ssize_t m, const char* w, Py_ssize_t ld_w, char* z,
                          Py_ssize_t ld, Py_ssize_t n_out, const char* b) noexcept nogil:
    """z = a · w + b, or a · w if b is null, for the listed rows start … start + m of a (rows, lda);
    w (…, ld_w), z (rows, ld). One part of the inputs after the other."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, q, base, j = 0, columns = sparse_columns(k, n_out)
    cdef const uint32_t* starts = lists.starts + start
    cdef int finish = FINISH_STORE if b == NULL else FINISH_BIAS
    if m == 0:
        return
    # As many columns at a time as fill half of L2 with z, so that a is read from memory less often.
    columns *= max(<Py_ssize_t>1, CACHE_BYTES // 2 // (m * columns * item))
    while j < n_out:
        for q in range(lists.parts):
            base = q * lists.part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
            k.matmul_sparse(at(a, start, lda, base, item), lda, 1,
                            lists.columns + start * lists.ld, lists.ld,
                            starts + q * p.rows, starts + (q + 1) * p.rows,
                            at(w, base, ld_w, j, item), ld_w, at(z, start, ld, j, item), ld, m,
                            min(columns, n_out - j), FINISH_ADD if q else finish, b, NULL)
        if b != NULL:
            b += columns * item
        j += columns


cdef Py_ssize_t count_listed(Plan* p, const Lists* lists, Py_ssize_t start,
                             Py_ssize_t m) noexcept nogil:
    """Elements that the lists of rows start … start + m name."""
    cdef Py_ssize_t i, total = 0
    for i in range(start, start + m):
        total += lists.starts[lists.parts * p.rows + i]
    return total


cdef bint lists_too_many(Plan* p) noexcept nogil:
    """Whether the first layer skips zeros, but the last chunk, of a matrix x, had few."""
    cdef Py_ssize_t m = p.data.n % p.rows
    if m == 0:
        m = p.rows
    if not p.zeros.sparse or p.data.source == SOURCE_SPARSE or p.rows <= 2:
        return False
    return count_listed(p, &p.zeros.nonzero, 0, m) * 2 > m * p.layer[0].n_in


cdef void affine_sparse(Plan* p, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """z of the first layer without the zeros of x."""
    cdef Layer* l = &p.layer[0]
    cdef Lists* lists = &p.zeros.nonzero
    cdef Py_ssize_t i, item = p.k.itemsize
    if p.data.source == SOURCE_SPARSE:
        for i in range(start, start + m):
            list_compressed(p, i)
    else:
        list_rows(p, lists, l.h, l.ld_in, l.n_in, start, m)
        if p.rows <= 2 and not l.lanes and count_listed(p, lists, start, m) * 3 > m * l.n_in * 2:
            # Nobody has sampled these few rows, and they have few zeros.
            p.k.matmul(at(l.h, start, l.ld_in, 0, item), l.ld_in, 0, l.w, l.ld_w,
                       at(l.z, start, l.ld, 0, item), l.ld, m, l.n_out, l.n_in, FINISH_BIAS, l.b,
                       NULL)
            return
    if l.lanes:
        p.k.sparse_lanes(at(l.h, start, l.ld_in, 0, p.k.itemsize), l.ld_in,
                         lists.columns + start * lists.ld, lists.ld, lists.starts + start, p.rows,
                         lists.part, l.w, l.ld_w, at(l.z, start, l.ld, 0, p.k.itemsize), l.ld, m,
                         l.n_out, l.n_in, l.b)
    elif l.w_rounded == NULL:
        multiply_listed(p, lists, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
    else:
        multiply_listed(p, lists, l.h, l.ld_in, start, m, l.w_rounded, l.ld, l.z, l.ld, l.n_out,
                        l.b)


# --- hᵀ · dz --------------------------------------------------------------------------------------

cdef inline int finish_of_part(int finish, Py_ssize_t row, bint last,
                               const Step* step) noexcept nogil:
    """How the product of one part of the batch finishes, given how the whole product does. ``row``
    is the first of the part."""
    if last and step.w != 0:
        return FINISH_ADAM if row == 0 and finish == FINISH_STORE else FINISH_ADD_ADAM
    return FINISH_ADD if row else finish


cdef void turn_lists(Plan* p, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t start, Py_ssize_t count,
                     uint16_t* turned, uint32_t* counts) noexcept nogil:
    """Transpose the lists of x: for each of ``count`` inputs from ``start``, list in turned (count,
    SPARSE_PART) which of the rows row … row + rows have it; counts (count,)."""
    cdef Py_ssize_t i, base, low, high, first, after
    cdef Lists* lists = &p.zeros.nonzero
    cdef uint16_t* column
    cdef uint16_t* end
    cdef uint32_t place
    memset(counts, 0, count * sizeof(uint32_t))
    base = start & ~(<Py_ssize_t>SPARSE_GROUP - 1)
    while base < start + count:
        low = max(start - base, <Py_ssize_t>0)
        high = min(start + count - base, <Py_ssize_t>SPARSE_GROUP)
        first = (base + low) // lists.part
        after = min((base + SPARSE_GROUP) // lists.part, lists.parts)
        for i in range(rows):
            column = lists.columns + (row + i) * lists.ld
            end = column + lists.starts[after * p.rows + row + i]
            column += lists.starts[first * p.rows + row + i]
            while column < end and column[0] < low:
                column += 1
            while column < end and column[0] < high:
                place = <uint32_t>(base + column[0] - start)
                turned[place * SPARSE_PART + counts[place]] = <uint16_t>i
                counts[place] += 1
                column += 1
        base += SPARSE_GROUP


cdef void gradient_sparse(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                          int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of the first layer's gradient g (count, ld), without the zeros of
    x. One part of the batch after the other."""
    cdef const Kernels* k = p.k
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = k.itemsize, row = 0, rows, j, columns = sparse_columns(k, l.n_out)
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef uint32_t* counts = <uint32_t*>(p.zeros.turned + thread * p.zeros.turned_bytes)
    cdef uint32_t* begin = counts + l.block
    cdef uint16_t* turned = <uint16_t*>(begin + l.block)
    memset(begin, 0, count * sizeof(uint32_t))
    while row < m:
        rows = min(SPARSE_PART, m - row)
        turn_lists(p, row, rows, start, count, turned, counts)
        j = 0
        while j < l.n_out:
            k.matmul_sparse(at(l.h, row, l.ld_in, start, item), 1, l.ld_in, turned, SPARSE_PART,
                            begin, counts, at(dz, row, l.ld, j, item), l.ld,
                            at(g, 0, l.ld, j, item), l.ld, count, min(columns, l.n_out - j),
                            finish_of_part(finish, row, row + rows == m, step), NULL, step)
            j += columns
        row += rows


cdef void gradient_listed(Plan* p, Layer* l, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count,
                          char* g, int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of a hidden layer's gradient g (count, ld), without the zeros of
    h. One part of the batch after the other."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, columns = sparse_columns(k, l.n_out)
    cdef Py_ssize_t row = 0, rows, i, some, j
    cdef Turned t
    lay_out_turned(p, p.zeros.turned + thread * p.zeros.turned_bytes, &t)
    while row < m:
        rows = min(SPARSE_PART, m - row)
        i = 0
        while i < count:
            some = min(TURNED_ROWS, count - i)
            k.transpose(at(l.h, row, l.ld_in, start + i, item), l.ld_in, t.rows, SPARSE_PART, rows,
                        some)
            k.find_nonzero(t.rows, SPARSE_PART, some, rows, SPARSE_PART, t.columns, TURNED_LD,
                           t.starts, TURNED_ROWS)
            j = 0
            while j < l.n_out:
                k.matmul_sparse(t.rows, SPARSE_PART, 1, t.columns, TURNED_LD, t.starts,
                                t.starts + TURNED_ROWS, at(l.dz, row, l.ld, j, item), l.ld,
                                at(g, i, l.ld, j, item), l.ld, some, min(columns, l.n_out - j),
                                finish_of_part(finish, row, row + rows == m, step), NULL, step)
                j += columns
            i += some
        row += rows


cdef void scatter_gradient(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                           int finish, int thread) noexcept nogil:
    """As ``gradient_sparse``, for rows of few vectors: each row of the batch is added in turn."""
    cdef Layer* l = &p.layer[0]
    cdef Lists* lists = &p.zeros.nonzero
    cdef Py_ssize_t item = p.k.itemsize, part = lists.part, i, q, base, low, high
    cdef uint32_t* begin = <uint32_t*>(p.zeros.turned + thread * p.zeros.turned_bytes)
    cdef uint32_t* end = begin + p.rows
    cdef uint32_t stop
    cdef uint16_t* columns
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef double scale = -p.position.coefficients.rate * l.group[0].rate if finish == FINISH_SGD else 1
    if finish == FINISH_STORE:
        memset(g, 0, count * l.ld * item)
    for q in range(start // part, (start + count + part - 1) // part):
        base = q * part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
        low, high = start - base, start + count - base
        for i in range(m):
            columns = lists.columns + i * lists.ld
            begin[i] = lists.starts[q * p.rows + i]
            end[i] = stop = lists.starts[(q + 1) * p.rows + i]
            # Only the first and the last part may exceed start … start + count.
            if q * part < start:
                while begin[i] < stop and columns[begin[i]] < low:
                    begin[i] += 1
            if (q + 1) * part > start + count:
                end[i] = begin[i]
                while end[i] < stop and columns[end[i]] < high:
                    end[i] += 1
        # g begins at row ``start`` of the gradient, the kernel counts rows from ``base``.
        p.k.matmul_scatter(at(l.h, 0, l.ld_in, base, item), l.ld_in, lists.columns, lists.ld, begin,
                           end, dz, l.ld, at(g, base - start, l.ld, 0, item), l.ld, m, l.n_out,
                           scale)
