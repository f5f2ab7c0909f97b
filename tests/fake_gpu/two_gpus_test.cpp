// Engines of one process, each with a GPU of its own: what belongs to a GPU is made and used with
// that one current, whatever the calling thread works with.
#include <gtest/gtest.h>

#include "device/cuda/handles.hpp"
#include "support/fake_gpu_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint32_t kChunks = 6;

struct OfGpu {
  explicit OfGpu(int gpu) {
    put_on_gpu(rig, gpu);
    rig.open();
    int before = 0;
    EXPECT_EQ(cudaGetDevice(&before), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(gpu), cudaSuccess);
    EXPECT_EQ(cuda::make_stream(stream, 0), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(before), cudaSuccess);
  }

  // With a stream, as an inference engine has one.
  void run(JobKind kind, uint64_t chain) {
    JobRequest request = rig.job(kind, 0, kChunks, chain);
    request.stream = reinterpret_cast<uintptr_t>(stream.get());
    request.layerwise = kind == JobKind::Load;
    if (kind == JobKind::Load) rig.pages->wipe();
    EXPECT_EQ(run_job(*rig.engine, std::move(request)).status, Status::Ok) << rig.device;
  }
  void fill() {
    for (uint32_t row = 0; row < kChunks * TierRig::kRowsPerChunk; ++row)
      rig.pages->fill(row, row + 1);
  }
  void expect_what_was_filled() {
    for (uint32_t row = 0; row < kChunks * TierRig::kRowsPerChunk; ++row)
      EXPECT_TRUE(rig.pages->holds(row, row + 1)) << rig.device << " row " << row;
  }

  TempDir drive;
  TempDir memory{in_memory()};
  TierRig rig{drive.path(), memory / "local"};
  cuda::CudaStream stream;
};

TEST(TwoGpus, EachEngineMovesThePagesOfItsOwn) {
  OfGpu first{0}, second{1};
  for (const int current : {0, 1}) {
    ASSERT_EQ(cudaSetDevice(current), cudaSuccess);
    for (OfGpu* gpu : {&first, &second}) {
      gpu->fill();
      gpu->run(JobKind::Save, static_cast<uint64_t>(current));
      gpu->run(JobKind::Load, static_cast<uint64_t>(current));
      gpu->expect_what_was_filled();
      gpu->rig.engine->release_rows(0, std::vector<int32_t>{0, 1}, {});
    }
    int now = -1;
    EXPECT_EQ(cudaGetDevice(&now), cudaSuccess);
    EXPECT_EQ(now, current) << "the caller's GPU is not ours to change";
  }
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

// One of them pins the memory tier, piece by piece as it grows; the other does not know the pieces,
// and must not copy across two of them. What lies in one is still one copy for the first.
TEST(TwoGpus, EnginesOfOneMemoryTier) {
  constexpr uint32_t kMany = 256;
  TempDir drive;
  TempDir memory{in_memory()};
  TierRig first{drive.path(), memory / "local"}, second{drive.path(), memory / "local"};
  put_on_gpu(first, 0);
  put_on_gpu(second, 1);
  const size_t before = pinned_bytes();
  first.open(kMany);
  ASSERT_TRUE(eventually([&] { return pinned_bytes() - before >= kMany * TierRig::kChunkBytes; }));
  second.open(kMany);
  EXPECT_EQ(second.save(0, kMany).status, Status::Ok);
  EXPECT_EQ(second.metric("local_save_chunks"), kMany);
  EXPECT_EQ(second.load(0, kMany), kMany);
  const BatchCopies by_second = batch_copies();
  EXPECT_EQ(first.load(0, kMany), kMany);
  const BatchCopies by_first = batch_copies();
  EXPECT_LT(by_first.copies - by_second.copies, by_second.copies / 4);
}

TEST(TwoGpus, TheOtherEnginePinsMemoryWhenTheFirstHasGone) {
  TempDir drive;
  TempDir memory{in_memory()};
  TierRig first{drive.path(), memory / "local"}, second{drive.path(), memory / "local"};
  put_on_gpu(first, 0);
  put_on_gpu(second, 1);
  second.config.backend = {"gds"};
  const size_t before = pinned_bytes();
  second.open();
  const size_t own = pinned_bytes() - before;  // staging
  second.config.backend = first.config.backend;
  first.open();
  second.open();
  ASSERT_EQ(second.save(0, kChunks).status, Status::Ok);
  first.engine.reset();
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(second.load(0, kChunks), kChunks);
    return pinned_bytes() - before >= own + kChunks * TierRig::kChunkBytes;
  }));
}

TEST(TwoGpus, PagesOfTheOtherGpuAreRefused) {
  TempDir drive;
  TempDir memory{in_memory()};
  TierRig rig{drive.path(), memory / "local"};
  Pages pages{TierRig::kLayers, 16, TierRig::kPage, TierRig::kRowsPerChunk};
  const auto adopted = adopt_as_gpu_memory(pages.memory(), 1);
  const auto opened = Engine::open(rig.config, {pages.layout()}, "cuda:0");
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("is not memory of cuda:0"), std::string::npos)
      << opened.error().message;
}

}  // namespace
}  // namespace penstock::test
