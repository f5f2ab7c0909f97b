// The engine over the CUDA device, as it is, on a CUDA runtime of our own: what a job does when a
// call of CUDA's fails, at every call in turn. Nothing wrong is reported as Ok, no page of another
// request is touched, nothing is lost of what is stored, and the next job works.
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "device/cuda/handles.hpp"
#include "metrics/trace.hpp"
#include "support/fake_gpu_rig.hpp"
#include "support/kv_memory.hpp"

namespace penstock::test {
namespace {

constexpr uint32_t kChunks = 6;

class FakeGpuEngine : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    put_on_gpu(rig_, 0);
    rig_.layerwise = GetParam();
  }
  void TearDown() override { cuda::fail_call_for_test = 0; }

  // True if call `n` from now on was made, and therefore failed.
  template <typename Job>
  bool with_failing_call(uint64_t n, Job&& job) {
    cuda::fail_call_for_test = n;
    job();
    return cuda::fail_call_for_test.exchange(0) == 0;
  }
  void expect_others_untouched() {
    for (uint32_t row = kChunks * TierRig::kRowsPerChunk; row < 16 * TierRig::kRowsPerChunk; ++row)
      ASSERT_TRUE(rig_.pages->untouched(row)) << "row " << row;
  }

  TempDir drive_;
  TempDir memory_{in_memory()};
  TierRig rig_{drive_.path(), memory_ / "local"};
};

TEST_P(FakeGpuEngine, WhatWasSavedComesBackFromEitherTier) {
  rig_.open();
  const BatchCopies before = batch_copies();
  ASSERT_EQ(rig_.save(0, kChunks).status, Status::Ok);
  EXPECT_EQ(rig_.load(0, kChunks), kChunks);
  EXPECT_EQ(rig_.metric("local_load_chunks"), kChunks);
  expect_others_untouched();
  const BatchCopies after = batch_copies();
  EXPECT_GT(after.calls, before.calls) << "copies go to CUDA in batches";
  EXPECT_GE(after.copies - before.copies, 2 * (after.calls - before.calls));
  ASSERT_TRUE(rig_.written_behind());
  rig_.engine.reset();
  std::filesystem::remove_all(memory_ / "local");
  rig_.open();
  EXPECT_EQ(rig_.load(0, kChunks), kChunks);
  EXPECT_EQ(rig_.metric("local_load_chunks"), 0);
  expect_others_untouched();
}

// Although the index is asked for the first chunks before the others. Moves end in their order.
TEST_P(FakeGpuEngine, LayerwiseTheFirstBlockOfEachCopyGoesBeforeTheSecondOfAny) {
  constexpr uint32_t kMany = 64;
  rig_.open(kMany);
  ASSERT_EQ(rig_.save(0, kMany).status, Status::Ok);
  rig_.layerwise = true;
  start_trace();
  EXPECT_EQ(rig_.load(0, kMany), kMany);
  const std::string trace = stop_trace();
  std::vector<int> moved;
  const std::regex scatter{R"("scatter".*"chunk":(\d+))"};
  for (std::sregex_iterator at{trace.begin(), trace.end(), scatter}, end; at != end; ++at)
    moved.push_back(std::stoi((*at)[1]));
  ASSERT_EQ(moved.size(), kMany * TierRig::kLayers) << trace.substr(0, 1000);
  EXPECT_EQ(std::set<int>(moved.begin(), moved.begin() + kMany).size(), kMany);
}

// 40 blocks a layer are more than one batch, and no two layers share one.
TEST_P(FakeGpuEngine, LayerwiseABatchEndsWithALayer) {
  constexpr uint32_t kMany = 40;
  rig_.open(kMany);
  ASSERT_EQ(rig_.save(0, kMany).status, Status::Ok);
  rig_.layerwise = true;
  const size_t before = batch_copies().calls;
  EXPECT_EQ(rig_.load(0, kMany), kMany);
  EXPECT_GE(batch_copies().calls - before, 2 * TierRig::kLayers);
}

TEST_P(FakeGpuEngine, PackedCopiesComeBackFromTheDrive) {
  constexpr uint32_t kRows = TierRig::kRowsPerChunk;
  KvMemory kv{TierRig::kLayers, kChunks * kRows, TierRig::kPage, kRows};
  const auto gpu = adopt_as_gpu_memory(kv.memory(), 0);
  kv.fill(Content::Bf16, 1);
  Config config = rig_.config;
  config.backend = {"gds"};
  config.gds_config.enable_compression = true;
  auto opened = Engine::open(config, {kv.layout()}, "cuda:0");
  ASSERT_TRUE(opened) << opened.error().message;
  Engine& engine = **opened;
  const auto ns = engine.open_namespace(namespace_spec());
  ASSERT_TRUE(ns);
  const auto run = [&](JobKind kind) {
    JobRequest request = chain_job(kind, *ns, 0, kChunks, kRows);
    request.layerwise = GetParam() && kind == JobKind::Load;
    return run_job(engine, std::move(request)).status;
  };
  ASSERT_EQ(run(JobKind::Save), Status::Ok);
  kv.wipe();
  ASSERT_EQ(run(JobKind::Load), Status::Ok);
  for (uint32_t row = 0; row < kChunks * kRows; ++row) EXPECT_TRUE(kv.holds(row)) << row;
  EXPECT_TRUE(kv.gaps_intact());
  EXPECT_EQ(engine.metrics().at("packed_chunks"), kChunks);
  EXPECT_EQ(engine.metrics().at("unpacked_chunks"), kChunks);
}

TEST_P(FakeGpuEngine, EveryCallOfASaveFailsInTurn) {
  rig_.open();
  for (uint64_t n = 1;; ++n) {
    ASSERT_LT(n, 500U) << "the calls never end";
    JobResult saved;
    const bool failed = with_failing_call(n, [&] { saved = rig_.save(0, kChunks, n); });
    const uint32_t kept = lookup_now(*rig_.engine, rig_.ns, 0, kChunks, {GroupNeed{}}, n);
    EXPECT_EQ(rig_.load(0, kChunks, n), kept) << "call " << n;
    if (!failed) {
      EXPECT_EQ(saved.status, Status::Ok);
      EXPECT_EQ(kept, kChunks);
      break;
    }
    ASSERT_EQ(rig_.save(0, kChunks, n).status, kept == 0 ? Status::Ok : Status::Present);
    EXPECT_EQ(rig_.load(0, kChunks, n), kChunks) << "after call " << n;
  }
  ASSERT_TRUE(rig_.written_behind());
  EXPECT_EQ(rig_.metric("local_corrupt_copies"), 0);
  EXPECT_EQ(rig_.metric("corrupt_copies"), 0);
}

TEST_P(FakeGpuEngine, EveryCallOfALoadFailsInTurn) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, kChunks).status, Status::Ok);
  for (uint64_t n = 1;; ++n) {
    ASSERT_LT(n, 500U) << "the calls never end";
    uint32_t good = 0;
    const bool failed = with_failing_call(n, [&] { good = rig_.load(0, kChunks); });
    if (!failed) {
      EXPECT_EQ(good, kChunks);
      break;
    }
    expect_others_untouched();
    EXPECT_EQ(rig_.load(0, kChunks), kChunks) << "after call " << n;
  }
  EXPECT_EQ(rig_.metric("local_corrupt_copies"), 0);
}

INSTANTIATE_TEST_SUITE_P(All, FakeGpuEngine, testing::Bool(),
                         [](const auto& info) { return info.param ? "layerwise" : "whole"; });

}  // namespace
}  // namespace penstock::test
