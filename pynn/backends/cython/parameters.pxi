cdef void copy_turned(char* to, Py_ssize_t to_row, Py_ssize_t to_col, const char* source,
                      Py_ssize_t row, Py_ssize_t col, Py_ssize_t m, Py_ssize_t n,
                      int item) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            memcpy(to + i * to_row + j * to_col, source + i * row + j * col, item)


cdef void see_to_finite(Plan* p, const char* w, Py_ssize_t ld, Py_ssize_t m, Py_ssize_t n,
                        int thread) noexcept nogil:
    """Take note if rows of padded storage, which have just been copied, may hold what is not finite."""
    cdef double squares[LOOK_ROWS]
    cdef double total = 0
    cdef Py_ssize_t i
    p.k.square_sum(w, ld, m, n, squares)
    for i in range(m):
        total += squares[i]
    # Numbers of over 1e19 have squares that are not finite either.
    if not isfinite(total):
        p.work[thread * N_WORKS].in_doubt = 1


cdef void move_layer(Plan* p, Layer* l, char* w, char* b, char* flat, bint pack,
                     int thread) noexcept nogil:
    """Copy this thread's share of a layer between the flat vector and padded storage."""
    cdef Py_ssize_t i, start, stop, some, item = p.k.itemsize, ld
    cdef char* flat_b = flat + l.n_in * l.n_out * item
    if l.narrow:
        ld = l.ld_in
        if thread == 0:
            if pack:
                copy_turned(w, item, ld * item, flat, l.n_out * item, item, l.n_in, l.n_out, item)
                for i in range(l.n_out):
                    memset(w + (i * ld + l.n_in) * item, 0, (ld - l.n_in) * item)
            else:
                copy_turned(flat, l.n_out * item, item, w, item, ld * item, l.n_in, l.n_out, item)
            i = 0
            while i < l.n_out:
                some = min(l.n_out - i, <Py_ssize_t>LOOK_ROWS)
                see_to_finite(p, w + i * ld * item, ld, some, l.n_in, thread)
                i += some
    else:
        ld = l.ld
        share(l.n_in, p.k.width, thread, p.threads, &start, &stop)
        if (l.n_in * l.n_out * item >= FAR_BYTES and l.n_out * item >= FAR_ROW
                and l.n_out % p.k.width == 0):
            while start < stop:
                some = min(stop - start, <Py_ssize_t>LOOK_ROWS)
                if pack:
                    see_to_finite(p, flat + start * l.n_out * item, l.n_out, some, l.n_out, thread)
                else:
                    see_to_finite(p, w + start * ld * item, ld, some, l.n_out, thread)
                if pack:
                    p.k.copy_far(flat + start * l.n_out * item, l.n_out, w + start * ld * item, ld, some, l.n_out)
                    for i in range(start, start + some):
                        memset(w + (i * ld + l.n_out) * item, 0, (ld - l.n_out) * item)
                else:
                    p.k.copy_far(w + start * ld * item, ld, flat + start * l.n_out * item, l.n_out, some, l.n_out)
                start += some
        for i in range(start, stop):
            if pack:
                memcpy(w + i * ld * item, flat + i * l.n_out * item, l.n_out * item)
                memset(w + (i * ld + l.n_out) * item, 0, (ld - l.n_out) * item)
            else:
                memcpy(flat + i * l.n_out * item, w + i * ld * item, l.n_out * item)
            if (i + 1 - start) % LOOK_ROWS == 0 or i + 1 == stop:
                some = (i - start) % LOOK_ROWS + 1
                see_to_finite(p, w + (i + 1 - some) * ld * item, ld, some, l.n_out, thread)
    if thread == 0:
        if pack:
            memcpy(b, flat_b, l.n_out * item)
            memset(b + l.n_out * item, 0, (l.ld - l.n_out) * item)
        else:
            memcpy(flat_b, b, l.n_out * item)
        see_to_finite(p, b, l.ld, 1, l.n_out, 0)


cdef void point_at_layer(Plan* p, Layer* l, char* flat) noexcept nogil:
    """Use a wide layer's weights where they are. Reading whole vectors past the end of a row gives
    values of the next or, after the last, of the biases, for columns that nobody looks at."""
    cdef Py_ssize_t item = p.k.itemsize
    l.w = flat
    memcpy(l.b, flat + l.n_in * l.n_out * item, l.n_out * item)
    memset(l.b + l.n_out * item, 0, (l.ld - l.n_out) * item)


cdef void refresh_transpose(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """What else is kept of rows start … stop of w: its transpose, or what is rounded."""
    cdef Py_ssize_t item = p.k.itemsize
    if l.bf16:
        round_weights(p, l, <const float*>l.w, start, stop)
    elif l.wt != NULL:
        p.k.transpose(l.w + start * l.ld * item, l.ld, l.wt + start * item, l.ld_in, stop - start,
                      l.n_out)


cdef void pack_parameters(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.flat
    cdef Py_ssize_t start, stop
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if l.direct:
            if thread == 0:
                point_at_layer(p, l, flat)
        else:
            move_layer(p, l, l.w, l.b, flat, True, thread)
        share(l.n_in, p.k.width, thread, p.threads, &start, &stop)
        if start < stop:
            if l.direct and l.bf16:
                round_weights(p, l, <const float*>flat, start, stop)
            else:
                refresh_transpose(p, l, start, stop)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize


cdef void move_share(void* context, int thread) noexcept nogil:
    """Copy this thread's share of parameters (slot -1) or of a state of the optimizer."""
    cdef Plan* p = <Plan*>context
    cdef char* flat = p.flat
    cdef Layer* l
    cdef int i
    for i in range(p.n_layers):
        l = &p.layer[i]
        if p.moved < 0:
            move_layer(p, l, l.w, l.b, flat, p.packing, thread)
        else:
            move_layer(p, l, l.sw[p.moved], l.sb[p.moved], flat, p.packing, thread)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize


cdef void look_at_share(void* context, int thread) noexcept nogil:
    """Take note if this thread's share of the parameters and their state may not be finite."""
    cdef Plan* p = <Plan*>context
    cdef Layer* l
    cdef Py_ssize_t start, stop, some, n, ld
    cdef char* w
    cdef int i, s
    for i in range(p.n_layers):
        l = &p.layer[i]
        n, ld = (l.n_in, l.ld_in) if l.narrow else (l.n_out, l.ld)
        for s in range(-1, p.slots):
            share(l.n_out if l.narrow else l.n_in, p.k.width, thread, p.threads, &start, &stop)
            w = l.w if s < 0 else l.sw[s]
            while start < stop:
                some = min(stop - start, <Py_ssize_t>LOOK_ROWS)
                see_to_finite(p, w + start * ld * p.k.itemsize, ld, some, n, thread)
                start += some
            if thread == 0:
                see_to_finite(p, l.b if s < 0 else l.sb[s], l.ld, 1, l.n_out, 0)


cdef void unpack_gradient(Plan* p, char* flat) noexcept nogil:
    cdef Layer* l
    cdef int i
    p.threads = 1
    for i in range(p.n_layers):
        l = &p.layer[i]
        move_layer(p, l, l.dw, l.db, flat, False, 0)
        flat += (l.n_in + 1) * l.n_out * p.k.itemsize
