# Measurements of the machine for benchmarks, and random words for tests.

def peak(dtype, double least=0.05):
    """Return the peak FLOP/s of one core, measured for ``least`` seconds."""
    cdef const Kernels* k = kernels(_isa.load(), dtype_number(dtype))
    cdef double done = 0, began, passed = 0
    with nogil:
        began = seconds()
        while passed < least:
            done += k.multiply_add(10_000)
            passed = seconds() - began
    return done / passed


cdef void meet(void* context, int thread) noexcept nogil:
    cdef Plan* p = <Plan*>context
    cdef Py_ssize_t i
    for i in range(p.position.steps):
        p.team.barrier(thread)


def meeting(int threads, Py_ssize_t rounds=20_000):
    """Return the seconds that a barrier of ``threads`` threads takes, the mean of ``rounds``."""
    cdef Plan p
    cdef double began
    if threads < 1:
        raise ValueError(f"threads: found {threads}, expected 1 or more")
    with nogil:
        p.position.steps = rounds
        p.team = Team.acquire(threads)
        began = seconds()
        p.team.run(meet, &p)
        began = seconds() - began
        Team.release(p.team)
    return began / rounds


def philox_words(seed, Py_ssize_t count, epoch, stream, row=0):
    """Return random words of one stream, as ``spec.philox.words`` does."""
    out = np.empty(round_up(count, 4), np.uint32)
    cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
    kernels(_isa.load(), F32).philox(seed, row, epoch, stream, (count + 3) // 4,
                                     <uint32_t*>held.view.buf)
    return out[:count]
