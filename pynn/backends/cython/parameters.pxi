# Copies between flat vectors and the padded storage of the layers.
#
# A flat vector holds w (n_in, n_out) and b (vectors, n_out) of each layer in turn. Every copy also checks
# whether the values are finite.

cdef void copy_strided(char* dst, Py_ssize_t dst_row, Py_ssize_t dst_col, const char* src,
                       Py_ssize_t src_row, Py_ssize_t src_col, Py_ssize_t m, Py_ssize_t n,
                       int item) noexcept nogil:
    """dst (m, n) = src (m, n), with strides in bytes."""
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            memcpy(dst + i * dst_row + j * dst_col, src + i * src_row + j * src_col, item)


cdef inline void clear_pads(Plan* p, char* w, Py_ssize_t row, Py_ssize_t ld,
                            Py_ssize_t n) noexcept nogil:
    """Set the columns of a row from n on to 0."""
    memset(at(w, row, ld, n, p.k.itemsize), 0, (ld - n) * p.k.itemsize)


cdef void check_rows(Plan* p, const char* w, Py_ssize_t ld, Py_ssize_t start, Py_ssize_t stop,
                     Py_ssize_t n, int thread) noexcept nogil:
    """Set ``not_finite`` if rows start … stop of w (…, n) may hold values that are not finite."""
    cdef double squares[CHECK_ROWS]
    cdef double total
    cdef Py_ssize_t i, rows
    while start < stop:
        rows = min(stop - start, <Py_ssize_t>CHECK_ROWS)
        p.k.square_sum(at(w, start, ld, 0, p.k.itemsize), ld, rows, n, squares)
        total = 0
        for i in range(rows):
            total += squares[i]
        # Numbers above 1.8e19, in float32, have squares that are not finite either: hence "may".
        if not isfinite(total):
            p.pace.work[thread * N_WORKS].not_finite = 1
        start += rows


cdef void move_narrow(Plan* p, Layer* l, char* w, char* flat, bint pack) noexcept nogil:
    """Copy between w (n_out, ld_in), a transpose, and the flat weights (n_in, n_out)."""
    cdef Py_ssize_t item = p.k.itemsize, i, row = l.n_out * item, column = l.ld_in * item
    if pack:
        copy_strided(w, item, column, flat, row, item, l.n_in, l.n_out, item)
        for i in range(l.n_out):
            clear_pads(p, w, i, l.ld_in, l.n_in)
    else:
        copy_strided(flat, row, item, w, item, column, l.n_in, l.n_out, item)


cdef void move_rows(Plan* p, Layer* l, char* w, char* flat, Py_ssize_t start, Py_ssize_t stop,
                    bint pack) noexcept nogil:
    """Copy rows start … stop between w (n_in, ld) and the flat weights (n_in, n_out)."""
    cdef Py_ssize_t item = p.k.itemsize, i, row = l.n_out * item
    for i in range(start, stop):
        if pack:
            memcpy(at(w, i, l.ld, 0, item), flat + i * row, row)
            clear_pads(p, w, i, l.ld, l.n_out)
        else:
            memcpy(flat + i * row, at(w, i, l.ld, 0, item), row)


cdef void move_rows_far(Plan* p, Layer* l, char* w, char* flat, Py_ssize_t start, Py_ssize_t stop,
                        bint pack) noexcept nogil:
    """As ``move_rows``, with non-temporal stores."""
    cdef Py_ssize_t item = p.k.itemsize, i
    cdef char* padded_rows = at(w, start, l.ld, 0, item)
    cdef char* flat_rows = at(flat, start, l.n_out, 0, item)
    if pack:
        p.k.copy_far(flat_rows, l.n_out, padded_rows, l.ld, stop - start, l.n_out)
        for i in range(start, stop):
            clear_pads(p, w, i, l.ld, l.n_out)
    else:
        p.k.copy_far(padded_rows, l.ld, flat_rows, l.n_out, stop - start, l.n_out)


