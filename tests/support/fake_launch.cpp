// The launches of copy_kernels.hpp on fake_cudart.cpp's streams.
#include <atomic>
#include <memory>

#include "support/fake_cudart.hpp"
#include "support/fake_kernels.hpp"

namespace penstock::cuda {
namespace {

std::atomic<size_t> launches = 0;

cudaError_t launch(const Batch& batch, bool aligned, bool gathers, cudaStream_t stream) noexcept {
  if (!test::may_launch_on(stream)) return cudaErrorInvalidResourceHandle;
  ++launches;
  auto* const kernel = new Launch{batch, aligned, gathers};
  return cudaLaunchHostFunc(
      stream,
      [](void* data) {
        const std::unique_ptr<Launch> own{static_cast<Launch*>(data)};
        run_kernel(*own);
      },
      kernel);
}

}  // namespace

size_t launches_for_test() {
  return launches;
}

cudaError_t launch_gather(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  return launch(batch, aligned, true, stream);
}

cudaError_t launch_scatter(const Batch& batch, bool aligned, cudaStream_t stream) noexcept {
  return launch(batch, aligned, false, stream);
}

}  // namespace penstock::cuda
