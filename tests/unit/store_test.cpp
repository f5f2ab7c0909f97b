// Store: sizes, limits, pools and handles, in one process. Two processes: store_processes_test.
#include "store/store.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "store/schema.hpp"
#include "store/space.hpp"
#include "support/child.hpp"
#include "support/figures.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kMib = 1 << 20;

TEST(Store, FindsAfterReopeningWhatWasCommitted) {
  TempDir directory;
  const StoreOptions options = options_for(directory.path(), 64 * kMib);
  {
    StoreRig rig{options};
    for (uint64_t i = 1; i <= 10; ++i) ASSERT_EQ(rig.save(i, i - 1, 3), Status::Ok);
  }
  StoreRig rig{options};
  std::vector<Key> chain;
  for (uint64_t i = 1; i <= 12; ++i) chain.push_back(key_of(i));
  EXPECT_EQ(rig.lookup(chain), 10u);
  const auto records = rig.find({name_of(10), name_of(11)});
  EXPECT_EQ(records[0].checksums, std::vector<uint64_t>(3, 10));
  EXPECT_EQ(records[1].status, Status::NotFound);
  EXPECT_EQ(rig.metric("copies"), 10);
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, OneHandleInAProcess) {
  TempDir directory;
  const StoreOptions options = options_for(directory.path(), 64 * kMib);
  auto first = Store::open(options);
  ASSERT_TRUE(first);
  auto second = Store::open(options);
  ASSERT_TRUE(second);
  EXPECT_EQ(*first, *second);
  StoreOptions other = options;
  other.max_bytes *= 2;
  EXPECT_EQ(Store::open(other).status(), Status::Invalid);
  StoreOptions same = options;
  same.directories[0] += "/.";  // another name of the same directory
  EXPECT_EQ(Store::open(same).status(), Status::Invalid);
  *first = nullptr;
  *second = nullptr;
  EXPECT_TRUE(Store::open(other));
}

TEST(Store, HandlesThatComeAndGoOnManyThreadsNeverMeet) {
  TempDir directory;
  const StoreOptions options = options_for(directory.path(), 64 * kMib);
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) failures += !Store::open(options);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

TEST(Store, AForkedChildCannotUseItAndDoesNotDisturbIt) {
  TempDir directory;
  const StoreOptions options = options_for(directory.path(), 64 * kMib);
  StoreRig rig{options};
  ASSERT_EQ(rig.save(1), Status::Ok);
  EXPECT_EQ(in_child([&]() -> std::string {
              const bool queued =
                  rig.store->find(rig.ns, {name_of(1)}, [](std::vector<CopyRecord>) {});
              const Status opened = Store::open(options).status();
              rig.store.reset();  // must neither wait for a thread that is not here nor close
              return (queued ? "queued " : "refused ") + std::string{to_string(opened)};
            }),
            "refused " + std::string{to_string(Status::Unsupported)});
  ASSERT_EQ(rig.save(2, 1), Status::Ok);
  EXPECT_TRUE(rig.has(2));
}

TEST(Store, PoolsGrowByStepsAndTheSizeIsNeverExceeded) {
  TempDir directory;
  const uint64_t size = 48 * kMib;
  StoreRig rig{options_for(directory.path(), size)};
  const std::string pool = directory / "pool.data";
  std::vector<uint64_t> sizes;
  uint64_t most = 0;
  for (uint64_t i = 1; i <= 2000; ++i) {
    ASSERT_EQ(rig.save(i), Status::Ok) << i;
    most = std::max(most, disk_usage(directory.path()));
    const uint64_t now = std::filesystem::file_size(pool);
    if (sizes.empty() || now != sizes.back()) sizes.push_back(now);
  }
  EXPECT_LE(most, size);
  EXPECT_GT(most, size * 8 / 10);
  EXPECT_GT(sizes.size(), 10u);  // in steps, not at once
  EXPECT_TRUE(std::is_sorted(sizes.begin(), sizes.end()));
  EXPECT_GT(rig.metric("evictions"), 0);
  EXPECT_TRUE(rig.has(2000));
  EXPECT_FALSE(rig.has(1));
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, EvictionsAreCountedInTheIndexToo) {
  TempDir directory;
  for (uint64_t round = 0; round < 2; ++round) {
    StoreRig rig{options_for(directory.path(), 16 * kMib)};
    for (uint64_t i = 1; i <= 400; ++i) ASSERT_EQ(rig.save(round * 1000 + i), Status::Ok);
    EXPECT_GT(rig.metric("evictions"), 100);  // of this process
    rig.store.reset();
    const auto totals = (*Inspector::open(directory.path()))->totals();
    ASSERT_TRUE(totals);
    EXPECT_EQ(totals->evictions, 400 * (round + 1) - totals->copies);
  }
}

