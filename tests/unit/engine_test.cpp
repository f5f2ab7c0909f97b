#include "penstock/engine.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "support/store_rig.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::chain_job;
using test::config_for;
using test::lookup_now;
using test::namespace_spec;
using test::Pages;
using test::run_job;

struct Shape {
  uint32_t layers, page_bytes, rows_per_chunk;
  uint64_t block_size;
};

class EngineShapes : public testing::TestWithParam<Shape> {
 protected:
  test::TempDir dir_;
};

TEST_P(EngineShapes, SavesAndRestoresEveryByteInAnotherEngine) {
  const auto& [layers, page_bytes, rows_per_chunk, block_size] = GetParam();
  constexpr uint32_t kChunks = 5;
  Pages pages{layers, kChunks * rows_per_chunk, page_bytes, rows_per_chunk};
  Config config = config_for(dir_.path());
  config.gds_config.block_size = block_size;
  for (uint32_t row = 0; row < kChunks * rows_per_chunk; ++row) pages.fill(row, row + 1);
  {
    auto engine = Engine::open(config, {pages.layout()});
    ASSERT_TRUE(engine) << engine.error().message;
    auto ns = (*engine)->open_namespace(namespace_spec());
    ASSERT_TRUE(ns);
    const auto saved = run_job(**engine, chain_job(JobKind::Save, *ns, 0, kChunks, rows_per_chunk));
    EXPECT_EQ(saved.status, Status::Ok);
    EXPECT_EQ(saved.bytes, kChunks * pages.layout().copy_bytes());
  }
  pages.wipe();
  auto engine = Engine::open(config, {pages.layout()});
  ASSERT_TRUE(engine) << engine.error().message;
  auto ns = (*engine)->open_namespace(namespace_spec());
  ASSERT_TRUE(ns);
  EXPECT_EQ(lookup_now(**engine, *ns, 0, kChunks + 3), kChunks);
  const auto loaded = run_job(**engine, chain_job(JobKind::Load, *ns, 0, kChunks, rows_per_chunk));
  EXPECT_EQ(loaded.status, Status::Ok);
  for (uint32_t row = 0; row < kChunks * rows_per_chunk; ++row)
    ASSERT_TRUE(pages.holds(row, row + 1)) << row;
  EXPECT_TRUE(pages.neighbours_intact());
}

INSTANTIATE_TEST_SUITE_P(Shapes, EngineShapes,
                         testing::Values(Shape{1, 65536, 4, 1 << 20}, Shape{3, 18432, 16, 1 << 20},
                                         Shape{4, 4096, 2, 4096}, Shape{2, 1000, 3, 1 << 20},
                                         Shape{5, 36864, 7, 65536}, Shape{8, 65536, 8, 1 << 20}));

class EngineTest : public testing::Test {
 protected:
  static constexpr uint32_t kRowsPerChunk = 4;
  void SetUp() override { open(); }
  void open() {
    engine_.reset();
    auto engine = Engine::open(config_, {pages_.layout()});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    auto ns = engine_->open_namespace(namespace_spec());
    ASSERT_TRUE(ns) << ns.error().message;
    ns_ = *ns;
  }
  JobRequest save(uint64_t first, uint32_t count) {
    return chain_job(JobKind::Save, ns_, first, count, kRowsPerChunk,
                     static_cast<int32_t>(first * kRowsPerChunk));
  }
  JobRequest load(uint64_t first, uint32_t count) {
    return chain_job(JobKind::Load, ns_, first, count, kRowsPerChunk,
                     static_cast<int32_t>(first * kRowsPerChunk));
  }
  void fill_all() {
    for (uint32_t row = 0; row < kRows; ++row) pages_.fill(row, row + 1);
  }

  static constexpr uint32_t kRows = 64;
  test::TempDir dir_;
  Config config_ = config_for(dir_.path());
  Pages pages_{4, kRows, 16384, kRowsPerChunk};
  std::unique_ptr<Engine> engine_;
  NamespaceId ns_ = 0;
};

TEST_F(EngineTest, AMissIsReportedAndWritesNothing) {
  pages_.wipe();
  const auto result = run_job(*engine_, load(0, 3));
  EXPECT_EQ(result.status, Status::NotFound);
  EXPECT_EQ(result.bytes, 0u);
  for (uint32_t row = 0; row < kRows; ++row) EXPECT_TRUE(pages_.untouched(row));
}

