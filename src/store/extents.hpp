// What can be done with lists of extents. Pure; any thread.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "store/types.hpp"

namespace penstock {

uint64_t block_count(std::span<const Extent> extents) noexcept;

// The first `blocks` of `extents`, and the rest. Each pool keeps its share, so that all drives go
// on working on the copy; within a pool the later blocks go. Requires: there are as many.
struct TrimmedExtents {
  std::vector<Extent> kept, spare;
};
TrimmedExtents trim(std::span<const Extent> extents, uint64_t blocks);

}  // namespace penstock
