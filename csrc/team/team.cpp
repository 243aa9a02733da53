#include "team.h"

#include <chrono>
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

// How a thread calculates while it works for a team, whatever it was told before: rounding to
// nearest, without traps, and with zero in the place of every number that is too small to be a normal
// one. Decaying moments and the gradients of saturated units get there, and with some instructions
// each such number costs a hundred cycles.
class Arithmetic {
 public:
  Arithmetic() : before_(read()) { write(ours); }
  ~Arithmetic() { write(before_); }
  Arithmetic(const Arithmetic&) = delete;
  Arithmetic& operator=(const Arithmetic&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Word = unsigned;
  static constexpr Word ours = 0x9FC0;  // MXCSR: FTZ, DAZ, all exceptions masked
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  using Word = uint64_t;
  static constexpr Word ours = 1 << 24;  // FPCR: FZ
  static Word read() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
  using Word = int;
  static constexpr Word ours = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif

  const Word before_;
};

// Between two phases of a step threads wait for each other for microseconds: worth spinning for.
// Past that, one of them may have lost its core: yielding costs half a microsecond and gives it
// back. A sleeping thread takes tens of microseconds to wake in a virtual machine, so sleep is last.
constexpr int spins = 200;
constexpr int yields = 1000;

int current_core() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

struct Idle {
  std::mutex lock;
  std::vector<Team*> teams;
};

// Threads do not survive a fork: the child forgets the parent's teams and starts its own. The old
// ones are leaked on purpose, since their threads cannot be joined there.
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
  } catch (const std::exception&) {  // as many as there are
  }
}

Team::~Team() {
  stop_ = true;
  run_.fetch_add(1, std::memory_order_release);
  run_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

Team* Team::acquire(int size) {
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
  part_from_others(thread);
  for (int i = 0; i < yields; ++i) {
    if (counter.load(std::memory_order_acquire) != seen) return;
    std::this_thread::yield();
  }
  counter.wait(seen, std::memory_order_acquire);
}

// The system may wake a worker on the core of the thread that woke it and leave both there for
// milliseconds. Leaving that core out of the worker's set for a moment moves it at once.
void Team::part_from_others(int thread) {
  const int core = current_core();
  core_[size_t(thread)].store(core, std::memory_order_relaxed);
#if defined(__linux__)
  if (thread == 0 || !spread_ || core < 0) return;
  bool shared = false;
  // Not size(): the first workers come here while the last ones are being started.
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

void Team::run(void (*task)(void*, int), void* context) {
  const Arithmetic arithmetic;
  if (workers_.empty()) return task(context, 0);
  task_ = task;
  context_ = context;
  core_[0].store(current_core(), std::memory_order_relaxed);
  run_.fetch_add(1, std::memory_order_release);
  run_.notify_all();
  task(context, 0);
  barrier(0);
}

void Team::work(int thread) {
  const Arithmetic arithmetic;
  uint32_t seen = 0;
  for (;;) {
    wait_for_change(run_, seen, thread);
    seen = run_.load(std::memory_order_acquire);
    if (stop_) return;
    part_from_others(thread);
    task_(context_, thread);
    barrier(thread);
  }
}

void Team::barrier(int thread) {
  const uint32_t all = uint32_t(size());
  if (all == 1) return;
  const uint32_t seen = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == all) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.fetch_add(1, std::memory_order_release);
    passed_.notify_all();
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