TEST_F(EngineTest, AHoleEndsTheChain) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 2)).status, Status::Ok);
  const auto result = run_job(*engine_, load(0, 4));
  EXPECT_EQ(result.chunk_status[0], Status::Ok);
  EXPECT_EQ(result.chunk_status[1], Status::Ok);
  EXPECT_EQ(result.chunk_status[2], Status::NotFound);
  EXPECT_EQ(result.chunk_status[3], Status::Cancelled);
}

TEST_F(EngineTest, RowsThatAreNotListedAreNeverWritten) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 4)).status, Status::Ok);
  pages_.wipe();
  JobRequest request = load(0, 4);
  for (size_t i = 0; i < request.rows.size(); i += 2) request.rows[i] = kNoRow;
  ASSERT_EQ(run_job(*engine_, std::move(request)).status, Status::Ok);
  for (uint32_t row = 0; row < 16; ++row)
    EXPECT_TRUE(row % 2 == 0 ? pages_.untouched(row) : pages_.holds(row, row + 1)) << row;
  EXPECT_TRUE(pages_.neighbours_intact());
}

TEST_F(EngineTest, AnotherNamespaceShardOrGroupIsAMiss) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 1)).status, Status::Ok);
  auto other = engine_->open_namespace(namespace_spec(2));
  ASSERT_TRUE(other);
  JobRequest request = load(0, 1);
  request.namespace_id = *other;
  EXPECT_EQ(run_job(*engine_, request).status, Status::NotFound);
  request = load(0, 1);
  request.shard = 1;
  EXPECT_EQ(run_job(*engine_, request).status, Status::NotFound);
}

TEST_F(EngineTest, WhatIsStoppedHasEndedItsJobsAndTakesNoMore) {
  fill_all();
  const auto id = engine_->submit(save(0, 4));
  ASSERT_TRUE(id);
  engine_->stop();
  engine_->stop();
  const auto results = engine_->poll();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].id, *id);
  EXPECT_EQ(engine_->submit(save(0, 4)).status(), Status::Closed);
  EXPECT_TRUE(engine_->poll().empty());
  engine_->cancel(*id);
  engine_->release_rows(0, {});
}

TEST_F(EngineTest, ASecondSaveOfTheSameCopyWritesNothing) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 4)).status, Status::Ok);
  const auto again = run_job(*engine_, save(0, 4));
  EXPECT_EQ(again.status, Status::Present);
  EXPECT_EQ(again.bytes, 0u);
}

TEST_F(EngineTest, AChainGoesOnBehindWhatIsPresent) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 3)).status, Status::Ok);
  const auto longer = run_job(*engine_, save(0, 5));
  EXPECT_EQ(longer.chunk_status, (std::vector{Status::Present, Status::Present, Status::Present,
                                              Status::Ok, Status::Ok}));
  EXPECT_EQ(engine_->metrics()["save_chunks_present"], 3);
  EXPECT_EQ(engine_->metrics()["save_chunks_dropped"], 0);
  EXPECT_EQ(lookup_now(*engine_, ns_, 0, 8), 5u);
}

TEST_F(EngineTest, WithoutItsParentAChunkIsDroppedWithWhatFollows) {
  fill_all();
  const auto orphans = run_job(*engine_, save(3, 3));
  EXPECT_EQ(orphans.chunk_status,
            (std::vector{Status::NotFound, Status::Cancelled, Status::Cancelled}));
  // And the next job of the chain, which has not heard of it.
  EXPECT_EQ(run_job(*engine_, save(6, 2)).status, Status::Cancelled);
  EXPECT_EQ(engine_->metrics()["save_chunks_present"], 0);
  EXPECT_EQ(engine_->metrics()["save_chunks_dropped"], 5);
  // Nothing holds their blocks, and once the parent is there they are saved.
  EXPECT_TRUE(test::eventually([&] {
    auto metrics = engine_->metrics();
    return metrics["blocks_free"] == metrics["blocks_total"];
  }));
  EXPECT_EQ(run_job(*engine_, save(0, 8)).status, Status::Ok);
  EXPECT_EQ(lookup_now(*engine_, ns_, 0, 8), 8u);
}

