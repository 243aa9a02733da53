// A team of threads that runs one function together, with a barrier.
//
// Teams are reused, so that a short run does not pay for starting threads. A waiting thread spins
// for a few microseconds, then yields, then sleeps: short waits are cheap, and a core that another
// process needs is released. A worker that runs on the same core as another thread of the team
// moves to a core that no thread of the team uses.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace pynn {

class Presence;

class Team {
 public:
  // Returns a team of ``size`` threads including the caller, until release() is called. The team is
  // smaller if the system refuses to start a thread: see size().
  static Team* acquire(int size);
  static void release(Team* team);
  // Returns a team of the caller only, which any number of threads may use at once.
  static Team* alone();

  int size() const { return int(workers_.size()) + 1; }

  // Runs task(context, thread) on every thread; thread 0 is the caller. Returns when all are done.
  // Meanwhile all threads use the same floating-point mode: subnormal numbers are flushed to zero.
  void run(void (*task)(void* context, int thread), void* context);

  // As run, for tasks whose threads claim work (claims.h) instead of having shares. At the end it
  // waits only for the workers that have begun the task. A worker that wakes up later does nothing;
  // nor does one that lost its core for much of a recent run. The task must not call barrier().
  void run_open(void (*task)(void* context, int thread), void* context);

  // For tests: whether the caller of an open run waits for all workers before it begins. Returns the
  // former choice.
  static bool await_workers(bool wanted);

  // One turn of a loop that waits for another thread: spins first, then yields.
  static void rest(int turn);

  // Waits until all threads of the run have called it.
  void barrier(int thread);

 private:
  explicit Team(int size);
  ~Team();
  void work(int thread);
  void start(void (*task)(void*, int), void* context, uint64_t mode);
  void take_part(uint32_t run, int thread, Presence& presence);
  void await_all();
  void wait_for_change(std::atomic<uint32_t>& counter, uint32_t seen, int thread);
  void leave_shared_core(int thread);

  std::vector<std::thread> workers_;
  std::vector<std::atomic<int>> core_;  // (threads,) core on which each ran last, or -1
  bool spread_ = false;                 // whether there are as many cores as threads
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  // Each in a cache line of its own, to avoid false sharing.
  // The number of the run in the upper half; below it the workers in an open run, times WORKER, and
  // the mode: ALL if every worker takes part, OPEN while workers may enter, 0 once they may not.
  alignas(64) std::atomic<uint64_t> entry_{0};
  alignas(64) std::atomic<uint32_t> run_{0};      // number of runs; a change starts the workers
  alignas(64) std::atomic<uint32_t> arrived_{0};  // threads that have reached the barrier
  alignas(64) std::atomic<uint32_t> passed_{0};   // barriers passed; a change releases threads
  std::atomic<bool> stop_{false};
  std::atomic<size_t> present_{0};  // workers that have entered the open run; see await_workers
};

// Number of logical processors that this process may run on.
int usable_processors();

// Seconds of a monotonic clock.
double seconds();

}  // namespace pynn
