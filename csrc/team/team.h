// A team of threads that runs one function together, with a barrier to meet at.
//
// Teams are kept when a run ends and taken up by the next, so that a short run does not pay for
// starting threads. A waiting thread spins for a few microseconds, then yields, then sleeps: short
// waits cost little, and a core that another process wants is given up. A worker that finds itself
// on the core of another member moves to one that is free of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace pynn {

class Team {
 public:
  // Borrow a team of that many threads, the caller's included; give it back with release.
  // Fewer may come where the system refuses a thread: size() tells.
  static Team* acquire(int size);
  static void release(Team* team);

  int size() const { return int(workers_.size()) + 1; }

  // Run task(context, thread) on every thread, thread 0 being the caller; return when all are done.
  // Meanwhile all calculate alike, with zero in the place of denormal numbers.
  void run(void (*task)(void* context, int thread), void* context);

  // Wait for all threads of the run.
  void barrier(int thread);

 private:
  explicit Team(int size);
  ~Team();
  void work(int thread);
  void wait_for_change(std::atomic<uint32_t>& counter, uint32_t seen, int thread);
  void part_from_others(int thread);

  std::vector<std::thread> workers_;
  std::vector<std::atomic<int>> core_;  // where each thread was last seen
  bool spread_ = false;                 // whether there is a core for each
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> run_{0};      // counts runs; a change starts the workers
  alignas(64) std::atomic<uint32_t> arrived_{0};  // threads at the barrier
  alignas(64) std::atomic<uint32_t> passed_{0};   // counts barriers; a change lets threads on
  bool stop_ = false;
};

// Logical processors this process may run on.
int usable_processors();

// Seconds on a clock that never goes back.
double seconds();

}  // namespace pynn
