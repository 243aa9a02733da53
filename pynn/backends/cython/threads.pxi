# How threads share work, how many of them work, and a profile of their time.

# --- Shares ---------------------------------------------------------------------------------------

cdef inline void share(Py_ssize_t n, Py_ssize_t unit, int thread, int threads,
                       Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """Equal shares of n in multiples of ``unit``: this thread's is start … stop."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    start[0] = min(n, units * thread // threads * unit)
    stop[0] = min(n, units * (thread + 1) // threads * unit)


cdef inline void share_work(Plan* p, int which, Py_ssize_t n, Py_ssize_t unit, int thread,
                            Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
    """As ``share``, in proportion to the balanced shares if the whole team works."""
    cdef Py_ssize_t units = (n + unit - 1) // unit
    cdef double* begin = &p.pace.trials.shares[which][thread]
    if not p.pace.balanced or p.pace.threads != p.pace.team_size:
        share(n, unit, thread, p.pace.threads, start, stop)
        return
    start[0] = min(n, <Py_ssize_t>(units * begin[0] + 0.5) * unit)
    stop[0] = min(n, <Py_ssize_t>(units * begin[1] + 0.5) * unit)


cdef void share_equally(Plan* p) noexcept nogil:
    cdef int which, thread
    p.pace.trials.team = p.pace.team_size
    for which in range(N_WORKS):
        for thread in range(p.pace.team_size + 1):
            p.pace.trials.shares[which][thread] = <double>thread / p.pace.team_size


cdef double weights_of(Plan* p, int thread) noexcept nogil:
    """Number of weights in a thread's share of all layers."""
    cdef Py_ssize_t start, stop
    cdef double total = 0
    cdef int i
    for i in range(p.n_layers):
        share_work(p, WEIGHTS, p.layer[i].n_in, p.k.width, thread, &start, &stop)
        total += <double>(stop - start) * p.layer[i].n_out
    return total


cdef inline bint is_timed(Plan* p, Py_ssize_t chunk) noexcept nogil:
    """Whether the threads time their work in this chunk of a slice."""
    return (p.pace.balanced and chunk % p.pace.check_every == 0
            and p.pace.threads == p.pace.team_size)


cdef void note_work(Plan* p, int which, int thread, double amount, double began) noexcept nogil:
    cdef Work* work = p.pace.work + thread * N_WORKS + which
    work.amount += amount
    work.seconds += seconds() - began


cdef void set_shares(double* shares, const Work* work, int n, double pace,
                     bint equal) noexcept nogil:
    """Move the shares of n threads halfway to those with which all would take the same time, or to
    equal ones. ``pace`` is the work that all do per second."""
    cdef double place = 0, share
    cdef int thread
    for thread in range(n):
        if equal:
            share = 1.0 / n
        else:
            share = work[thread * N_WORKS].amount / work[thread * N_WORKS].seconds / pace
        share = 0.5 * (shares[thread + 1] - shares[thread] + share)
        shares[thread] = place
        place += share


cdef void balance(Plan* p) noexcept nogil:
    """Adjust the shares to the times that the threads took, so that all finish together.

    Cores differ in kind and in what else they run; a virtual core may share a physical one. Shares
    move only halfway, since a measurement may be an exception. If a thread had no work, shares move
    towards equal ones. Results do not depend on the shares.
    """
    cdef int which, thread, n = p.pace.team_size
    cdef double most, total, pace
    cdef bint idle
    cdef const Work* work
    if not p.pace.balanced or p.pace.threads != n:
        return
    for which in range(N_WORKS):
        most = total = pace = 0
        idle = False
        for thread in range(n):
            work = p.pace.work + thread * N_WORKS + which
            if work.amount <= 0 or work.seconds <= 0:
                idle = True
                break
            most = max(most, work.seconds)
            total += work.seconds
            pace += work.amount / work.seconds
        if idle or most * n > UNEVEN * total:
            set_shares(p.pace.trials.shares[which], p.pace.work + which, n, pace, idle)
    memset(p.pace.work, 0, n * N_WORKS * sizeof(Work))


# --- A profile ------------------------------------------------------------------------------------

cdef inline void tick(Plan* p, int thread, int phase, Py_ssize_t layer) noexcept nogil:
    """Add the time since this thread's last tick to a phase of a layer; to none if phase is -1."""
    cdef double now
    cdef double* last
    if p.profile.spent == NULL:
        return
    now = seconds()
    last = p.profile.last + thread * (ALIGNMENT // <int>sizeof(double))
    if phase >= 0:
        p.profile.spent[(thread * p.n_layers + layer) * N_PHASES + phase] += now - last[0]
    last[0] = now


cdef inline void wait(Plan* p, int thread) noexcept nogil:
    """Wait for all threads at the barrier."""
    p.team.barrier(thread)
    tick(p, thread, WAIT, 0)


# --- Slices of a run ------------------------------------------------------------------------------

cdef double longer_slice(Plan* p) noexcept nogil:
    """Double the length of a slice up to SLICE_SECONDS: the first ones are short, so that shares
    are balanced early."""
    p.pace.slice = min(2 * p.pace.slice, SLICE_SECONDS)
    return p.pace.slice


cdef double choose_threads(Plan* p) noexcept nogil:
    """Set the number of threads of the next slice; return its length in seconds at most.

    One thread is faster than a team if another process uses a core, for which the team waits at
    every barrier, or if a step is less work than passing weights between cores. Both numbers are
    timed, and again now and then. Results do not depend on the number.
    """
    cdef Trials* trials = &p.pace.trials
    if not p.pace.choosing:
        return longer_slice(p)
    if p.pace.late_trials and trials.due == 0:
        trials.made = 3
        trials.due = trials.worked + p.pace.trial_every
    cdef bint slow = trials.pace[0] * MARGIN < trials.pace[1]
    # The team has just become slower than one thread. A new plan begins with all threads, which
    # does not mean that they have worked.
    cdef bint changed = slow and p.pace.threads > 1 and p.position.chunks > 0
    if trials.made >= 3 and (trials.worked > trials.due or changed):
        trials.made = 0
    if trials.made < 3:
        # All threads twice: at first some may be asleep, or two of them on one core.
        p.pace.threads = 1 if trials.made == 2 else p.pace.team_size
        trials.made += 1
        trials.due = trials.worked + p.pace.trial_every
        return TRIAL_SECONDS
    p.pace.threads = 1 if slow else p.pace.team_size
    return longer_slice(p)


cdef int run_in_slices(Plan* p, void (*task)(void*, int) noexcept nogil,
                       bint training) except -1:
    """Run a loop on a team, and check for signals after every slice."""
    cdef double began, took
    cdef Py_ssize_t chunks
    cdef Position* position = &p.position
    if p.pace.balanced and p.pace.trials.team != p.pace.team_size:
        share_equally(p)
    while ((position.step < position.steps and not position.diverged) if training
           else position.row < p.data.n):
        with nogil:
            began = seconds()
            chunks = position.chunks
            p.pace.until = began + choose_threads(p)
            p.pace.stop = False
            p.team = Team.acquire(p.pace.threads)
            p.pace.threads = p.team.size()
            p.team.run(task, p)
            Team.release(p.team)
            took = seconds() - began
            p.pace.trials.worked += took
            p.pace.trials.pace[p.pace.threads == 1] = (position.chunks - chunks) / took
            balance(p)
        PyErr_CheckSignals()
        raise_pending()
    return 0


cdef void copy_claimed(void* context, int thread) noexcept nogil:
    """Copy parts of the parameters until all are claimed."""
    cdef Plan* p = <Plan*>context
    cdef int64_t part
    while True:
        part = p.claims.claim(0, <uint32_t>p.pace.threads)
        if part < 0:
            return
        p.copy.task(p, <int>part)


cdef int run_on_team(Plan* p, void (*task)(void*, int) noexcept nogil,
                     Py_ssize_t size) except -1 nogil:
    """Run a copy of ``size`` bytes on the team, or on this thread if it is small.

    It has as many parts as the team has threads. This thread copies the part of one that is late.
    """
    cdef int threads = p.pace.threads
    p.pace.threads = p.pace.team_size if size >= PACK_BYTES else 1
    p.team = Team.acquire(p.pace.threads)
    p.pace.threads = p.team.size()
    p.copy.task = task
    p.claims.offer(0)
    p.team.run_open(copy_claimed, p)
    Team.release(p.team)
    p.pace.threads = threads
    return 0
