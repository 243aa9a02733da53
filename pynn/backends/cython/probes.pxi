def peak(dtype, double least=0.05):
    """Multiplications and additions a second of one core, in so many seconds of nothing else."""
    cdef const Kernels* k = kernels(_isa.load(), F32 if dtype == "float32" else F64)
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
    for i in range(p.steps):
        p.team.barrier(thread)


def meeting(int threads, Py_ssize_t rounds=20_000):
    """Seconds that so many threads take to wait for each other once."""
    cdef Plan p
    cdef double began
    if threads < 1:
        raise ValueError(f"threads: found {threads}, expected 1 or more")
    with nogil:
        p.steps = rounds
        p.team = Team.acquire(threads)
        began = seconds()
        p.team.run(meet, &p)
        began = seconds() - began
        Team.release(p.team)
    return began / rounds


def philox_words(seed, Py_ssize_t count, epoch, stream, row=0):
    """Words of one stream, as ``pynn.philox.words`` draws them."""
    out = np.empty(round_up(count, 4), np.uint32)
    cdef Held held = Held(out, PyBUF_WRITABLE | PyBUF_SIMPLE)
    kernels(_isa.load(), F32).philox(seed, row, epoch, stream, (count + 3) // 4,
                              <uint32_t*>held.view.buf)
    return out[:count]