TEST(Store, TheSizeHoldsWithSmallBlocksAndLargeLogsToo) {
  TempDir directory;
  const uint64_t size = 16 * kMib;
  StoreRig rig{options_for(directory.path(), size, 4096)};
  uint64_t most = 0;
  uint64_t number = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<Wish> wishes;
    std::vector<CopyInsert> copies;
    for (int i = 0; i < 128; ++i) {
      wishes.push_back({name_of(++number), 4096});
      copies.push_back({name_of(number), Key{}, 4096, {}, {1}});
    }
    auto reservations = rig.reserve(wishes);
    for (size_t i = 0; i < copies.size(); ++i) copies[i].extents = reservations[i].extents;
    rig.commit(copies);
    most = std::max(most, disk_usage(directory.path()));
  }
  EXPECT_LE(most, size);
  EXPECT_GT(rig.metric("evictions"), 5000);
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, SpaceIsKeptFreeAheadOfNeed) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 48 * kMib)};
  for (uint64_t i = 1; i <= 1000; ++i) ASSERT_EQ(rig.save(i, 0, 2), Status::Ok);
  // Four copies of two blocks, without anybody asking for them.
  EXPECT_TRUE(eventually([&] { return rig.metric("blocks_free") >= 8; }));
  EXPECT_EQ(rig.metric("rejected_no_space"), 0);
}

TEST(Store, ACopyLargerThanTheStoreEvictsNothing) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 32 * kMib)};
  ASSERT_EQ(rig.save(1), Status::Ok);
  EXPECT_EQ(rig.save(2, 0, 10'000), Status::NoSpace);
  EXPECT_TRUE(rig.has(1));
  EXPECT_EQ(rig.metric("rejected_no_space"), 1);
  const auto answers = rig.reserve({{name_of(3), UINT64_MAX}, {name_of(4), 0}});
  EXPECT_EQ(answers[0].status, Status::Invalid);
  EXPECT_EQ(answers[1].status, Status::Invalid);
}

// It would fit, but then the room that is kept free ahead of need would take it and all others
// away.
TEST(Store, ACopyLargerThanHalfTheStoreIsNotTaken) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 32 * kMib)};
  ASSERT_EQ(rig.save(1, 0, 150), Status::Ok);
  EXPECT_EQ(rig.save(2, 0, 250), Status::NoSpace);
  EXPECT_EQ(rig.save(3, 0, 150), Status::Ok);
  EXPECT_TRUE(rig.has(3));
  EXPECT_EQ(rig.metric("rejected_no_space"), 1);
}

TEST(Store, ACopyOfAlmostHalfTheStoreStays) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 32 * kMib)};
  ASSERT_EQ(rig.save(1, 0, 30), Status::Ok);
  ASSERT_EQ(rig.save(2, 0, 200), Status::Ok);
  EXPECT_TRUE(eventually([&] { return rig.metric("evictions") == 1; }));  // ahead of need
  ASSERT_EQ(rig.save(3, 0, 200), Status::Ok);
  EXPECT_TRUE(eventually([&] { return rig.metric("evictions") == 2; }));
  EXPECT_TRUE(rig.has(3));
}

TEST(Store, AHitKeepsACopy) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 16 * kMib)};
  ASSERT_EQ(rig.save(1), Status::Ok);
  ASSERT_EQ(rig.save(2), Status::Ok);
  for (uint64_t i = 10; i <= 600; ++i) {
    ASSERT_EQ(rig.save(i), Status::Ok);
    ASSERT_TRUE(rig.has(1)) << i;
  }
  EXPECT_FALSE(rig.has(2));
}

