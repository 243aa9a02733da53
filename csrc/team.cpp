#include "team.h"

#include <chrono>
#include <system_error>

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

// Between two phases of a step threads wait for each other for microseconds: worth spinning for.
// Past that, one of them has probably lost its core.
constexpr int spins = 2000;
constexpr int yields = 200;

void wait_for_change(std::atomic<uint32_t>& counter, uint32_t seen) {
  for (int i = 0; i < spins; ++i) {
    if (counter.load(std::memory_order_acquire) != seen) return;
    relax();
  }
  for (int i = 0; i < yields; ++i) {
    if (counter.load(std::memory_order_acquire) != seen) return;
    std::this_thread::yield();
  }
  counter.wait(seen, std::memory_order_acquire);
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

Team::Team(int size) {
  for (int thread = 1; thread < size; ++thread) {
    try {
      workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error&) {
      break;
    }
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

void Team::run(void (*task)(void*, int), void* context) {
  if (workers_.empty()) return task(context, 0);
  task_ = task;
  context_ = context;
  run_.fetch_add(1, std::memory_order_release);
  run_.notify_all();
  task(context, 0);
  barrier();
}

void Team::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    wait_for_change(run_, seen);
    seen = run_.load(std::memory_order_acquire);
    if (stop_) return;
    task_(context_, thread);
    barrier();
  }
}

void Team::barrier() {
  const uint32_t all = uint32_t(size());
  if (all == 1) return;
  const uint32_t seen = passed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == all) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.fetch_add(1, std::memory_order_release);
    passed_.notify_all();
  } else {
    wait_for_change(passed_, seen);
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
