#include "team.h"

#include <chrono>
#include <ctime>
#include <exception>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#endif

namespace pynn {
namespace {

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  asm volatile("yield");
#endif
}

// Sets the floating-point mode of a thread while it runs a task, and restores the previous mode:
// rounding to nearest, no traps, subnormal numbers flushed to zero. Decaying moments and the
// gradients of saturated units become subnormal, which can cost a hundred cycles per instruction.
class FloatingPointMode {
 public:
  FloatingPointMode() : before_(read()) { write(mode); }
  ~FloatingPointMode() { write(before_); }
  FloatingPointMode(const FloatingPointMode&) = delete;
  FloatingPointMode& operator=(const FloatingPointMode&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Word = unsigned;
  static constexpr Word mode = 0x9FC0;  // MXCSR: FTZ, DAZ, all exceptions masked
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  using Word = uint64_t;
  static constexpr Word mode = 1 << 24;  // FPCR: FZ
  static Word read() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
  using Word = int;
  static constexpr Word mode = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif

  const Word before_;
};

// Threads wait for each other a few microseconds between two phases of a step: they spin that long.
// After that a thread of the team may have lost its core to another process or thread: yielding,
// half a microsecond each, gives it one. Waking a sleeping thread takes tens of microseconds in a
// virtual machine, so sleeping comes last.
constexpr int spins = 200;    // of 10 to 140 cycles: up to 10 µs
constexpr int yields = 1000;  // some 500 µs

std::atomic<bool> awaits_workers{false};  // see await_workers

// Processor time of this thread, or where it cannot be measured that of the clock.
double thread_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec time;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
#endif
  return seconds();
}

// Of Team::entry_.
constexpr uint64_t OPEN = 1, ALL = 2, WORKER = 4;
constexpr uint32_t run_of(uint64_t entry) { return uint32_t(entry >> 32); }
constexpr uint64_t workers_of(uint64_t entry) { return uint32_t(entry) / WORKER; }

// Adds 1 and wakes the threads that wait for it. Notifying reads whether a thread waits, which it must
// not do before the addition is visible: otherwise a thread could go to sleep in between for ever.
void announce(std::atomic<uint32_t>& counter) {
  counter.fetch_add(1, std::memory_order_seq_cst);
#if !defined(__x86_64__) && !defined(_M_X64)  // where an atomic addition is a full barrier
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
  counter.notify_all();
}

int current_core() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

}  // namespace

// Whether a worker takes part in open runs. One that loses its core within a run keeps all others
// waiting, often for milliseconds: then other programs, or threads of other libraries that spin,
// want the core. The worker stays away for a while, each time for twice as long.
class Presence {
 public:
  bool stays_away() const { return seconds() < until_ && !awaits_workers; }
  void enter() {
    entered_ = seconds();
    used_ = thread_seconds();
  }
  void leave() {
    const double now = seconds(), took = now - entered_, lost = took - (thread_seconds() - used_);
    if (lost < lost_seconds || lost < lost_share * took) {
      if (now - until_ > patience * pause_) pause_ = 0;
      return;
    }
    pause_ = pause_ == 0 ? shortest : pause_ < longest ? 2 * pause_ : longest;
    until_ = now + pause_;
  }

 private:
  // In a long run, whose blocks the other threads take meanwhile, a loss of that share is no harm.
  static constexpr double lost_share = 0.4, lost_seconds = 0.0005;
  static constexpr double shortest = 0.01, longest = 1.28, patience = 4;
  double until_ = 0, pause_ = 0, entered_ = 0, used_ = 0;
};

namespace {

struct Idle {
  std::mutex lock;
  std::vector<Team*> teams;
};

// Threads do not survive a fork: the child process drops the teams of its parent and starts new
// ones. The dropped teams are leaked on purpose, because their threads cannot be joined in the
// child.
Idle* idle_teams = new Idle;

#if defined(__unix__) || defined(__APPLE__)
const int registered = pthread_atfork(nullptr, nullptr, [] { idle_teams = new Idle; });
#endif

}  // namespace

Team::Team(int size) : core_(size_t(size)), spread_(size <= usable_processors()) {
  for (std::atomic<int>& core : core_) core.store(-1, std::memory_order_relaxed);
  workers_.reserve(size_t(size) - 1);
  try {
    for (int thread = 1; thread < size; ++thread)
      workers_.emplace_back([this, thread] { work(thread); });
  } catch (const std::exception&) {  // a smaller team: see size()
  }
}

Team::~Team() {
  stop_.store(true, std::memory_order_relaxed);
  announce(run_);
  for (std::thread& worker : workers_) worker.join();
}

// Without workers a team has no state that a run changes.
Team* Team::alone() {
  static Team team(1);
  return &team;
}

Team* Team::acquire(int size) {
  if (size == 1) return alone();
  {
    std::lock_guard<std::mutex> guard(idle_teams->lock);
    for (auto it = idle_teams->teams.begin(); it != idle_teams->teams.end(); ++it)
      if ((*it)->size() == size) {
        Team* team = *it;
        idle_teams->teams.erase(it);
        return team;
      }
  }
  return new Team(size);
}

