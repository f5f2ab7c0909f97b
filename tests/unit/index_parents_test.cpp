// Index: copies whose parents are not there, and parents that must not go.
#include <gtest/gtest.h>

#include "support/index_rig.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

Reservation reserve_under(IndexRig& rig, uint64_t number, std::optional<Key> parent) {
  std::vector<Reservation> answers;
  const std::vector<Wish> wishes{{name_of(number), IndexRig::kBlock, parent}};
  EXPECT_EQ(rig.index->reserve(rig.ns, rig.process, wishes, {}, answers), Status::Ok);
  return answers.front();
}

Status commit_keeping(IndexRig& rig, uint64_t number, const Key& parent,
                      const std::vector<Extent>& extents) {
  CopyInsert copy{name_of(number), parent, IndexRig::kBlock, extents, {7}};
  copy.keeps_blocks = true;
  std::vector<Status> statuses;
  rig.index->commit(rig.ns, rig.process, std::span{&copy, 1}, 1, statuses);
  return statuses.front();
}

TEST(IndexParents, AWishUnderACopyThatIsNotThereReservesNothing) {
  IndexRig rig{{10}};
  EXPECT_EQ(reserve_under(rig, 2, key_of(1)).status, Status::NotFound);
  EXPECT_EQ(rig.free_blocks(), 10u);
  EXPECT_EQ(rig.index->counters().rejected_parent, 1u);
  ASSERT_EQ(rig.save(name_of(1), Key{}), Status::Ok);
  EXPECT_EQ(reserve_under(rig, 2, key_of(1)).status, Status::Ok);
  EXPECT_EQ(reserve_under(rig, 3, Key{}).status, Status::Ok);  // the first of its chain
  EXPECT_EQ(reserve_under(rig, 4, std::nullopt).status, Status::Ok);
  // In the same group and shard.
  std::vector<Reservation> answers;
  const std::vector<Wish> wishes{{name_of(5, 1, 0), IndexRig::kBlock, key_of(1)},
                                 {name_of(5, 0, 1), IndexRig::kBlock, key_of(1)}};
  rig.index->reserve(rig.ns, rig.process, wishes, {}, answers);
  EXPECT_EQ(answers[0].status, Status::NotFound);
  EXPECT_EQ(answers[1].status, Status::NotFound);
}

TEST(IndexParents, AnOrphanKeepsItsBlocksIfItIsToldTo) {
  IndexRig rig{{10}};
  const Reservation given = rig.reserve(name_of(2), 1);
  EXPECT_EQ(rig.commit(name_of(2), key_of(1), 1, given.extents), Status::NotFound);
  EXPECT_EQ(rig.free_blocks(), 10u);

  const Reservation kept = rig.reserve(name_of(2), 1);
  EXPECT_EQ(commit_keeping(rig, 2, key_of(1), kept.extents), Status::NotFound);
  EXPECT_EQ(rig.free_blocks(), 9u);
  EXPECT_EQ(commit_keeping(rig, 2, key_of(1), kept.extents), Status::NotFound);
  EXPECT_EQ(rig.audit(), "");
  EXPECT_EQ(rig.index->release(rig.process, kept.extents), Status::Ok);
  EXPECT_EQ(rig.free_blocks(), 10u);

  // With its parent, or where it is there already, it is as ever.
  ASSERT_EQ(rig.save(name_of(1), Key{}), Status::Ok);
  const Reservation good = rig.reserve(name_of(2), 1);
  EXPECT_EQ(commit_keeping(rig, 2, key_of(1), good.extents), Status::Ok);
  const Reservation late = rig.reserve(name_of(3), 1);
  EXPECT_EQ(commit_keeping(rig, 2, key_of(1), late.extents), Status::Present);
  EXPECT_EQ(rig.free_blocks(), 8u);
}

