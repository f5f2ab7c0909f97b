// An engine over two tiers: host memory and a drive.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>

#include "support/child.hpp"
#include "support/figures.hpp"
#include "support/mount.hpp"
#include "support/store_worker.hpp"
#include "support/tier_rig.hpp"

namespace penstock::test {
namespace {

using Runs = std::vector<TierRun>;

class Tiers : public testing::Test {
 protected:
  TempDir drive_;
  TempDir memory_{in_memory()};
  TierRig rig_{drive_.path(), memory_ / "local"};

  // As after a restart of the machine.
  void lose_memory() {
    rig_.engine.reset();
    std::filesystem::remove_all(memory_ / "local");
  }
  // Loads the first chunks until they are in memory: a load does not wait long for room there.
  void promote(uint32_t chunks) {
    ASSERT_TRUE(eventually([&] {
      EXPECT_EQ(rig_.load(0, chunks), chunks);
      return rig_.metric("promoted_chunks") == chunks;
    }));
  }
  void save_on_the_drive_only(uint32_t chunks) {
    rig_.config.backend = {"gds"};
    rig_.open();
    ASSERT_EQ(rig_.save(0, chunks).status, Status::Ok);
    rig_.config.backend = {"local", "gds"};
    rig_.open();
  }
};

TEST_F(Tiers, ASaveIsInMemoryAtOnceAndThenOnTheDrive) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  EXPECT_EQ(rig_.runs(16).front(), (TierRun{Tier::Local, 8}));
  ASSERT_TRUE(rig_.written_behind());
  EXPECT_EQ(rig_.metric("write_behind_chunks"), 8);
  EXPECT_EQ(rig_.metric("write_behind_bytes"), 8 * TierRig::kChunkBytes);
  EXPECT_EQ(rig_.metric("write_behind_dropped"), 0);
  EXPECT_EQ(rig_.metric("local_copies"), 8);
  EXPECT_EQ(rig_.metric("copies"), 8);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Local, 8}}));

  lose_memory();
  rig_.open();
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Gds, 8}}));
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.metric("local_load_chunks"), 0);
}

TEST_F(Tiers, WhatIsInMemoryIsLoadedFromThere) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.metric("local_load_chunks"), 8);
  EXPECT_EQ(rig_.metric("local_loaded_bytes"), 8 * TierRig::kChunkBytes);
  rig_.open();  // a new engine finds it too
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.metric("local_load_chunks"), 8);
  EXPECT_EQ(rig_.metric("promoted_chunks"), 0);
}

TEST_F(Tiers, WhatIsLoadedFromTheDriveIsInMemoryAfterwards) {
  save_on_the_drive_only(8);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Gds, 8}}));
  promote(8);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Local, 8}}));
  const double before = rig_.metric("local_load_chunks");
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.metric("local_load_chunks") - before, 8);
  // It came from the drive, so it is not written there again.
  EXPECT_EQ(rig_.metric("write_behind_chunks"), 0);
}

TEST_F(Tiers, OneLoadTakesFromBoth) {
  save_on_the_drive_only(12);
  promote(5);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Local, 5}, {Tier::Gds, 12}}));
  for (const bool layerwise : {false, true}) {
    SCOPED_TRACE(layerwise);
    const double before = rig_.metric("local_load_chunks");
    JobRequest request = rig_.job(JobKind::Load, 2, 10);
    request.layerwise = layerwise;
    rig_.pages->wipe();
    const auto result = run_job(*rig_.engine, std::move(request));
    EXPECT_EQ(result.status, Status::Ok);
    EXPECT_EQ(result.bytes, 10 * TierRig::kChunkBytes);
    for (uint32_t row = 8; row < 48; ++row) EXPECT_TRUE(rig_.pages->holds(row, row + 1)) << row;
    EXPECT_TRUE(rig_.pages->untouched(7));
    // Three are there for certain, all after the first round has promoted the rest.
    EXPECT_GE(rig_.metric("local_load_chunks") - before, 3);
    if (!layerwise) {
      EXPECT_EQ(rig_.metric("local_load_chunks") - before, 3);
    }
  }
}

