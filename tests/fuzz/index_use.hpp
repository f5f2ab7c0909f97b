// What a store does with its index, for targets that open damaged ones: none of it may crash or
// name a block that its pool has not.
#pragma once

#include "fuzz/fuzz.hpp"
#include "support/index_rig.hpp"

namespace penstock::fuzz {

// Files of a small, sound index: some chains, a reservation, free runs; the log not yet copied.
struct IndexFiles {
  std::vector<std::byte> database, log;
};

inline IndexFiles sound_index() {
  test::IndexRig rig{{40, 24}};
  for (uint64_t i = 1; i <= 12; ++i)
    rig.save({test::key_of(i), 0, 0}, i % 4 == 1 ? Key{} : test::key_of(i - 1), 1 + i % 3,
             static_cast<Stamp>(i));
  rig.index->checkpoint(true);
  rig.save({test::key_of(13), 0, 0}, test::key_of(12), 2, 13);
  rig.reserve({test::key_of(14), 0, 0}, 3);
  const std::string path = rig.directory / "penstock.db";
  // Through descriptors of their own, whose closing drops locks that nobody needs here.
  return {test::read_file(path), test::read_file(path + "-wal")};
}

inline void use(Index& index) {
  std::vector<Key> chain;
  std::vector<CopyName> names;
  for (uint64_t i = 1; i <= 16; ++i) {
    chain.push_back(test::key_of(i));
    names.push_back({test::key_of(i), 0, 0});
  }
  const std::vector<GroupNeed> needs{{0, 1, 0}};
  require(index.lookup(1, chain, needs) <= chain.size(), "no more is found than was asked for");
  int64_t found = 0;
  for (const CopyRecord& record : index.find(1, names)) {
    if (record.status != Status::Ok) continue;
    found = record.id;
    for (const Extent& extent : record.extents)
      require(extent.pool < index.pools().size() &&
                  uint64_t{extent.first} + extent.count <= index.pools()[extent.pool].blocks,
              "blocks are in their pool");
  }
  index.namespaces();
  index.audit();
  index.reclaim([](uint32_t) { return true; });
  std::vector<Reservation> reservations;
  index.reserve(1, 5, std::vector<Wish>{{{test::key_of(100), 0, 0}, 9000}}, {}, reservations);
  for (const Reservation& reservation : reservations)
    for (const Extent& extent : reservation.extents)
      require(extent.pool < index.pools().size() &&
                  uint64_t{extent.first} + extent.count <= index.pools()[extent.pool].blocks,
              "blocks that are given out are in their pool");
  if (!reservations.empty() && reservations[0].status == Status::Ok) {
    std::vector<Status> statuses;
    index.commit(1, 5,
                 std::vector<CopyInsert>{{{test::key_of(100), 0, 0},
                                          Key{},
                                          9000,
                                          reservations[0].extents,
                                          std::vector<uint64_t>(3, 1)}},
                 100, statuses);
  }
  index.stamp(std::vector<int64_t>{found}, 50);
  index.bury(std::vector<int64_t>{found});
  uint32_t removed = 1;
  for (int i = 0; i < 4 && removed > 0; ++i)
    if (index.sweep(8, removed) != Status::Ok) break;
  index.evict(UINT64_MAX, 4, removed);
  index.retire(0, 8);
  bool done = false;
  index.truncate(
      0, 8, [] { return true; }, done);
  index.extend(1, [](const PoolRow&) { return uint64_t{4}; });
  index.checkpoint(false);
}

// Opens the index in `directory` as a process does, and uses it if it opens.
inline void open_and_use(const std::string& directory) {
  auto lock = LockFile::open(directory + "/penstock.lock");
  require(bool(lock), "the lock file opens");
  IndexOptions options;
  options.path = directory + "/penstock.db";
  options.meta.block_size = test::IndexRig::kBlock;
  options.meta.max_bytes = 1 << 30;
  auto index = Index::open(options, **lock);
  if (index) {
    use(**index);
  } else {
    require(!index.error().message.empty(), "a refusal says why");
  }
}

inline void clear_index(const std::string& directory) {
  for (const char* suffix : {"", "-wal", "-shm"})
    std::filesystem::remove(directory + "/penstock.db" + suffix);
}

}  // namespace penstock::fuzz
