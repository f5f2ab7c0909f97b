// Gauge: a level that one thread sets and any thread may read.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock {

class Gauge {
 public:
  void set(uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};  // relaxed: a figure, nothing is published through it
};

}  // namespace penstock
