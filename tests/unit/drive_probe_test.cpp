// The drive probe: it reads blocks of copies, no more than asked for, and none of an empty store.
#include "engine/drive_probe.hpp"

#include <set>

#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kBlock = 65536;

std::vector<Extent> sample(StoreRig& rig, uint32_t limit, uint64_t random) {
  return ask<std::vector<Extent>>(
      [&](auto done) { return rig.store->sample(limit, random, std::move(done)); });
}

TEST(DriveProbe, AnEmptyStoreHasNothingToRead) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), (uint64_t{1} << 26))};
  EXPECT_TRUE(sample(rig, 8, 3).empty());
  EXPECT_EQ(probe_drives(*rig.store, 1 << 20).status(), Status::NotFound);
}

TEST(DriveProbe, EveryBlockIsOneOfACopyAndNoneComesTwice) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), (uint64_t{1} << 26))};
  std::set<std::pair<uint32_t, uint32_t>> taken;
  for (uint64_t number = 1; number <= 10; ++number) {
    ASSERT_EQ(rig.save(number, number - 1, 3), Status::Ok);
    const CopyRecord record = rig.find({name_of(number)}).front();
    for (const Extent& extent : record.extents)
      for (uint32_t i = 0; i < extent.count; ++i) taken.insert({extent.pool, extent.first + i});
  }
  for (uint64_t random = 0; random < 100; ++random) {
    for (const uint32_t limit : {1U, 4U, 10U, 50U}) {
      std::set<std::pair<uint32_t, uint32_t>> seen;
      for (const Extent& extent : sample(rig, limit, random * 7919)) {
        EXPECT_EQ(extent.count, 1U);
        EXPECT_TRUE(taken.contains({extent.pool, extent.first}));
        EXPECT_TRUE(seen.insert({extent.pool, extent.first}).second);
      }
      EXPECT_EQ(seen.size(), std::min(limit, 10U));
    }
  }
}

TEST(DriveProbe, ReadsAboutWhatItWasAskedFor) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), (uint64_t{1} << 26))};
  for (uint64_t number = 1; number <= 10; ++number)
    ASSERT_EQ(rig.save(number, number - 1), Status::Ok);
  const auto speed = probe_drives(*rig.store, 4 * kBlock - 1);
  ASSERT_TRUE(speed) << speed.error().message;
  EXPECT_EQ(speed->bytes, 4 * kBlock);
  EXPECT_GT(speed->seconds, 0);
}

}  // namespace
}  // namespace penstock::test
