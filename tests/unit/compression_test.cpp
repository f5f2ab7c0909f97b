// An engine that packs: every byte comes back, and less is stored.
#include <gtest/gtest.h>

#include <thread>

#include "base/sizes.hpp"
#include "support/figures.hpp"
#include "support/kv_memory.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint32_t kChunks = 6, kRowsPerChunk = 4;

struct Case {
  const char* algorithm;
  Content content = Content::Bf16;
  uint32_t layers = 4, kv = 1;
  uint64_t page = 16384;
  uint32_t element = 2;
  uint64_t block_size = 65536;
  bool layerwise = false;
};

class Compression : public testing::Test {
 protected:
  void open(bool packs, const char* algorithm = "zstd") {
    engine_.reset();
    config_.gds_config.enable_compression = packs;
    config_.gds_config.compression_algo = algorithm;
    auto engine = Engine::open(config_, {kv_->layout()});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    auto ns = engine_->open_namespace(namespace_spec());
    ASSERT_TRUE(ns);
    ns_ = *ns;
  }
  void make_kv(const Case& use, uint32_t chunks = kChunks) {
    kv_ = std::make_unique<KvMemory>(use.layers, chunks * kRowsPerChunk, use.page, kRowsPerChunk,
                                     use.element, use.kv);
    kv_->fill(use.content, 1);
    config_.gds_config.block_size = use.block_size;
  }
  JobRequest job(JobKind kind, uint32_t chunks = kChunks) {
    return chain_job(kind, ns_, 0, chunks, kRowsPerChunk);
  }
  // Loads the chain and compares every chunk that is reported as loaded.
  uint32_t load(uint32_t chunks = kChunks, bool layerwise = false) {
    kv_->wipe();
    JobRequest request = job(JobKind::Load, chunks);
    request.layerwise = layerwise;
    last_ = run_job(*engine_, std::move(request));
    uint32_t good = 0;
    for (uint32_t i = 0; i < last_.chunk_status.size(); ++i) {
      if (last_.chunk_status[i] != Status::Ok) continue;
      ++good;
      for (uint32_t row = i * kRowsPerChunk; row < (i + 1) * kRowsPerChunk; ++row)
        EXPECT_TRUE(kv_->holds(row)) << "a wrong byte in row " << row;
    }
    EXPECT_TRUE(kv_->gaps_intact());
    return good;
  }
  double metric(const std::string& name) { return engine_->metrics().at(name); }
  double blocks_used() { return blocks_in_use(engine_->metrics()); }

  TempDir dir_;
  Config config_ = config_for(dir_.path());
  std::unique_ptr<KvMemory> kv_;
  std::unique_ptr<Engine> engine_;
  NamespaceId ns_ = 0;
  JobResult last_;
};

class CompressionShapes : public Compression, public testing::WithParamInterface<Case> {};

