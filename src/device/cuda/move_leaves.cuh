// move_leaves: the kernel behind copy_kernels.hpp. A warp takes a few leaves that follow each other,
// so that it looks its move and its page up once. All lanes of a warp take the same way, but within
// a leaf that lies in several pages.
#pragma once

#include "device/cuda/copy_kernels.hpp"
#include "device/cuda/leaf_hasher.cuh"

namespace penstock::cuda {

inline constexpr unsigned kThreads = 256;
inline constexpr unsigned kWarpsPerBlock = kThreads / kWarp;
// Enough to pay for its keys and for what it looks up, few enough to fill the GPU.
inline constexpr unsigned kLeavesPerWarp = 4;

// The last i < count for which `holds(i)`, which does for the first and up to some other one. All
// lanes of the warp; all get it.
template <typename Holds>
__device__ unsigned last_that(unsigned count, unsigned lane, const Holds& holds) {
  unsigned found = 0;
  for (unsigned base = 0; base < count; base += kWarp) {
    const unsigned i = base + lane;
    const unsigned votes = __ballot_sync(kWholeWarp, i < count && holds(i));
    found += __popc(votes);
    if (votes != kWholeWarp) break;
  }
  return found - 1;
}

// Finds the byte of a page that a byte of a copy is. Offsets are asked for in rising order.
class PageFinder {
 public:
  // All lanes of the warp.
  __device__ PageFinder(const Batch& batch, const DeviceMove& move, uint64_t offset, unsigned lane)
      : regions_{batch.regions + batch.groups[move.group].first_region},
        count_{batch.groups[move.group].region_count},
        rows_{batch.rows + move.first_row} {
    at_ = last_that(count_, lane, [&](unsigned i) { return regions_[i].start <= offset; });
  }

  // Null where the row is no row.
  __device__ unsigned char* find(uint64_t offset) {
    unsigned char* byte = nullptr;
    (void)find_run(offset, byte);
    return byte;
  }

  // True: the leaf at `offset` lies in one page, at `leaf`.
  __device__ bool find_leaf(uint64_t offset, unsigned char*& leaf) {
    return find_run(offset, leaf) >= kLeafBytes;
  }

 private:
  // Bytes from `offset` to the end of its page, whose byte there is `byte`.
  __device__ uint32_t find_run(uint64_t offset, unsigned char*& byte) {
    while (at_ + 1 < count_ && regions_[at_ + 1].start <= offset) ++at_;
    const DeviceRegion& region = regions_[at_];
    const uint32_t in_region = static_cast<uint32_t>(offset - region.start);
    const uint32_t page = in_region / region.page_bytes;
    const uint32_t in_page = in_region - page * region.page_bytes;
    const int32_t row = rows_[page];
    byte = row < 0 ? nullptr
                   : reinterpret_cast<unsigned char*>(
                         region.base + static_cast<uint64_t>(row) * region.row_stride) +
                         in_page;
    return region.page_bytes - in_page;
  }

