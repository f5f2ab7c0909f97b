// Packed copies on a drive that fails, or whose bytes are others than were written: a miss, never a
// wrong byte, and nothing is lost of what is free.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/kv_memory.hpp"
#include "support/packed_store.hpp"

namespace penstock::test {
namespace {

constexpr uint32_t kChunks = 4, kRowsPerChunk = 4, kRows = kChunks * kRowsPerChunk;
constexpr int kStuck = 3;  // each takes a deadline and a close

class CompressionFault : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { kv_.fill(Content::Bf16, 1); }
  void TearDown() override { ::unsetenv("PENSTOCK_TEST_FAULT"); }

  void open(const std::string& directory, const std::string& fault = "") {
    engine_.reset();
    if (fault.empty())
      ::unsetenv("PENSTOCK_TEST_FAULT");
    else
      ::setenv("PENSTOCK_TEST_FAULT", fault.c_str(), 1);
    Config config = config_for(directory);
    config.gds_config.enable_compression = true;
    config.gds_config.compression_algo = GetParam();
    config.gds_config.block_size = 4096;  // of 12 a copy
    config.gds_config.io_engine = "uring";
    // Short only where it is to pass: a busy machine takes longer over a save than one would think.
    const double deadline = fault.ends_with("stuck") ? 0.3 : 10;
    config.gds_config.load_deadline_s = deadline;
    config.gds_config.save_deadline_s = deadline;
    auto engine = Engine::open(config, {kv_.layout()});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    auto ns = engine_->open_namespace(namespace_spec());
    ASSERT_TRUE(ns);
    ns_ = *ns;
  }
  JobResult run(JobKind kind) {
    return run_job(*engine_, chain_job(kind, ns_, 0, kChunks, kRowsPerChunk));
  }
  JobResult save() {
    kv_.restore();
    return run(JobKind::Save);
  }
  // Chunks that are reported as loaded, all of which hold the right bytes.
  uint32_t load() {
    kv_.wipe();
    last_ = run(JobKind::Load);
    uint32_t good = 0;
    for (uint32_t i = 0; i < last_.chunk_status.size(); ++i) {
      if (last_.chunk_status[i] != Status::Ok) continue;
      ++good;
      for (uint32_t row = i * kRowsPerChunk; row < (i + 1) * kRowsPerChunk; ++row)
        EXPECT_TRUE(kv_.holds(row)) << "a wrong byte in row " << row;
    }
    EXPECT_TRUE(kv_.gaps_intact());
    return good;
  }
  double metric(const std::string& name) { return engine_->metrics().at(name); }

