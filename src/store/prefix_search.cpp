#include "store/prefix_search.hpp"

#include <algorithm>

namespace penstock {
namespace {

using PresentAt = std::function<bool(uint32_t chunk)>;

// The number of leading chunks that are present, at most `end`.
uint32_t closed_prefix(uint32_t end, const PresentAt& present) {
  if (end == 0 || present(end - 1)) return end;  // the usual answers first
  uint32_t low = 0;
  uint32_t high = end - 1;
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    if (present(middle - 1)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

uint32_t open_prefix(uint32_t end, const PresentAt& present) {
  for (uint32_t chunk = 0; chunk < end; ++chunk)
    if (!present(chunk)) return chunk;
  return end;
}

// The largest n <= end such that the last `window` chunks before n are present. A missing chunk
// rules out every end that has it in its window, so the search goes on right before it.
uint32_t windowed_prefix(uint32_t end, uint32_t window, const PresentAt& present) {
  uint32_t found = 0;
  for (uint32_t chunk = end; chunk > 0 && found < window; --chunk) {
    if (present(chunk - 1)) {
      ++found;
    } else {
      end = chunk - 1;
      found = 0;
    }
  }
  return end;
}

}  // namespace

uint32_t longest_prefix(uint32_t chunks, std::span<const GroupNeed> groups, bool closed,
                        const std::function<bool(uint32_t, uint32_t, uint32_t)>& present) {
  if (groups.empty()) return 0;
  uint32_t end = chunks;
  for (const GroupNeed& need : groups) {
    if (need.window_chunks != 0) continue;
    for (uint32_t shard = 0; shard < need.shards; ++shard) {
      const auto at = [&](uint32_t chunk) { return present(need.group, shard, chunk); };
      end = closed ? closed_prefix(end, at) : open_prefix(end, at);
    }
  }
  // A step back for one window moves the others' windows too: again until nothing moves.
  for (uint32_t before = end + 1; end < before;) {
    before = end;
    for (const GroupNeed& need : groups) {
      if (need.window_chunks == 0) continue;
      for (uint32_t shard = 0; shard < need.shards; ++shard) {
        end = windowed_prefix(end, need.window_chunks,
                              [&](uint32_t chunk) { return present(need.group, shard, chunk); });
      }
    }
  }
  return end;
}

}  // namespace penstock
