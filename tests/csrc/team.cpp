// Checks the team of threads: results do not depend on the number of threads, on when they start, or
// on other teams.

#include "claims.h"
#include "team.h"

#include "checker.h"

#include <chrono>
#include <memory>
#include <thread>

namespace {

// Works like a step of training: each thread computes its rows of one product and, after a barrier,
// its rows of the next product, which reads all rows of the first. Thread 0 writes the state that
// all read.
struct Chain {
  Team* team;
  const Kernels* k;
  Size n, rounds, round;
  std::vector<float> a, b, c;
  bool stop;
};

void step_of_team(void* context, int thread) {
  Chain& s = *(Chain*)context;
  const Size threads = s.team->size(), begin = s.n * thread / threads,
             end = s.n * (thread + 1) / threads;
  for (;;) {
    const Size round = s.round;
    const float* from = round % 2 ? s.b.data() : s.a.data();
    float* to = round % 2 ? s.a.data() : s.b.data();
    if (begin < end) {
      s.k->matmul(from + begin * s.n, s.n, 0, s.c.data(), s.n, to + begin * s.n, s.n, end - begin,
                  s.n, s.n, FINISH_STORE, nullptr, nullptr);
      s.k->activate(TANH, 0, to + begin * s.n, nullptr, s.n, end - begin, s.n);
    }
    s.team->barrier(thread);
    if (thread == 0) {
      s.round = round + 1;
      s.stop = s.round == s.rounds;
    }
    s.team->barrier(thread);
    if (s.stop) return;
  }
}

std::vector<float> run_team(const Kernels* k, int threads, Size rounds) {
  const Size n = 32;
  Chain s = {nullptr, k, n, rounds, 0, {}, {}, {}, false};
  for (Size i = 0; i < n * n; ++i) {
    s.a.push_back(float(integer(i, 0, 1)) / 7);
    s.c.push_back(float(integer(i, 0, 2)) / 19);
  }
  s.b.resize(size_t(n * n));
  s.team = Team::acquire(threads);
  s.team->run(step_of_team, &s);
  Team::release(s.team);
  return rounds % 2 ? s.b : s.a;
}

// Squares numbers in two phases of blocks, as a prediction does with the columns of two layers. Each
// block is counted, to see that it is computed once.
struct Squares {
  static constexpr uint32_t blocks = 24, last = UINT32_MAX;
  Claims claims;
  std::vector<double> in, middle, out;
  std::vector<int> computed;
  int pause;  // microseconds for which workers wait before they begin

  Squares() : in(blocks), middle(blocks), out(blocks), computed(2 * blocks), pause(0) {}

  void claim_all(uint32_t phase) {
    const double* from = phase == 1 ? in.data() : middle.data();
    double* to = phase == 1 ? middle.data() : out.data();
    for (int64_t block; (block = claims.claim(phase, blocks)) >= 0; claims.finish()) {
      // Of the phase before every block is read, so that an unfinished one shows.
      double sum = 0;
      for (double value : std::vector<double>(from, from + blocks)) sum += value;
      to[block] = from[block] * from[block] + sum;
      ++computed[size_t((phase - 1) * blocks + uint32_t(block))];
    }
  }
};

void square(void* context, int thread) {
  Squares& s = *(Squares*)context;
  if (thread > 0) {
    if (s.pause) std::this_thread::sleep_for(std::chrono::microseconds(s.pause));
    for (int turn = 0; s.claims.phase() != Squares::last; ++turn) {
      if (const uint32_t phase = s.claims.phase(); phase > 0 && phase != Squares::last)
        s.claim_all(phase);
      Team::rest(turn);
    }
    return;
  }
  for (uint32_t phase : {1u, 2u}) {
    s.claims.offer(phase);
    s.claim_all(phase);
    for (int turn = 0; s.claims.finished() < Squares::blocks; ++turn) Team::rest(turn);
  }
  s.claims.offer(Squares::last);
}

// Open runs, between which the same team makes runs of all threads: a worker that is late for the
// one must take part in the other. The context of an open run is freed at once.
void check_open_runs(const Kernels* k) {
  const std::vector<float> want = run_team(k, 1, 3);
  for (int threads : {1, 2, 3, 5}) {
    std::snprintf(where, sizeof where, "%s open runs of %d threads", k->isa, threads);
    for (int again = 0; again < (short_run ? 16 : 200); ++again, ++calls) {
      Team::await_workers(again % 2);
      auto s = std::make_unique<Squares>();
      s->pause = again % 3 == 1 ? again % 50 : 0;
      double sum = 0, sum_of_middle = 0;
      for (uint32_t i = 0; i < Squares::blocks; ++i) sum += s->in[i] = double(i) + again;
      for (double value : s->in) sum_of_middle += value * value + sum;
      Team* team = Team::acquire(threads);
      team->run_open(square, s.get());
      Team::release(team);
      for (uint32_t i = 0; i < Squares::blocks; ++i) {
        const double middle = s->in[i] * s->in[i] + sum;
        if (s->out[i] != middle * middle + sum_of_middle) fail("a block has another result");
      }
      for (int count : s->computed)
        if (count != 1) fail("a block was not computed once");
      Team::await_workers(false);
      if (again % 4 == 0 && run_team(k, threads, 3) != want) fail("the run after it has another result");
    }
  }
}

}  // namespace

void check_team(const Kernels* k) {
  const Size rounds = short_run ? 40 : 400;
  check_open_runs(k);
  for (int threads : {1, 2, 3, 5, 9}) {
    std::snprintf(where, sizeof where, "%s team of %d threads", k->isa, threads);
    const std::vector<float> want = run_team(k, 1, rounds);
    for (int again = 0; again < 5; ++again, ++calls)
      if (run_team(k, threads, rounds) != want) fail("the result differs from that of one thread");
    values += 5 * Size(want.size());
  }
  // Several callers at once, with more teams than are kept for reuse.
  const std::vector<float> want = run_team(k, 1, rounds);
  std::vector<std::vector<float>> found(7);
  std::vector<std::thread> callers;
  std::snprintf(where, sizeof where, "%s seven teams at once", k->isa);
  for (size_t i = 0; i < found.size(); ++i)
    callers.emplace_back([&, i] {
      for (int again = 0; again < 5; ++again) found[i] = run_team(k, 2 + int(i % 3), rounds);
    });
  for (std::thread& caller : callers) caller.join();
  for (const auto& each : found)
    if (each != want) fail("the result differs from that of one thread");
  calls += 35;
}