TEST_P(CompressionShapes, EveryByteComesBackInAnotherEngine) {
  const Case& use = GetParam();
  make_kv(use);
  open(true, use.algorithm);
  EXPECT_EQ(engine_->facts().at("compression"), use.algorithm);
  const auto saved = run_job(*engine_, job(JobKind::Save));
  ASSERT_EQ(saved.status, Status::Ok);
  EXPECT_EQ(saved.bytes, kChunks * kv_->layout().copy_bytes());
  const bool packs = use.content != Content::Noise;
  EXPECT_EQ(metric("packed_chunks"), packs ? kChunks : 0);
  EXPECT_EQ(metric("unpackable_chunks"), packs ? 0 : kChunks);
  EXPECT_EQ(load(kChunks, use.layerwise), kChunks);
  EXPECT_EQ(metric("unpacked_chunks"), packs ? kChunks : 0);
  open(false);  // what is packed is found by one that does not pack
  EXPECT_EQ(engine_->facts().at("compression"), "off");
  EXPECT_EQ(load(kChunks, use.layerwise), kChunks);
  EXPECT_EQ(audit(dir_.path()), "");
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CompressionShapes,
    testing::Values(
        Case{.algorithm = "zstd"}, Case{.algorithm = "lz4"},
        Case{.algorithm = "zstd", .layerwise = true}, Case{.algorithm = "lz4", .layerwise = true},
        Case{.algorithm = "zstd", .content = Content::Noise},
        Case{.algorithm = "lz4", .content = Content::Noise},
        Case{.algorithm = "zstd", .content = Content::Zeros},
        Case{.algorithm = "zstd", .element = 1},
        // K and V apart; pages that are no whole sectors, and blocks of one
        Case{.algorithm = "zstd", .layers = 3, .kv = 2, .page = 6002, .block_size = 4096},
        Case{.algorithm = "lz4", .layers = 5, .page = 10'000, .element = 4, .block_size = 4096},
        // slices of more than kMaxSlice, a run of more than a slot
        Case{.algorithm = "zstd",
             .layers = 2,
             .page = 800'000,
             .block_size = 1 << 20,
             .layerwise = true}));

TEST_F(Compression, FewerBlocksAreUsed) {
  const Case use{.algorithm = "zstd"};
  make_kv(use);
  const double raw = kChunks * div_up(kv_->layout().copy_bytes(), kSector);
  config_.gds_config.block_size = kSector;
  open(true);
  ASSERT_EQ(run_job(*engine_, job(JobKind::Save)).status, Status::Ok);
  EXPECT_LT(blocks_used(), raw / 1.25);
  EXPECT_GT(metric("packed_raw_bytes"), 1.25 * metric("packed_bytes"));
  EXPECT_EQ(metric("packed_raw_bytes"), kChunks * kv_->layout().copy_bytes());
  EXPECT_LT(blocks_used() * kSector, metric("packed_bytes") + kChunks * kSector);
  // What was written counts for the day's limit, not what was reserved.
  auto inspector = Inspector::open(dir_.path());
  ASSERT_TRUE(inspector);
  auto totals = (*inspector)->totals();
  ASSERT_TRUE(totals);
  EXPECT_EQ(static_cast<double>(totals->written_today), blocks_used() * kSector);
  EXPECT_EQ(load(), kChunks);
}

// The same directory size holds more copies.
TEST_F(Compression, AStoreHoldsMoreCopies) {
  constexpr uint32_t kMany = 160;  // 42 MB
  make_kv({.algorithm = "zstd"}, kMany);
  config_.gds_config.max_cache_size_gb = 0.03;
  uint32_t held[2];
  for (const bool packs : {false, true}) {
    TempDir dir;
    config_.gds_config.cache_dir = {dir.path()};
    config_.gds_config.block_size = 8192;
    open(packs);
    kv_->restore();
    for (uint32_t i = 0; i < kMany;
         ++i)  // one by one: room for the raw copy is needed for a moment
      run_job(*engine_, chain_job(JobKind::Save, ns_, i, 1, kRowsPerChunk, i * kRowsPerChunk));
    held[packs] = load(kMany);
    EXPECT_LT(disk_usage(dir.path()), 30'000'000u);
    EXPECT_EQ(audit(dir.path()), "");
    engine_.reset();
  }
  EXPECT_GT(held[1], held[0] * 5 / 4) << held[0];
}

TEST_F(Compression, AnEngineThatDoesNotPackStoresAsBefore) {
  make_kv({.algorithm = "zstd"});
  open(false);
  ASSERT_EQ(run_job(*engine_, job(JobKind::Save)).status, Status::Ok);
  EXPECT_EQ(metric("packed_chunks"), 0);
  EXPECT_EQ(blocks_used(), kChunks * kv_->layout().copy_bytes() / 65536);
  open(true, "lz4");
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(run_job(*engine_, job(JobKind::Save)).status, Status::Present);
}

TEST_F(Compression, RowsThatAreNotListedAreNeitherReadNorWritten) {
  make_kv({.algorithm = "zstd"});
  open(true);
  JobRequest request = job(JobKind::Save);
  for (size_t i = 0; i < request.rows.size(); i += 2) request.rows[i] = kNoRow;
  ASSERT_EQ(run_job(*engine_, request).status, Status::Ok);
  kv_->wipe();
  request.kind = JobKind::Load;
  ASSERT_EQ(run_job(*engine_, request).status, Status::Ok);
  for (uint32_t row = 0; row < kChunks * kRowsPerChunk; ++row)
    EXPECT_EQ(kv_->holds(row), row % 2 == 1) << row;
  EXPECT_TRUE(kv_->gaps_intact());
}

TEST_F(Compression, AnotherShardOrNamespaceIsAMiss) {
  make_kv({.algorithm = "zstd"});
  open(true);
  ASSERT_EQ(run_job(*engine_, job(JobKind::Save)).status, Status::Ok);
  JobRequest request = job(JobKind::Load);
  request.shard = 1;
  EXPECT_EQ(run_job(*engine_, request).status, Status::NotFound);
  request = job(JobKind::Load);
  request.namespace_id = *engine_->open_namespace(namespace_spec(2));
  EXPECT_EQ(run_job(*engine_, request).status, Status::NotFound);
}

// Whenever a job is ended, what it held comes back: blocks, memory, rows.
TEST_F(Compression, JobsThatAreEndedLeaveNothingBehind) {
  constexpr uint32_t kMany = 40;  // more than there are parcels
  make_kv({.algorithm = "zstd"}, kMany);
  open(true);
  for (int round = 0; round < 60; ++round) {
    const bool save = round % 2 == 0;
    save ? kv_->restore() : kv_->wipe();
    JobRequest request = job(save ? JobKind::Save : JobKind::Load, kMany);
    if (round % 6 < 2) request.deadline = std::chrono::milliseconds{1 + round / 6};
    auto id = engine_->submit(std::move(request));
    ASSERT_TRUE(id);
    if (round % 6 >= 4) {
      std::this_thread::sleep_for(std::chrono::microseconds{300 * round});
      engine_->cancel(*id);
    }
    ASSERT_TRUE(engine_->wait(std::chrono::seconds{30}));
    const auto results = engine_->poll();
    ASSERT_EQ(results.size(), 1u);
    if (save) continue;
    for (uint32_t i = 0; i < kMany; ++i)
      for (uint32_t row = i * kRowsPerChunk; row < (i + 1) * kRowsPerChunk; ++row)
        if (results[0].chunk_status[i] == Status::Ok) {
          EXPECT_TRUE(kv_->holds(row));
        }
  }
  kv_->restore();
  run_job(*engine_, job(JobKind::Save, kMany));
  EXPECT_EQ(load(kMany), kMany);
  EXPECT_EQ(audit(dir_.path()), "");
}

class CompressionTiers : public Compression {
 protected:
  void SetUp() override {
    config_.backend = {"local", "gds"};
    config_.local_config.directory = memory_ / "local";
    config_.local_config.max_cache_size_gb = 0.05;
    config_.gds_config.max_cache_size_gb = 0.2;
    make_kv({.algorithm = "zstd"});
  }
  void lose_memory() {
    engine_.reset();
    std::filesystem::remove_all(memory_ / "local");
  }
  TempDir memory_{in_memory()};
};

TEST_F(CompressionTiers, WriteBehindPacksAndPromotionUnpacks) {
  const auto copy = static_cast<double>(kv_->layout().copy_bytes());
  open(true);
  ASSERT_EQ(run_job(*engine_, job(JobKind::Save)).status, Status::Ok);
  EXPECT_EQ(metric("local_save_chunks"), kChunks);
  EXPECT_EQ(load(), kChunks);  // raw, from memory
  ASSERT_TRUE(eventually([&] { return metric("write_behind_pending_bytes") == 0; }));
  EXPECT_EQ(metric("write_behind_chunks"), kChunks);
  EXPECT_EQ(metric("packed_chunks"), kChunks);
  EXPECT_EQ(metric("unpacked_chunks"), 0);
  EXPECT_LT(blocks_used() * static_cast<double>(engine_->block_size()), kChunks * copy / 1.2);
  EXPECT_EQ(
      blocks_in_use(engine_->metrics(), "local_") * static_cast<double>(engine_->block_size()),
      kChunks * copy);
  lose_memory();
  open(true);
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(load(), kChunks);
    return metric("promoted_chunks") == kChunks;
  }));
  EXPECT_GE(metric("unpacked_chunks"), kChunks);
  const double from_memory = metric("local_load_chunks");
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(metric("local_load_chunks"), from_memory + kChunks);
  EXPECT_EQ(audit(dir_.path()), "");
  EXPECT_EQ(audit(memory_ / "local"), "");
}

}  // namespace
}  // namespace penstock::test
