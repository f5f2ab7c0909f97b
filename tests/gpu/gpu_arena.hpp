// GpuArena: memory of the GPU with a mirror on the host, for tests that compare all of it.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace penstock {

inline bool gpu_is_there() {
  int count = 0;
  const bool there = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
  if (!there) (void)cudaGetLastError();
  return there;
}

class GpuArena {
 public:
  explicit GpuArena(uint64_t bytes) : mirror_(bytes) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&gpu_), bytes), cudaSuccess);
    EXPECT_EQ(cudaMemset(gpu_, 0x5A, bytes), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::memset(mirror_.data(), 0x5A, bytes);
  }
  GpuArena(const GpuArena&) = delete;
  GpuArena& operator=(const GpuArena&) = delete;
  ~GpuArena() { cudaFree(gpu_); }

  uint64_t gpu() const { return reinterpret_cast<uint64_t>(gpu_); }
  std::byte* mirror() { return mirror_.data(); }

  void fill_random(uint64_t seed) {
    std::mt19937_64 random{seed};
    for (size_t i = 0; i + 8 <= mirror_.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(mirror_.data() + i, &word, 8);
    }
    EXPECT_EQ(cudaMemcpy(gpu_, mirror_.data(), mirror_.size(), cudaMemcpyHostToDevice),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  void fill_on(cudaStream_t stream, int byte) {
    EXPECT_EQ(cudaMemsetAsync(gpu_, byte, mirror_.size(), stream), cudaSuccess);
  }
  bool equals_mirror() const {
    std::vector<std::byte> now(mirror_.size());
    EXPECT_EQ(cudaMemcpy(now.data(), gpu_, now.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return now == mirror_;
  }

 private:
  std::byte* gpu_ = nullptr;
  std::vector<std::byte> mirror_;
};

class PinnedBytes {
 public:
  explicit PinnedBytes(uint64_t bytes) {
    EXPECT_EQ(cudaMallocHost(reinterpret_cast<void**>(&data_), bytes), cudaSuccess);
  }
  PinnedBytes(const PinnedBytes&) = delete;
  PinnedBytes& operator=(const PinnedBytes&) = delete;
  ~PinnedBytes() { cudaFreeHost(data_); }
  std::byte* data() { return data_; }

 private:
  std::byte* data_ = nullptr;
};

}  // namespace penstock
