cdef list _isas = [isa_name(i).decode() for i in range(isa_count())]
cdef atomic[int] _isa


def use_isa(name):
    """Use the instruction set ``name`` from now on, or the highest for None; return the last one."""
    usable = [isa for i, isa in enumerate(_isas) if isa_usable(i)]
    if name is None:
        name = usable[len(usable) - 1]
    if name not in usable:
        raise ValueError(f"PYNN_ISA: found {name!r}, expected one of {', '.join(usable)}")
    return _isas[_isa.exchange(_isas.index(name))]


use_isa((os.environ.get("PYNN_ISA") or "").lower() or None)


def info():
    """Return the instruction set in use, those compiled in and usable, whether ``precision="bf16"`` is
    there with it, and the processors."""
    return {
        "isa": _isas[_isa.load()],
        "isas": [isa for i, isa in enumerate(_isas) if isa_usable(i)],
        "compiled": list(_isas),
        "bf16": bf16_kernels(_isa.load()) != NULL,
        "threads": usable_processors(),
    }


cdef enum:
    NAN_BYTES = 0xFF
    HUGE_BYTES = 0x7F


cdef atomic[int] _poison


def poison(bint on):
    """Fill new scratch memory with NaN and 3.4e38 by turns, to show reads of what was never written.

    Otherwise it holds what it held before.
    """
    return _poison.exchange(NAN_BYTES if on else 0) != 0


# Of a value that is not zero, in a product that goes through lists, and of listing a value, both in parts
# of what a vector takes in a dense product. Where a core multiplies two vectors at once a list cannot keep
# up with it, where it multiplies one, it nearly can.
cdef struct Costs:
    double product, listing

cdef enum:
    MOST_ISAS = 16
    TRIAL_ROWS = 32
    TRIAL_SIZE = 64
    TRIALS = 9


cdef Costs _costs[MOST_ISAS][N_DTYPES]


cdef void measure_costs(const Kernels* k, char* room, Costs* costs) noexcept nogil:
    """Time small products, half of whose left operand is zero: some 50 us in all."""
    cdef Py_ssize_t item = k.itemsize, ld = TRIAL_SIZE + k.width, i, j, list_ld = TRIAL_SIZE + 64
    cdef char* a = room
    cdef char* w = a + TRIAL_ROWS * ld * item
    cdef char* z = w + TRIAL_SIZE * ld * item
    cdef uint32_t* starts = <uint32_t*>(z + TRIAL_ROWS * ld * item)
    cdef uint16_t* lists = <uint16_t*>(starts + 2 * TRIAL_ROWS)
    cdef double began, dense = 1, listing = 1, product = 1, lit, vectors = TRIAL_SIZE // k.width
    cdef uint32_t bits = 1
    memset(room, 0, (2 * TRIAL_ROWS + TRIAL_SIZE) * ld * item)
    for i in range(TRIAL_ROWS):
        for j in range(TRIAL_SIZE):
            bits = bits * 1664525 + 1013904223
            if bits >> 31:
                if item == sizeof(float):
                    (<float*>a)[i * ld + j] = 1
                else:
                    (<double*>a)[i * ld + j] = 1
    for i in range(TRIALS):
        began = seconds()
        k.matmul(a, ld, 0, w, ld, z, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, FINISH_STORE, NULL, NULL)
        dense = min(dense, seconds() - began)
        began = seconds()
        k.find_nonzero(a, ld, TRIAL_ROWS, TRIAL_SIZE, TRIAL_SIZE, lists, list_ld, starts, TRIAL_ROWS)
        listing = min(listing, seconds() - began)
        began = seconds()
        k.matmul_sparse(a, ld, 1, lists, list_ld, starts, starts + TRIAL_ROWS, w, ld, z, ld, TRIAL_ROWS,
                        TRIAL_SIZE, FINISH_STORE, NULL, NULL)
        product = min(product, seconds() - began)
    lit = 0
    for i in range(TRIAL_ROWS):
        lit += starts[TRIAL_ROWS + i]
    dense = max(dense, 1e-9) / (TRIAL_ROWS * TRIAL_SIZE * vectors)
    costs.product = max(1.0, min(4.0, product / (lit * (vectors + 0.5)) / dense))
    costs.listing = max(0.1, min(4.0, listing / (TRIAL_ROWS * TRIAL_SIZE) / dense))


cdef Costs costs_here(int isa, int dtype) except *:
    """What was measured of an instruction set and a dtype, once in a process."""
    cdef Costs* costs = &_costs[isa][dtype]
    cdef Costs found
    cdef const Kernels* k = kernels(isa, dtype)
    cdef char* room
    with cython.critical_section(_isas):
        found = costs[0]
    if found.product == 0:
        room = <char*>malloc((2 * TRIAL_ROWS + TRIAL_SIZE) * (TRIAL_SIZE + k.width) * k.itemsize
                             + TRIAL_ROWS * (2 * sizeof(uint32_t) + (TRIAL_SIZE + 64) * sizeof(uint16_t)))
        if room == NULL:
            raise MemoryError("could not get working memory")
        with nogil:
            measure_costs(k, room, &found)
        free(room)
        # Of several threads that have measured, the first one counts for all.
        with cython.critical_section(_isas):
            if costs.product == 0:
                costs[0] = found
            found = costs[0]
    return found


def skipping_costs(dtype, given=None):
    """Return what skipping a value costs with the instruction set in use, after taking it from ``given``.

    ``given`` is a pair like the one returned, for tests that must not depend on the time of day.
    """
    cdef int isa = _isa.load(), number = F32 if dtype == "float32" else F64
    if given is not None:
        with cython.critical_section(_isas):
            _costs[isa][number].product, _costs[isa][number].listing = given
    costs = costs_here(isa, number)
    return costs.product, costs.listing