// Memory is asked for the first chunks of a load before the others.
TEST_F(Tiers, OnlyTheEndOfALoadIsNotInMemory) {
  save_on_the_drive_only(12);
  promote(10);
  const double before = rig_.metric("local_load_chunks");
  EXPECT_EQ(rig_.load(0, 14), 12u);
  EXPECT_EQ(rig_.metric("local_load_chunks") - before, 10);
  EXPECT_EQ(rig_.last.chunk_status[12], Status::NotFound);
  ASSERT_TRUE(eventually([&] { return rig_.metric("local_copies") == 12; }));
}

// So that the first layer of all is there when a quarter has been moved.
TEST_F(Tiers, LayerwiseTheBlocksOfMemoryGoOneByOne) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  const auto moves = [&] { return rig_.metric("memory_read_seconds_le_inf"); };
  EXPECT_EQ(rig_.load(0, 8), 8u);
  const double whole = moves();  // one of each copy, if its blocks are adjacent
  EXPECT_LT(whole, 2 * 8);
  rig_.layerwise = true;
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(moves() - whole, 8 * TierRig::kLayers);
}

// Below what is not in memory nothing can be kept there: presence has no holes.
TEST_F(Tiers, TheMiddleOfAChainIsNotPromoted) {
  save_on_the_drive_only(8);
  EXPECT_EQ(rig_.load(4, 4), 4u);
  promote(2);
  EXPECT_EQ(rig_.load(4, 4), 4u);
  EXPECT_EQ(rig_.metric("local_copies"), 2);
  EXPECT_TRUE(eventually([&] { return blocks_in_use(rig_.engine->metrics(), "local_") == 8; }));
}

TEST_F(Tiers, ASaveBelowWhatIsOnlyOnTheDriveGoesThere) {
  save_on_the_drive_only(4);
  ASSERT_EQ(rig_.save(4, 4).status, Status::Ok);
  EXPECT_EQ(rig_.metric("local_save_chunks"), 0);
  EXPECT_EQ(rig_.metric("copies"), 8);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Gds, 8}}));
  EXPECT_EQ(rig_.load(0, 8), 8u);
}

TEST_F(Tiers, MemoryAlone) {
  rig_.config.backend = {"local"};
  rig_.config.gds_config.cache_dir.clear();
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  EXPECT_EQ(rig_.runs(16), (Runs{{Tier::Local, 8}}));
  rig_.open();
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.load(0, 10), 8u);
  EXPECT_EQ(rig_.last.chunk_status[8], Status::NotFound);
  EXPECT_EQ(rig_.metric("copies"), 8);  // the only tier's figures have no prefix
  EXPECT_EQ(rig_.metric("write_behind_pending_bytes"), 0);
}

TEST_F(Tiers, AMissInBothIsAMiss) {
  rig_.open();
  EXPECT_EQ(rig_.load(0, 3), 0u);
  EXPECT_EQ(rig_.last.chunk_status[0], Status::NotFound);
  for (uint32_t row = 0; row < 64; ++row) EXPECT_TRUE(rig_.pages->untouched(row));
  EXPECT_TRUE(eventually([&] { return blocks_in_use(rig_.engine->metrics(), "local_") == 0; }));
}

TEST_F(Tiers, TheDailyWriteLimitIsTheDrives) {
  rig_.config.gds_config.max_write_gb_per_day = 4.0 * TierRig::kChunkBytes / 1e9;
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  EXPECT_EQ(rig_.metric("local_copies"), 8);
  EXPECT_EQ(rig_.metric("copies"), 4);
}

// A byte that is wrong in memory is counted, and costs a read of the drive.
TEST_F(Tiers, WhatIsDamagedInMemoryComesFromTheDrive) {
  for (const bool layerwise : {false, true}) {
    rig_.open();
    ASSERT_EQ(rig_.save(0, 4).status, Status::Ok);
    ASSERT_TRUE(rig_.written_behind());
    ASSERT_EQ(rig_.runs(4), (Runs{{Tier::Local, 4}}));
    damage_pool(memory_ / "local/pool.data");
    rig_.layerwise = layerwise;
    EXPECT_EQ(rig_.load(0, 4), 4u);
    EXPECT_EQ(rig_.last.status, Status::Ok);
    EXPECT_EQ(rig_.metric("load_chunks_reread"), 4);
    EXPECT_EQ(rig_.metric("local_load_chunks"), 0);
    EXPECT_EQ(rig_.metric("load_chunks_corrupt"), 0);
    EXPECT_GE(rig_.metric("local_corrupt_copies"), 1);
    EXPECT_EQ(rig_.metric("corrupt_copies"), 0);
    ASSERT_TRUE(eventually([&] { return rig_.metric("local_copies") == 0; }));
  }
}

