// Samples: repeated measurements of one figure. A value.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace penstock::cli {

class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  const std::vector<double>& values() const noexcept { return values_; }
  double median() const { return quantile(0.5); }
  // The value below which `part` of the samples lie (the middle between two neighbours); 0 if there
  // are none.
  double quantile(double part) const {
    if (values_.empty()) return 0;
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const double place = part * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
  }
  // Each sample by the one of `base` of the same round: a drive that drifts moves both.
  Samples ratios(const Samples& base) const {
    Samples result;
    for (size_t i = 0; i < std::min(values_.size(), base.values_.size()); ++i)
      if (base.values_[i] > 0) result.add(values_[i] / base.values_[i]);
    return result;
  }

 private:
  std::vector<double> values_;
};

}  // namespace penstock::cli
