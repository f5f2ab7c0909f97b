// Failing drives and kill -9 under an engine over host memory and a drive: write-behind and
// promotion. Whatever happens, nothing wrong is reported as Ok, nothing leaks in either store, and
// what memory has is served.
#include <gtest/gtest.h>
#include <time.h>

#include <cstdlib>
#include <random>

#include "support/child.hpp"
#include "support/figures.hpp"
#include "support/tier_rig.hpp"
#include "support/victim.hpp"

namespace penstock::test {
namespace {

constexpr uint32_t kChunks = 4;

struct Case {
  const char* engine;  // io_engine
  const char* kind;
};

class TiersFault : public testing::TestWithParam<Case> {
 protected:
  void TearDown() override { ::unsetenv("PENSTOCK_TEST_FAULT"); }

  std::unique_ptr<TierRig> open(const std::string& drive, const std::string& memory,
                                const std::string& fault) {
    if (fault.empty()) {
      ::unsetenv("PENSTOCK_TEST_FAULT");
    } else {
      ::setenv("PENSTOCK_TEST_FAULT", (fault + ":" + GetParam().kind).c_str(), 1);
    }
    auto rig = std::make_unique<TierRig>(drive, memory + "/local", 0.05);
    rig->config.gds_config.io_engine = GetParam().engine;
    rig->config.gds_config.load_deadline_s = fault.starts_with("read") && is("stuck") ? 0.3 : 10;
    rig->config.gds_config.save_deadline_s = 5;
    rig->open();
    return rig;
  }
  bool is(const std::string& kind) const { return kind == GetParam().kind; }
};

double used(const TierRig& rig, const std::string& prefix) {
  return blocks_in_use(rig.engine->metrics(), prefix);
}

TEST_P(TiersFault, EveryWriteBehindInTurn) {
  int untouched = 0;
  for (int n = 1; untouched < 2; ++n) {
    ASSERT_LT(n, 64) << "the fault never stopped being met";
    TempDir drive;
    TempDir memory{in_memory()};
    {
      const auto rig = open(drive.path(), memory.path(), "write:" + std::to_string(n));
      ASSERT_EQ(rig->save(0, kChunks).status, Status::Ok);  // it is in memory, whatever the drive
      if (is("stuck")) {
        rig->written_behind(std::chrono::milliseconds{300});  // ends early where nothing is stuck
      } else {
        ASSERT_TRUE(rig->written_behind()) << "operation " << n;
      }
      EXPECT_EQ(rig->load(0, kChunks), kChunks);
      if (rig->metric("write_behind_chunks") == kChunks) ++untouched;
    }
    std::filesystem::remove_all(memory / "local");
    const auto rig = open(drive.path(), memory.path(), "");
    const uint32_t found = lookup_now(*rig->engine, rig->ns, 0, kChunks);
    EXPECT_LE(rig->load(0, kChunks), found);
    rig->save(0, kChunks);
    ASSERT_TRUE(rig->written_behind());
    EXPECT_EQ(rig->load(0, kChunks), kChunks) << "operation " << n;
    // Below damage copies may still be there when they are saved again, and go then.
    if (!is("corrupt")) {
      EXPECT_EQ(rig->metric("copies"), kChunks) << "operation " << n;
    }
    EXPECT_TRUE(eventually([&] { return used(*rig, "") == 4 * rig->metric("copies"); }))
        << "operation " << n;
  }
}

TEST_P(TiersFault, EveryReadOfAPromotionInTurn) {
  TempDir drive;
  {
    TempDir memory{in_memory()};
    const auto rig = open(drive.path(), memory.path(), "");
    ASSERT_EQ(rig->save(0, kChunks).status, Status::Ok);
    ASSERT_TRUE(rig->written_behind());
  }
  int untouched = 0;
  for (int n = 1; untouched < 2; ++n) {
    ASSERT_LT(n, 64) << "the fault never stopped being met";
    TempDir memory{in_memory()};
    {
      const auto rig = open(drive.path(), memory.path(), "read:" + std::to_string(n));
      if (rig->load(0, kChunks) == kChunks) ++untouched;
    }
    // What came into memory is right, and takes only its own blocks.
    const auto rig = open(drive.path(), memory.path(), "");
    const uint32_t found = lookup_now(*rig->engine, rig->ns, 0, kChunks);
    if (!is("corrupt")) {
      EXPECT_EQ(found, kChunks) << "operation " << n;
    }
    EXPECT_EQ(rig->load(0, kChunks), found);
    EXPECT_TRUE(eventually([&] { return used(*rig, "local_") == 4 * rig->metric("local_copies"); }))
        << "operation " << n;
    rig->save(0, kChunks);  // a byte that was turned on the way counts as damage of the drive
    ASSERT_TRUE(rig->written_behind());
  }
}

// The second way of a chunk fails too, at every place.
TEST_P(TiersFault, EveryReadOfWhatWasDamagedInMemoryInTurn) {
  int untouched = 0;
  for (int n = 1; untouched < 2; ++n) {
    ASSERT_LT(n, 64) << "the fault never stopped being met";
    TempDir drive;
    TempDir memory{in_memory()};
    {
      const auto rig = open(drive.path(), memory.path(), "");
      ASSERT_EQ(rig->save(0, kChunks).status, Status::Ok);
      ASSERT_TRUE(rig->written_behind());
    }
    damage_pool(memory / "local/pool.data", TierRig::kChunkBytes);  // the first chunk is good
    {
      const auto rig = open(drive.path(), memory.path(), "read:" + std::to_string(n));
      rig->layerwise = n % 2 == 0;
      const uint32_t good = rig->load(0, kChunks);
      EXPECT_EQ(rig->last.chunk_status[0], Status::Ok) << "operation " << n;
      EXPECT_EQ(rig->metric("load_chunks_reread"), good - 1) << "operation " << n;
      if (good == kChunks) ++untouched;
    }
    const auto rig = open(drive.path(), memory.path(), "");
    const uint32_t found = lookup_now(*rig->engine, rig->ns, 0, kChunks);
    if (!is("corrupt")) {
      EXPECT_EQ(found, kChunks) << "operation " << n;
    }
    EXPECT_EQ(rig->load(0, kChunks), found) << "operation " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TiersFault,
                         testing::Values(Case{"uring", "eio"}, Case{"uring", "enospc"},
                                         Case{"uring", "short"}, Case{"uring", "delay"},
                                         Case{"uring", "stuck"}, Case{"uring", "corrupt"},
                                         Case{"posix", "eio"}, Case{"posix", "corrupt"}),
                         [](const auto& info) {
                           return std::string{info.param.engine} + "_" + info.param.kind;
                         });

// A drive that keeps some requests, and one job at a time that may use it.
class StuckDrive : public testing::Test {
 protected:
  static constexpr std::chrono::seconds kPatience{20};  // of jobs that are to succeed

  void TearDown() override { ::unsetenv("PENSTOCK_TEST_FAULT"); }
  void open(const char* fault, double save_deadline_s = 600, uint32_t chunks = 16) {
    rig_.engine.reset();
    ::setenv("PENSTOCK_TEST_FAULT", fault, 1);
    rig_.config.gds_config.max_concurrent_ops = 1;
    rig_.config.gds_config.load_deadline_s = 600;
    rig_.config.gds_config.save_deadline_s = save_deadline_s;
    rig_.open(chunks);
  }
  void save_on_the_drive_only(uint64_t chain) {
    rig_.config.backend = {"gds"};
    rig_.open();
    ASSERT_EQ(rig_.save(0, kChunks, chain).status, Status::Ok);
    rig_.engine.reset();
    rig_.config.backend = {"local", "gds"};
  }
  Status run(JobRequest request, std::chrono::milliseconds deadline = kPatience) {
    request.deadline = deadline;
    return run_job(*rig_.engine, std::move(request)).status;
  }

  TempDir drive_;
  TempDir memory_{in_memory()};
  TierRig rig_{drive_.path(), memory_ / "local", 0.05};
};

TEST_F(StuckDrive, WhatIsInMemoryIsLoaded) {
  save_on_the_drive_only(1);
  open("read:1+:stuck");
  ASSERT_EQ(rig_.save(0, kChunks, 2).status, Status::Ok);
  ASSERT_TRUE(rig_.engine->submit(rig_.job(JobKind::Load, 0, kChunks, 1)));
  ASSERT_TRUE(eventually([&] { return rig_.metric("io_in_flight") > 0; }));
  EXPECT_EQ(run(rig_.job(JobKind::Load, 0, kChunks, 2)), Status::Ok);
}

TEST_F(StuckDrive, WhatGoesToMemoryIsSaved) {
  save_on_the_drive_only(1);
  open("write:1+:stuck");
  ASSERT_TRUE(rig_.engine->submit(rig_.job(JobKind::Save, kChunks, kChunks, 1)));
  ASSERT_TRUE(eventually([&] { return rig_.metric("io_in_flight") > 0; }));
  EXPECT_EQ(run(rig_.job(JobKind::Save, 0, kChunks, 2)), Status::Ok);
}

// The copy and what hangs below it stay in memory only.
TEST_F(StuckDrive, WriteBehindGoesOnWithoutWhatNeverReturns) {
  open("write:1:stuck", 3);
  ASSERT_EQ(rig_.save(0, kChunks, 1).status, Status::Ok);
  ASSERT_EQ(rig_.save(0, kChunks, 2).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  EXPECT_EQ(rig_.metric("write_behind_chunks"), kChunks);
  EXPECT_EQ(rig_.metric("write_behind_dropped"), kChunks);
  EXPECT_EQ(rig_.metric("io_in_flight"), 1);
  EXPECT_EQ(rig_.load(0, kChunks, 1), kChunks);
}

// They go to the drive when memory is full, and may not be there before the one that is stuck.
TEST_F(StuckDrive, SavesThatWaitForWhatNeverReturnsKeepNoBlocks) {
  constexpr uint32_t kActive = 64, kMany = 128;  // what write-behind has begun; more than memory
  rig_.config.local_config.max_cache_size_gb = 0.03;
  save_on_the_drive_only(1);
  const auto begun = [&] { return used(rig_, "") == 4 * (kChunks + kActive); };
  open("write:1:stuck", 600, kMany);
  ASSERT_EQ(rig_.save(0, kActive, 2).status, Status::Ok);
  ASSERT_TRUE(eventually(begun));
  EXPECT_EQ(run(rig_.job(JobKind::Save, kActive, kMany - kActive, 2), std::chrono::seconds{2}),
            Status::Timeout);
  EXPECT_TRUE(eventually(begun));
  EXPECT_EQ(run(rig_.job(JobKind::Save, kChunks, kChunks, 1)), Status::Ok);
}

// Saves and loads chains until it is killed, or a byte is wrong.
void work(const std::string& drive, const std::string& memory, uint64_t seed,
          const std::function<void()>& begun) {
  ::setenv("PENSTOCK_TEST_FAULT", "write:1+:delay", 1);  // so that much waits for the drive
  TierRig rig{drive, memory + "/local", 0.02};
  rig.open();
  begun();
  std::mt19937_64 random{seed};
  while (!testing::Test::HasFailure()) {
    const uint64_t chain = 1 + random() % 12;
    if (random() % 2 == 0)
      rig.save(0, 4, chain);
    else
      rig.load(0, 4, chain);
  }
}

TEST(TiersKill, NothingIsWrongAndNothingLeaks) {
  TempDir drive;
  TempDir memory{in_memory()};
  std::mt19937_64 random{5};
  uint64_t loaded = 0;
  for (int round = 0; round < 15; ++round) {
    const auto saver = [&](uint64_t seed) {
      return [&, seed](const auto& begun) { work(drive.path(), memory.path(), seed, begun); };
    };
    Victim first{saver(random())}, second{saver(random())};
    if (round % 2 == 0) {  // in the others a kill may meet the opening
      ASSERT_TRUE(first.wait_begun() && second.wait_begun()) << "in round " << round;
    }
    const timespec time{0, static_cast<long>(20'000'000 + random() % 200'000'000)};
    ::nanosleep(&time, nullptr);  // the moment is the point of it
    const bool one = first.kill(), two = second.kill();
    ASSERT_TRUE(one && two) << "a process ended by itself in round " << round;
    const std::string said = in_child([&]() -> std::string {
      TierRig rig{drive.path(), memory / "local", 0.02};
      rig.open();
      uint32_t good = 0;
      for (uint64_t chain = 1; chain <= 12; ++chain) {
        const uint32_t found = lookup_now(*rig.engine, rig.ns, 0, 4, {GroupNeed{}}, chain);
        const uint32_t back = rig.load(0, 4, chain);
        if (back != found) return "found, but not loaded";
        good += back;
      }
      if (!rig.written_behind()) return "not written behind";
      for (const char* prefix : {"", "local_"})
        if (!eventually([&] {
              return used(rig, prefix) == 4 * rig.metric(std::string{prefix} + "copies");
            }))
          return std::string{prefix} + "blocks leaked";
      return testing::Test::HasFailure() ? "wrong bytes" : std::to_string(good);
    });
    ASSERT_TRUE(!said.empty() && std::isdigit(said[0])) << said << " in round " << round;
    loaded += std::stoul(said);
    ASSERT_EQ(audit(memory / "local"), "");
    ASSERT_EQ(audit(drive.path()), "");
  }
  EXPECT_GT(loaded, 20u);
}

}  // namespace
}  // namespace penstock::test
