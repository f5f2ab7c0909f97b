// The host's copies: move blocks between staging memory and pages that the CPU can address, and
// hashes them on the way (leaf by leaf, so that each byte comes from memory once).
//
// Pure functions over memory that the caller owns; any thread. A GPU has the same two operations.
#pragma once

#include <cstddef>
#include <span>

#include "device/copy_map.hpp"

namespace penstock {

// Bytes [begin, begin + block.size()) of the copy, from pages to `block`; kNoRow rows read as
// zeros. Returns the block's checksum under `identity`.
uint64_t gather(const CopyMap& map, std::span<const int32_t> rows, uint64_t begin,
                std::span<std::byte> block, uint64_t identity) noexcept;

// The other way; kNoRow rows are skipped. The pages are written whether or not the checksum that it
// returns is the right one: the caller reports the copy as failed if it is not.
// With `shared`, others may change the block meanwhile: what is hashed is what the pages get.
uint64_t scatter(const CopyMap& map, std::span<const int32_t> rows, uint64_t begin,
                 std::span<const std::byte> block, uint64_t identity, bool shared = false) noexcept;

}  // namespace penstock