TEST_F(EngineTest, WhatIsOverTheWriteLimitIsDroppedAndCounted) {
  fill_all();
  const auto copy = static_cast<double>(pages_.layout().copy_bytes());
  config_.gds_config.max_write_gb_per_day = 3.5 * copy / 1e9;
  open();
  const auto result = run_job(*engine_, save(0, 5));
  EXPECT_EQ(result.chunk_status,
            (std::vector{Status::Ok, Status::Ok, Status::Ok, Status::Rejected, Status::Cancelled}));
  EXPECT_EQ(engine_->metrics()["save_chunks_present"], 0);
  EXPECT_EQ(engine_->metrics()["save_chunks_dropped"], 2);
  EXPECT_EQ(lookup_now(*engine_, ns_, 0, 8), 3u);
}

TEST_F(EngineTest, JobsSubmittedTogetherPublishParentsFirst) {
  fill_all();
  std::vector<JobId> ids;
  for (uint64_t chunk = 0; chunk < 16; ++chunk) {
    auto id = engine_->submit(save(chunk, 1));
    ASSERT_TRUE(id);
    ids.push_back(*id);
  }
  size_t done = 0;
  while (done < ids.size() && engine_->wait(30s))
    for (const JobResult& result : engine_->poll()) {
      EXPECT_EQ(result.status, Status::Ok) << to_string(result.status);
      ++done;
    }
  EXPECT_EQ(lookup_now(*engine_, ns_, 0, 16), 16u);
}

TEST_F(EngineTest, TheFenceDropsWhatWasNotReadAndTheChainBehindIt) {
  fill_all();
  for (int round = 0; round < 20; ++round) {
    JobRequest request = chain_job(JobKind::Save, ns_, 0, 16, kRowsPerChunk, 0, 1 + round);
    auto id = engine_->submit(std::move(request));
    ASSERT_TRUE(id);
    const std::vector<int32_t> rows{5 * kRowsPerChunk + 1};
    engine_->release_rows(0, rows);
    pages_.fill(5 * kRowsPerChunk + 1, 1000);  // what the fence is for; a race without it
    ASSERT_TRUE(engine_->wait(30s));
    const auto result = engine_->poll().at(0);
    pages_.wipe();
    // Chunk 5 is either whole and old, or not there.
    const uint32_t found = lookup_now(*engine_, ns_, 0, 16, {GroupNeed{}}, 1 + round);
    if (result.chunk_status[5] == Status::Ok) {
      EXPECT_GT(found, 5u);
      auto back = run_job(*engine_, chain_job(JobKind::Load, ns_, 5, 1, kRowsPerChunk,
                                              5 * kRowsPerChunk, 1 + round));
      ASSERT_EQ(back.status, Status::Ok);
      EXPECT_TRUE(pages_.holds(5 * kRowsPerChunk + 1, 5 * kRowsPerChunk + 2));
    } else {
      EXPECT_EQ(result.chunk_status[5], Status::Cancelled);
      EXPECT_LE(found, 5u);
    }
    fill_all();
  }
}

TEST_F(EngineTest, CancelEndsAJobOnce) {
  fill_all();
  auto id = engine_->submit(save(0, 16));
  ASSERT_TRUE(id);
  engine_->cancel(*id);
  ASSERT_TRUE(engine_->wait(30s));
  const auto results = engine_->poll();
  ASSERT_EQ(results.size(), 1u);
  EXPECT_FALSE(engine_->wait(50ms));
  engine_->cancel(*id);
  EXPECT_FALSE(engine_->wait(50ms));
}

TEST_F(EngineTest, LayersBecomeReadyInOrderAndAllAtTheEnd) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 8)).status, Status::Ok);
  pages_.wipe();
  JobRequest request = load(0, 8);
  request.layerwise = true;
  auto id = engine_->submit(std::move(request));
  ASSERT_TRUE(id);
  for (uint32_t layer = 0; layer < 4; ++layer) {
    ASSERT_TRUE(engine_->wait_layer(*id, layer, 30s));
    EXPECT_GT(engine_->layers_ready(*id), layer);
  }
  ASSERT_TRUE(engine_->wait(30s));
  EXPECT_EQ(engine_->poll().at(0).status, Status::Ok);
  for (uint32_t row = 0; row < 32; ++row) EXPECT_TRUE(pages_.holds(row, row + 1));
}

TEST_F(EngineTest, LayersOfAMissBecomeReadyToo) {
  JobRequest request = load(0, 2);
  request.layerwise = true;
  auto id = engine_->submit(std::move(request));
  ASSERT_TRUE(id);
  EXPECT_TRUE(engine_->wait_layer(*id, 3, 30s));
}

