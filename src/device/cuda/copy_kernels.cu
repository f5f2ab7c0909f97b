#include "device/cuda/copy_kernels.hpp"
#include "device/cuda/move_leaves.cuh"

namespace penstock::cuda {
namespace {

template <bool kGather>
cudaError_t launch(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  const unsigned blocks = blocks_of(batch);
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
