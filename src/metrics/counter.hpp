// Counter: a number that one thread adds to and any thread may read.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock {

class Counter {
 public:
  void add(uint64_t amount = 1) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};  // relaxed: a figure, nothing is published through it
};

}  // namespace penstock
