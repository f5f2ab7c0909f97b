#include "base/checksum.hpp"

#include <cstring>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.hpp"

namespace penstock {

uint64_t leaf_hash(std::span<const std::byte> leaf) noexcept {
  PENSTOCK_ASSERT(leaf.size() <= kLeaf);
  if (leaf.size() == kLeaf) return XXH3_64bits(leaf.data(), kLeaf);
  alignas(64) std::byte padded[kLeaf] = {};
  if (!leaf.empty()) std::memcpy(padded, leaf.data(), leaf.size());
  return XXH3_64bits(padded, kLeaf);
}

uint64_t combine_leaves(std::span<const uint64_t> leaves, uint64_t identity) noexcept {
  return XXH3_64bits_withSeed(leaves.data(), leaves.size_bytes(), identity);
}

uint64_t block_checksum(std::span<const std::byte> block, uint64_t identity) noexcept {
  PENSTOCK_ASSERT(block.size() <= kMaxBlock);
  thread_local std::vector<uint64_t> leaves;
  leaves.clear();
  for (size_t offset = 0; offset < block.size(); offset += kLeaf) {
    leaves.push_back(leaf_hash(block.subspan(offset, std::min(kLeaf, block.size() - offset))));
  }
  return combine_leaves(leaves, identity);
}

}  // namespace penstock
