cdef void spread_row(Plan* p, Py_ssize_t row, Py_ssize_t at) noexcept nogil:
    """Put a compressed row of x in place of the one that lies in row ``at`` of h."""
    cdef Py_ssize_t i, item = p.k.itemsize
    cdef int64_t before = p.spread[at]
    cdef char* h = p.layer[0].h + at * p.layer[0].ld_in * item
    cdef double value
    if before < 0:
        memset(h, 0, p.layer[0].ld_in * item)
    else:
        for i in range(p.x_starts[before], p.x_starts[before + 1]):
            memset(h + p.x_columns[i] * item, 0, item)
    p.spread[at] = row
    for i in range(p.x_starts[row], p.x_starts[row + 1]):
        if p.x_col == sizeof(float):
            value = (<const float*>p.x)[i]
        else:
            value = (<const double*>p.x)[i]
        if p.layer[0].bf16:
            (<float*>h)[p.x_columns[i]] = rounded(<float>value)
        elif item == sizeof(float):
            (<float*>h)[p.x_columns[i]] = <float>value
        else:
            (<double*>h)[p.x_columns[i]] = value


cdef void list_row(Plan* p, Py_ssize_t at) noexcept nogil:
    """The columns of the compressed row in row ``at`` of h, as ``find_nonzero`` lists them."""
    cdef Py_ssize_t i = p.x_starts[p.spread[at]], end = p.x_starts[p.spread[at] + 1], q, count = 0
    cdef uint16_t* lit = p.lit.columns + at * p.lit.ld
    for q in range(p.lit.parts):
        p.lit.starts[q * p.rows + at] = <uint32_t>count
        while i < end and p.x_columns[i] < (q + 1) * p.lit.part:
            lit[count] = <uint16_t>(p.x_columns[i] & (SPARSE_GROUP - 1))
            count += 1
            i += 1
    p.lit.starts[p.lit.parts * p.rows + at] = <uint32_t>count


cdef Py_ssize_t panel(const Kernels* k, Py_ssize_t n_out) noexcept nogil:
    """Columns of a sparse product that are computed at a time: few equal parts of whole vectors."""
    cdef Py_ssize_t vectors = (n_out + k.width - 1) // k.width
    cdef Py_ssize_t panels = (vectors + k.sparse_cols - 1) // k.sparse_cols
    return (vectors + panels - 1) // panels * k.width


