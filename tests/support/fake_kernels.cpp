// The kernels of copy_kernels.hpp as plain loops.
#include "support/fake_kernels.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "base/checksum.hpp"

namespace penstock::cuda {
namespace {

// Calls `fn(staging, page, size)` for each piece of a leaf; `page` is null where there is no row.
template <typename Fn>
void for_each_piece(const Batch& batch, const DeviceMove& move, uint64_t begin, uint64_t end,
                    Fn&& fn) {
  const auto* regions = batch.regions + batch.groups[move.group].first_region;
  const uint32_t count = batch.groups[move.group].region_count;
  auto* staging = reinterpret_cast<std::byte*>(move.data) + (begin - move.begin);
  for (uint64_t at = begin; at < end;) {
    uint32_t r = 0;
    while (r + 1 < count && regions[r + 1].start <= at) ++r;
    const uint64_t in_region = at - regions[r].start;
    const uint64_t in_page = in_region % regions[r].page_bytes;
    const int32_t row = batch.rows[move.first_row + in_region / regions[r].page_bytes];
    const uint64_t size = std::min(end - at, regions[r].page_bytes - in_page);
    std::byte* page = nullptr;
    if (row >= 0)
      page = reinterpret_cast<std::byte*>(
          regions[r].base + static_cast<uint64_t>(row) * regions[r].row_stride + in_page);
    fn(staging + (at - begin), page, size);
    at += size;
  }
}

}  // namespace

void run_kernel(const Launch& launch) {
  const auto& [batch, aligned, gathers] = launch;
  const HashKeys keys = hash_keys();
  PENSTOCK_ASSERT(std::memcmp(&keys, batch.keys, sizeof(keys)) == 0);
  uint32_t leaf = 0;
  for (uint32_t m = 0; m < batch.move_count; ++m) {
    const DeviceMove& move = batch.moves[m];
    PENSTOCK_ASSERT(move.first_leaf == leaf && move.data % kLeaf == 0);
    for (uint64_t begin = move.begin; begin < move.end; begin += kLeaf, ++leaf) {
      const uint64_t end = std::min(begin + kLeaf, move.end);
      auto* staging = reinterpret_cast<std::byte*>(move.data) + (begin - move.begin);
      if (gathers) {
        for_each_piece(batch, move, begin, end,
                       [aligned = aligned](std::byte* to, const std::byte* page, size_t size) {
                         PENSTOCK_ASSERT(!aligned || reinterpret_cast<uintptr_t>(page) % 16 == 0);
                         if (page == nullptr) std::memset(to, 0, size);
                         if (page != nullptr) std::memcpy(to, page, size);
                       });
        std::memset(staging + (end - begin), 0, kLeaf - (end - begin));
      }
      batch.leaf_hashes[leaf] = leaf_hash({staging, end - begin});
      if (gathers) continue;
      for_each_piece(batch, move, begin, end,
                     [](const std::byte* from, std::byte* page, size_t size) {
                       if (page != nullptr) std::memcpy(page, from, size);
                     });
    }
  }
  PENSTOCK_ASSERT(leaf == batch.leaf_count);
}

}  // namespace penstock::cuda