  const DeviceRegion* regions_;
  unsigned count_;
  const int32_t* rows_;
  unsigned at_;
};

inline __device__ uint4 zeros() {
  return make_uint4(0, 0, 0, 0);
}

inline __device__ uint4 read(const unsigned char* from) {
  return __ldcs(reinterpret_cast<const uint4*>(from));
}

inline __device__ void write(unsigned char* to, const uint4& vector) {
  __stcs(reinterpret_cast<uint4*>(to), vector);
}

inline __device__ unsigned place(unsigned k, unsigned lane) {
  return (k * kWarp + lane) * static_cast<unsigned>(sizeof(uint4));
}

// Each of these leaves the leaf's bytes in `vectors`; what follows `end` counts as zeros.

template <bool kGather>
__device__ void move_in_one_page(unsigned char* page, unsigned char* staging, unsigned lane,
                                 uint4 (&vectors)[kVectors]) {
  const unsigned char* from = kGather ? page : staging;
  unsigned char* to = kGather ? staging : page;
#pragma unroll
  for (unsigned k = 0; k < kVectors; ++k)
    vectors[k] = from == nullptr ? zeros() : read(from + place(k, lane));
#pragma unroll
  for (unsigned k = 0; k < kVectors; ++k)
    if (to != nullptr) write(to + place(k, lane), vectors[k]);
}

template <bool kGather>
__device__ void move_vectors(PageFinder finder, unsigned char* staging, uint64_t begin,
                             uint64_t end, unsigned lane, uint4 (&vectors)[kVectors]) {
  for (unsigned k = 0; k < kVectors; ++k) {
    const unsigned at = place(k, lane);
    unsigned char* page = begin + at < end ? finder.find(begin + at) : nullptr;
    const bool there = kGather ? page != nullptr : begin + at < end;
    vectors[k] = there ? read(kGather ? page : staging + at) : zeros();
    if (kGather) {
      write(staging + at, vectors[k]);
    } else if (page != nullptr) {
      write(page, vectors[k]);
    }
  }
}

// Byte by byte, for pages that are not aligned.
template <bool kGather>
__device__ void move_bytes(PageFinder finder, unsigned char* staging, uint64_t begin, uint64_t end,
                           unsigned lane, uint4 (&vectors)[kVectors]) {
  for (unsigned i = lane; i < kLeafBytes; i += kWarp) {
    unsigned char* page = begin + i < end ? finder.find(begin + i) : nullptr;
    if (kGather) {
      staging[i] = page == nullptr ? 0 : *page;
    } else if (page != nullptr) {
      *page = staging[i];
    }
  }
  __syncwarp();
  for (unsigned k = 0; k < kVectors; ++k) {
    const unsigned at = place(k, lane);
    vectors[k] = begin + at < end ? read(staging + at) : zeros();
    auto* bytes = reinterpret_cast<unsigned char*>(&vectors[k]);
    for (unsigned i = 0; i < sizeof(uint4); ++i)
      if (begin + at + i >= end) bytes[i] = 0;
  }
}

template <bool kGather, bool kAligned>
__global__ void __launch_bounds__(kThreads) move_leaves(const Batch batch) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = blockIdx.x * kWarpsPerBlock + threadIdx.x / kWarp;
  unsigned leaf = warp * kLeavesPerWarp;
  if (leaf >= batch.leaf_count) return;
  const unsigned left = batch.leaf_count - leaf;
  const unsigned last = leaf + (left < kLeavesPerWarp ? left : kLeavesPerWarp);
  const LeafHasher hasher{*batch.keys, lane};
  unsigned index = last_that(batch.move_count, lane,
                             [&](unsigned i) { return batch.moves[i].first_leaf <= leaf; });
  for (; leaf < last; ++index) {
    const DeviceMove move = batch.moves[index];
    unsigned until = index + 1 < batch.move_count ? batch.moves[index + 1].first_leaf : last;
    until = until < last ? until : last;
    uint64_t in_move = static_cast<uint64_t>(leaf - move.first_leaf) * kLeafBytes;
    PageFinder finder{batch, move, move.begin + in_move, lane};
    for (; leaf < until; ++leaf, in_move += kLeafBytes) {
      const uint64_t begin = move.begin + in_move;
      auto* staging = reinterpret_cast<unsigned char*>(move.data + in_move);
      uint4 vectors[kVectors];
      unsigned char* page = nullptr;
      if (!kAligned) {
        move_bytes<kGather>(finder, staging, begin, move.end, lane, vectors);
      } else if (finder.find_leaf(begin, page) && begin + kLeafBytes <= move.end) {
        move_in_one_page<kGather>(page, staging, lane, vectors);
      } else {
        move_vectors<kGather>(finder, staging, begin, move.end, lane, vectors);
      }
      const uint64_t hash = hasher.hash(vectors);
      if (lane == 0) batch.leaf_hashes[leaf] = hash;
    }
  }
}

inline unsigned blocks_of(const Batch& batch) {
  constexpr unsigned per_block = kWarpsPerBlock * kLeavesPerWarp;
  return (batch.leaf_count + per_block - 1) / per_block;
}

}  // namespace penstock::cuda
