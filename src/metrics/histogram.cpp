#include "metrics/histogram.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {

void Histogram::observe(std::chrono::nanoseconds took) noexcept {
  const auto nanos = static_cast<uint64_t>(std::max<int64_t>(took.count(), 0));
  const double seconds = static_cast<double>(nanos) * 1e-9;
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  buckets_[static_cast<size_t>(bound - kBounds.begin())].add();
  nanos_.add(nanos);
}

Histogram::Cumulative Histogram::cumulative() const noexcept {
  Cumulative counts{};
  uint64_t sum = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    sum += buckets_[i].value();
    counts[i] = static_cast<double>(sum);
  }
  return counts;
}

const std::string& Histogram::suffix(size_t bucket) {
  static const auto suffixes = [] {
    std::array<std::string, kBuckets> made;
    for (size_t i = 0; i < kBounds.size(); ++i) made[i] = fmt::format("_le_{}", kBounds[i]);
    made.back() = "_le_inf";
    return made;
  }();
  return suffixes[bucket];
}

double quantile(std::span<const double, Histogram::kBuckets> cumulative, double q) noexcept {
  const double rank = q * cumulative.back();
  if (cumulative.back() <= 0) return 0;
  size_t i = 0;
  while (cumulative[i] < rank) ++i;
  if (i == Histogram::kBounds.size()) return Histogram::kBounds.back();
  const double below = i == 0 ? 0 : cumulative[i - 1];
  const double low = i == 0 ? 0 : Histogram::kBounds[i - 1];
  const double within = cumulative[i] - below;
  const double part = within > 0 ? (rank - below) / within : 1;
  return low + (Histogram::kBounds[i] - low) * part;
}

}  // namespace penstock
