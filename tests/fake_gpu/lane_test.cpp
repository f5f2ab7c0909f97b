// What the CUDA device gives to which stream, and when.
#include "device/cuda/lane.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "device/cuda/cuda_device.hpp"
#include "device/cuda/handles.hpp"
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

// What the engine writes to the pages next, it writes after they have been read: where CUDA does
// not let its stream wait, or it names none, the call itself does.
class RowsInUse : public testing::Test {
 protected:
  void SetUp() override {
    auto device = CudaDevice::open(0, {{1, {{arena_.gpu(), 4, kPage, kPage, 0}}}});
    ASSERT_TRUE(device) << device.error().message;
    device_ = std::move(*device);
    device_->enter_thread([] {});
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMemset(page(), 1, kPage), cudaSuccess);
    move_.direction = PageMove::Direction::Gather;
    move_.rows = rows_;
    move_.end = move_.block_size = kPage;
    move_.identities = {7};
    move_.data = slot_.data();
    link_ = std::make_unique<BusyLink>(reinterpret_cast<std::byte*>(arena_.gpu() + 7 * kPage));
    PageMove* moves[] = {&move_};
    ASSERT_EQ(device_->submit(moves), 1U);  // its kernel waits for what says where the pages are
  }
  void TearDown() override {
    cuda::fail_call_for_test = 0;
    link_.reset();
    device_.reset();
    cudaStreamDestroy(stream_);
  }
  // Writes the page anew behind the call, and expects the old bytes to be what was gathered.
  void expect_old_bytes(Stream stream) {
    std::promise<void> returned;
    std::thread freer{[&, back = returned.get_future()] {
      back.wait_for(std::chrono::milliseconds{300});  // a call that waits returns only after this
      link_->free();
    }};
    device_->order_after_gathers(stream);
    EXPECT_EQ(cudaMemset(page(), 2, kPage), cudaSuccess);
    returned.set_value();
    freer.join();
    PageMove* done[1];
    while (device_->poll(done) == 0) {
    }
    EXPECT_EQ(move_.status, Status::Ok);
    EXPECT_EQ(slot_.data()[0], std::byte{1});
    EXPECT_EQ(slot_.data()[kPage - 1], std::byte{1});
  }
  std::byte* page() { return reinterpret_cast<std::byte*>(arena_.gpu() + 2 * kPage); }

  const int32_t rows_[1] = {2};
  GpuArena arena_{8 * kPage};
  PinnedBytes slot_{kPage};
  PageMove move_;
  std::unique_ptr<BusyLink> link_;
  std::unique_ptr<Device> device_;
  cudaStream_t stream_ = nullptr;
};

TEST_F(RowsInUse, AreWaitedForWhereAStreamCannot) {
  cuda::fail_call_for_test = 2;  // after the question whether the kernel has ended
  expect_old_bytes(reinterpret_cast<uintptr_t>(stream_));
  EXPECT_EQ(cuda::fail_call_for_test, 0U);
}

TEST_F(RowsInUse, AreWaitedForWithoutAStream) {
  expect_old_bytes({});
}

}  // namespace
}  // namespace penstock
