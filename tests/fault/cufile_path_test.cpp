// The whole engine with cuFile between the drive and memory of a GPU: the fake libcufile, and a
// GPU that is the host. What goes straight, what becomes of each failure, and when the engine goes
// back to host memory. A completion that did not wake the mover would end a job by its deadline.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "store/store.hpp"
#include "support/fake_cufile.hpp"
#include "support/figures.hpp"
#include "support/files.hpp"
#include "support/rig.hpp"
#include "support/store_rig.hpp"

namespace penstock {
namespace {

using test::chain_job;
using test::eventually;
using test::Pages;
using test::run_job;

constexpr uint32_t kChunks = 4, kRowsPerChunk = 4, kRows = kChunks * kRowsPerChunk, kLayers = 4;
constexpr uint32_t kPage = 16384, kBlocks = 4;  // of a copy
constexpr uint64_t kCopy = uint64_t{kRowsPerChunk} * kLayers * kPage;

class CufilePathTest : public testing::Test {
 protected:
  CufilePathTest() {
    config_.gds_config.enable_gds = "force";
    config_.gds_config.block_size = kCopy / kBlocks;
    open("");  // the process's one proof, before anything fails
  }

  void open(const std::string& mode, const std::string& device = "test:gpu") {
    engine_.reset();
    fake_.use(mode);
    auto engine = Engine::open(config_, {pages_.layout()}, device);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    auto space = engine_->open_namespace(test::namespace_spec());
    ASSERT_TRUE(space) << space.error().message;
    space_ = *space;
  }
  JobResult save(uint64_t chain = 0) {
    for (uint32_t row = 0; row < kRows; ++row) pages_.fill(row, row + 1 + chain);
    return run_job(*engine_, job(JobKind::Save, chain));
  }
  // Chunks that are reported as loaded; each of them holds what was saved.
  uint32_t load(uint64_t chain = 0, std::chrono::milliseconds deadline = {}) {
    pages_.wipe();
    auto request = job(JobKind::Load, chain);
    request.deadline = deadline;
    last_ = run_job(*engine_, std::move(request));
    uint32_t good = 0;
    for (uint32_t chunk = 0; chunk < last_.chunk_status.size(); ++chunk) {
      if (last_.chunk_status[chunk] != Status::Ok) continue;
      ++good;
      for (uint32_t row = chunk * kRowsPerChunk; row < (chunk + 1) * kRowsPerChunk; ++row)
        EXPECT_TRUE(pages_.holds(row, row + 1 + chain)) << "a wrong byte in row " << row;
    }
    EXPECT_TRUE(pages_.neighbours_intact());
    return good;
  }
  JobRequest job(JobKind kind, uint64_t chain) const {
    return chain_job(kind, space_, 0, kChunks, kRowsPerChunk, 0, chain);
  }
  uint32_t present(uint64_t chain = 0) {
    return test::lookup_now(*engine_, space_, 0, kChunks, {GroupNeed{}}, chain);
  }
  double metric(const char* name) const { return engine_->metrics().at(name); }
  std::string fact(const char* name) const { return engine_->facts().at(name); }
  void expect_host_path(const std::string& reason) {
    EXPECT_EQ(fact("gds_path"), "none");
    EXPECT_NE(fact("gds_reason").find(reason), std::string::npos) << fact("gds_reason");
    const uint64_t chain = ++chains_;
    EXPECT_EQ(save(chain).status, Status::Ok);
    EXPECT_EQ(load(chain), kChunks);
    EXPECT_EQ(metric("cufile_read_bytes") + metric("cufile_written_bytes"), 0);
  }

