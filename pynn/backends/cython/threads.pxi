cdef inline void share(Py_ssize_t n, Py_ssize_t unit, int thread, int threads,
                       Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """The part of n that is this thread's, in whole units."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    start[0] = min(n, units * thread // threads * unit)
    stop[0] = min(n, units * (thread + 1) // threads * unit)


cdef inline void share_work(Plan* p, int which, Py_ssize_t n, Py_ssize_t unit, int thread,
                            Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """The same in the proportions of ``shares``, if all of the team are at work."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    cdef double* at = &p.trials.shares[which][thread]
    if not p.balanced or p.threads != p.team_size:
        share(n, unit, thread, p.threads, start, stop)
        return
    start[0] = min(n, <Py_ssize_t>(units * at[0] + 0.5) * unit)
    stop[0] = min(n, <Py_ssize_t>(units * at[1] + 0.5) * unit)


cdef void share_equally(Plan* p) noexcept nogil:
    cdef int which, thread
    p.trials.team = p.team_size
    for which in range(N_WORKS):
        for thread in range(p.team_size + 1):
            p.trials.shares[which][thread] = <double>thread / p.team_size


cdef void note_work(Plan* p, int which, int thread, double amount, double began) noexcept nogil:
    cdef Work* work = p.work + thread * N_WORKS + which
    work.amount += amount
    work.seconds += seconds() - began


cdef double weights_of(Plan* p, int thread) noexcept nogil:
    cdef Py_ssize_t start, stop
    cdef double total = 0
    cdef int i
    for i in range(p.n_layers):
        share_work(p, WEIGHTS, p.layer[i].n_in, p.k.width, thread, &start, &stop)
        total += <double>(stop - start) * p.layer[i].n_out
    return total


cdef void balance(Plan* p) noexcept nogil:
    """Change the shares by what the threads took for theirs, so that all are done at the same time.

    Cores differ: in kind, in what else they do, and a virtual one in whom it shares the real one with.
    Half of the way each time, since what was measured may have been a moment's. A thread that had
    nothing to do is tried with more. The bits do not depend on the shares.
    """
    cdef int which, thread, n = p.team_size
    cdef double most, total, pace, place, share
    cdef bint idle
    cdef Work* work
    cdef double* at
    if not p.balanced or p.threads != n:
        return
    for which in range(N_WORKS):
        at = p.trials.shares[which]
        most = total = pace = 0
        idle = False
        for thread in range(n):
            work = p.work + thread * N_WORKS + which
            if work.amount <= 0 or work.seconds <= 0:
                idle = True
                break
            most = max(most, work.seconds)
            total += work.seconds
            pace += work.amount / work.seconds
        if idle or most * n > UNEVEN * total:
            place = 0
            for thread in range(n):
                work = p.work + thread * N_WORKS + which
                share = 1.0 / n if idle else work.amount / work.seconds / pace
                share = 0.5 * (at[thread + 1] - at[thread] + share)
                at[thread] = place
                place += share
    memset(p.work, 0, n * N_WORKS * sizeof(Work))


cdef inline void tick(Plan* p, int thread, int phase, Py_ssize_t layer) noexcept nogil:
    """What has passed since this thread last looked went into that phase; a negative one counts for
    nothing."""
    cdef double now
    cdef double* looked
    if p.spent == NULL:
        return
    now = seconds()
    looked = p.looked + thread * (ALIGNMENT // <int>sizeof(double))
    if phase >= 0:
        p.spent[(thread * p.n_layers + layer) * N_PHASES + phase] += now - looked[0]
    looked[0] = now


cdef inline void wait(Plan* p, int thread) noexcept nogil:
    p.team.barrier(thread)
    tick(p, thread, WAIT, 0)


cdef int run_on_team(Plan* p, void (*task)(void*, int) noexcept nogil,
                     Py_ssize_t size) except -1 nogil:
    """Run a copy of so many bytes on the team, or alone where it is over before one is awake."""
    cdef int threads = p.threads
    p.threads = p.team_size if size >= PACK_BYTES else 1
    p.team = Team.acquire(p.threads)
    p.threads = p.team.size()
    p.team.run(task, p)
    Team.release(p.team)
    p.threads = threads
    return 0


cdef double longer_slice(Plan* p) noexcept nogil:
    """At first shares are soon balanced; what comes later is for the long run."""
    p.slice = min(2 * p.slice, SLICE_SECONDS)
    return p.slice


cdef double choose_threads(Plan* p) noexcept nogil:
    """Set the threads of the next slice; return how long it may last.

    Where another process holds a core, a team waits for that core at every barrier and one thread
    alone may be faster; so it may where a step is less work than passing weights from core to core.
    The bits do not depend on the choice, so it is free: both are timed, and the other one again now
    and then.
    """
    if not p.choosing:
        return longer_slice(p)
    if p.tries_late and p.trials.due == 0:
        p.trials.made = 3
        p.trials.due = p.trials.worked + p.trial_every
    cdef bint slow = p.trials.pace[0] * MARGIN < p.trials.pace[1]
    # A new plan begins with all threads, which does not mean that they have been at work.
    cdef bint turned = slow and p.threads > 1 and p.chunks_done > 0
    if p.trials.made >= 3 and (p.trials.worked > p.trials.due or turned):
        p.trials.made = 0
    if p.trials.made < 3:
        # All of them twice: the first time some may still be asleep, or on each other's core.
        p.threads = 1 if p.trials.made == 2 else p.team_size
        p.trials.made += 1
        p.trials.due = p.trials.worked + p.trial_every
        return TRIAL_SECONDS
    p.threads = 1 if slow else p.team_size
    return longer_slice(p)


cdef int run_in_slices(Plan* p, void (*task)(void*, int) noexcept nogil,
                       bint training) except -1:
    """Run a loop on a team, and let Python see to signals now and then."""
    cdef double began, took
    cdef Py_ssize_t chunks
    if p.balanced and p.trials.team != p.team_size:
        share_equally(p)
    while (p.step < p.steps and not p.diverged) if training else (p.row < p.n):
        with nogil:
            began = seconds()
            chunks = p.chunks_done
            p.until = began + choose_threads(p)
            p.stop = False
            p.team = Team.acquire(p.threads)
            p.threads = p.team.size()
            p.team.run(task, p)
            Team.release(p.team)
            took = seconds() - began
            p.trials.worked += took
            p.trials.pace[p.threads == 1] = (p.chunks_done - chunks) / took
            balance(p)
        PyErr_CheckSignals()
    return 0
