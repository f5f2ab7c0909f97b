// The tables of the index. docs/FORMAT.md describes them; change them only together with
// kFormatVersion, that page and a new tests/golden directory.
#pragma once

#include <cstdint>

namespace penstock {

inline constexpr int64_t kApplicationId = 0x5053544B;  // "PSTK"
inline constexpr int64_t kFormatVersion = 3;
inline constexpr uint64_t kIndexPage = 4096;

// meta         one row: whose store this is, its sizes, and what would else need a count
// namespace    ids are never used twice: a process may still hold one that was dropped
// pool         `blocks` the file has room for, [keep, blocks) is being given up, `free` of the rest
// copy         parent 0: first of its chain; `children` copies name it as parent; a copy that is to
//              be removed with its descendants has ns = -id, which hides it. An id is never used
//              again, so a record with the same id is the same copy. `stored` < length: it is
//              packed
// free_extent  neighbours are merged
// reservation  blocks that process `writer` may be writing to
inline constexpr char kSchema[] = R"sql(
CREATE TABLE meta(
  id INTEGER PRIMARY KEY CHECK(id = 1), store BLOB NOT NULL, block_size INTEGER NOT NULL,
  max_bytes INTEGER NOT NULL, copies INTEGER NOT NULL, day INTEGER NOT NULL,
  written INTEGER NOT NULL, evictions INTEGER NOT NULL);
CREATE TABLE namespace(
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, description TEXT NOT NULL,
  created INTEGER NOT NULL);
CREATE TABLE pool(
  id INTEGER PRIMARY KEY, directory TEXT NOT NULL, uuid BLOB NOT NULL,
  generation INTEGER NOT NULL, blocks INTEGER NOT NULL, keep INTEGER NOT NULL,
  free INTEGER NOT NULL);
CREATE TABLE copy(
  id INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, key BLOB NOT NULL,
  grp INTEGER NOT NULL, shard INTEGER NOT NULL, parent INTEGER NOT NULL,
  children INTEGER NOT NULL, stamp INTEGER NOT NULL, length INTEGER NOT NULL,
  stored INTEGER NOT NULL, extents BLOB NOT NULL, checksums BLOB NOT NULL);
CREATE UNIQUE INDEX copy_name ON copy(ns, key, grp, shard);
CREATE INDEX copy_leaf ON copy(stamp) WHERE children = 0;
CREATE INDEX copy_child ON copy(parent) WHERE parent > 0;
CREATE TABLE free_extent(
  pool INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(pool, first)) WITHOUT ROWID;
CREATE INDEX free_size ON free_extent(pool, count);
CREATE TABLE reservation(
  pool INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
  writer INTEGER NOT NULL, PRIMARY KEY(pool, first)) WITHOUT ROWID;
)sql";

}  // namespace penstock
