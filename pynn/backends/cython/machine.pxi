# The instruction set in use, and the costs of skipping zeros on this machine.

cdef list _isas = [isa_name(i).decode() for i in range(isa_count())]  # compiled in, lowest first
cdef atomic[int] _isa                                                 # index of the one in use


def use_isa(name):
    """Use the instruction set ``name`` from now on (None: the highest); return the previous one."""
    usable = [isa for i, isa in enumerate(_isas) if isa_usable(i)]
    if name is None:
        name = usable[len(usable) - 1]
    if name not in usable:
        raise ValueError(f"PYNN_ISA: found {name!r}, expected one of {', '.join(usable)}")
    return _isas[_isa.exchange(_isas.index(name))]


use_isa((os.environ.get("PYNN_ISA") or "").lower() or None)


def info():
    """Return the instruction set in use, the usable and the compiled ones, whether it supports
    ``precision="bf16"``, and the default number of threads."""
    return {
        "isa": _isas[_isa.load()],
        "isas": [isa for i, isa in enumerate(_isas) if isa_usable(i)],
        "compiled": list(_isas),
        "bf16": bf16_kernels(_isa.load()) != NULL,
        "threads": default_threads(),
    }


cdef int dtype_number(dtype) except -1:
    return F32 if dtype == "float32" else F64


cdef enum:
    NAN_BYTES = 0xFF        # this byte repeated is NaN in both dtypes
    HUGE_BYTES = 0x7F       # 3.4e38 in float32, 1.4e306 in float64

cdef atomic[int] _poison    # byte that fills the next working memory; 0: no fill


def poison(bint on):
    """Fill new working memory alternately with NaN and with huge numbers, so that tests detect
    reads of elements that were never written; return whether this was on before."""
    return _poison.exchange(NAN_BYTES if on else 0) != 0


def await_workers(bint on):
    """Let predictions begin when all threads are there, so that tests see them work together; return
    whether this was on before."""
    return Team.await_workers(on)


# Costs relative to one vector FMA of the dense kernel: ``product`` per vector of a non-zero element
# in a sparse product, ``listing`` per element scanned for non-zeros. On a core with two FMA units
# sparse products are slower relative to dense ones than on a core with one.
cdef struct Costs:
    double product, listing

cdef enum:
    MAX_ISAS = 16
    # One product of TRIAL_ROWS x TRIAL_SIZE x TRIAL_SIZE: operands stay in L1. The least of TRIALS
    # times counts; all of them together take about 50 us.
    TRIAL_ROWS = 32
    TRIAL_SIZE = 64
    TRIALS = 9

cdef Costs _costs[MAX_ISAS][N_DTYPES]   # product 0: not measured yet


cdef size_t trial_bytes(const Kernels* k) noexcept nogil:
    """Bytes of memory that ``measure_costs`` needs."""
    cdef size_t matrices = (2 * TRIAL_ROWS + TRIAL_SIZE) * (TRIAL_SIZE + k.width) * k.itemsize
    return matrices + TRIAL_ROWS * (2 * sizeof(uint32_t) + (TRIAL_SIZE + 64) * sizeof(uint16_t))


cdef void fill_half(char* a, Py_ssize_t ld, Py_ssize_t item) noexcept nogil:
    """Set about half of the elements of a (TRIAL_ROWS, TRIAL_SIZE), zero so far, to 1."""
    cdef Py_ssize_t i, j
    cdef uint32_t bits = 1
    for i in range(TRIAL_ROWS):
        for j in range(TRIAL_SIZE):
            bits = bits * 1664525 + 1013904223  # Numerical Recipes' linear congruential generator
            if bits >> 31 == 0:
                continue
            if item == sizeof(float):
                (<float*>a)[i * ld + j] = 1
            else:
                (<double*>a)[i * ld + j] = 1


cdef void measure_costs(const Kernels* k, char* memory, Costs* costs) noexcept nogil:
    """Time a dense and a sparse product whose left operand is half zeros."""
    cdef Py_ssize_t item = k.itemsize, ld = TRIAL_SIZE + k.width, i, list_ld = TRIAL_SIZE + 64
    cdef char* a = memory
    cdef char* w = a + TRIAL_ROWS * ld * item
    cdef char* z = w + TRIAL_SIZE * ld * item
    cdef uint32_t* starts = <uint32_t*>(z + TRIAL_ROWS * ld * item)
    cdef uint16_t* columns = <uint16_t*>(starts + 2 * TRIAL_ROWS)
    cdef double began, dense = 1, listing = 1, product = 1, nonzero = 0
    cdef double vectors = TRIAL_SIZE // k.width
    memset(memory, 0, (2 * TRIAL_ROWS + TRIAL_SIZE) * ld * item)
    fill_half(a, ld, item)
    for i in range(TRIALS):
        began = seconds()
        k.matmul(a, ld, 0, w, ld, z, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, FINISH_STORE, NULL,
                 NULL)
        dense = min(dense, seconds() - began)
        began = seconds()
        k.find_nonzero(a, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, columns, list_ld, starts,
                       TRIAL_ROWS)
        listing = min(listing, seconds() - began)
        began = seconds()
        k.matmul_sparse(a, ld, 1, columns, list_ld, starts, starts + TRIAL_ROWS, w, ld, z, ld,
                        TRIAL_ROWS, TRIAL_SIZE, FINISH_STORE, NULL, NULL)
        product = min(product, seconds() - began)
    for i in range(TRIAL_ROWS):
        nonzero += starts[TRIAL_ROWS + i]
    # Half a vector more per non-zero element, for finding its row and factor. The limits exclude
    # values that only an interrupted measurement can give.
    dense = max(dense, 1e-9) / (TRIAL_ROWS * TRIAL_SIZE * vectors)
    costs.product = max(1.0, min(4.0, product / (nonzero * (vectors + 0.5)) / dense))
    costs.listing = max(0.1, min(4.0, listing / (TRIAL_ROWS * TRIAL_SIZE) / dense))


cdef Costs costs_here(int isa, int dtype) except *:
    """Return the costs with an instruction set and a dtype, measured once per process."""
    cdef Costs* costs = &_costs[isa][dtype]
    cdef Costs measured
    cdef const Kernels* k = kernels(isa, dtype)
    cdef char* memory
    with cython.critical_section(_isas):
        measured = costs[0]
    if measured.product == 0:
        memory = <char*>malloc(trial_bytes(k))
        if memory == NULL:
            raise MemoryError("could not get working memory")
        with nogil:
            measure_costs(k, memory, &measured)
        free(memory)
        # If several threads have measured, all use the result of the first.
        with cython.critical_section(_isas):
            if costs.product == 0:
                costs[0] = measured
            measured = costs[0]
    return measured


def skipping_costs(dtype, given=None):
    """Return (product, listing) with the instruction set in use; first set them to ``given``.

    Tests set them, so that results do not depend on a measurement.
    """
    cdef int isa = _isa.load(), number = dtype_number(dtype)
    if given is not None:
        with cython.critical_section(_isas):
            _costs[isa][number].product, _costs[isa][number].listing = given
    costs = costs_here(isa, number)
    return costs.product, costs.listing


# --- Buffers --------------------------------------------------------------------------------------

cdef class Held:
    """The buffer of a Python object, held until this object is deallocated."""
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, object array, int flags):
        self.held = False
        PyObject_GetBuffer(array, &self.view, flags)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)
