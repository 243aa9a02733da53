// Checks the team of threads: results do not depend on the number of threads or on other teams.

#include "team.h"

#include "checker.h"

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

}  // namespace

void check_team(const Kernels* k) {
  const Size rounds = short_run ? 40 : 400;
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
