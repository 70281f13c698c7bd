// Rows of values, cut into the same parts whatever the number of threads, so that sums over them are the same too.
#pragma once

#include <algorithm>
#include <vector>

#include "sharing.h"

namespace crosstower {

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
