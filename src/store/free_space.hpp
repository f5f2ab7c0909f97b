// FreeSpace: which blocks of the pools are free. Rows of `free_extent`, neighbours merged, and the
// count in each pool's row kept equal to them. Inside a write transaction of the index; index
// thread only. Contradictions found on the way are noted in the Database as SQLITE_CORRUPT.
#pragma once

#include <cstdint>
#include <vector>

#include "store/head_rows.hpp"
#include "store/statement.hpp"
#include "store/types.hpp"

namespace penstock {

class FreeSpace {
 public:
  explicit FreeSpace(Database& db);

  // Takes up to `count` blocks: the smallest run that is long enough, so that a copy is one I/O and
  // long runs stay long; if there is none, the longest runs. Appends to `extents`; returns how many
  // blocks it got.
  uint64_t take(PoolRow& pool, uint64_t count, std::vector<Extent>& extents);
  // Gives blocks back. Those at or beyond pool.keep are not to be used again and just go.
  void give(PoolRow& pool, uint64_t first, uint64_t count);
  // Lowers pool.keep: takes free blocks at or beyond it out of the table.
  void trim(PoolRow& pool, uint64_t keep);

 private:
  struct Run {
    uint64_t first = 0;
    uint64_t count = 0;
  };
  void insert(const PoolRow& pool, Run run);
  void erase(const PoolRow& pool, uint64_t first);

  Database& db_;
  Statement fitting_, longest_, before_, after_, last_, insert_, delete_;
};

}  // namespace penstock
