// What the CUDA device gives to which stream, and when.
#include "device/cuda/lane.hpp"

#include <gtest/gtest.h>

#include <atomic>

#include "device/cuda/cuda_device.hpp"
#include "gpu/gpu_arena.hpp"
#include "support/fake_kernels.hpp"

namespace penstock {
namespace {

constexpr uint64_t kPage = 4096;

// Holds up all that is copied to the GPU.
class BusyLink {
 public:
  explicit BusyLink(std::byte* gpu) {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaLaunchHostFunc(
                  stream_, [](void* freed) { static_cast<std::atomic_flag*>(freed)->wait(false); },
                  &freed_),
              cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(gpu, byte_.data(), 1, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  }
  ~BusyLink() {
    free();  // a test that failed has not
    cudaStreamDestroy(stream_);
  }
  void free() {
    freed_.test_and_set();
    freed_.notify_all();
  }

 private:
  std::atomic_flag freed_;
  PinnedBytes byte_{1};
  cudaStream_t stream_ = nullptr;
};

// One that waited for them on the GPU would hold up the copies behind them (decision 0014).
TEST(Lane, AScattersKernelIsLaunchedWhenItsCopiesAreThere) {
  GpuArena arena{8 * kPage};
  auto device = CudaDevice::open(0, {{1, {{arena.gpu(), 4, kPage, kPage, 0}}}});
  ASSERT_TRUE(device) << device.error().message;
  (*device)->enter_thread([] {});
  PinnedBytes slot{kPage};
  const int32_t rows[] = {2};
  PageMove move;
  move.direction = PageMove::Direction::Scatter;
  move.rows = rows;
  move.end = move.block_size = kPage;
  move.identities = {7};
  move.data = slot.data();
  PageMove* moves[] = {&move};
  BusyLink link{reinterpret_cast<std::byte*>(arena.gpu() + 7 * kPage)};
  const size_t before = cuda::launches_for_test();
  ASSERT_EQ((*device)->submit(moves), 1U);
  PageMove* done[1];
  EXPECT_EQ((*device)->poll(done), 0U);
  EXPECT_EQ(cuda::launches_for_test(), before);
  link.free();
  while ((*device)->poll(done) == 0) {
  }
  EXPECT_EQ(cuda::launches_for_test(), before + 1);
  EXPECT_EQ(move.status, Status::Ok);
}

}  // namespace
}  // namespace penstock
