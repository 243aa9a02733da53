# A copy of x with codes of one byte instead of floats, for trainings that read x several times.
#
# A batch gathers rows in random order and waits for their cache lines, of which codes have a quarter.
# They are decoded while a row is read, to the same bits, so that results are the same.

cdef enum:
    MAX_PARTS = 64          # parts of x that threads encode
    ENCODED = 1 << 24       # elements that a thread encodes between two checks for signals
    SAMPLE_ROWS = 64        # rows from whose values the step is guessed
    # A copy is made if x is read in at least CODED_EPOCHS in random order and has CODED_ELEMENTS or
    # more, at most as many as bytes that Memory keeps for the next call. On a Xeon an epoch of MNIST
    # then takes 11 to 15 ms less, and encoding it takes 27 ms.
    CODED_EPOCHS = 6
    CODED_ELEMENTS = 1 << 22

cdef enum:
    CODES_NEVER, CODES_ALWAYS, CODES_IF_FAST
cdef atomic[int] _codes
_codes.store(CODES_IF_FAST)


def use_codes(wanted):
    """Copy x as codes whenever that is possible (True), never (False), or if it is faster (None);
    return what was wanted before. For tests and benchmarks."""
    before = _codes.exchange(
        CODES_IF_FAST if wanted is None else CODES_ALWAYS if wanted else CODES_NEVER)
    return None if before == CODES_IF_FAST else before == CODES_ALWAYS


cdef struct Encoding:
    const CodeKernels* coder
    Codes codes
    const char* x           # (n, columns)
    Py_ssize_t x_row, n, columns
    uint8_t* out            # (n, columns)
    int parts
    Py_ssize_t done[MAX_PARTS]      # rows of each part that are encoded
    atomic[bint] failed     # a row has a number without a code
    Team* team


cdef void encode(void* context, int thread) noexcept nogil:
    """Encode at most ENCODED elements of each part of x from where it stopped."""
    cdef Encoding* e = <Encoding*>context
    cdef Py_ssize_t start, stop, row
    cdef int part = thread
    while part < e.parts and not e.failed.load():
        share(e.n, 1, part, e.parts, &start, &stop)
        row = start + e.done[part]
        stop = min(stop, row + max(<Py_ssize_t>1, ENCODED // e.columns))
        e.done[part] += stop - row
        if e.coder.encode(&e.codes, e.x + row * e.x_row, e.x_row, stop - row, e.columns,
                          e.out + row * e.columns) < stop - row:
            e.failed.store(True)
        part += e.team.size()


cdef bint is_encoded(const Encoding* e) noexcept nogil:
    cdef Py_ssize_t start, stop
    cdef int part
    for part in range(e.parts):
        share(e.n, 1, part, e.parts, &start, &stop)
        if e.done[part] < stop - start:
            return False
    return True


cdef object decoded(object factors, dtype):
    """The numbers of all codes (256,)."""
    cdef const CodeKernels* coder = code_kernels(_isa.load(), dtype_number(dtype))
    cdef Codes codes
    every, numbers = np.arange(256, dtype=np.uint8), np.empty(256, dtype)
    cdef Held read = Held(every, PyBUF_SIMPLE), out = Held(numbers, PyBUF_WRITABLE)
    codes.high, codes.low = factors
    coder.decode(&codes, <const uint8_t*>read.view.buf, 256, NULL, 1, 256, out.view.buf, 256, NULL,
                 0, NULL)
    return numbers


cdef object choose_factors(object x, dtype):
    """Factors of codes in the dtype of x and in that of the network, or None.

    In the dtype of x the codes decode to the sample. In that of the network they decode to the
    same numbers, rounded to it."""
    rows = x[::max(1, len(x) // SAMPLE_ROWS)]
    sample = np.unique(rows[0])     # has too many numbers in most arrays
    if len(sample) > 256:
        return None
    sample = np.unique(rows)
    step = step_of(sample)
    if step is None:
        return None
    for own in factors_of(step, x.dtype):
        numbers = decoded(own, x.dtype.name)
        if not np.isin(sample, numbers).all():
            continue
        with np.errstate(all="ignore"):
            rounded = numbers.astype(dtype)
        for factors in factors_of(step, dtype):
            if decoded(factors, dtype).tobytes() == rounded.tobytes():
                return own, factors
    return None


cdef object coded(object x, dtype, int threads):
    """A copy of x (n, columns) with codes, or None if not all of its numbers have one."""
    cdef Encoding e
    cdef Held rows, out
    found = choose_factors(x, dtype)
    if found is None:
        return None
    own, factors = found
    try:
        memory = Memory(x.size)
    except MemoryError:
        return None
    rows = Held(x, PyBUF_STRIDED_RO)
    out = Held(memory.bytes, PyBUF_WRITABLE)
    e.coder = code_kernels(_isa.load(), dtype_number(x.dtype.name))
    e.codes.high, e.codes.low = own
    e.x, e.x_row = <const char*>rows.view.buf, rows.view.strides[0]
    e.n, e.columns = rows.view.shape[0], rows.view.shape[1]
    e.out = <uint8_t*>out.view.buf
    e.parts = min(threads, MAX_PARTS)
    memset(e.done, 0, sizeof(e.done))
    e.failed.store(False)
    while not is_encoded(&e):
        with nogil:
            e.team = Team.acquire(e.parts)
            e.team.run(encode, &e)
            Team.release(e.team)
        PyErr_CheckSignals()
        raise_pending()
        if e.failed.load():
            return None
    return Coded(memory.bytes[:x.size].reshape(x.shape), factors, memory)


cdef object read_often(object x, dtype, Py_ssize_t epochs, int threads):
    """x, or a copy with codes if that is read faster."""
    cdef int wanted = _codes.load()
    if (wanted == CODES_NEVER or not isinstance(x, np.ndarray) or x.dtype == np.uint8
            or x.strides[1] != x.itemsize):
        return x
    if wanted == CODES_IF_FAST and (
            epochs < CODED_EPOCHS or not CODED_ELEMENTS <= x.size <= MOST):
        return x
    found = coded(x, dtype, threads)
    return x if found is None else found