// Only some are bad, with good ones before and behind them.
TEST_F(Tiers, TheRestOfALoadComesFromMemory) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  damage_pool(memory_ / "local/pool.data", 3 * TierRig::kChunkBytes, 4 * TierRig::kChunkBytes);
  EXPECT_EQ(rig_.load(0, 8), 8u);
  EXPECT_EQ(rig_.metric("load_chunks_reread"), 1);
  EXPECT_EQ(rig_.metric("local_load_chunks"), 7);
}

TEST_F(Tiers, DamageOfBothIsAMiss) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 4).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  damage_pool(memory_ / "local/pool.data");
  damage_pool(drive_ / "pool.data");
  EXPECT_EQ(rig_.load(0, 4), 0u);
  EXPECT_EQ(rig_.last.chunk_status[0], Status::Corrupt);
  EXPECT_GE(rig_.metric("corrupt_copies"), 1);
  EXPECT_GE(rig_.metric("local_corrupt_copies"), 1);
  EXPECT_EQ(rig_.metric("load_chunks_reread"), 0);
}

TEST_F(Tiers, DamageOfWhatTheDriveHasNotIsAMiss) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 4).status, Status::Ok);
  ASSERT_TRUE(rig_.written_behind());
  rig_.engine.reset();
  for (const auto& entry : std::filesystem::directory_iterator{drive_.path()})
    std::filesystem::remove_all(entry);
  rig_.open();
  ASSERT_EQ(rig_.runs(4), (Runs{{Tier::Local, 4}}));
  damage_pool(memory_ / "local/pool.data");
  EXPECT_EQ(rig_.load(0, 4), 0u);
  EXPECT_EQ(rig_.last.chunk_status[0], Status::Corrupt);
}

// Far more than fits memory: what is not there is on the drive, and memory keeps to its size.
TEST_F(Tiers, MemorySmallerThanTheWorkingSet) {
  constexpr uint64_t kChains = 24;
  TierRig rig{drive_.path(), memory_ / "local", 0.02};
  rig.open();
  for (uint64_t chain = 1; chain <= kChains; ++chain) {
    ASSERT_EQ(rig.save(0, 8, chain).status, Status::Ok);
    ASSERT_TRUE(rig.written_behind());
  }
  EXPECT_EQ(rig.metric("copies"), 8 * kChains);
  EXPECT_LE(disk_usage(memory_ / "local"), 20'000'000u);
  for (int round = 0; round < 2; ++round)
    for (uint64_t chain = 1; chain <= kChains; ++chain) EXPECT_EQ(rig.load(0, 8, chain), 8u);
  EXPECT_GT(rig.metric("local_evictions"), 0);
  EXPECT_GT(rig.metric("promoted_chunks"), 0);
  EXPECT_LE(disk_usage(memory_ / "local"), 20'000'000u);
  EXPECT_EQ(rig.load(0, 8, kChains), 8u);  // used just now
  EXPECT_GT(rig.metric("local_load_chunks"), 0);
  rig.engine.reset();
  EXPECT_EQ(audit(memory_ / "local"), "");
  EXPECT_EQ(audit(drive_.path()), "");
}

// One chain that memory cannot hold: its end goes to the drive, under what is written behind.
TEST_F(Tiers, AChainLongerThanMemory) {
  constexpr uint32_t kChunks = 96;
  TierRig rig{drive_.path(), memory_ / "local", 0.02};
  rig.open(kChunks);
  for (uint32_t first = 0; first < kChunks; first += 4)
    EXPECT_EQ(rig.save(first, 4).status, Status::Ok) << first;
  ASSERT_TRUE(rig.written_behind());
  EXPECT_EQ(rig.metric("write_behind_dropped"), 0);
  EXPECT_EQ(rig.runs(kChunks).back(), (TierRun{Tier::Gds, kChunks}));
  EXPECT_EQ(rig.load(0, kChunks), kChunks);
  EXPECT_GT(rig.metric("local_load_chunks"), 0);
}

