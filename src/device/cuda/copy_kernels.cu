#include "device/cuda/copy_kernels.hpp"
#include "device/cuda/leaf_hasher.cuh"

namespace penstock::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarpsPerBlock = kThreads / kWarp;
// Leaves that a warp takes in turn: enough to pay for its keys, few enough to fill the GPU.
constexpr unsigned kLeavesPerWarp = 4;

// Finds the byte of a page that a byte of a copy is. Offsets are asked for in rising order.
class PageFinder {
 public:
  __device__ PageFinder(const Batch& batch, const DeviceMove& move, uint64_t offset)
      : regions_{batch.regions + batch.groups[move.group].first_region},
        count_{batch.groups[move.group].region_count},
        rows_{batch.rows + move.first_row} {
    unsigned low = 0, high = count_;
    while (high - low > 1) {
      const unsigned middle = (low + high) / 2;
      if (regions_[middle].start <= offset) {
        low = middle;
      } else {
        high = middle;
      }
    }
    at_ = low;
  }

  // Null where the row is no row.
  __device__ unsigned char* find(uint64_t offset) {
    while (at_ + 1 < count_ && regions_[at_ + 1].start <= offset) ++at_;
    const DeviceRegion& region = regions_[at_];
    const uint32_t in_region = static_cast<uint32_t>(offset - region.start);
    const uint32_t page = in_region / region.page_bytes;
    const int32_t row = rows_[page];
    if (row < 0) return nullptr;
    return reinterpret_cast<unsigned char*>(region.base +
                                            static_cast<uint64_t>(row) * region.row_stride) +
           (in_region - page * region.page_bytes);
  }

 private:
  const DeviceRegion* regions_;
  unsigned count_;
  const int32_t* rows_;
  unsigned at_;
};

__device__ const DeviceMove& move_of(const Batch& batch, unsigned leaf) {
  unsigned low = 0, high = batch.move_count;
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    if (batch.moves[middle].first_leaf <= leaf) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return batch.moves[low];
}

__device__ uint4 zeros() {
  return make_uint4(0, 0, 0, 0);
}

// Byte by byte, for pages that are not aligned: into the staging leaf, zeros after the end.
__device__ void gather_bytes(PageFinder& finder, unsigned char* leaf, uint64_t begin, uint64_t end,
                             unsigned lane) {
  for (unsigned i = lane; i < kLeafBytes; i += kWarp) {
    const unsigned char* from = begin + i < end ? finder.find(begin + i) : nullptr;
    leaf[i] = from == nullptr ? 0 : *from;
  }
  __syncwarp();
}

__device__ void scatter_bytes(PageFinder& finder, const unsigned char* leaf, uint64_t begin,
                              uint64_t end, unsigned lane) {
  for (unsigned i = lane; i < kLeafBytes && begin + i < end; i += kWarp) {
    unsigned char* to = finder.find(begin + i);
    if (to != nullptr) *to = leaf[i];
  }
}

template <bool kGather, bool kAligned>
__global__ void __launch_bounds__(kThreads) move_leaves(const Batch batch) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warps = gridDim.x * kWarpsPerBlock;
  const LeafHasher hasher{*batch.keys, lane};
  for (unsigned leaf = blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp; leaf < batch.leaf_count;
       leaf += warps) {
    const DeviceMove& move = move_of(batch, leaf);
    const uint64_t in_move = static_cast<uint64_t>(leaf - move.first_leaf) * kLeafBytes;
    const uint64_t begin = move.begin + in_move, end = move.end;
    auto* staging = reinterpret_cast<unsigned char*>(move.data + in_move);
    PageFinder finder{batch, move, begin};
    if constexpr (kGather && !kAligned) gather_bytes(finder, staging, begin, end, lane);

    uint4 vectors[kVectors];
    unsigned char* pages[kVectors];
#pragma unroll
    for (unsigned k = 0; k < kVectors; ++k) {
      const unsigned at = (k * kWarp + lane) * sizeof(uint4);
      const bool inside = begin + at < end;
      pages[k] = kAligned && inside ? finder.find(begin + at) : nullptr;
      const unsigned char* from = kGather && kAligned ? pages[k] : inside ? staging + at : nullptr;
      vectors[k] = from == nullptr ? zeros() : __ldcs(reinterpret_cast<const uint4*>(from));
      // A copy may end inside a vector: what follows counts as zeros.
      if constexpr (!kAligned) {
        auto* bytes = reinterpret_cast<unsigned char*>(&vectors[k]);
        for (unsigned i = 0; i < sizeof(uint4); ++i)
          if (begin + at + i >= end) bytes[i] = 0;
      }
    }
    const uint64_t hash = hasher.hash(vectors);
    if (lane == 0) batch.leaf_hashes[leaf] = hash;
    if constexpr (kAligned) {
#pragma unroll
      for (unsigned k = 0; k < kVectors; ++k) {
        const unsigned at = (k * kWarp + lane) * sizeof(uint4);
        unsigned char* to = kGather ? staging + at : pages[k];
        if (to != nullptr) __stcs(reinterpret_cast<uint4*>(to), vectors[k]);
      }
    } else if constexpr (!kGather) {
      PageFinder again{batch, move, begin};
      scatter_bytes(again, staging, begin, end, lane);
    }
  }
}

template <bool kGather>
cudaError_t launch(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  const unsigned per_block = kWarpsPerBlock * kLeavesPerWarp;
  const unsigned blocks = (batch.leaf_count + per_block - 1) / per_block;
  if (blocks == 0) return cudaSuccess;
  if (aligned) {
    move_leaves<kGather, true><<<blocks, kThreads, 0, stream>>>(batch);
  } else {
    move_leaves<kGather, false><<<blocks, kThreads, 0, stream>>>(batch);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_gather(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  return launch<true>(batch, aligned, stream);
}

cudaError_t launch_scatter(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  return launch<false>(batch, aligned, stream);
}

}  // namespace penstock::cuda
