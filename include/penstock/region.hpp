// Region and GroupLayout: where an engine's KV pages live in memory.
//
// The core is address-based; it never sees a tensor library. A region is one KV tensor (one layer,
// or the K or V plane of one): `rows` pages of `page_bytes` contiguous bytes, one every
// `row_stride` bytes from `base`. A group is the layers that share block ids (rows). The memory is
// the caller's and must outlive the engine that it is registered with. Values; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace penstock {

struct Region {
  uint64_t base = 0;           // address of row 0
  uint64_t rows = 0;           // number of rows
  uint64_t row_stride = 0;     // bytes from one row to the next
  uint64_t page_bytes = 0;     // contiguous bytes of one row
  uint32_t layer = 0;          // index of the layer within the group; several regions may share one
  uint32_t element_bytes = 1;  // of the numbers in it: 2 for bf16; a hint for compression
};

// Regions of one group, in the order in which their pages follow each other in a copy (layer after
// layer). Within a group no two regions may overlap; regions of different groups may.
struct GroupLayout {
  uint32_t rows_per_chunk = 0;  // rows that one chunk of tokens takes in this group
  std::vector<Region> regions;

  // Bytes of one copy: every region's pages of every row of a chunk.
  uint64_t copy_bytes() const noexcept {
    uint64_t bytes = 0;
    for (const Region& region : regions) bytes += region.page_bytes * rows_per_chunk;
    return bytes;
  }
  uint32_t layer_count() const noexcept {
    uint32_t count = 0;
    for (const Region& region : regions)
      count = region.layer + 1 > count ? region.layer + 1 : count;
    return count;
  }
};

}  // namespace penstock