TEST_F(Tiers, AllAtOnceLargerThanMemoryAndWhatWaitsForTheDrive) {
  constexpr uint32_t kChunks = 128;
  TierRig rig{drive_.path(), memory_ / "local", 0.02};
  rig.open(kChunks);
  rig.save(0, kChunks);
  ASSERT_TRUE(rig.written_behind());
  const auto runs = rig.runs(kChunks);
  ASSERT_FALSE(runs.empty());
  const uint32_t found = runs.back().chunks;
  EXPECT_EQ(rig.load(0, found), found);
  rig.engine.reset();
  EXPECT_EQ(audit(memory_ / "local"), "");
  EXPECT_EQ(audit(drive_.path()), "");
}

TEST_F(Tiers, ProcessesShareMemory) {
  EXPECT_EQ(in_child([&]() -> std::string {
              const pid_t other = ::fork();
              if (other == 0) {
                rig_.open();
                const bool good = rig_.save(0, 8).status == Status::Ok;
                rig_.engine.reset();
                ::_exit(good ? 0 : 1);
              }
              rig_.open();
              if (!eventually([&] { return rig_.runs(8) == Runs{{Tier::Local, 8}}; }))
                return "not found";
              const uint32_t loaded = rig_.load(0, 8);
              const double local = rig_.metric("local_load_chunks");
              int status = 0;
              ::waitpid(other, &status, 0);
              if (status != 0) return "the other process failed";
              return std::to_string(loaded) + " " + std::to_string(static_cast<int>(local));
            }),
            "8 8");
}

TEST_F(Tiers, OneHandleInAProcessForBothHalves) {
  rig_.open();
  auto second = Engine::open(rig_.config, {});  // as vLLM's scheduler half
  ASSERT_TRUE(second) << second.error().message;
  auto ns = (*second)->open_namespace(namespace_spec());
  ASSERT_TRUE(ns);
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  EXPECT_EQ(lookup_now(**second, *ns, 0, 16), 8u);
  rig_.engine.reset();
  EXPECT_EQ(lookup_now(**second, *ns, 0, 16), 8u);
}

TEST_F(Tiers, AForkedChildIsRefused) {
  rig_.open();
  EXPECT_EQ(in_child([&]() -> std::string {
              auto engine = Engine::open(rig_.config, {});
              return std::string{to_string(engine.status())};
            }),
            std::string{to_string(Status::Unsupported)});
  EXPECT_EQ(rig_.save(0, 2).status, Status::Ok);
}

TEST_F(Tiers, MoreMemoryThanThereIsIsRefused) {
  rig_.config.local_config.max_cache_size_gb = 1e6;
  auto engine = Engine::open(rig_.config, {});
  ASSERT_EQ(engine.status(), Status::Invalid);
  EXPECT_NE(engine.error().message.find("--shm-size="), std::string::npos)
      << engine.error().message;
}

TEST_F(Tiers, AMemoryDirectoryOnADriveIsRefused) {
  rig_.config.local_config.directory = drive_ / "local";
  EXPECT_EQ(Engine::open(rig_.config, {}).status(), Status::Invalid);
}