TEST(Store, TheDailyWriteLimitRejectsAndCounts) {
  TempDir directory;
  StoreOptions options = options_for(directory.path(), 32 * kMib);
  options.max_write_bytes_per_day = 5 * 65536;
  {
    StoreRig rig{options};
    for (uint64_t i = 1; i <= 5; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
    EXPECT_EQ(rig.save(6), Status::Rejected);
    EXPECT_EQ(rig.metric("rejected_write_limit"), 1);
    EXPECT_EQ(rig.metric("written_bytes_today"), 5 * 65536);
  }
  StoreRig rig{options};  // a restart does not forget it
  EXPECT_EQ(rig.save(7), Status::Rejected);
}

TEST(Store, TheLastOfTheFileSystemIsLeftFree) {
  TempDir directory;
  StoreOptions options = options_for(directory.path(), 64 * kMib);
  options.min_free_bytes = uint64_t{1} << 60;
  StoreRig rig{options};
  EXPECT_EQ(rig.save(1), Status::NoSpace);
  EXPECT_GT(rig.metric("growth_failures"), 0);
  EXPECT_EQ(std::filesystem::file_size(directory / "pool.data"), 4096u);
}

TEST(Store, ASmallerSizeEvictsAndShrinks) {
  TempDir directory;
  {
    StoreRig rig{options_for(directory.path(), 96 * kMib)};
    for (uint64_t i = 1; i <= 1200; ++i)
      ASSERT_EQ(rig.save(i, i % 10 == 1 ? 0 : i - 1), Status::Ok);
    EXPECT_GT(disk_usage(directory.path()), 64 * kMib);
  }
  const uint64_t size = 32 * kMib;
  StoreRig rig{options_for(directory.path(), size)};
  EXPECT_TRUE(eventually([&] { return disk_usage(directory.path()) <= size; }));
  EXPECT_GT(rig.metric("copies"), 100);
  EXPECT_GT(rig.metric("shrink_drops"), 0);
  EXPECT_EQ(rig.save(10'001), Status::Ok);
  EXPECT_EQ(audit(directory.path()), "");
  // And larger again.
  rig.store.reset();
  StoreRig larger{options_for(directory.path(), 96 * kMib)};
  for (uint64_t i = 20'001; i <= 21'000; ++i) ASSERT_EQ(larger.save(i), Status::Ok);
  EXPECT_GT(disk_usage(directory.path()), 64 * kMib);
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, ASizeThatIsTooSmallIsRefusedBeforeAnythingIsMade) {
  TempDir directory;
  const auto store = Store::open(options_for(directory / "cache", kMib));
  EXPECT_EQ(store.status(), Status::Invalid);
  EXPECT_NE(store.error().message.find("too small"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory / "cache"));
}

TEST(Store, OptionsThatMakeNoSenseAreRefused) {
  TempDir directory;
  const StoreOptions good = options_for(directory.path(), 64 * kMib);
  StoreOptions bad = good;
  bad.directories.clear();
  EXPECT_EQ(Store::open(bad).status(), Status::Invalid);
  bad = good;
  bad.directories.push_back(bad.directories[0]);
  EXPECT_EQ(Store::open(bad).status(), Status::Invalid);
  for (const uint64_t block : {0u, 4095u, 6000u, 128u << 20}) {
    bad = good;
    bad.block_size = block;
    EXPECT_EQ(Store::open(bad).status(), Status::Invalid) << block;
  }
}

TEST(Store, AnExistingStoreKeepsItsBlockSize) {
  TempDir directory;
  StoreRig{options_for(directory.path(), 64 * kMib, 65536)};
  StoreRig rig{options_for(directory.path(), 64 * kMib, 16384)};
  EXPECT_EQ(rig.store->block_size(), 65536u);
}

TEST(Store, SeveralDirectoriesShareTheSizeAndTheWork) {
  TempDir a;
  TempDir b;
  StoreOptions options = options_for(a.path(), 64 * kMib);
  options.directories.push_back(b.path());
  StoreRig rig{options};
  for (uint64_t i = 1; i <= 1000; ++i) ASSERT_EQ(rig.save(i, 0, 2), Status::Ok);
  EXPECT_LE(disk_usage(a.path()) + disk_usage(b.path()), 64 * kMib);
  const uint64_t pool_a = std::filesystem::file_size(a / "pool.data");
  const uint64_t pool_b = std::filesystem::file_size(b / "pool.data");
  EXPECT_NEAR(static_cast<double>(pool_a), static_cast<double>(pool_b),
              static_cast<double>(pool_a) / 10);
  const auto record = std::move(rig.find({name_of(1000)}).front());
  ASSERT_EQ(record.extents.size(), 2u);
  EXPECT_NE(record.extents[0].pool, record.extents[1].pool);
}

TEST(Store, TheFirstSavesOfANewStoreGoToAllDrives) {
  TempDir parent;
  StoreOptions options = options_for(parent / "0", 64 * kMib);
  for (const char* name : {"1", "2", "3"}) options.directories.push_back(parent / name);
  StoreRig rig{options};
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_EQ(rig.save(i, i - 1, 4), Status::Ok);
    std::set<uint32_t> pools;
    const CopyRecord record = rig.find({name_of(i)}).front();
    for (const Extent& extent : record.extents) pools.insert(extent.pool);
    EXPECT_EQ(pools.size(), 4u) << "copy " << i;
  }
  // A drive that is added later takes part from then on.
  rig.store.reset();
  options.directories.push_back(parent / "4");
  StoreRig more{options};
  ASSERT_EQ(more.save(10, 0, 5), Status::Ok);
  EXPECT_EQ(more.find({name_of(10)}).front().extents.size(), 5u);
  EXPECT_EQ(audit(options.directories.front()), "");
}

TEST(Store, ANewStoreWithFewerBlocksThanDrivesStaysWithinItsSize) {
  TempDir parent;
  StoreOptions options = options_for(parent / "0", 0, 1 << 20);
  for (const char* name : {"1", "2", "3", "4", "5", "6", "7"})
    options.directories.push_back(parent / name);
  const auto needed = plan_space(1, options.block_size, 8, 0, 0).error().message;
  options.max_bytes = std::stoull(needed.substr(needed.find(" need ") + 6));
  StoreRig rig{options};  // four blocks
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  uint64_t used = 0;
  for (const std::string& directory : options.directories) used += disk_usage(directory);
  EXPECT_LE(used, options.max_bytes);
}

TEST(Store, APoolThatIsMissingIsOutUntilItReturns) {
  TempDir a;
  TempDir mounts;
  const std::string b = mounts / "nvme1/cache";
  std::filesystem::create_directory(mounts / "nvme1");
  StoreOptions options = options_for(a.path(), 64 * kMib);
  options.directories.push_back(b);
  std::vector<Key> chain;
  uint32_t first_on_b = 20;
  {
    StoreRig rig{options};
    for (uint64_t i = 1; i <= 20; ++i) {
      ASSERT_EQ(rig.save(i, i - 1), Status::Ok);
      chain.push_back(key_of(i));
      const CopyRecord record = rig.find({name_of(i)}).front();
      if (first_on_b == 20 && record.extents.front().pool == 1)
        first_on_b = static_cast<uint32_t>(i - 1);
    }
    ASSERT_LT(first_on_b, 20u);
  }
  std::filesystem::rename(b + "/pool.data", mounts / "elsewhere");
  {
    StoreRig rig{options};
    EXPECT_EQ(rig.store->pool_fd(1), -1);
    EXPECT_NE(rig.store->facts()["pool_1"].find("out"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(b + "/pool.data"));
    EXPECT_EQ(rig.lookup(chain), first_on_b);
    EXPECT_EQ(rig.save(100), Status::Ok);  // on the other drive
    const CopyRecord record = rig.find({name_of(100)}).front();
    EXPECT_EQ(record.extents.front().pool, 0u);
  }
  std::filesystem::rename(mounts / "elsewhere", b + "/pool.data");
  {
    StoreRig rig{options};
    EXPECT_EQ(rig.lookup(chain), 20u);
  }
  // The directory itself is gone, too, with what it is mounted on.
  std::filesystem::remove_all(mounts / "nvme1");
  {
    StoreRig rig{options};
    EXPECT_EQ(rig.store->pool_fd(1), -1);
    EXPECT_EQ(rig.lookup(chain), first_on_b);
  }
  options.directories.push_back(mounts / "nvme2/cache");  // one that the index does not know
  EXPECT_EQ(Store::open(options).status(), Status::Invalid);
}

TEST(Store, APoolIsKnownAgainWhereverItIsMounted) {
  TempDir a;
  TempDir b;
  StoreOptions options = options_for(a.path(), 64 * kMib);
  options.directories.push_back(b / "one");
  {
    StoreRig rig{options};
    ASSERT_EQ(rig.save(1, 0, 2), Status::Ok);
  }
  std::filesystem::rename(b / "one", b / "two");
  options.directories[1] = b / "two";
  StoreRig rig{options};
  EXPECT_TRUE(rig.has(1));
}

TEST(Store, APoolOfAnotherStoreIsNotTouched) {
  TempDir a;
  TempDir b;
  TempDir c;
  StoreOptions other = options_for(b.path(), 64 * kMib);
  other.directories.push_back(c.path());
  {
    StoreRig rig{other};
    ASSERT_EQ(rig.save(1, 0, 2), Status::Ok);
  }
  const auto refusal = [](std::vector<std::string> directories) {
    StoreOptions options = options_for("", 64 * kMib);
    options.directories = std::move(directories);
    const auto store = Store::open(options);
    EXPECT_EQ(store.status(), Status::Invalid);
    return store.error().message;
  };
  EXPECT_NE(refusal({a.path(), c.path()}).find("another store"), std::string::npos);
  EXPECT_NE(refusal({a.path(), b.path()}).find("must come first"), std::string::npos);
  EXPECT_NE(refusal({c.path(), b.path()}).find("must come first"), std::string::npos);
  EXPECT_NE(refusal({c.path()}).find("remove " + (c / "pool.data")), std::string::npos);
  {
    std::fstream pool{c / "pool.data", std::ios::in | std::ios::out | std::ios::binary};
    const auto set_version = [&](uint32_t version) {
      pool.seekp(8).put(static_cast<char>(version)).flush();
    };
    set_version(kFormatVersion + 1);
    EXPECT_NE(refusal({c.path()}).find("remove " + (c / "pool.data")), std::string::npos);
    set_version(kFormatVersion);
  }
  EXPECT_FALSE(std::filesystem::exists(c / "penstock.lock"));
  StoreRig rig{other};
  EXPECT_TRUE(rig.has(1));
}

TEST(Store, ADamagedCopyGoesWithItsDescendants) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  std::vector<Key> chain;
  for (uint64_t i = 1; i <= 300; ++i) {
    ASSERT_EQ(rig.save(i, i - 1), Status::Ok);
    chain.push_back(key_of(i));
  }
  const CopyRecord record = rig.find({name_of(100)}).front();
  const auto report = [&](int64_t id) {
    return ask<Status>(
        [&](auto done) { return rig.store->damaged(rig.ns, name_of(100), id, std::move(done)); });
  };
  EXPECT_EQ(report(record.id + 1000), Status::NotFound);  // it was another copy that was read
  EXPECT_TRUE(rig.has(100));
  EXPECT_EQ(report(record.id), Status::Corrupt);
  EXPECT_EQ(report(record.id), Status::NotFound);
  EXPECT_FALSE(rig.has(100));
  EXPECT_TRUE(eventually([&] { return rig.metric("copies") == 99; }));
  EXPECT_EQ(rig.lookup(chain), 99u);
  EXPECT_EQ(rig.metric("corrupt_copies"), 1);
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, AFullQueueRefusesAndWhatWasAcceptedRuns) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  ASSERT_TRUE(rig.store->find(rig.ns, {}, [opened](std::vector<CopyRecord>) { opened.wait(); }));
  std::atomic<int> ran{0};
  int accepted = 0;
  while (accepted < 100'000 && rig.store->find(rig.ns, {}, [&](std::vector<CopyRecord>) { ++ran; }))
    ++accepted;
  EXPECT_LT(accepted, 100'000);
  EXPECT_GT(accepted, 100);
  EXPECT_TRUE(rig.store->release({}));  // giving back is never refused
  gate.set_value();
  rig.store.reset();
  EXPECT_EQ(ran, accepted);
}

TEST(Store, WhatWasReservedAndReleasedIsFreeAgain) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  auto reservations = rig.reserve({{name_of(1), 10 * 65536}, {name_of(2), 100}});
  ASSERT_EQ(reservations[1].status, Status::Ok);
  const auto in_use = [&] { return blocks_in_use(rig.store->metrics()); };
  EXPECT_EQ(in_use(), 11);
  for (Reservation& reservation : reservations)
    EXPECT_TRUE(rig.store->release(std::move(reservation.extents)));
  EXPECT_TRUE(eventually([&] { return in_use() == 0; }));
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(Store, DirtyPoolsAreNamedOnce) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  EXPECT_TRUE(rig.store->take_dirty_pools().empty());
  rig.store->mark_written(0, 4096);
  rig.store->mark_written(0, 4096);
  EXPECT_EQ(rig.store->take_dirty_pools(), std::vector<uint32_t>{0});
  EXPECT_TRUE(rig.store->take_dirty_pools().empty());
  EXPECT_EQ(rig.metric("written_bytes"), 8192);
}

}  // namespace
}  // namespace penstock::test