void Team::release(Team* team) {
  if (team == alone()) return;
  constexpr size_t kept = 4;
  {
    std::lock_guard<std::mutex> guard(idle_teams->lock);
    if (idle_teams->teams.size() < kept) {
      idle_teams->teams.push_back(team);
      return;
    }
  }
  delete team;
}

void Team::wait_for_change(std::atomic<uint32_t>& counter, uint32_t seen, int thread) {
  for (int i = 0; i < spins; ++i) {
    if (counter.load(std::memory_order_acquire) != seen) return;
    relax();
  }
  leave_shared_core(thread);
  for (int i = 0; i < yields; ++i) {
    if (counter.load(std::memory_order_acquire) != seen) return;
    std::this_thread::yield();
  }
  counter.wait(seen, std::memory_order_acquire);
}

// The scheduler may wake a worker on the core of the thread that woke it, and leave both there for
// milliseconds. Removing that core from the worker's affinity mask for a moment moves it at once.
void Team::leave_shared_core(int thread) {
  const int core = current_core();
  core_[size_t(thread)].store(core, std::memory_order_relaxed);
#if defined(__linux__)
  if (thread == 0 || !spread_ || core < 0) return;
  bool shared = false;
  // Not size(): the first workers run this while the last ones are still being started.
  const int all = int(core_.size());
  for (int other = 0; other < all; ++other)
    shared |= other != thread && core_[size_t(other)].load(std::memory_order_relaxed) == core;
  cpu_set_t allowed;
  if (!shared || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t free = allowed;
  for (int other = 0; other < all; ++other) {
    const int taken = core_[size_t(other)].load(std::memory_order_relaxed);
    if (other != thread && taken >= 0 && taken < CPU_SETSIZE) CPU_CLR(size_t(taken), &free);
  }
  if (CPU_COUNT(&free) == 0) return;
  sched_setaffinity(0, sizeof free, &free);
  core_[size_t(thread)].store(current_core(), std::memory_order_relaxed);
  sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

void Team::rest(int turn) {
  if (turn < spins)
    relax();
  else
    std::this_thread::yield();
}

// Nobody reads task_ and context_ now: every worker of the run before has left it, and one that has
// not entered it reads them only after it has found its number in entry_.
void Team::start(void (*task)(void*, int), void* context, uint64_t mode) {
  task_ = task;
  context_ = context;
  core_[0].store(current_core(), std::memory_order_relaxed);
  const uint64_t number = run_.load(std::memory_order_relaxed) + 1;
  entry_.store(number << 32 | mode, std::memory_order_release);
  announce(run_);
}

void Team::run(void (*task)(void*, int), void* context) {
  const FloatingPointMode mode;
  if (workers_.empty()) return task(context, 0);
  start(task, context, ALL);
  task(context, 0);
  barrier(0);
}

bool Team::await_workers(bool wanted) { return awaits_workers.exchange(wanted); }

void Team::await_all() {
  if (!awaits_workers.load(std::memory_order_relaxed)) return;
  for (int turn = 0; present_.load(std::memory_order_relaxed) < workers_.size(); ++turn) rest(turn);
}

void Team::run_open(void (*task)(void*, int), void* context) {
  const FloatingPointMode mode;
  if (workers_.empty()) return task(context, 0);
  present_.store(0, std::memory_order_relaxed);
  start(task, context, OPEN);
  await_all();
  task(context, 0);
  entry_.fetch_and(~OPEN, std::memory_order_relaxed);
  for (int turn = 0; workers_of(entry_.load(std::memory_order_acquire)) > 0; ++turn) rest(turn);
}

void Team::take_part(uint32_t run, int thread, Presence& presence) {
  uint64_t entry = entry_.load(std::memory_order_acquire);
  if (run_of(entry) == run && (entry & ALL)) {
    task_(context_, thread);
    barrier(thread);
    return;
  }
  if (presence.stays_away()) return;
  while (run_of(entry) == run && (entry & OPEN))
    if (entry_.compare_exchange_weak(entry, entry + WORKER, std::memory_order_acq_rel,
                                     std::memory_order_acquire)) {
      present_.fetch_add(1, std::memory_order_relaxed);
      await_all();
      presence.enter();
      task_(context_, thread);
      entry_.fetch_sub(WORKER, std::memory_order_release);
      presence.leave();
      return;
    }
}

void Team::work(int thread) {
  const FloatingPointMode mode;
  Presence presence;
  uint32_t seen = 0;
  for (;;) {
    wait_for_change(run_, seen, thread);
    seen = run_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    leave_shared_core(thread);
    take_part(seen, thread, presence);
  }
}

void Team::barrier(int thread) {
  const uint32_t all = uint32_t(size());
  if (all == 1) return;
  const uint32_t seen = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == all) {
    arrived_.store(0, std::memory_order_relaxed);
    announce(passed_);
  } else {
    wait_for_change(passed_, seen, thread);
  }
}

int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count ? int(count) : 1;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace pynn
