// The eviction policy: from an event to a stamp. The victim is the leaf with the smallest stamp.
//
// Least recently used: a copy's stamp is the time (ms since 1970) of its last use. Only the deepest
// chunk of a hit is stamped; an evicted leaf hands its stamp to its parent, which thereby counts as
// used when its last child was. Pure; any thread. The simulator uses the same functions.
#pragma once

#include <algorithm>
#include <cstdint>

namespace penstock {

using Stamp = int64_t;

constexpr Stamp stamp_on_insert(Stamp now) noexcept {
  return now;
}
// The clock may have been set back, so a use never makes a copy older.
constexpr Stamp stamp_on_hit(Stamp current, Stamp now) noexcept {
  return std::max(current, now);
}
constexpr Stamp stamp_on_child_evicted(Stamp parent, Stamp child) noexcept {
  return std::max(parent, child);
}

}  // namespace penstock
