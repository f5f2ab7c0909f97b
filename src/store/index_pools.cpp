// What the index does with pools: which there are, how large, and their growing and shrinking.
#include <algorithm>

#include "store/index.hpp"

namespace penstock {

Status Index::set_max_bytes(uint64_t bytes) {
  return write([&] { head_.meta.max_bytes = bytes; });
}

Status Index::edit_pools(const std::function<void(std::vector<PoolRow>&)>& change) {
  return write([&] {
    std::vector<PoolRow> rows = head_.pools;
    change(rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i < head_.pools.size())
        head_.pools[i] = rows[i];
      else
        head_.insert_pool(rows[i]);
    }
  });
}

Status Index::extend(uint32_t pool, const std::function<uint64_t(const PoolRow&)>& allocate) {
  return write([&] {
    if (pool >= head_.pools.size()) return;
    PoolRow& row = head_.pools[pool];
    if (row.keep != row.blocks) return;  // it is shrinking; that has to end first
    const uint64_t added = allocate(row);
    if (added == 0) return;
    const uint64_t first = row.blocks;
    row.blocks += added;
    row.keep = row.blocks;
    free_.give(row, first, added);
  });
}

Status Index::retire(uint32_t pool, uint64_t keep) {
  return write_to_free([&] {
    if (pool >= head_.pools.size() || keep >= head_.pools[pool].keep) return;
    free_.trim(head_.pools[pool], keep);
  });
}

Status Index::truncate(uint32_t pool, uint64_t keep, const std::function<bool()>& cut, bool& done) {
  done = false;
  const Status status = write([&] {
    if (pool >= head_.pools.size()) return;
    PoolRow& row = head_.pools[pool];
    if (row.keep != keep || row.blocks == keep) return;
    if (reservations_.reaches(pool, keep) || copies_.first_buried() != 0 || db_->error()) return;
    // The file first: should the transaction fail, only blocks that nothing uses are gone.
    if (!cut()) return;
    row.blocks = keep;
    done = true;
  });
  if (status != Status::Ok) done = false;
  return status;
}

}  // namespace penstock
