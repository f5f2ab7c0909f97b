// How a size is divided, and that the index keeps to its part in the worst case.
#include "store/space.hpp"

#include <gtest/gtest.h>

#include <random>

#include "store/pool.hpp"
#include "support/index_rig.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

TEST(Space, EveryPlanFitsIntoItsSize) {
  for (const uint64_t block : {4096u, 65536u, 1u << 20, 16u << 20}) {
    for (uint64_t size = 8 << 20; size < uint64_t{1} << 42; size = size * 7 / 3) {
      for (const uint32_t pools : {1u, 8u}) {
        const auto plan = plan_space(size, block, pools, 0, 0);
        if (!plan) {
          EXPECT_LT(size, 80u << 20) << block;
          continue;
        }
        EXPECT_LT(plan->checkpoint_bytes, plan->wal_bytes);
        EXPECT_LE(
            plan->blocks * block + pools * kPoolHeader + plan->database_bytes + plan->wal_bytes,
            size);
      }
    }
  }
}

TEST(Space, AlmostAllOfItIsBlocks) {
  EXPECT_GT(plan_space(256 * kGb, 1 << 20, 1, 0, 0)->blocks << 20, 256 * kGb * 999 / 1000);
  EXPECT_GT(plan_space(4 * kGb, 4096, 1, 0, 0)->blocks * 4096, 4 * kGb * 9 / 10);
}

TEST(Space, TooSmallSaysHowMuchWouldDo) {
  const auto plan = plan_space(1 << 20, 1 << 20, 1, 0, 0);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.status(), Status::Invalid);
  const size_t at = plan.error().message.find(" need ");
  ASSERT_NE(at, std::string::npos) << plan.error().message;
  const uint64_t needed = std::stoull(plan.error().message.substr(at + 6));
  EXPECT_TRUE(plan_space(needed, 1 << 20, 1, 0, 0));
  EXPECT_FALSE(plan_space(needed - 1, 1 << 20, 1, 0, 0));
}

TEST(Space, ALargeIndexOfALargerStoreTakesFromThePools) {
  const uint64_t size = 256 << 20;
  const auto plain = plan_space(size, 1 << 20, 1, 0, 0);
  const auto full = plan_space(size, 1 << 20, 1, 100 << 20, 10 << 20);
  ASSERT_TRUE(plain && full);
  EXPECT_GE(full->database_bytes, 100u << 20);
  EXPECT_LE((full->blocks << 20) + full->database_bytes + (10 << 20), size);
  EXPECT_FALSE(plan_space(size, 1 << 20, 1, 300 << 20, 0));
}

TEST(Space, FreeTargetLeavesACacheOver) {
  EXPECT_EQ(free_target(100'000, 32), 1000u);
  EXPECT_EQ(free_target(1000, 32), 128u);
  EXPECT_EQ(free_target(100, 64), 50u);
  EXPECT_EQ(free_target(1, 1), 1u);
}

TEST(Space, OneFileSystemCountsOnce) {
  TempDir a;
  TempDir b;
  const std::vector<std::string> both{a.path(), b.path()};
  EXPECT_GT(space_of(both).capacity, 0u);
  EXPECT_EQ(space_of(both).capacity, file_system_space(a.path()).capacity);
  const std::vector<std::string> none{a / "none"};
  EXPECT_EQ(space_of(none).capacity, 0u);
}

// Bytes of index a block in a store of one-block copies that has been through `rounds` complete
// replacements by random eviction, which leaves the pages half empty.
double index_bytes_per_block(bool chained, int rounds) {
  constexpr uint64_t kCopies = 20'000;
  IndexRig rig{{kCopies}};
  rig.index->set_limits({UINT64_MAX, 1 << 20, UINT64_MAX});
  std::mt19937_64 random{7};
  std::vector<Reservation> reservations;
  std::vector<Status> statuses;
  uint64_t number = 0;
  const auto save = [&](uint64_t count) {
    std::vector<Wish> wishes;
    std::vector<CopyInsert> inserts;
    for (uint64_t i = 0; i < count; ++i) {
      // Random keys, as digests are, and random ages, so that victims lie anywhere.
      const uint32_t tokens[2] = {static_cast<uint32_t>(number), 1};
      const Key key = chain_key(Key{}, tokens, 2);
      const uint32_t before[2] = {static_cast<uint32_t>(number - 1), 1};
      const bool first = !chained || i == 0;
      wishes.push_back({{key, 0, 0}, IndexRig::kBlock});
      inserts.push_back({{key, 0, 0},
                         first ? Key{} : chain_key(Key{}, before, 2),
                         IndexRig::kBlock,
                         {},
                         {number}});
      ++number;
    }
    EXPECT_EQ(rig.index->reserve(rig.ns, rig.process, wishes, {}, reservations), Status::Ok);
    for (size_t i = 0; i < inserts.size(); ++i) inserts[i].extents = reservations[i].extents;
    const auto stamp = static_cast<Stamp>(random() >> 20);
    EXPECT_EQ(rig.index->commit(rig.ns, rig.process, inserts, stamp, statuses), Status::Ok);
    for (const Status status : statuses) EXPECT_EQ(status, Status::Ok);
  };
  constexpr uint64_t kBatch = 200;
  for (uint64_t i = 0; i < kCopies; i += kBatch) save(kBatch);
  for (uint64_t i = 0; i < kCopies * static_cast<uint64_t>(rounds); i += kBatch) {
    uint32_t removed = 0;
    EXPECT_EQ(rig.index->evict(kBatch, kBatch, removed), Status::Ok);
    save(kBatch);
  }
  return static_cast<double>(rig.index->file_bytes()) / static_cast<double>(kCopies);
}

// Rows that are larger than planned: the index is full before the pools are.
TEST(Space, AnIndexThatIsFullEvicts) {
  TempDir directory{in_memory()};
  const StoreOptions options = options_for(directory.path(), 8 << 20, 4096);
  const auto plan = plan_space(options.max_bytes, options.block_size, 1, 0, 0);
  ASSERT_TRUE(plan);
  StoreRig rig{options};
  {
    const auto other = open_beside(directory / "penstock.db");
    const uint64_t ballast = Index::bound_of_saves(plan->database_bytes) - 120'000;
    const std::string sql =
        "CREATE TABLE ballast(bytes BLOB); INSERT INTO ballast VALUES "
        "(zeroblob(" +
        std::to_string(ballast) + "))";
    ASSERT_TRUE(other->exec(sql.c_str())) << other->message();
  }
  for (uint64_t i = 1; i <= 2 * plan->blocks; ++i)
    ASSERT_TRUE(eventually([&] { return rig.save(i) == Status::Ok; })) << i;
  EXPECT_LT(rig.metric("copies"), static_cast<double>(plan->blocks) * 3 / 4);
  EXPECT_TRUE(rig.has(2 * plan->blocks));
}

TEST(Space, TheIndexKeepsToItsPartInTheWorstOrder) {
  EXPECT_LT(index_bytes_per_block(false, 3), static_cast<double>(kIndexBytesPerBlock));
  EXPECT_LT(index_bytes_per_block(true, 3), static_cast<double>(kIndexBytesPerBlock));
}

}  // namespace
}  // namespace penstock::test