cdef void move_wide(Plan* p, Layer* l, char* w, char* flat, bint pack, int part) noexcept nogil:
    """Copy a part of the rows of a wide layer's weights."""
    cdef Py_ssize_t start, stop, end, row = l.n_out * p.k.itemsize
    cdef bint far = (l.n_in * row >= FAR_BYTES and row >= FAR_ROW and l.n_out % p.k.width == 0)
    share(l.n_in, p.k.width, part, p.pace.threads, &start, &stop)
    while start < stop:
        end = min(start + CHECK_ROWS, stop)
        if far:
            # Check before the copy, on the side that is read: what is written leaves the caches.
            if pack:
                check_rows(p, flat, l.n_out, start, end, l.n_out, part)
            else:
                check_rows(p, w, l.ld, start, end, l.n_out, part)
            move_rows_far(p, l, w, flat, start, end, pack)
        else:
            move_rows(p, l, w, flat, start, end, pack)
            check_rows(p, w, l.ld, start, end, l.n_out, part)
        start = end


cdef void move_layer(Plan* p, Layer* l, char* w, char* b, char* flat, bint pack,
                     int part) noexcept nogil:
    """Copy a part of w and b between the flat vector and padded storage."""
    cdef Py_ssize_t item = p.k.itemsize, i
    cdef char* flat_b = at(flat, l.n_in, l.n_out, 0, item)
    if not l.narrow:
        move_wide(p, l, w, flat, pack, part)
    elif part == 0:
        move_narrow(p, l, w, flat, pack)
        check_rows(p, w, l.ld_in, 0, l.n_out, l.n_in, part)
    if part == 0:
        for i in range(l.vectors):
            if pack:
                memcpy(at(b, i, l.ld, 0, item), at(flat_b, i, l.n_out, 0, item), l.n_out * item)
                clear_pads(p, b, i, l.ld, l.n_out)
            else:
                memcpy(at(flat_b, i, l.n_out, 0, item), at(b, i, l.ld, 0, item), l.n_out * item)
        check_rows(p, b, l.ld, 0, l.vectors, l.n_out, 0)


cdef void use_in_place(Plan* p, Layer* l, char* flat) noexcept nogil:
    """Let w point into the flat vector. The last vector of a row then contains values of the next
    row or, in the last row, of the biases, in columns that are not used."""
    cdef Py_ssize_t item = p.k.itemsize, i
    l.w = flat
    for i in range(l.vectors):
        memcpy(at(l.b, i, l.ld, 0, item), at(flat, l.n_in + i, l.n_out, 0, item), l.n_out * item)
        clear_pads(p, l.b, i, l.ld, l.n_out)


