cdef void round_weights(Plan* p, Layer* l, const float* w, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil:
    """Round rows start … stop of weights that lie at ``w``, in rows of ``ld_w``."""
    cdef Py_ssize_t i
    w += start * l.ld_w
    if l.w_rounded != NULL:
        for i in range(stop - start):
            p.k16.round_values(w + i * l.ld_w, <float*>l.w_rounded + (start + i) * l.ld,
                               round_up(l.n_out, p.k.width))
    if l.w_pairs != NULL:
        p.k16.round_rows(w, l.ld_w, stop - start, l.n_out, NULL, 0,
                         l.w_pairs + start // 2 * PANEL * 4, PANEL, panel_size(l.n_in) // 4)
    if l.wt != NULL:
        p.k16.round_transpose(w, l.ld_w, stop - start, l.n_out, l.wt, panel_size(l.n_out) // 4, start)


cdef inline float rounded(float value) noexcept nogil:
    """One value as ``round_values`` rounds it."""
    cdef uint32_t bits
    memcpy(&bits, &value, sizeof(bits))
    if value != value:
        return value
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    memcpy(&value, &bits, sizeof(bits))
    return value


cdef void round_h(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    """Rows start … start + m of what goes into a layer. Pairs of rows: start is even."""
    cdef float* h = <float*>l.h + start * l.ld_in
    if l.h16 != NULL:
        p.k16.round_rows(h, l.ld_in, m, l.n_in, l.h16 + start * l.ld_in * 2, l.ld_in // 2,
                         NULL if l.h_pairs == NULL else l.h_pairs + start // 2 * l.ld_in * 4,
                         l.ld_in, PANEL)
    elif l.bf16 and p.source != SOURCE_SPARSE:
        p.k16.round_values(h, h, m * l.ld_in)


cdef void round_dz(Plan* p, Layer* l, Py_ssize_t start, Py_ssize_t m) noexcept nogil:
    cdef float* dz = <float*>l.dz + start * l.ld
    if l.dz_rounded != NULL:
        p.k16.round_values(dz, <float*>l.dz_rounded + start * l.ld, m * l.ld)
    elif l.bf16:
        p.k16.round_rows(dz, l.ld, m, l.n_out,
                         NULL if l.dz16 == NULL else l.dz16 + start * l.ld * 2, l.ld // 2,
                         l.dz_pairs + start // 2 * PANEL * 4, PANEL, panel_size(p.rows) // 4)
