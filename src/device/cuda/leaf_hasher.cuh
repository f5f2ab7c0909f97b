// LeafHasher: XXH3-64 of one leaf by one warp, equal to leaf_hash() of src/base/checksum.hpp.
//
// XXH3 keeps eight accumulators and adds to them stripe after stripe of 64 bytes; after each block
// of 16 stripes it scrambles them. What a stripe adds does not depend on the accumulators, so the
// lanes work on all 64 stripes of a leaf at once: lane l has bytes [16 l, 16 l + 16) of each 512,
// which belong to the accumulators 2 (l % 4) and 2 (l % 4) + 1. The sums of the four blocks are
// then reduced over the warp and scrambled in order. (Algorithm: xxHash, doc/xxhash_spec.md.)
#pragma once

#include "device/cuda/copy_kernels.hpp"

namespace penstock::cuda {

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kLeafBytes = 4096;
inline constexpr unsigned kVectors = kLeafBytes / (kWarp * sizeof(uint4));  // of a lane: 8
inline constexpr unsigned kWholeWarp = 0xffffffffu;

class LeafHasher {
 public:
  __device__ LeafHasher(const HashKeys& keys, unsigned lane) {
    const unsigned pair = 2 * (lane % 4), stripe = lane / 4;
    for (unsigned i = 0; i < 2; ++i) {
      even_[i] = keys.stripe[stripe + pair + i];
      odd_[i] = keys.stripe[8 + stripe + pair + i];
      last_[i] = stripe == 7 ? keys.last[pair + i] : odd_[i];
      scramble_[i] = keys.stripe[16 + pair + i];
      merge_[i] = keys.merge[pair + i];
      initial_[i] = keys.initial[pair + i];
    }
  }

  // `vectors[k]` is this lane's 16 bytes at 512 k. All lanes of the warp; all get the hash.
  __device__ uint64_t hash(const uint4 (&vectors)[kVectors]) const {
    uint64_t sum[4][2] = {};
#pragma unroll
    for (unsigned k = 0; k < kVectors; ++k) {
      const uint64_t(&key)[2] = k == kVectors - 1 ? last_ : (k % 2 == 0 ? even_ : odd_);
      const uint64_t low = word(vectors[k].x, vectors[k].y);
      const uint64_t high = word(vectors[k].z, vectors[k].w);
      sum[k / 2][0] += product(low ^ key[0]) + high;
      sum[k / 2][1] += product(high ^ key[1]) + low;
    }
    uint64_t acc[2] = {initial_[0], initial_[1]};
#pragma unroll
    for (unsigned block = 0; block < 4; ++block) {
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) {
        uint64_t total = sum[block][i];
        total += __shfl_xor_sync(kWholeWarp, total, 4);
        total += __shfl_xor_sync(kWholeWarp, total, 8);
        total += __shfl_xor_sync(kWholeWarp, total, 16);
        acc[i] += total;
        if (block < 3) acc[i] = (acc[i] ^ (acc[i] >> 47) ^ scramble_[i]) * kPrime32_1;
      }
    }
    const uint64_t a = acc[0] ^ merge_[0], b = acc[1] ^ merge_[1];
    uint64_t folded = (a * b) ^ __umul64hi(a, b);
    folded += __shfl_xor_sync(kWholeWarp, folded, 1);
    folded += __shfl_xor_sync(kWholeWarp, folded, 2);
    uint64_t hash = folded + kLeafBytes * kPrime64_1;
    hash ^= hash >> 37;
    hash *= kAvalanche;
    return hash ^ (hash >> 32);
  }

 private:
  static constexpr uint64_t kPrime32_1 = 0x9E3779B1u;
  static constexpr uint64_t kPrime64_1 = 0x9E3779B185EBCA87u;
  static constexpr uint64_t kAvalanche = 0x165667919E3779F9u;

  static __device__ uint64_t word(uint32_t low, uint32_t high) {
    return static_cast<uint64_t>(high) << 32 | low;
  }
  static __device__ uint64_t product(uint64_t value) {
    return (value & 0xffffffffu) * (value >> 32);
  }

  uint64_t even_[2], odd_[2], last_[2], scramble_[2], merge_[2], initial_[2];
};

}  // namespace penstock::cuda
