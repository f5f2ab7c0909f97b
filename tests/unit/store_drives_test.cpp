// Drives of a store that go and come back.
#include <gtest/gtest.h>

#include "store/space.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kMib = 1 << 20;

class StoreDrives : public testing::Test {
 protected:
  StoreDrives() { options_.directories.push_back(b_.path()); }

  TempDir a_;
  TempDir b_;
  StoreOptions options_ = options_for(a_.path(), 64 * kMib);
};

TEST_F(StoreDrives, ASmallerSizeWithoutADriveLeavesTheOthersACache) {
  {
    StoreRig rig{options_};
    for (uint64_t i = 1; i <= 1000; ++i) ASSERT_EQ(rig.save(i, 0, 2), Status::Ok);
  }
  const uint64_t before = file_size(a_ / "pool.data");
  options_.max_bytes = 32 * kMib;
  StoreOptions without_b = options_;
  without_b.directories.pop_back();
  {
    StoreRig rig{without_b};
    EXPECT_NE(rig.store->facts()["pool_1"].find("not configured"), std::string::npos);
    EXPECT_TRUE(eventually([&] { return file_size(a_ / "pool.data") < before; }));
    for (uint64_t i = 2001; i <= 2100; ++i) ASSERT_EQ(rig.save(i), Status::Ok) << i;
    for (uint64_t i = 2001; i <= 2100; ++i) ASSERT_TRUE(rig.has(i)) << i;
    EXPECT_EQ(rig.save(3000, 0, 100), Status::Ok);
    EXPECT_EQ(rig.metric("rejected_no_space"), 0);
    EXPECT_GT(file_size(a_ / "pool.data"), 24 * kMib);
  }
  EXPECT_EQ(audit(a_.path()), "");
  // It comes back full: the two together are smaller again.
  StoreRig rig{options_};
  EXPECT_TRUE(eventually(
      [&] { return disk_usage(a_.path()) + disk_usage(b_.path()) <= options_.max_bytes; }));
  EXPECT_GT(rig.metric("copies"), 0);
  EXPECT_EQ(rig.save(4000, 0, 2), Status::Ok);
  EXPECT_TRUE(rig.has(4000));
  EXPECT_EQ(audit(a_.path()), "");
}

// As one that has the drive mounted elsewhere leaves it: a container with a path of its own.
TEST_F(StoreDrives, AStoreGrowsThoughAnotherProcessKnowsItsDirectoryByAnotherName) {
  StoreRig rig{options_};
  {
    const auto other = open_beside(a_ / "penstock.db");
    ASSERT_TRUE(other->exec("UPDATE pool SET directory = '/in/the/container'")) << other->message();
  }
  for (uint64_t i = 1; i <= 400; ++i) ASSERT_EQ(rig.save(i, 0, 2), Status::Ok) << i;
  EXPECT_TRUE(rig.has(1));
  EXPECT_EQ(rig.metric("growth_failures"), 0);
}

}  // namespace
}  // namespace penstock::test