cdef void refresh_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Bring the transpose, or the rounded copies, of rows start … stop of w up to date."""
    cdef Py_ssize_t item = p.k.itemsize
    if l.bf16:
        round_weights(p, l, <const float*>l.w, start, stop)
    elif l.wt != NULL:
        p.k.transpose(at(l.w, start, l.ld, 0, item), l.ld, at(l.wt, 0, 0, start, item), l.ld_in,
                      stop - start, l.n_out)


cdef inline char* next_layer(Plan* p, Layer* l, char* flat) noexcept nogil:
    """Where the layer after l begins in a flat vector in which l begins at ``flat``."""
    return at(flat, l.n_in + l.vectors, l.n_out, 0, p.k.itemsize)


cdef void move_running(Plan* p, char* flat, int first, bint pack) noexcept nogil:
    """Copy running statistics (``first`` 0), or their averages (2), between the layers and what
    follows the parameters in a flat vector, at ``flat``; when statistics are packed, set what
    predictions and frozen layers use of them."""
    cdef Py_ssize_t item = p.k.itemsize, part, j
    cdef double variance
    cdef char* running
    cdef char* factor
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if not l.over_rows:
            continue
        for part in range(2):
            running = at(l.running, first + part, l.ld, 0, item)
            if pack:
                memcpy(running, flat, l.n_out * item)
                clear_pads(p, l.running, first + part, l.ld, l.n_out)
            else:
                memcpy(flat, running, l.n_out * item)
            check_rows(p, running, l.ld, 0, 1, l.n_out, 0)
            flat += l.n_out * item
        if first or not pack:
            continue
        memcpy(l.moments, l.running, 2 * l.ld * item)
        for j in range(l.ld):
            factor = at(l.moments, 2, l.ld, j, item)
            if item == sizeof(float):
                variance = (<float*>at(l.running, 1, l.ld, j, item))[0]
                (<float*>factor)[0] = <float>(1 / sqrt(variance + l.epsilon))
            else:
                variance = (<double*>at(l.running, 1, l.ld, j, item))[0]
                (<double*>factor)[0] = 1 / sqrt(variance + l.epsilon)


cdef Py_ssize_t copied_bytes(const Plan* p) noexcept nogil:
    """Bytes of the weights that a plan copies. It uses the others in place."""
    cdef Py_ssize_t total = 0
    cdef int i
    for i in range(p.n_layers):
        if not p.layer[i].shared and (p.layer[i].bf16 or not p.layer[i].direct):
            total += p.layer[i].n_in * p.layer[i].n_out * p.k.itemsize
    return total


# --- Tasks for a team -----------------------------------------------------------------------------

cdef void pack_parameters(void* context, int part) noexcept nogil:
    """Copy a part of the flat parameters, with transposes and rounded copies."""
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.copy.flat
    cdef Py_ssize_t start, stop
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.shared:
            if part == 0:
                l.w, l.b = p.packed.layer[i].w, p.packed.layer[i].b
                l.w_pairs = p.packed.layer[i].w_pairs
            flat = next_layer(p, l, flat)
            continue
        if l.direct:
            if part == 0:
                use_in_place(p, l, flat)
        else:
            move_layer(p, l, l.w, l.b, flat, True, part)
        share(l.n_in, p.k.width, part, p.pace.threads, &start, &stop)
        if start < stop:
            # Only part 0 sets l.w of a direct layer, perhaps later than another part begins.
            if l.direct and l.bf16:
                round_weights(p, l, <const float*>flat, start, stop)
            else:
                refresh_transpose(p, l, start, stop)
        flat = next_layer(p, l, flat)
    if part == 0:
        move_running(p, flat, 0, True)


cdef void move_share(void* context, int part) noexcept nogil:
    """Copy a part of the parameters or of an optimizer slot, as ``p.copy`` says."""
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.copy.flat
    cdef int i, slot = p.copy.slot
    cdef Layer* l
    for i in range(p.n_layers):
        l = &p.layer[i]
        if slot < 0:
            move_layer(p, l, l.w, l.b, flat, p.copy.pack, part)
        else:
            move_layer(p, l, l.sw[slot], l.sb[slot], flat, p.copy.pack, part)
        flat = next_layer(p, l, flat)
    if part == 0 and slot < 0:
        move_running(p, flat, 0, p.copy.pack)
    elif part == 0 and slot == p.settings.slots:
        move_running(p, flat, 2, p.copy.pack)   # of the average of the parameters


cdef void check_share(void* context, int part) noexcept nogil:
    """Check whether a part of the parameters and optimizer slots is finite."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l
    cdef Py_ssize_t start, stop, n, ld
    cdef int i, slot
    for i in range(p.n_layers):
        l = &p.layer[i]
        n, ld = (l.n_in, l.ld_in) if l.narrow else (l.n_out, l.ld)
        share(l.n_out if l.narrow else l.n_in, p.k.width, part, p.pace.threads, &start, &stop)
        for slot in range(-1, p.settings.vectors):
            check_rows(p, l.w if slot < 0 else l.sw[slot], ld, start, stop, n, part)
            if part == 0 and l.over_rows:
                check_rows(p, l.running, l.ld, 0, 2, l.n_out, 0)
            if part == 0:
                check_rows(p, l.b if slot < 0 else l.sb[slot], l.ld, 0, l.vectors, l.n_out, 0)


cdef void unpack_gradient(Plan* p, char* flat) noexcept nogil:
    """Copy the gradient to a flat vector."""
    cdef Layer* l
    cdef int i
    p.pace.threads = 1
    for i in range(p.n_layers):
        l = &p.layer[i]
        move_layer(p, l, l.dw, l.db, flat, False, 0)
        flat = next_layer(p, l, flat)