TEST_F(EngineTest, BadJobsAreRefusedWithASentence) {
  JobRequest request = load(0, 1);
  request.rows[0] = 64;
  EXPECT_EQ(engine_->submit(request).error().message, "row 64 does not exist in group 0");
  request = load(0, 1);
  request.rows.pop_back();
  EXPECT_EQ(engine_->submit(request).status(), Status::Invalid);
  request = load(0, 1);
  request.rows.push_back(0);
  EXPECT_EQ(engine_->submit(request).status(), Status::Invalid);
  request = load(0, 1);
  request.chunks[0].group = 1;
  EXPECT_EQ(engine_->submit(request).status(), Status::Invalid);
  EXPECT_EQ(engine_->submit({}).status(), Status::Invalid);
  request = load(0, 1);
  request.namespace_id = 999;
  EXPECT_EQ(engine_->submit(request).status(), Status::Invalid);
}

TEST_F(EngineTest, TheQueueIsBounded) {
  fill_all();
  size_t accepted = 0, busy = 0;
  for (int i = 0; i < 3000; ++i) {
    auto id = engine_->submit(chain_job(JobKind::Save, ns_, 0, 1, kRowsPerChunk, 0, i + 1));
    id ? ++accepted : ++busy;
    if (!id) {
      EXPECT_EQ(id.status(), Status::Busy);
    }
  }
  size_t done = 0;
  while (done < accepted && engine_->wait(30s)) done += engine_->poll().size();
  EXPECT_EQ(done, accepted);
  EXPECT_GT(busy, 0u);
}

TEST_F(EngineTest, ClosingCompletesNothingTwiceAndLosesNothingPublished) {
  fill_all();
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(engine_->submit(save(i, 1)));
  open();  // closes the first engine in the middle
  const uint32_t found = lookup_now(*engine_, ns_, 0, 16);
  pages_.wipe();
  if (found > 0) {
    EXPECT_EQ(run_job(*engine_, load(0, found)).status, Status::Ok);
    for (uint32_t row = 0; row < found * kRowsPerChunk; ++row)
      EXPECT_TRUE(pages_.holds(row, row + 1));
  }
}

TEST_F(EngineTest, AnIdleEngineSleeps) {
  fill_all();
  ASSERT_EQ(run_job(*engine_, save(0, 4)).status, Status::Ok);
  std::this_thread::sleep_for(100ms);  // past the last words of the index
  timespec before{}, after{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  std::this_thread::sleep_for(500ms);
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  const double used = static_cast<double>(after.tv_sec - before.tv_sec) +
                      static_cast<double>(after.tv_nsec - before.tv_nsec) * 1e-9;
  EXPECT_LT(used, 0.05);
}

TEST(EngineOpen, WrongLayoutsAreRefusedByRegion) {
  test::TempDir dir;
  std::vector<char> memory(8192);
  const auto base = reinterpret_cast<uint64_t>(memory.data());
  GroupLayout layout;
  layout.rows_per_chunk = 1;
  layout.regions = {{base, 2, 2048, 2048, 0}, {base + 1024, 2, 2048, 2048, 1}};
  EXPECT_EQ(Engine::open(config_for(dir.path()), {layout}).error().message,
            "group 0: region 1 overlaps region 0");
  layout.regions = {{base, 1, 0, 2048, 0}, {base + 1024, 1, 0, 2048, 1}};  // of one row: no stride
  EXPECT_EQ(Engine::open(config_for(dir.path()), {layout}).error().message,
            "group 0: region 1 overlaps region 0");
  layout.regions = {{base, 2, 1024, 2048, 0}};
  EXPECT_EQ(Engine::open(config_for(dir.path()), {layout}).error().message,
            "group 0: region 0 has a row stride smaller than its page");
  layout.regions.clear();
  EXPECT_EQ(Engine::open(config_for(dir.path()), {layout}).status(), Status::Invalid);
}

// K and V of one layer side by side in the same rows: different regions, no overlap.
TEST(EngineOpen, InterleavedRegionsAreNoOverlap) {
  test::TempDir dir;
  std::vector<char> memory(8 * 4096);
  const auto base = reinterpret_cast<uint64_t>(memory.data());
  GroupLayout layout;
  layout.rows_per_chunk = 1;
  layout.regions = {{base, 4, 8192, 4096, 0}, {base + 4096, 4, 8192, 4096, 0}};
  EXPECT_TRUE(Engine::open(config_for(dir.path()), {layout}));
}

}  // namespace
}  // namespace penstock
