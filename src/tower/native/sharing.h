// Shares the work of an op among as many threads as TensorFlow takes for one op.
// Invariant: what a thread is given decides who computes a number, never how: no op's result depends on the number of threads.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

namespace crosstower {

constexpr long fewestFloatsToShare = 1 << 16;  // Below, a thread costs more than it spares.

/** How many threads an op on so many floats takes. */
inline int threadsFor(long floats) {
  static const int threads = [] {
    const char* asked = std::getenv("TF_NUM_INTRAOP_THREADS");
    const int count = asked == nullptr ? 0 : std::atoi(asked);
    return count > 0 ? count : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }();
  return floats < fewestFloatsToShare ? 1 : threads;
}

/** Calls work(first, end) on up to `threads` threads, which together have 0 to `count`. */
template <typename Work>
void share(long count, int threads, Work work) {
  const long shares = std::min<long>(count, threads);
  std::vector<std::thread> others;
  for (long i = 1; i < shares; i++) others.emplace_back(work, count * i / shares, count * (i + 1) / shares);
  if (shares > 0) work(0L, count / shares);
  for (std::thread& other : others) other.join();
}

}  // namespace crosstower