// Nobody's memory can be taken away, so another block size is left out, and the drive serves.
TEST_F(Tiers, WithoutTheMemoryTheDriveServes) {
  int ready[2];
  int done[2];
  ASSERT_EQ(::pipe(ready) + ::pipe(done), 0);
  const pid_t other = ::fork();
  if (other == 0) {
    ::close(done[1]);
    StoreOptions options = options_for(memory_ / "local", 100'000'000, 4096);
    options.mapped = true;
    auto store = Store::open(options);
    char byte = store ? 'y' : 'n';
    bool told = ::write(ready[1], &byte, 1) == 1;
    told = ::read(done[0], &byte, 1) == 0 && told;
    ::_exit(told ? 0 : 1);
  }
  ::close(done[0]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  rig_.open();
  EXPECT_NE(rig_.engine->facts()["local_left_out"].find("65536 are needed"), std::string::npos);
  EXPECT_EQ(rig_.save(0, 4).status, Status::Ok);
  EXPECT_EQ(rig_.runs(8), (Runs{{Tier::Gds, 4}}));
  EXPECT_EQ(rig_.load(0, 4), 4u);
  ::close(done[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_EQ(status, 0);
}

// The other way round: a drive that is not mounted. When it is back, it is used again.
TEST_F(Tiers, WithoutTheDriveMemoryServes) {
  const std::string mounted = rig_.config.gds_config.cache_dir.front();
  rig_.config.gds_config.cache_dir = {drive_ / "not-mounted/cache"};
  rig_.open();
  EXPECT_EQ(rig_.metric("backends_left_out"), 1);
  EXPECT_NE(rig_.engine->facts()["gds_left_out"].find("not-mounted"), std::string::npos);
  EXPECT_EQ(rig_.save(0, 4).status, Status::Ok);
  EXPECT_EQ(rig_.runs(8), (Runs{{Tier::Local, 4}}));
  EXPECT_EQ(rig_.load(0, 4), 4u);
  rig_.config.gds_config.cache_dir = {mounted};
  rig_.open();
  EXPECT_EQ(rig_.metric("backends_left_out"), 0);
  EXPECT_EQ(rig_.save(4, 4).status, Status::Ok);
  EXPECT_EQ(rig_.load(0, 8), 8u);
}

TEST_F(Tiers, WhereNoneCanStartBothAreNamed) {
  rig_.config.gds_config.cache_dir = {drive_ / "not-mounted/cache"};
  std::ofstream{rig_.config.local_config.directory} << "a file, not a directory";
  const auto opened = Engine::open(rig_.config, {});
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("not-mounted"), std::string::npos);
  EXPECT_NE(opened.error().message.find(rig_.config.local_config.directory), std::string::npos);
}

TEST_F(Tiers, RemoteIsLeftOutAndSaysSo) {
  rig_.config.backend = {"gds", "remote"};
  rig_.open();
  EXPECT_EQ(rig_.metric("backends_left_out"), 1);
  EXPECT_EQ(rig_.engine->facts()["remote_left_out"], "it is not built into this version");
  EXPECT_EQ(rig_.save(0, 4).status, Status::Ok);
  EXPECT_EQ(rig_.load(0, 4), 4u);
}

// What Engine::metrics() calls busy is the time with a load under way, and no more.
TEST_F(Tiers, TheTimeWithLoadsIsCounted) {
  rig_.open();
  ASSERT_EQ(rig_.save(0, 8).status, Status::Ok);
  EXPECT_EQ(rig_.metric("load_busy_micros"), 0);
  const auto begin = std::chrono::steady_clock::now();
  double jobs = 0;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(rig_.load(0, 8), 8u);
    jobs += rig_.last.seconds * 1e6;
  }
  const double wall =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
  const double busy = rig_.metric("load_busy_micros");
  EXPECT_GT(busy, 0);
  EXPECT_LE(busy, jobs + 50);  // one after the other, from submission on
  EXPECT_LE(busy, wall);
}

// The file system that the memory tier lies on is full: saves go to the drive, loads from there.
TEST_F(Tiers, AFullFileSystemInMemory) {
  const std::string said = in_mount(kTmpfs, 64 << 20, [&](const std::string& where) -> std::string {
    TierRig rig{drive_.path(), where + "/local", 0.05};
    rig.open();
    if (rig.save(0, 8, 1).status != Status::Ok) return "no save";
    const int other = ::open((where + "/other").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    off_t taken = 0;
    while (::fallocate(other, 0, taken, 4096) == 0) taken += 4096;
    for (uint64_t chain = 2; chain <= 40; ++chain) {
      rig.save(0, 8, chain);
      if (!rig.written_behind()) return "not written";
    }
    uint32_t loaded = 0;
    for (uint64_t chain = 1; chain <= 40; ++chain) loaded += rig.load(0, 8, chain);
    if (testing::Test::HasFailure()) return "wrong bytes";
    return loaded >= 30 * 8 ? "good" : std::to_string(loaded) + " chunks";
  });
  if (is_unmountable(said)) GTEST_SKIP() << "this machine has no mount namespaces for us";
  EXPECT_EQ(said, "good");
}

}  // namespace
}  // namespace penstock::test
