// The time of day, for stamps and for the daily write limit. Any thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "store/policy.hpp"

namespace penstock {

inline Stamp now_ms() noexcept {
  using std::chrono::duration_cast;
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return duration_cast<std::chrono::milliseconds>(since).count();
}

inline int64_t day_of(Stamp ms) noexcept {
  return ms / (24 * 3600 * 1000);
}

}  // namespace penstock
