// Inspector: looks into a store without opening it: namespaces, copies, totals, contradictions.
//
// For the command line. It only reads, may be used while processes save and evict, also in one of
// them, and takes none of the store's locks. Owns a read connection. One thread. What it reads in
// several calls is not one moment's state: a copy may be gone when its blocks are looked at.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/index.hpp"

namespace penstock {

struct StoreTotals {
  uint64_t max_bytes = 0;
  uint64_t block_size = 0;
  uint64_t copies = 0;       // those that are being removed included
  bool is_removing = false;  // some are hidden already and go little by little
  uint64_t blocks_total = 0;
  uint64_t blocks_free = 0;
  uint64_t index_bytes = 0;  // database and write-ahead log
  uint64_t written_today = 0;
  uint64_t evictions = 0;  // copies, since the index was made
};

class Inspector {
 public:
  // NotFound: there is no store in `directory`; Corrupt: its index is damaged.
  static Result<std::unique_ptr<Inspector>> open(const std::string& directory);

  Result<StoreTotals> totals();
  Result<std::vector<NamespaceInfo>> namespaces();
  // All copies (namespace 0) or those of one, in the order of their making, until `visit` says
  // false. Rows are read some hundreds at a time.
  Result<void> for_each_copy(NamespaceId name_space,
                             const std::function<bool(const CopyRow&)>& visit);
  // The record as it is now, to tell damage from eviction: NotFound if `row` is not there any more.
  CopyRecord look_again(const CopyRow& row);
  // By number; a pool's file is `directory`/pool.data, block b at pool_offset(b).
  const std::vector<PoolRow>& pools() const noexcept { return index_->pools(); }
  uint64_t pool_offset(uint64_t block) const noexcept;
  static std::string pool_path(const PoolRow& pool);
  std::vector<std::string> audit() { return index_->audit(); }

 private:
  Inspector(std::unique_ptr<Index> index, std::string directory)
      : index_{std::move(index)}, directory_{std::move(directory)} {}
  Error index_error() const;

  std::unique_ptr<Index> index_;
  std::string directory_;
};

}  // namespace penstock