TEST(IndexParents, EvictionStopsAtACopyThatIsKept) {
  IndexRig rig{{10}};
  for (uint64_t i = 1; i <= 5; ++i)
    ASSERT_EQ(rig.save(name_of(i), Key{}, 1, static_cast<Stamp>(i)), Status::Ok);
  const std::vector<Wish> wishes{{name_of(9), IndexRig::kBlock, key_of(3)},
                                 {name_of(8), IndexRig::kBlock, key_of(7)},
                                 {name_of(7), IndexRig::kBlock}};
  const auto keep = rig.index->ids_of_parents(rig.ns, wishes);
  ASSERT_EQ(keep.size(), 1u);
  uint32_t removed = 0;
  ASSERT_EQ(rig.index->evict(10, 100, removed, {keep}), Status::Ok);
  EXPECT_EQ(removed, 2u);
  EXPECT_FALSE(rig.has(name_of(2)));
  EXPECT_TRUE(rig.has(name_of(3)));
  EXPECT_TRUE(rig.has(name_of(4)));
}

// A copy on its way to a slower tier stays, but not for ever: whoever holds it may have died.
TEST(IndexParents, EvictionStopsAtACopyThatIsHeld) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.save(name_of(1), Key{}, 1, 1000), Status::Ok);
  const Reservation given = rig.reserve(name_of(2), 1);
  CopyInsert copy{name_of(2), Key{}, IndexRig::kBlock, given.extents, {7}};
  copy.held = true;
  std::vector<Status> statuses;
  ASSERT_EQ(rig.index->commit(rig.ns, rig.process, std::span{&copy, 1}, 1000, statuses),
            Status::Ok);
  const auto evict = [&](Stamp now) {
    uint32_t removed = 0;
    EXPECT_EQ(rig.index->evict(10, 100, removed, {{}, now}), Status::Ok);
    return removed;
  };
  EXPECT_EQ(evict(1000), 1u);
  EXPECT_TRUE(rig.has(name_of(2)));
  EXPECT_EQ(evict(1000 + kHold - 1), 0u);
  // Settled, or held for long enough, or the clock was set back: an ordinary copy.
  const CopyName name = name_of(2);
  const int64_t id = rig.index->find(rig.ns, std::span{&name, 1}).front().id;
  ASSERT_EQ(rig.index->settle(std::span{&id, 1}, 1000), Status::Ok);
  ASSERT_EQ(rig.index->settle(std::span{&id, 1}, 2000), Status::Ok);  // makes nothing younger
  EXPECT_EQ(evict(1000), 1u);
  EXPECT_FALSE(rig.has(name_of(2)));
}

// The clock was a day ahead: what was saved then must not stay while all that is new goes.
TEST(IndexParents, StampsOfAClockThatWasAheadGrowOldAsOthersDo) {
  constexpr Stamp kNow = 1'000'000'000;
  IndexRig rig{{20}};
  for (uint64_t i = 1; i <= 20; ++i)
    ASSERT_EQ(rig.save(name_of(i), Key{}, 1, kNow + 86'400'000 + static_cast<Stamp>(i)),
              Status::Ok);
  for (uint64_t i = 21; i <= 100; ++i) {
    const Stamp now = kNow + static_cast<Stamp>(i);
    uint32_t removed = 0;
    ASSERT_EQ(rig.index->evict(1, 4, removed, {{}, now}), Status::Ok);
    ASSERT_EQ(rig.save(name_of(i), Key{}, 1, now), Status::Ok);
  }
  for (uint64_t i = 1; i <= 20; ++i) EXPECT_FALSE(rig.has(name_of(i))) << i;
  for (uint64_t i = 81; i <= 100; ++i) EXPECT_TRUE(rig.has(name_of(i))) << i;
  EXPECT_EQ(rig.audit(), "");
}

TEST(IndexParents, WhatIsHeldIsHeldForAMinute) {
  constexpr Stamp kNow = 1'000'000'000;
  const Stamp stamp = stamp_on_insert(kNow, true);
  EXPECT_TRUE(is_held(stamp, kNow));
  EXPECT_TRUE(is_held(stamp, kNow + kHold - 1));
  EXPECT_FALSE(is_held(stamp, kNow + kHold));
  EXPECT_FALSE(is_held(stamp, kNow - 1));  // the clock was set back
  EXPECT_FALSE(is_held(stamp_on_settled(stamp, kNow + 5), kNow + 5));
  EXPECT_FALSE(is_held(stamp_on_insert(kNow, false), kNow));
  EXPECT_TRUE(is_held(stamp_on_hit(stamp, kNow + 5), kNow + 5));
}

}  // namespace
}  // namespace penstock::test