  test::FakeCufile fake_;
  test::TempDir dir_;
  Pages pages_{kLayers, kRows, kPage, kRowsPerChunk};
  Config config_ = test::config_for(dir_.path());
  std::unique_ptr<Engine> engine_;
  NamespaceId space_ = 0;
  JobResult last_;
  uint64_t chains_ = 10;  // used by expect_host_path()
};

TEST_F(CufilePathTest, EveryByteGoesThroughIt) {
  EXPECT_EQ(fact("gds_path"), "p2p");
  EXPECT_NE(fact("gds_reason").find("4 by P2PDMA"), std::string::npos) << fact("gds_reason");
  EXPECT_EQ(save().status, Status::Ok);
  EXPECT_EQ(metric("cufile_written_bytes"), kChunks * kCopy);
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(metric("cufile_read_bytes"), kChunks * kCopy);
  EXPECT_GT(fake_.count("registered"), 0);
  EXPECT_EQ(fake_.count("unregistered"), 0);
  EXPECT_EQ(fake_.count("misaligned"), 0);
  EXPECT_EQ(metric("cufile_failures"), 0);
  engine_.reset();
  EXPECT_EQ(fake_.count("disorder"), 0);
}

TEST_F(CufilePathTest, WhatOneWaySavedTheOtherLoads) {
  ASSERT_EQ(save().status, Status::Ok);
  config_.gds_config.enable_gds = "false";
  open("");
  EXPECT_EQ(fact("gds_path"), "none");
  EXPECT_EQ(load(), kChunks);
  ASSERT_EQ(save(1).status, Status::Ok);
  config_.gds_config.enable_gds = "force";
  open("");
  EXPECT_EQ(load(1), kChunks);
  EXPECT_EQ(metric("cufile_read_bytes"), kChunks * kCopy);
}

TEST_F(CufilePathTest, CopiesThatEndWithinASector) {
  pages_ = Pages{3, kRows, 1000, kRowsPerChunk};
  open("");
  EXPECT_EQ(save().status, Status::Ok);
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(fake_.count("misaligned"), 0);
  EXPECT_GT(metric("cufile_read_bytes"), 0);
}

TEST_F(CufilePathTest, ShortTransfersAreContinued) {
  open("short");
  EXPECT_EQ(save().status, Status::Ok);
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(metric("cufile_failures"), 0);
}

TEST_F(CufilePathTest, EveryWriteOfASaveFailsInTurn) {
  for (uint64_t n = 1;; ++n) {
    ASSERT_LT(n, 64U);
    open("fail=5008@" + std::to_string(n));
    const Status status = save(n).status;
    const bool met = metric("cufile_failures") > 0;
    EXPECT_EQ(status == Status::Ok, !met) << "write " << n;
    if (!met) break;
    // What was dropped is saved again, and nothing of it had stayed.
    save(n);
    EXPECT_EQ(load(n), kChunks) << "write " << n;
    EXPECT_EQ(metric("copies"), n * kChunks);
    EXPECT_EQ(blocks_in_use(engine_->metrics()), metric("copies") * kBlocks);
  }
}

TEST_F(CufilePathTest, EveryReadOfALoadFailsInTurn) {
  ASSERT_EQ(save().status, Status::Ok);
  for (uint64_t n = 1;; ++n) {
    ASSERT_LT(n, 64U);
    open("fail=5008@" + std::to_string(n));
    const uint32_t good = load();
    const bool met = metric("cufile_failures") > 0;
    EXPECT_EQ(good < kChunks, met) << "read " << n;
    if (!met) break;
    EXPECT_EQ(present(), kChunks) << "a failed read loses nothing";
    EXPECT_EQ(load(), kChunks) << "read " << n;
    EXPECT_EQ(fact("gds_path"), "p2p") << "once is no reason to give it up";
  }
}

TEST_F(CufilePathTest, OneThatOnlyFailsIsGivenUp) {
  ASSERT_EQ(save().status, Status::Ok);
  open("fail=5008@1+");
  for (int tries = 0; tries < 10 && metric("cufile_given_up") == 0; ++tries) load();
  EXPECT_EQ(metric("cufile_given_up"), 1);
  EXPECT_EQ(fact("gds_path"), "none");
  EXPECT_NE(fact("gds_reason").find("given up"), std::string::npos) << fact("gds_reason");
  EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(save(1).status, Status::Ok);
  EXPECT_EQ(load(1), kChunks);
}

TEST_F(CufilePathTest, WrongBytesWithSuccessAreReadAgainThroughTheHost) {
  ASSERT_EQ(save().status, Status::Ok);
  open("flip");
  EXPECT_EQ(load(), kChunks) << "each run comes through host memory in the end";
  EXPECT_GE(metric("cufile_failures"), 1);
  for (int tries = 0; tries < 10 && metric("cufile_given_up") == 0; ++tries)
    EXPECT_EQ(load(), kChunks);
  EXPECT_EQ(metric("cufile_given_up"), 1);
  EXPECT_EQ(metric("corrupt_copies"), 0) << "cuFile's fault is not the drive's";
  EXPECT_EQ(load(), kChunks);
}

TEST_F(CufilePathTest, DamageOnTheDriveIsDamage) {
  ASSERT_EQ(save().status, Status::Ok);
  engine_.reset();
  // The first block of the pool is the first copy's.
  const std::string pool = dir_ / "pool.data";
  const int fd = ::open(pool.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const auto at = static_cast<off_t>(Store::pool_data_offset() + 4097);
  uint8_t byte = 0;
  ASSERT_EQ(::pread(fd, &byte, 1, at), 1);
  byte ^= 1;
  ASSERT_EQ(::pwrite(fd, &byte, 1, at), 1);
  ::close(fd);
  open("");
  EXPECT_LT(load(), kChunks);
  EXPECT_EQ(std::ranges::count(last_.chunk_status, Status::Corrupt), 1) << "one is to blame";
  EXPECT_EQ(metric("corrupt_copies"), 1);
  ASSERT_TRUE(test::swept(*engine_, space_, kChunks));
  EXPECT_LT(present(), kChunks) << "it and what follows it are gone";
  EXPECT_EQ(fact("gds_path"), "p2p");
}

TEST_F(CufilePathTest, OneThatHangsIsAMissThenGivenUp) {
  ASSERT_EQ(save().status, Status::Ok);
  open("hang=read");
  EXPECT_EQ(load(0, std::chrono::milliseconds{300}), 0U);
  EXPECT_EQ(last_.status, Status::Timeout);
  EXPECT_EQ(present(), kChunks);
  EXPECT_TRUE(eventually([&] { return load(0, std::chrono::milliseconds{300}) == kChunks; }));
  EXPECT_EQ(metric("cufile_given_up"), 1);
  EXPECT_EQ(fact("gds_path"), "none");
  EXPECT_EQ(save(1).status, Status::Ok);
  fake_.release();  // what comes back late finds nobody, and its slots are free
  engine_.reset();
  EXPECT_EQ(fake_.count("closes"), fake_.count("opens"));
}

TEST_F(CufilePathTest, AnEngineEndsThoughACallHangs) {
  ASSERT_EQ(save().status, Status::Ok);
  open("hang=read");
  EXPECT_EQ(load(0, std::chrono::milliseconds{300}), 0U);
  engine_.reset();
  EXPECT_GT(fake_.count("hanging"), 0);
  fake_.release();  // into memory that is still there
  EXPECT_TRUE(eventually([&] { return fake_.count("closes") == fake_.count("opens"); }));
}

TEST_F(CufilePathTest, WhatIsRefusedGoesThroughTheHost) {
  open("open=5001");
  expect_host_path("passed its probe and fails here");
  config_.gds_config.enable_gds = "true";  // this machine has no NVIDIA driver to prove it with
  open("");
  if (::access("/proc/driver/nvidia/version", R_OK) != 0) expect_host_path("no NVIDIA driver");
  config_.gds_config.enable_gds = "false";
  open("");
  expect_host_path("enable_gds is false");
}

TEST_F(CufilePathTest, ItIsNeverTriedForPagesOfTheHost) {
  const long opens = fake_.count("opens");
  open("", "cpu");
  expect_host_path("host memory");
  EXPECT_EQ(fake_.count("opens"), opens);
}

TEST_F(CufilePathTest, ItIsNotUsedBehindAMemoryTier) {
  test::TempDir memory{test::in_memory()};
  config_.backend = {"local", "gds"};
  config_.local_config.directory = memory / "tier";
  config_.local_config.max_cache_size_gb = 0.05;
  const long opens = fake_.count("opens");
  open("");
  expect_host_path("memory tier");
  EXPECT_EQ(fake_.count("opens"), opens);
}

}  // namespace
}  // namespace penstock
