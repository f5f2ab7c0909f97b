#include "base/checksum.hpp"

#include <cstring>
#include <vector>

#include "base/assert.hpp"

// The same hash, for whatever this machine has: XXH3 picks its vectors when it is
// compiled. (AVX-512 was measured no faster: both are bound by memory.)
#define LEAF_HASH_NAME leaf_hash_generic
#include "base/leaf_hash.inc"

namespace penstock {
namespace detail {
#if defined(__x86_64__)
uint64_t leaf_hash_avx2(const void* leaf) noexcept;
#endif
}  // namespace detail

namespace {

using LeafHash = uint64_t (*)(const void*) noexcept;

LeafHash best_leaf_hash() noexcept {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return detail::leaf_hash_avx2;
#endif
  return detail::leaf_hash_generic;
}

const LeafHash full_leaf_hash = best_leaf_hash();

}  // namespace

uint64_t leaf_hash(std::span<const std::byte> leaf) noexcept {
  PENSTOCK_ASSERT(leaf.size() <= kLeaf);
  if (leaf.size() == kLeaf) return full_leaf_hash(leaf.data());
  alignas(64) std::byte padded[kLeaf] = {};
  if (!leaf.empty()) std::memcpy(padded, leaf.data(), leaf.size());
  return full_leaf_hash(padded);
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
