// Blocks of work that threads claim one after the other, phase by phase.
//
// A thread that is late, because other programs or threads of other libraries have its core, claims
// few blocks or none, and nobody waits for it.
#pragma once

#include <atomic>
#include <cstdint>

namespace pynn {

class Claims {
 public:
  // Offers the blocks 0, 1, … of a phase. All claimed blocks of the phase before are finished.
  void offer(uint32_t phase) {
    finished_.store(0, std::memory_order_relaxed);
    next_.store(uint64_t(phase) << 32, std::memory_order_release);
  }

  uint32_t phase() const { return uint32_t(next_.load(std::memory_order_acquire) >> 32); }
  // Blocks of the phase that have been claimed.
  uint32_t claimed() const { return uint32_t(next_.load(std::memory_order_acquire)); }

  // Claims the next of the ``count`` blocks of a phase. Returns its number, or -1 if all are claimed
  // or another phase is offered.
  int64_t claim(uint32_t phase, uint32_t count) {
    uint64_t seen = next_.load(std::memory_order_acquire);
    while (uint32_t(seen >> 32) == phase && uint32_t(seen) < count)
      if (next_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        return int64_t(uint32_t(seen));
    return -1;
  }

  // A claimed block of the phase is finished; how many are.
  void finish() { finished_.fetch_add(1, std::memory_order_release); }
  uint32_t finished() const { return finished_.load(std::memory_order_acquire); }

 private:
  std::atomic<uint64_t> next_{0};  // phase in the upper half, next block in the lower half
  std::atomic<uint32_t> finished_{0};
};

}  // namespace pynn
