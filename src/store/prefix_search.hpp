// longest_prefix: how many chunks of a chain can be loaded, given what is present. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "penstock/engine.hpp"

namespace penstock {

// `present(group, shard, chunk)` says whether that copy is there. With `closed`, presence within a
// (group, shard) has no holes, which makes the groups that need every chunk a binary search. Groups
// with a window need only the last `window_chunks` chunks; nothing is assumed about the others.
uint32_t longest_prefix(uint32_t chunks, std::span<const GroupNeed> groups, bool closed,
                        const std::function<bool(uint32_t, uint32_t, uint32_t)>& present);

}  // namespace penstock
