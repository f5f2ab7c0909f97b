#include "store/extents.hpp"

#include <algorithm>
#include <map>

#include "base/assert.hpp"

namespace penstock {

uint64_t block_count(std::span<const Extent> extents) noexcept {
  uint64_t blocks = 0;
  for (const Extent& extent : extents) blocks += extent.count;
  return blocks;
}

TrimmedExtents trim(std::span<const Extent> extents, uint64_t blocks) {
  const uint64_t total = block_count(extents);
  PENSTOCK_ASSERT(blocks <= total);
  std::map<uint32_t, uint64_t> share;  // by pool: first all of its blocks, then what it keeps
  for (const Extent& extent : extents) share[extent.pool] += extent.count;
  uint64_t before = 0, kept_before = 0;
  for (auto& [pool, count] : share) {
    before += count;
    const uint64_t kept = (blocks * before + total / 2) / total;
    count = std::min(kept - kept_before, count);
    kept_before += count;
  }
  // Rounding may have left some to those that have more.
  for (const Extent& extent : extents) {
    uint64_t of_pool = 0;
    for (const Extent& other : extents)
      if (other.pool == extent.pool) of_pool += other.count;
    const uint64_t more = std::min(of_pool - share[extent.pool], blocks - kept_before);
    share[extent.pool] += more;
    kept_before += more;
  }
  TrimmedExtents trimmed;
  for (const Extent& extent : extents) {
    uint64_t& left = share[extent.pool];
    const auto kept = static_cast<uint32_t>(std::min<uint64_t>(left, extent.count));
    left -= kept;
    if (kept > 0) trimmed.kept.push_back({extent.pool, extent.first, kept});
    if (kept < extent.count)
      trimmed.spare.push_back({extent.pool, extent.first + kept, extent.count - kept});
  }
  return trimmed;
}

}  // namespace penstock
