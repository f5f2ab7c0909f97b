// Every I/O operation of a whole save and load is made to fail in turn: fail operation n for n = 1,
// 2, 3, ... until a run meets no fault any more. Whatever happens, jobs complete once, nothing
// wrong is reported as Ok, and a clean engine afterwards finds only what was really saved.
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/figures.hpp"
#include "support/files.hpp"
#include "support/rig.hpp"
#include "support/store_rig.hpp"

namespace penstock {
namespace {

using test::chain_job;
using test::lookup_now;
using test::Pages;
using test::run_job;

constexpr uint32_t kChunks = 4, kRowsPerChunk = 4, kRows = kChunks * kRowsPerChunk;

struct Case {
  const char* engine;  // io_engine
  const char* kind;
};

class EngineFault : public testing::TestWithParam<Case> {
 protected:
  void TearDown() override { ::unsetenv("PENSTOCK_TEST_FAULT"); }

  std::unique_ptr<Engine> open(const std::string& directory, const std::string& fault) {
    if (fault.empty()) {
      ::unsetenv("PENSTOCK_TEST_FAULT");
    } else {
      ::setenv("PENSTOCK_TEST_FAULT", fault.c_str(), 1);
    }
    Config config = test::config_for(directory);
    config.gds_config.block_size = 65536;  // four blocks a copy: many operations
    config.gds_config.io_engine = GetParam().engine;
    // Short only where it is to pass: a busy machine takes longer over a job than one would think.
    const double deadline = !fault.empty() && GetParam().kind == std::string{"stuck"} ? 0.3 : 10;
    config.gds_config.load_deadline_s = deadline;
    config.gds_config.save_deadline_s = deadline;
    auto engine = Engine::open(config, {pages_.layout()});
    EXPECT_TRUE(engine) << (engine ? "" : engine.error().message);
    return engine ? std::move(*engine) : nullptr;
  }
  NamespaceId space(Engine& engine) {
    auto ns = engine.open_namespace(test::namespace_spec());
    EXPECT_TRUE(ns);
    return ns ? *ns : 0;
  }
  void fill() {
    for (uint32_t row = 0; row < kRows; ++row) pages_.fill(row, row + 1);
  }
  // Loads the chain; chunks that are Ok hold the right bytes. Returns how many.
  uint32_t check_load(Engine& engine, NamespaceId ns) {
    pages_.wipe();
    const auto result = run_job(engine, chain_job(JobKind::Load, ns, 0, kChunks, kRowsPerChunk));
    uint32_t good = 0;
    for (uint32_t chunk = 0; chunk < result.chunk_status.size(); ++chunk) {
      if (result.chunk_status[chunk] != Status::Ok) continue;
      ++good;
      for (uint32_t r = 0; r < kRowsPerChunk; ++r) {
        const uint32_t row = chunk * kRowsPerChunk + r;
        EXPECT_TRUE(pages_.holds(row, row + 1)) << "a wrong byte in row " << row;
      }
    }
    EXPECT_TRUE(pages_.neighbours_intact());
    return good;
  }

