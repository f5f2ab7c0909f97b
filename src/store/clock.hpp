// StoreClock: the time that a store goes by: stamps, the daily write limit, the pace of upkeep.
//
// The machine's, unless StoreOptions name another: a simulation lets the time of its trace be the
// store's, so that eviction, stamps and limits do what they would have done then. Another clock
// outlives the store, and is read on the thread that opens the store and on its index thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "store/policy.hpp"

namespace penstock {

class StoreClock {
 public:
  static const StoreClock& machine() noexcept;

  virtual ~StoreClock() = default;
  virtual Stamp now_ms() const noexcept = 0;  // since 1970; it may be set back
  virtual std::chrono::steady_clock::time_point steady() const noexcept = 0;  // never goes back
};

inline Stamp now_ms() noexcept {
  using std::chrono::duration_cast;
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return duration_cast<std::chrono::milliseconds>(since).count();
}

inline int64_t day_of(Stamp ms) noexcept {
  return ms / (24 * 3600 * 1000);
}

}  // namespace penstock