  KvMemory kv_{3, kRows, 4096, kRowsPerChunk};
  std::unique_ptr<Engine> engine_;
  NamespaceId ns_ = 0;
  JobResult last_;
};

TEST_P(CompressionFault, EveryWriteInTurn) {
  for (const std::string kind : {"eio", "enospc", "short", "stuck", "corrupt"}) {
    uint32_t complete = 0;
    for (int n = 1; complete < 2 && !(kind == "stuck" && n > kStuck); ++n) {
      SCOPED_TRACE(kind + " " + std::to_string(n));
      ASSERT_LT(n, 64);
      TempDir dir;
      open(dir.path(), "write:" + std::to_string(n) + ":" + kind);
      const bool saved = save().status == Status::Ok;
      open(dir.path());
      const uint32_t good = load();
      if (saved && good == kChunks) ++complete;
      ASSERT_TRUE(swept(*engine_, ns_, kChunks));
      save();
      EXPECT_EQ(load(), kChunks);
      EXPECT_EQ(metric("copies"), kChunks);
      engine_.reset();
      EXPECT_EQ(audit(dir.path()), "");
    }
  }
}

TEST_P(CompressionFault, EveryReadInTurn) {
  TempDir dir;
  open(dir.path());
  ASSERT_EQ(save().status, Status::Ok);
  for (const std::string kind : {"eio", "short", "stuck", "corrupt"}) {
    uint32_t complete = 0;
    for (int n = 1; complete < 2 && !(kind == "stuck" && n > kStuck); ++n) {
      SCOPED_TRACE(kind + " " + std::to_string(n));
      ASSERT_LT(n, 64);
      open(dir.path(), "read:" + std::to_string(n) + ":" + kind);
      if (load() == kChunks) ++complete;
      open(dir.path());
      const uint32_t found = lookup_now(*engine_, ns_, 0, kChunks);
      if (kind != "corrupt") {
        EXPECT_EQ(found, kChunks);
      }
      EXPECT_EQ(load(), found);
      ASSERT_TRUE(swept(*engine_, ns_, kChunks));
      save();
    }
  }
  engine_.reset();
  EXPECT_EQ(audit(dir.path()), "");
}

// Every stored block of a copy in turn: a bit, a block of zeros, the block of another copy.
TEST_P(CompressionFault, EveryBlockThatIsNotWhatWasStored) {
  TempDir dir;
  open(dir.path());
  ASSERT_EQ(save().status, Status::Ok);
  ASSERT_EQ(load(), kChunks);
  ASSERT_EQ(metric("packed_chunks"), kChunks);
  constexpr uint64_t kBlock = 4096;
  for (size_t block = 0, blocks = 1; block < blocks; ++block) {
    for (const char* what : {"bit", "zeros", "other"}) {
      SCOPED_TRACE(std::string{what} + " in block " + std::to_string(block));
      std::vector<CopyRow> rows;
      {
        auto inspector = Inspector::open(dir.path());
        ASSERT_TRUE(inspector);
        ASSERT_TRUE((*inspector)->for_each_copy(0, [&](const CopyRow& row) {
          rows.push_back(row);
          return true;
        }));
      }
      ASSERT_EQ(rows.size(), kChunks);
      const auto places = [&](const CopyRow& row) {
        std::vector<uint64_t> found;
        for (const Extent& extent : row.record.extents)
          for (uint32_t i = 0; i < extent.count; ++i)
            found.push_back(Store::pool_data_offset() + (extent.first + i) * kBlock);
        return found;
      };
      std::ranges::sort(rows, {}, [](const CopyRow& row) { return row.name.key; });
      const CopyRow& victim = rows[1];
      const auto own = places(victim), others = places(rows[0]);
      EXPECT_LT(victim.record.stored, victim.record.length);
      blocks = own.size();
      ASSERT_GT(others.size(), block);
      const int fd = ::open((dir / "pool.data").c_str(), O_RDWR | O_CLOEXEC);
      ASSERT_GE(fd, 0);
      std::vector<std::byte> bytes(kBlock);
      const auto at = static_cast<off_t>(own[block]);
      if (what == std::string{"other"}) {
        ASSERT_EQ(::pread(fd, bytes.data(), kBlock, static_cast<off_t>(others[block])),
                  std::ssize(bytes));
      } else if (what == std::string{"bit"}) {
        ASSERT_EQ(::pread(fd, bytes.data(), kBlock, at), std::ssize(bytes));
        // What follows the last stored byte is nobody's.
        const uint64_t in_use = std::min(kBlock, victim.record.stored - block * kBlock);
        bytes[(block * 37) % in_use] ^= std::byte{4};
      }
      ASSERT_EQ(::pwrite(fd, bytes.data(), kBlock, at), std::ssize(bytes));
      ::close(fd);
      EXPECT_LT(load(), kChunks);
      EXPECT_EQ(last_.chunk_status[1], Status::Corrupt);
      ASSERT_TRUE(eventually([&] { return metric("copies") == 1; }));
      ASSERT_EQ(save().chunk_status.back(), Status::Ok);
      ASSERT_EQ(load(), kChunks);
    }
  }
  engine_.reset();
  EXPECT_EQ(audit(dir.path()), "");
}

// What is stored is right, and unpacks to something else: the copy's own checksums find it.
TEST(PackedCopies, WhatUnpacksToOtherBytesIsAMiss) {
  KvMemory kv{2, 16, 2500, kRowsPerChunk};
  kv.fill(Content::Bf16, 1);
  TempDir dir;
  RawBytes raw;  // chunk 0 as it is saved: region after region, row after row
  for (const Region& region : kv.layout().regions) {
    for (uint32_t row = 0; row < kRowsPerChunk; ++row) {
      const auto* page = reinterpret_cast<const std::byte*>(region.base + row * region.row_stride);
      raw.insert(raw.end(), page, page + region.page_bytes);
    }
  }
  {
    StoreRig rig{options_for(dir.path(), 8 << 20, 4096)};
    ASSERT_GT(save_packed(rig, 1, raw, Head::Right), 0u);
    ASSERT_GT(save_packed(rig, 2, raw, Head::WrongChecksum), 0u);
    ASSERT_GT(save_packed(rig, 3, raw, Head::WrongMagic), 0u);
  }
  Config config = config_for(dir.path(), 0.008);
  auto engine = Engine::open(config, {kv.layout()});
  ASSERT_TRUE(engine);
  const auto ns = (*engine)->open_namespace(namespace_spec());
  ASSERT_TRUE(ns);
  const auto load = [&](uint64_t number) {
    kv.wipe();
    JobRequest request = chain_job(JobKind::Load, *ns, number, 1, kRowsPerChunk);
    return run_job(**engine, std::move(request)).status;
  };
  EXPECT_EQ(load(1), Status::Ok);
  for (uint32_t row = 0; row < kRowsPerChunk; ++row) EXPECT_TRUE(kv.holds(row));
  EXPECT_EQ(load(2), Status::Corrupt);
  EXPECT_EQ(load(3), Status::Corrupt);
  EXPECT_EQ(load(2), Status::NotFound);
  EXPECT_EQ((*engine)->metrics().at("load_chunks_corrupt"), 2);
  EXPECT_TRUE(kv.gaps_intact());
}

INSTANTIATE_TEST_SUITE_P(All, CompressionFault, testing::Values("zstd", "lz4"),
                         [](const auto& info) { return std::string{info.param}; });

}  // namespace
}  // namespace penstock::test
