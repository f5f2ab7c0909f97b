// The eviction policy: from an event to a stamp. The victim is the leaf with the smallest stamp.
//
// Least recently used: a copy's stamp is the time (ms since 1970) of its last use. Only the deepest
// chunk of a hit is stamped; an evicted leaf hands its stamp to its parent, which thereby counts as
// used when its last child was. A copy that is on its way to a slower tier is held: its stamp lies
// in the future, until it is settled or the time comes, so that a process that dies holds nothing
// for long. Pure; any thread. The simulator uses the same functions.
#pragma once

#include <algorithm>
#include <cstdint>

namespace penstock {

using Stamp = int64_t;

inline constexpr Stamp kHold = 60'000;

constexpr Stamp stamp_on_insert(Stamp now, bool held) noexcept {
  return held ? now + kHold : now;
}
constexpr Stamp stamp_on_settled(Stamp current, Stamp now) noexcept {
  return std::min(current, now);
}
// Not further in the future, or a clock that was set back would hold everything.
constexpr bool is_held(Stamp stamp, Stamp now) noexcept {
  return stamp > now && stamp <= now + kHold;
}
// What is later is from a clock that was ahead: it would be the newest until the clock gets there,
// and all that is saved meanwhile the victims. Twice the hold, for another process may have read
// the clock after this one.
constexpr Stamp latest_stamp(Stamp now) noexcept {
  return now + 2 * kHold;
}
// The clock may have been set back, so a use never makes a copy older.
constexpr Stamp stamp_on_hit(Stamp current, Stamp now) noexcept {
  return std::max(current, now);
}
constexpr Stamp stamp_on_child_evicted(Stamp parent, Stamp child) noexcept {
  return std::max(parent, child);
}

}  // namespace penstock
