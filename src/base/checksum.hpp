// The checksum of a block: XXH3-64 over leaves of 4 KiB, then over the list of leaf hashes with the
// block's identity as the seed.
//
// Leaves do not follow pages; a short last leaf is padded with zeros. The two levels are there so
// that a GPU can hash one leaf a warp and the CPU one leaf while it is in the L1 cache. Pure; any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/sizes.hpp"

namespace penstock {

// XXH3-64 of one leaf (at most kLeaf bytes; shorter ones count as padded with zeros).
uint64_t leaf_hash(std::span<const std::byte> leaf) noexcept;
// Combines the leaves of one block, in order.
uint64_t combine_leaves(std::span<const uint64_t> leaves, uint64_t identity) noexcept;
// Both steps over `block` (any size up to kMaxBlock).
uint64_t block_checksum(std::span<const std::byte> block, uint64_t identity) noexcept;

inline constexpr uint64_t kMaxBlock = 64 * 1024 * 1024;

}  // namespace penstock
