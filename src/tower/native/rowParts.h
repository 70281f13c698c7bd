// Rows of values [R,C]: cut into the same parts whatever the number of threads, so that sums over them are the same too, and within a part into
// runs, so that few values in a row leave no vector empty.
#pragma once

#include <algorithm>
#include <vector>

#include "instructionSets.h"
#include "sharing.h"

namespace crosstower {

constexpr int runFloats = 2048;  // What is done with a run of two or three arrays stays in the first cache.

/** Rows of a run. */
inline int rowsInRun(int channels) { return std::max(1, runFloats / channels); }

/** One value for each channel, for every row of a run. */
inline std::vector<float> forARun(const float* values, int channels) {
  std::vector<float> run(static_cast<size_t>(rowsInRun(channels)) * channels);
  for (size_t i = 0; i < run.size(); i += channels) std::copy_n(values, channels, run.data() + i);
  return run;
}

/** Adds the rows of a run to sums [C]: first up among themselves, in total [C]. */
INLINE void addRows(const float* __restrict run, long rows, int channels, float* __restrict total, double* __restrict sums) {
  std::fill_n(total, channels, 0.0f);
  for (long r = 0; r < rows; r++) {
    for (int c = 0; c < channels; c++) total[c] += run[r * channels + c];
  }
  for (int c = 0; c < channels; c++) sums[c] += total[c];
}

constexpr long mostParts = 64, fewestRows = 256;

/** How many parts so many rows are cut into. */
inline long partsOf(long rows) { return std::clamp(rows / fewestRows, 1L, mostParts); }

/** Calls work(part, firstRow, endRow) for every part of rows of so many values. */
template <typename Work>
void forEachPart(long rows, int channels, Work work) {
  const long parts = partsOf(rows);
  share(parts, threadsFor(rows * channels), [&](long firstPart, long endPart) {
    for (long part = firstPart; part < endPart; part++) work(part, rows * part / parts, rows * (part + 1) / parts);
  });
}

/** total [C], the sum over all rows: work(firstRow, endRow, sums) adds that of some rows to sums [C]. */
template <typename Work>
void sumOverParts(long rows, int channels, float* total, Work work) {
  const long parts = partsOf(rows);
  std::vector<double> sums(parts * channels);
  forEachPart(rows, channels, [&](long part, long firstRow, long endRow) { work(firstRow, endRow, sums.data() + part * channels); });
  for (int c = 0; c < channels; c++) {
    double sum = 0;
    for (long part = 0; part < parts; part++) sum += sums[part * channels + c];
    total[c] = static_cast<float>(sum);
  }
}

}  // namespace crosstower
