// HeadRows: the few rows of the index that each transaction reads first and writes back last: the
// one of `meta`, and one for each pool. Index thread only.
//
// They come from disk and are checked while they are loaded; what cannot be right is noted in the
// Database as SQLITE_CORRUPT, like every other damage. After a failed transaction they are stale
// until the next load().
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "store/statement.hpp"

namespace penstock {

using Uuid = std::array<uint8_t, 16>;
inline constexpr uint32_t kMaxPools = 64;

struct MetaRow {
  Uuid store{};
  uint64_t block_size = 0;
  uint64_t max_bytes = 0;
  uint64_t copies = 0;
  int64_t day = 0;         // days since 1970 that `written` belongs to
  uint64_t written = 0;    // bytes promised to writers on that day
  uint64_t evictions = 0;  // copies evicted since the index was made
  friend bool operator==(const MetaRow&, const MetaRow&) = default;
};

struct PoolRow {
  uint32_t id = 0;  // position in the list: ids are 0, 1, 2, ...
  std::string directory;
  Uuid uuid{};
  uint64_t generation = 0;
  uint64_t blocks = 0;
  uint64_t keep = 0;
  uint64_t free = 0;
  friend bool operator==(const PoolRow&, const PoolRow&) = default;
};

class HeadRows {
 public:
  explicit HeadRows(Database& db);

  bool load();  // false: an error was noted
  void save();  // writes what has changed since load()
  void insert_meta(const MetaRow& row);
  void insert_pool(const PoolRow& row);

  MetaRow meta;
  std::vector<PoolRow> pools;

 private:
  Database& db_;
  MetaRow loaded_meta_;
  std::vector<PoolRow> loaded_pools_;
  Statement select_meta_, select_pools_, update_meta_, update_pool_, insert_meta_, insert_pool_;
};

}  // namespace penstock
