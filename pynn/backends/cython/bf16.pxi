# Operands rounded to bfloat16: of layers with precision "bf16".

cdef inline float rounded(float value) noexcept nogil:
    """Round one value as the kernel ``round_values`` does: to nearest, ties to even."""
    cdef uint32_t bits
    memcpy(&bits, &value, sizeof(bits))
    if value != value:
        return value
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    memcpy(&value, &bits, sizeof(bits))
    return value


cdef void round_h(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Round rows start … start + m of h. ``start`` is even, because a pair has two rows."""
    cdef float* h = <float*>l.h + start * l.ld_in
    cdef char* pairs = NULL
    if l.h16 != NULL:
        if l.h_pairs != NULL:
            pairs = at(l.h_pairs, start // 2, l.ld_in, 0, sizeof(float))
        p.k16.round_rows(h, l.ld_in, m, l.n_in, at(l.h16, start, l.ld_in // 2, 0, sizeof(float)),
                         l.ld_in // 2, pairs, l.ld_in, PANEL)
    elif l.bf16 and p.data.source != SOURCE_SPARSE:
        p.k16.round_values(h, h, m * l.ld_in)


cdef void round_dz(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Round rows start … start + m of dz."""
    cdef float* dz = <float*>l.dz + start * l.ld
    cdef char* pairs_along_rows = NULL
    if l.dz_rounded != NULL:
        p.k16.round_values(dz, <float*>l.dz_rounded + start * l.ld, m * l.ld)
    elif l.bf16:
        if l.dz16 != NULL:
            pairs_along_rows = at(l.dz16, start, l.ld // 2, 0, sizeof(float))
        p.k16.round_rows(dz, l.ld, m, l.n_out, pairs_along_rows, l.ld // 2,
                         at(l.dz_pairs, start // 2, PANEL, 0, sizeof(float)), PANEL,
                         panel_pairs(p.rows))


cdef void round_weights(Plan* p, Layer* l, const float* w, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil:
    """Round rows start … stop of the weights w (n_in, ld_w)."""
    cdef Py_ssize_t i
    w += start * l.ld_w
    if l.w_rounded != NULL:
        for i in range(stop - start):
            p.k16.round_values(w + i * l.ld_w, <float*>l.w_rounded + (start + i) * l.ld,
                               round_up(l.n_out, p.k.width))
    if l.w_pairs != NULL:
        p.k16.round_rows(w, l.ld_w, stop - start, l.n_out, NULL, 0,
                         at(l.w_pairs, start // 2, PANEL, 0, sizeof(float)), PANEL,
                         panel_pairs(l.n_in))
    if l.wt != NULL:
        p.k16.round_transpose(w, l.ld_w, stop - start, l.n_out, l.wt, panel_pairs(l.n_out), start)
