// Index: copies, presence, eviction, and the accounts of blocks. Against a model: index_model_test.
#include "store/index.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "support/index_rig.hpp"

namespace penstock::test {
namespace {

CopyName name_of(uint64_t number, uint32_t group = 0, uint32_t shard = 0) {
  return {key_of(number), group, shard};
}

TEST(Index, FindsWhatWasCommittedAfterReopening) {
  IndexRig rig{{100}};
  const Reservation reservation = rig.reserve(name_of(1), 3);
  ASSERT_EQ(reservation.status, Status::Ok);
  EXPECT_FALSE(rig.has(name_of(1)));
  ASSERT_EQ(rig.commit(name_of(1), Key{}, 3, reservation.extents), Status::Ok);
  rig.reopen();
  const CopyName name = name_of(1);
  const auto records = rig.index->find(rig.ns, std::span{&name, 1});
  EXPECT_EQ(records[0].extents, reservation.extents);
  EXPECT_EQ(records[0].length, 3 * IndexRig::kBlock);
  EXPECT_EQ(records[0].checksums, std::vector<uint64_t>(3, 7));
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, CommitNeedsTheParentOfTheSameShardAndGivesBlocksBackWithoutIt) {
  IndexRig rig{{100}};
  ASSERT_EQ(rig.save(name_of(1, 0, 0), Key{}), Status::Ok);
  EXPECT_EQ(rig.save(name_of(2, 0, 1), key_of(1)), Status::NotFound);
  EXPECT_EQ(rig.save(name_of(2, 1, 0), key_of(1)), Status::NotFound);
  EXPECT_EQ(rig.save(name_of(2, 0, 0), key_of(1)), Status::Ok);
  EXPECT_EQ(rig.free_blocks(), 98u);
  EXPECT_EQ(rig.index->counters().rejected_parent, 2u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, TheSecondOfTwoSaversIsToldSoAndItsBlocksComeBack) {
  IndexRig rig{{100}};
  const Reservation first = rig.reserve(name_of(1), 2);
  const Reservation second = rig.reserve(name_of(1), 2);
  EXPECT_EQ(rig.commit(name_of(1), Key{}, 2, first.extents), Status::Ok);
  EXPECT_EQ(rig.commit(name_of(1), Key{}, 2, second.extents), Status::Present);
  EXPECT_EQ(rig.reserve(name_of(1), 2).status, Status::Present);
  EXPECT_EQ(rig.free_blocks(), 98u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, BlocksThatAreNotReservedAreNeitherPublishedNorFreed) {
  IndexRig rig{{100}};
  const Reservation reservation = rig.reserve(name_of(1), 2);
  ASSERT_EQ(rig.commit(name_of(1), Key{}, 2, reservation.extents), Status::Ok);
  EXPECT_EQ(rig.commit(name_of(2), Key{}, 2, reservation.extents), Status::Invalid);
  EXPECT_EQ(rig.index->release(rig.process, reservation.extents), Status::Ok);
  EXPECT_EQ(rig.commit(name_of(3), Key{}, 2, {{0, 50, 2}}), Status::Invalid);
  EXPECT_EQ(rig.commit(name_of(3), Key{}, 2, {{9, 50, 2}}), Status::Invalid);
  EXPECT_EQ(rig.free_blocks(), 98u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, ACopyIsSplitOverThePoolsAndTakesWhatThereIsWhenOneIsFull) {
  IndexRig rig{{10, 4}};
  const Reservation even = rig.reserve(name_of(1), 4);
  ASSERT_EQ(even.extents.size(), 2u);
  EXPECT_NE(even.extents[0].pool, even.extents[1].pool);
  EXPECT_EQ(even.extents[0].count, 2u);
  const Reservation rest = rig.reserve(name_of(2), 10);
  EXPECT_EQ(rest.status, Status::Ok);
  EXPECT_EQ(rig.free_blocks(), 0u);
  EXPECT_EQ(rig.reserve(name_of(3), 1).status, Status::NoSpace);
  EXPECT_EQ(rig.index->release(rig.process, rest.extents), Status::Ok);
  EXPECT_EQ(rig.index->release(rig.process, even.extents), Status::Ok);
  EXPECT_EQ(rig.free_blocks(), 14u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, ReservationsOfDeadProcessesComeBack) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.reserve(name_of(1), 4).status, Status::Ok);
  rig.process = 5;
  ASSERT_EQ(rig.reserve(name_of(2), 4).status, Status::Ok);
  EXPECT_EQ(rig.index->reclaim([](uint32_t process) { return process == 3; }), Status::Ok);
  EXPECT_EQ(rig.free_blocks(), 6u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, TheDailyWriteLimitRejectsUntilTheNextDay) {
  IndexRig rig{{100}};
  std::vector<Reservation> answers;
  const std::vector<Wish> wishes{{name_of(1), 3 * IndexRig::kBlock}, {name_of(2), 1}};
  const uint64_t limit = 3 * IndexRig::kBlock;
  rig.index->reserve(rig.ns, 3, wishes, {10, limit}, answers);
  EXPECT_EQ(answers[0].status, Status::Ok);
  EXPECT_EQ(answers[1].status, Status::Rejected);
  rig.index->reserve(rig.ns, 3, std::span{wishes}.last(1), {11, limit}, answers);
  EXPECT_EQ(answers[0].status, Status::Ok);
  EXPECT_EQ(rig.index->counters().rejected_write_limit, 1u);
}

TEST(Index, EvictsTheOldestLeafAndHandsItsStampUp) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.save(name_of(1), Key{}, 1, 10), Status::Ok);      // old, but a parent
  ASSERT_EQ(rig.save(name_of(2), key_of(1), 1, 50), Status::Ok);  // its child was used
  ASSERT_EQ(rig.save(name_of(3), Key{}, 1, 20), Status::Ok);      // a chain of one
  uint32_t removed = 0;
  ASSERT_EQ(rig.index->evict(8, 1, removed), Status::Ok);
  EXPECT_FALSE(rig.has(name_of(3)));
  ASSERT_EQ(rig.save(name_of(4), Key{}, 1, 40), Status::Ok);
  ASSERT_EQ(rig.index->evict(8, 10, removed), Status::Ok);
  EXPECT_EQ(removed, 1u);
  EXPECT_FALSE(rig.has(name_of(4)));  // 40; the chain of 1 and 2 counts as used at 50
  ASSERT_EQ(rig.index->evict(9, 10, removed), Status::Ok);
  EXPECT_FALSE(rig.has(name_of(2)));
  ASSERT_EQ(rig.save(name_of(5), Key{}, 1, 45), Status::Ok);
  ASSERT_EQ(rig.index->evict(9, 10, removed), Status::Ok);
  EXPECT_TRUE(rig.has(name_of(1)));
  EXPECT_FALSE(rig.has(name_of(5)));
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, AStampKeepsACopyAndNeverMakesItOlder) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.save(name_of(1), Key{}, 1, 10), Status::Ok);
  ASSERT_EQ(rig.save(name_of(2), Key{}, 1, 20), Status::Ok);
  const CopyName name = name_of(1);
  const int64_t id = rig.index->find(rig.ns, std::span{&name, 1}).front().id;
  ASSERT_EQ(rig.index->stamp(std::span{&id, 1}, 30), Status::Ok);
  ASSERT_EQ(rig.index->stamp(std::span{&id, 1}, 5), Status::Ok);
  uint32_t removed = 0;
  ASSERT_EQ(rig.index->evict(9, 10, removed), Status::Ok);
  EXPECT_TRUE(rig.has(name_of(1)));
}

TEST(Index, ADamagedCopyIsHiddenAtOnceAndSweptWithItsDescendants) {
  IndexRig rig{{100}};
  for (uint64_t i = 1; i <= 20; ++i)
    ASSERT_EQ(rig.save(name_of(i), i == 1 ? Key{} : key_of(i - 1)), Status::Ok);
  ASSERT_EQ(rig.save(name_of(30), key_of(6)), Status::Ok);
  const CopyName name = name_of(5);
  const int64_t id = rig.index->find(rig.ns, std::span{&name, 1}).front().id;
  ASSERT_EQ(rig.index->bury(std::span{&id, 1}), Status::Ok);
  EXPECT_FALSE(rig.has(name));
  ASSERT_EQ(rig.save(name, key_of(4)), Status::Ok);  // may be saved again meanwhile
  EXPECT_EQ(rig.audit(), "");
  uint32_t removed = 0;
  ASSERT_EQ(rig.index->sweep(7, removed), Status::Ok);
  EXPECT_EQ(removed, 7u);
  bool buried = false;
  ASSERT_EQ(rig.index->has_buried(buried), Status::Ok);
  EXPECT_TRUE(buried);
  EXPECT_EQ(rig.audit(), "");
  ASSERT_EQ(rig.index->sweep(100, removed), Status::Ok);
  EXPECT_EQ(removed, 10u);
  ASSERT_EQ(rig.index->has_buried(buried), Status::Ok);
  EXPECT_FALSE(buried);
  EXPECT_TRUE(rig.has(name_of(5)));
  EXPECT_FALSE(rig.has(name_of(6)));
  EXPECT_EQ(rig.index->meta().copies, 5u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, ASmallerPoolIsCutOnceNothingLiesBeyondItsEnd) {
  IndexRig rig{{20}};
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_EQ(rig.save(name_of(i), Key{}), Status::Ok);
  uint32_t removed = 0;
  ASSERT_EQ(rig.index->evict(1, 1, removed), Status::Ok);
  const Reservation held = rig.reserve(name_of(30), 1);  // block 0
  ASSERT_EQ(held.extents.front().first, 0u);
  ASSERT_EQ(rig.index->retire(0, 15), Status::Ok);
  std::vector<int64_t> doomed;
  for (const CopyRow& row : rig.index->rows_after(0, 100))
    if (row.record.extents.front().first >= 15) doomed.push_back(row.id);
  ASSERT_EQ(doomed.size(), 5u);
  ASSERT_EQ(rig.index->bury(doomed), Status::Ok);
  bool done = false;
  int cuts = 0;
  const auto cut = [&] { return ++cuts == 1; };
  ASSERT_EQ(rig.index->truncate(0, 15, cut, done), Status::Ok);
  EXPECT_FALSE(done);  // still buried
  ASSERT_EQ(rig.index->sweep(100, removed), Status::Ok);
  ASSERT_EQ(rig.index->truncate(0, 15, cut, done), Status::Ok);
  EXPECT_TRUE(done);
  EXPECT_EQ(cuts, 1);
  EXPECT_EQ(rig.index->pools()[0].blocks, 15u);
  EXPECT_EQ(rig.free_blocks(), 0u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, ACommitIntoATailThatIsGivenUpIsRejected) {
  IndexRig rig{{4}};
  const Reservation held = rig.reserve(name_of(1), 3);
  ASSERT_EQ(rig.index->retire(0, 2), Status::Ok);
  bool done = true;
  ASSERT_EQ(rig.index->truncate(
                0, 2, [] { return true; }, done),
            Status::Ok);
  EXPECT_FALSE(done);  // somebody may write there
  EXPECT_EQ(rig.commit(name_of(1), Key{}, 3, held.extents), Status::Rejected);
  ASSERT_EQ(rig.index->truncate(
                0, 2, [] { return true; }, done),
            Status::Ok);
  EXPECT_TRUE(done);
  EXPECT_EQ(rig.free_blocks(), 2u);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, CopiesInAPoolThatIsOutAreNotFoundAndLookupStopsThere) {
  IndexRig rig{{100, 100}};
  std::vector<Key> chain;
  for (uint64_t i = 1; i <= 8; ++i) {
    // One block each: the pools take turns.
    ASSERT_EQ(rig.save(name_of(i), i == 1 ? Key{} : key_of(i - 1)), Status::Ok);
    chain.push_back(key_of(i));
  }
  const std::vector<GroupNeed> needs{{0, 1, 0}};
  EXPECT_EQ(rig.index->lookup(rig.ns, chain, needs), 8u);
  rig.index->set_usable(1);
  EXPECT_LE(rig.index->lookup(rig.ns, chain, needs), 1u);
  EXPECT_NE(rig.has(name_of(1)), rig.has(name_of(2)));
}

TEST(Index, AFullDatabaseRefusesAndCanStillEvict) {
  IndexRig rig{{100'000}};
  rig.index->set_limits({512 * 1024, 1 << 20, UINT64_MAX});
  Status status = Status::Ok;
  uint64_t saved = 0;
  for (; saved < 50'000; ++saved) {
    status = rig.save(name_of(saved + 1), Key{}, 1, static_cast<Stamp>(saved));
    if (status != Status::Ok) break;
  }
  EXPECT_EQ(status, Status::NoSpace);
  EXPECT_GT(saved, 500u);
  EXPECT_FALSE(rig.index->is_corrupt());
  EXPECT_LE(rig.index->file_bytes(), 512u * 1024);
  uint32_t removed = 0;
  EXPECT_EQ(rig.index->evict(UINT64_MAX, 300, removed), Status::Ok);
  EXPECT_EQ(removed, 300u);
  EXPECT_EQ(rig.save(name_of(1'000'000), Key{}), Status::Ok);
  EXPECT_LE(rig.index->file_bytes(), 512u * 1024);
}

TEST(Index, AReaderThatNeverEndsStopsTheLogAtItsBound) {
  IndexRig rig{{100'000}};
  rig.index->set_limits({UINT64_MAX, 64 * 1024, 256 * 1024});
  auto reader = Database::open(rig.directory / "penstock.db", SQLITE_OPEN_READWRITE, "");
  ASSERT_TRUE(reader);
  ASSERT_TRUE((*reader)->exec("BEGIN; SELECT count(*) FROM copy"));
  Status status = Status::Ok;
  uint64_t number = 0;
  while (status == Status::Ok && number < 10'000) status = rig.save(name_of(++number), Key{});
  EXPECT_EQ(status, Status::NoSpace);
  EXPECT_GT(rig.index->counters().rejected_wal_full, 0u);
  EXPECT_LT(std::filesystem::file_size(rig.directory / "penstock.db-wal"), 384u * 1024);
  ASSERT_TRUE((*reader)->exec("COMMIT"));
  EXPECT_EQ(rig.save(name_of(++number), Key{}), Status::Ok);
  EXPECT_EQ(rig.save(name_of(++number), Key{}), Status::Ok);
  EXPECT_LT(rig.index->wal_bytes(), 256u * 1024);
}

TEST(Index, WithoutSharedMemoryOpeningSaysSo) {
  // SQLite's own file layer with dot-files for locks has none, as some network file systems.
  TempDir directory;
  auto lock = LockFile::open(directory / "penstock.lock");
  ASSERT_TRUE(lock);
  IndexOptions options;
  options.path = directory / "penstock.db";
  options.vfs = "unix-dotfile";
  options.meta.block_size = 4096;
  const auto index = Index::open(options, **lock);
  ASSERT_FALSE(index);
  EXPECT_EQ(index.status(), Status::Unsupported);
  EXPECT_NE(index.error().message.find("write-ahead log"), std::string::npos);
}

TEST(Index, ABatchThatCannotBeWrittenHasNoEffect) {
  IndexRig rig{{10}};
  const Reservation reservation = rig.reserve(name_of(1), 1);
  {
    auto other = Database::open(rig.directory / "penstock.db", SQLITE_OPEN_READWRITE, "");
    ASSERT_TRUE(other);
    ASSERT_TRUE((*other)->exec("BEGIN IMMEDIATE"));  // somebody who does not know our lock
    EXPECT_EQ(rig.commit(name_of(1), Key{}, 1, reservation.extents), Status::Busy);
  }
  EXPECT_FALSE(rig.index->is_corrupt());
  EXPECT_EQ(rig.commit(name_of(1), Key{}, 1, reservation.extents), Status::Ok);
  EXPECT_EQ(rig.audit(), "");
}

TEST(Index, ARowThatMakesNoSenseIsAMissAndNeverFreesBlocks) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.save(name_of(1), Key{}, 2, 1), Status::Ok);
  ASSERT_EQ(rig.save(name_of(2), Key{}, 2, 2), Status::Ok);
  {
    auto other = Database::open(rig.directory / "penstock.db", SQLITE_OPEN_READWRITE, "");
    ASSERT_TRUE(other);
    ASSERT_TRUE((*other)->exec("UPDATE copy SET length = 1 WHERE id = 1"));
  }
  EXPECT_FALSE(rig.has(name_of(1)));
  EXPECT_TRUE(rig.has(name_of(2)));
  EXPECT_EQ(rig.index->counters().corrupt_copies, 1u);
  EXPECT_FALSE(rig.index->is_corrupt());
  uint32_t removed = 0;
  EXPECT_EQ(rig.index->evict(10, 10, removed), Status::Corrupt);
  EXPECT_TRUE(rig.index->is_corrupt());
  EXPECT_EQ(rig.save(name_of(3), Key{}), Status::Corrupt);
  EXPECT_FALSE(rig.has(name_of(2)));
}

TEST(Index, NamespacesAreInterned) {
  IndexRig rig{{10}};
  const auto second = rig.index->open_namespace(namespace_spec(2), 1);
  const auto again = rig.index->open_namespace(namespace_spec(1), 1);
  ASSERT_TRUE(second && again);
  EXPECT_NE(*second, rig.ns);
  EXPECT_EQ(*again, rig.ns);
  ASSERT_EQ(rig.save(name_of(1), Key{}), Status::Ok);
  const std::vector<Key> chain{key_of(1)};
  const std::vector<GroupNeed> needs{{0, 1, 0}};
  EXPECT_EQ(rig.index->lookup(rig.ns, chain, needs), 1u);
  EXPECT_EQ(rig.index->lookup(*second, chain, needs), 0u);
}

TEST(Index, DescriptionsCannotFillIt) {
  IndexRig rig{{10}};
  NamespaceSpec spec;
  spec.description = std::string(50'000, 'x');
  for (uint8_t i = 0; i < 200; ++i) {
    spec.digest.bytes[1] = i;
    ASSERT_TRUE(rig.index->open_namespace(spec, 1));
  }
  EXPECT_LT(rig.index->file_bytes(), 500'000u);
  const auto all = rig.index->namespaces();
  ASSERT_EQ(all.size(), 201u);
  EXPECT_EQ(all[1].description, spec.description);
  EXPECT_EQ(all.back().description, "");
}

TEST(Index, OfTooManyNamespacesTheOldestGoThatAreEmpty) {
  IndexRig rig{{10}};
  ASSERT_EQ(rig.save(name_of(1), Key{}), Status::Ok);
  NamespaceSpec spec;
  const auto open = [&](uint32_t number) {
    std::memcpy(spec.digest.bytes.data() + 1, &number, sizeof number);
    const auto opened = rig.index->open_namespace(spec, 1);
    return opened ? *opened : 0;
  };
  const NamespaceId first = open(1);
  for (uint32_t number = 2; number <= 2500; ++number) ASSERT_GT(open(number), first);
  const auto all = rig.index->namespaces();
  EXPECT_EQ(all.size(), 2000u);
  EXPECT_EQ(all.front().id, rig.ns);  // the oldest of all, but not empty
  EXPECT_EQ(open(2500), all.back().id);
  EXPECT_GT(open(1), all.back().id);  // an id is never used again
  EXPECT_EQ(rig.audit(), "");
}

}  // namespace
}  // namespace penstock::test