cdef void list_rows(Plan* p, const Lists* lists, const char* a, Py_ssize_t ld, Py_ssize_t n,
                    Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """List what is not zero in rows start … start + m of a (rows, n)."""
    p.k.find_nonzero(a + start * ld * p.k.itemsize, ld, m, n, lists.part,
                     lists.columns + start * lists.ld, lists.ld, lists.starts + start, p.rows)


cdef void forward_sparse(Plan* p, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """The first layer's z from the inputs that are not zero."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t i
    if p.source == SOURCE_SPARSE:
        for i in range(start, start + m):
            list_row(p, i)
    else:
        list_rows(p, &p.lit, l.h, l.ld_in, l.n_in, start, m)
    if l.w_rounded == NULL:
        times_listed(p, &p.lit, l.h, l.ld_in, start, m, l.w, l.ld_w, l.z, l.ld, l.n_out, l.b)
    else:
        times_listed(p, &p.lit, l.h, l.ld_in, start, m, l.w_rounded, l.ld, l.z, l.ld, l.n_out, l.b)


cdef void list_hidden(Plan* p, Lists* lists, Py_ssize_t i, int which, Py_ssize_t start, Py_ssize_t m,
                      int thread) noexcept nogil:
    """List what layer i has in h (0) or dz (1) that is not zero, and count it. ``lists`` are the caller's
    own: other threads may be in other layers."""
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
    p.found[(thread * p.n_layers + i) * FOUND + which] = total


cdef void times_listed(Plan* p, const Lists* lists, const char* a, Py_ssize_t lda, Py_ssize_t start,
                       Py_ssize_t m, const char* w, Py_ssize_t ld_w, char* z, Py_ssize_t ld,
                       Py_ssize_t n_out, const char* b) noexcept nogil:
    """z = b + a · w, or without b, for rows start … start + m of a, which are listed: a part of the
    inputs at a time."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, q, base, j = 0, columns = panel(k, n_out)
    cdef const uint32_t* starts = lists.starts + start
    cdef int finish = FINISH_STORE
    if b != NULL:
        finish = FINISH_BIAS
    if m == 0:
        return
    # As many panels as half of the second cache holds of z: a is read from afar so much less often.
    columns *= max(<Py_ssize_t>1, CACHE_BYTES // 2 // (m * columns * item))
    while j < n_out:
        for q in range(lists.parts):
            base = q * lists.part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
            k.matmul_sparse(a + (start * lda + base) * item, lda, 1, lists.columns + start * lists.ld,
                            lists.ld, starts + q * p.rows, starts + (q + 1) * p.rows,
                            w + (base * ld_w + j) * item, ld_w, z + (start * ld + j) * item, ld, m,
                            min(columns, n_out - j), FINISH_ADD if q else finish, b, NULL)
        if b != NULL:
            b += columns * item
        j += columns


cdef void turn_lists(Plan* p, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t start, Py_ssize_t count,
                     uint16_t* lists, uint32_t* counts) noexcept nogil:
    """For each of ``count`` inputs from ``start`` on, which of ``rows`` rows from ``row`` on have it."""
    cdef Py_ssize_t i, base, low, high, first, after
    cdef uint16_t* lit
    cdef uint16_t* end
    cdef uint32_t column
    memset(counts, 0, count * sizeof(uint32_t))
    base = start & ~(<Py_ssize_t>SPARSE_GROUP - 1)
    while base < start + count:
        low = max(start - base, <Py_ssize_t>0)
        high = min(start + count - base, <Py_ssize_t>SPARSE_GROUP)
        first = (base + low) // p.lit.part
        after = min((base + SPARSE_GROUP) // p.lit.part, p.lit.parts)
        for i in range(rows):
            lit = p.lit.columns + (row + i) * p.lit.ld
            end = lit + p.lit.starts[after * p.rows + row + i]
            lit += p.lit.starts[first * p.rows + row + i]
            while lit < end and lit[0] < low:
                lit += 1
            while lit < end and lit[0] < high:
                column = <uint32_t>(base + lit[0] - start)
                lists[column * SPARSE_PART + counts[column]] = <uint16_t>i
                counts[column] += 1
                lit += 1
        base += SPARSE_GROUP


cdef inline int finish_of_part(int finish, Py_ssize_t row, bint last, const Step* step) noexcept nogil:
    """How the product of a part of the batch ends, from how all together do."""
    if last and step.w != 0:
        return FINISH_ADAM if row == 0 and finish == FINISH_STORE else FINISH_ADD_ADAM
    return FINISH_ADD if row else finish


cdef void gradient_sparse(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                          int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of the first layer's gradient, a part of the batch at a time."""
    if p.scatter:
        scatter_gradient(p, m, start, count, g, finish, thread)
        return
    cdef const Kernels* k = p.k
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = k.itemsize, row, rows, j, columns = panel(k, l.n_out)
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef char* mine = p.turned + thread * p.turned_bytes
    cdef uint32_t* counts = <uint32_t*>mine
    cdef uint32_t* zeros = counts + l.block
    cdef uint16_t* lists = <uint16_t*>(zeros + l.block)
    memset(zeros, 0, count * sizeof(uint32_t))
    row = 0
    while row < m:
        rows = min(SPARSE_PART, m - row)
        turn_lists(p, row, rows, start, count, lists, counts)
        j = 0
        while j < l.n_out:
            k.matmul_sparse(l.h + (row * l.ld_in + start) * item, 1, l.ld_in, lists, SPARSE_PART,
                            zeros, counts, dz + (row * l.ld + j) * item, l.ld, g + j * item, l.ld,
                            count, min(columns, l.n_out - j),
                            finish_of_part(finish, row, row + rows == m, step), NULL, step)
            j += columns
        row += rows


cdef void gradient_listed(Plan* p, Layer* l, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                          int finish, const Step* step, int thread) noexcept nogil:
    """Rows start … start + count of a hidden layer's gradient without the zeros of h, a part of the
    batch at a time."""
    cdef const Kernels* k = p.k
    cdef Py_ssize_t item = k.itemsize, row = 0, rows, i, at, some, j, columns = panel(k, l.n_out)
    cdef char* h
    cdef Turned turned
    lay_out_turned(p, p.turned + thread * p.turned_bytes, &turned)
    while row < m:
        rows = min(SPARSE_PART, m - row)
        at = 0
        while at < count:
            some = min(TURNED_ROWS, count - at)
            h = l.h + (row * l.ld_in + start + at) * item
            k.transpose(h, l.ld_in, turned.columns, SPARSE_PART, rows, some)
            k.find_nonzero(turned.columns, SPARSE_PART, some, rows, SPARSE_PART, turned.lists,
                           TURNED_LD, turned.starts, TURNED_ROWS)
            j = 0
            while j < l.n_out:
                k.matmul_sparse(turned.columns, SPARSE_PART, 1, turned.lists, TURNED_LD, turned.starts,
                                turned.starts + TURNED_ROWS, l.dz + (row * l.ld + j) * item, l.ld,
                                g + (at * l.ld + j) * item, l.ld, some, min(columns, l.n_out - j),
                                finish_of_part(finish, row, row + rows == m, step), NULL, step)
                j += columns
            at += some
        row += rows


cdef void scatter_gradient(Plan* p, Py_ssize_t m, Py_ssize_t start, Py_ssize_t count, char* g,
                           int finish, int thread) noexcept nogil:
    """The same where a row of weights is few vectors: each row of the batch adds to it in turn."""
    cdef Layer* l = &p.layer[0]
    cdef Py_ssize_t item = p.k.itemsize, i, q, base, low, high
    cdef uint32_t* begin = <uint32_t*>(p.turned + thread * p.turned_bytes)
    cdef uint32_t* end = begin + p.rows
    cdef uint32_t stop
    cdef uint16_t* lit
    cdef char* dz = l.dz if l.dz_rounded == NULL else l.dz_rounded
    cdef double scale = -p.step_w.rate if finish == FINISH_SGD else 1
    if finish == FINISH_STORE:
        memset(g, 0, count * l.ld * item)
    cdef Py_ssize_t part = p.lit.part, first = start // part, parts = (start + count + part - 1) // part
    for q in range(first, parts):
        base = q * part & ~(<Py_ssize_t>SPARSE_GROUP - 1)
        low, high = start - base, start + count - base
        for i in range(m):
            lit = p.lit.columns + i * p.lit.ld
            begin[i] = p.lit.starts[q * p.rows + i]
            end[i] = stop = p.lit.starts[(q + 1) * p.rows + i]
            if q * part < start:
                while begin[i] < stop and lit[begin[i]] < low:
                    begin[i] += 1
            if (q + 1) * part > start + count:
                end[i] = begin[i]
                while end[i] < stop and lit[end[i]] < high:
                    end[i] += 1
        p.k.matmul_scatter(l.h + base * item, l.ld_in, p.lit.columns, p.lit.ld, begin, end, dz, l.ld,
                           g + (base - start) * l.ld * item, l.ld, m, l.n_out, scale)
