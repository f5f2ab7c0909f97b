// The kernels that gather pages into staging memory of the GPU and scatter them back, hashing each
// leaf (4 KiB of a copy) on the way. Plain structures and launch functions, so that host compilers
// can include it.
//
// Both sides are GPU memory: SMs never touch host memory, because a kernel that writes it leaves a
// concurrent matrix product 32 to 42 % of its speed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace penstock::cuda {

// A region of a group; see include/penstock/region.hpp.
struct DeviceRegion {
  uint64_t base = 0;
  uint64_t row_stride = 0;
  uint64_t start = 0;  // offset of its first page in a copy
  uint32_t page_bytes = 0;
  uint32_t padding = 0;
};

struct DeviceGroup {
  uint32_t first_region = 0, region_count = 0;
};

struct DeviceMove {
  uint64_t data = 0;   // staging memory, aligned to a leaf
  uint64_t begin = 0;  // bytes of the copy; a multiple of a leaf
  uint64_t end = 0;
  uint32_t group = 0;
  uint32_t first_row = 0;   // index of the chunk's rows in Batch::rows
  uint32_t first_leaf = 0;  // of this move among the batch's leaves
  uint32_t padding = 0;
};

// The words of XXH3's secret in the order in which a leaf's hash uses them.
struct HashKeys {
  uint64_t stripe[24];  // stripe s, accumulator i: stripe[s + i]; scrambling: stripe[16 + i]
  uint64_t last[8];     // the last stripe of a leaf
  uint64_t merge[8];
  uint64_t initial[8];
};
HashKeys hash_keys() noexcept;

struct Batch {
  // All pointers are GPU memory.
  const DeviceRegion* regions = nullptr;
  const DeviceGroup* groups = nullptr;
  const HashKeys* keys = nullptr;
  const DeviceMove* moves = nullptr;
  const int32_t* rows = nullptr;
  uint64_t* leaf_hashes = nullptr;  // out
  uint32_t move_count = 0;
  uint32_t leaf_count = 0;
};

// `aligned`: base, stride and page of every region are multiples of 16.
cudaError_t launch_gather(const Batch& batch, bool aligned, cudaStream_t stream) noexcept;
cudaError_t launch_scatter(const Batch& batch, bool aligned, cudaStream_t stream) noexcept;

}  // namespace penstock::cuda
