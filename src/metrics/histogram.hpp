// Histogram: how long something took, counted in fixed buckets. One thread observes, any may read.
//
// No lock and no allocation. A reader may see an observation's bucket and not yet its seconds.
// The buckets are those of Prometheus: cumulative, each with an upper bound, the last without one.
#pragma once

#include <array>
#include <chrono>
#include <span>
#include <string>

#include "metrics/counter.hpp"

namespace penstock {

class Histogram {
 public:
  // Upper bounds in seconds: from a request to a fast drive to a job at its deadline.
  static constexpr std::array kBounds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                      0.05,   0.1,     0.25,   0.5,   1.0,    2.5,   5.0,  10.0};
  static constexpr size_t kBuckets = kBounds.size() + 1;
  using Cumulative = std::array<double, kBuckets>;

  void observe(std::chrono::nanoseconds took) noexcept;
  Cumulative cumulative() const noexcept;
  double seconds() const noexcept { return static_cast<double>(nanos_.value()) * 1e-9; }

  // The suffix of a bucket's figure: "_le_0.001", "_le_inf" for the last.
  static const std::string& suffix(size_t bucket);
  // visit(name, value) for each bucket and for the sum of the seconds ("_sum").
  template <typename Visit>
  void visit(const std::string& name, Visit&& visit) const {
    const Cumulative counts = cumulative();
    for (size_t i = 0; i < kBuckets; ++i) visit(name + suffix(i), counts[i]);
    visit(name + "_sum", seconds());
  }

 private:
  std::array<Counter, kBuckets> buckets_;
  Counter nanos_;
};

// The seconds below which the part `q` of the observations lies, by linear interpolation within a
// bucket, as histogram_quantile() of Prometheus does it: the last bound at most. 0: none.
double quantile(std::span<const double, Histogram::kBuckets> cumulative, double q) noexcept;

}  // namespace penstock