  Pages pages_{4, kRows, 16384, kRowsPerChunk};
};

TEST_P(EngineFault, EveryWriteOfASaveInTurn) {
  uint32_t complete = 0;
  for (int n = 1; complete < 2; ++n) {
    ASSERT_LT(n, 64) << "the fault never stopped being met";
    test::TempDir dir;
    fill();
    Status status;
    {
      auto engine = open(dir.path(), "write:" + std::to_string(n) + ":" + GetParam().kind);
      ASSERT_TRUE(engine);
      const NamespaceId ns = space(*engine);
      const auto saved = run_job(*engine, chain_job(JobKind::Save, ns, 0, kChunks, kRowsPerChunk));
      status = saved.status;
    }
    auto engine = open(dir.path(), "");
    ASSERT_TRUE(engine);
    const NamespaceId ns = space(*engine);
    const uint32_t found = lookup_now(*engine, ns, 0, kChunks);
    const uint32_t good = check_load(*engine, ns);
    EXPECT_LE(good, found);
    if (status == Status::Ok && good == kChunks) ++complete;
    ASSERT_TRUE(test::swept(*engine, ns, kChunks));
    // Nothing leaked: a fresh save of the chain fits and comes back whole.
    fill();
    run_job(*engine, chain_job(JobKind::Save, ns, 0, kChunks, kRowsPerChunk));
    EXPECT_EQ(check_load(*engine, ns), kChunks) << "operation " << n;
    const auto metrics = engine->metrics();
    EXPECT_EQ(metrics.at("copies"), kChunks);
    EXPECT_EQ(blocks_in_use(metrics), kChunks * 4) << "operation " << n;
  }
}

TEST_P(EngineFault, EveryReadOfALoadInTurn) {
  test::TempDir dir;
  fill();
  {
    auto engine = open(dir.path(), "");
    ASSERT_TRUE(engine);
    const NamespaceId ns = space(*engine);
    ASSERT_EQ(run_job(*engine, chain_job(JobKind::Save, ns, 0, kChunks, kRowsPerChunk)).status,
              Status::Ok);
  }
  uint32_t complete = 0;
  for (int n = 1; complete < 2; ++n) {
    ASSERT_LT(n, 64) << "the fault never stopped being met";
    uint32_t good = 0;
    {
      auto engine = open(dir.path(), "read:" + std::to_string(n) + ":" + GetParam().kind);
      ASSERT_TRUE(engine);
      good = check_load(*engine, space(*engine));
    }
    if (good == kChunks) ++complete;
    // A failing drive loses nothing that is stored; only bytes seen to be damaged are dropped (here
    // they were damaged on the way, which cannot be told apart), and then saved again.
    auto engine = open(dir.path(), "");
    ASSERT_TRUE(engine);
    const NamespaceId ns = space(*engine);
    const uint32_t found = lookup_now(*engine, ns, 0, kChunks);
    if (std::string{GetParam().kind} != "corrupt") {
      EXPECT_EQ(found, kChunks) << "operation " << n;
    }
    EXPECT_EQ(check_load(*engine, ns), found);
    ASSERT_TRUE(test::swept(*engine, ns, kChunks));
    fill();
    run_job(*engine, chain_job(JobKind::Save, ns, 0, kChunks, kRowsPerChunk));
  }
}

// While there are loads, saves have a quarter of the slots, and this one has taken those.
TEST(StuckLoad, WhatItHeldBackIsSavedWhenItHasEnded) {
  test::TempDir dir;
  Pages pages{4, kRows, 16384, kRowsPerChunk};
  Config config = test::config_for(dir.path());
  config.gds_config.block_size = 65536;
  config.gds_config.io_depth = 2 * kChunks;  // and eight slots more
  for (uint32_t row = 0; row < kRows; ++row) pages.fill(row, row + 1);
  for (const bool stuck : {false, true}) {
    if (stuck) ::setenv("PENSTOCK_TEST_FAULT", "read:1+:stuck", 1);
    auto engine = Engine::open(config, {pages.layout()});
    ::unsetenv("PENSTOCK_TEST_FAULT");
    ASSERT_TRUE(engine) << engine.error().message;
    const auto ns = (*engine)->open_namespace(test::namespace_spec());
    ASSERT_TRUE(ns);
    const auto job = [&](JobKind kind, uint64_t chain, std::chrono::milliseconds deadline) {
      JobRequest request = chain_job(kind, *ns, 0, kChunks, kRowsPerChunk, 0, chain);
      request.deadline = deadline;
      return request;
    };
    if (stuck) {
      ASSERT_TRUE((*engine)->submit(job(JobKind::Load, 0, std::chrono::milliseconds{300})));
      ASSERT_TRUE(
          test::eventually([&] { return (*engine)->metrics().at("io_in_flight") >= kChunks; }));
    }
    const uint64_t chain = stuck ? 1 : 0;
    const auto saved = run_job(**engine, job(JobKind::Save, chain, std::chrono::seconds{10}));
    EXPECT_EQ(saved.status, Status::Ok);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EngineFault,
    testing::Values(Case{"uring", "eio"}, Case{"uring", "enospc"}, Case{"uring", "short"},
                    Case{"uring", "delay"}, Case{"uring", "stuck"}, Case{"uring", "corrupt"},
                    Case{"posix", "eio"}, Case{"posix", "short"}, Case{"posix", "corrupt"}),
    [](const auto& info) { return std::string{info.param.engine} + "_" + info.param.kind; });

}  // namespace
}  // namespace penstock
