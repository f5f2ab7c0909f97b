// How a store gets smaller: blocks at the ends of the pools are not given out any more, copies that
// lie there are dropped with their descendants, then the files are cut.
#include <algorithm>

#include "store/keeper.hpp"

namespace penstock {

namespace {
constexpr uint32_t kScanBatch = 500;  // rows read at a time
}

bool Keeper::is_shrinking() const noexcept {
  return std::any_of(index_.pools().begin(), index_.pools().end(),
                     [](const PoolRow& row) { return row.keep < row.blocks; });
}

bool Keeper::shrink() {
  if (parts_.mapped) return false;  // a store in memory begins anew instead
  // What was learned about a tail holds until the pool has been cut there, by whichever process.
  for (const PoolRow& row : index_.pools())
    if (row.keep == row.blocks && row.id < tail_scanned_.size()) tail_scanned_[row.id] = UINT64_MAX;
  if (total_blocks() > parts_.plan.blocks) begin_shrinking();
  if (!is_shrinking()) return false;
  if (scan_tail()) return true;
  truncate_pools();
  return false;
}

// Takes the excess from the largest pools. What lies in a pool that is out is no load on the drives
// that are there, which would pay for it to the last block; should it return, they shrink together.
void Keeper::begin_shrinking() {
  std::vector<PoolRow> rows;
  uint64_t kept = 0;
  for (const PoolRow& row : index_.pools()) {
    if (!index_.is_usable(row.id)) continue;
    kept += row.keep;
    rows.push_back(row);
  }
  while (kept > parts_.plan.blocks && !rows.empty()) {
    const auto largest =
        std::max_element(rows.begin(), rows.end(),
                         [](const PoolRow& a, const PoolRow& b) { return a.keep < b.keep; });
    if (largest->keep == 0) break;
    // An even part each, so that the pools end up alike.
    const uint64_t excess = kept - parts_.plan.blocks;
    const uint64_t part = std::min(largest->keep, std::max<uint64_t>(excess / rows.size(), 1));
    largest->keep -= part;
    kept -= part;
  }
  for (const PoolRow& row : rows)
    if (row.keep < index_.pools()[row.id].keep) index_.retire(row.id, row.keep);
}

// Buries the copies that reach into a tail, a batch at a time. True: there are more rows to read.
// Copies cannot be added to a tail, so one pass is enough for each `keep`.
bool Keeper::scan_tail() {
  const auto& pools = index_.pools();
  const bool all_scanned = std::all_of(pools.begin(), pools.end(), [&](const PoolRow& row) {
    return row.id >= tail_scanned_.size() || row.keep == row.blocks ||
           tail_scanned_[row.id] <= row.keep;
  });
  if (all_scanned) return false;
  if (tail_cursor_ == 0) {
    tail_keep_.clear();
    for (const PoolRow& row : pools) tail_keep_.push_back(row.keep);
  }
  // A read that failed brings no rows either, and is no end of the table.
  const uint64_t errors = index_.counters().errors;
  const std::vector<CopyRow> rows = index_.rows_after(tail_cursor_, kScanBatch);
  if (index_.counters().errors != errors) return false;  // again at the next tick
  std::vector<int64_t> doomed;
  for (const CopyRow& row : rows) {
    const auto& extents = row.record.extents;
    const bool reaches = std::any_of(extents.begin(), extents.end(), [&](const Extent& extent) {
      return extent.pool < tail_keep_.size() &&
             uint64_t{extent.first} + extent.count > tail_keep_[extent.pool];
    });
    if (reaches && row.name_space > 0) doomed.push_back(row.id);
  }
  if (!doomed.empty() && index_.bury(doomed) != Status::Ok) return false;  // again at the next tick
  counters_.shrink_drops += doomed.size();
  sweeping_ = sweeping_ || !doomed.empty();
  if (!rows.empty()) {
    tail_cursor_ = rows.back().id;
    return true;
  }
  tail_cursor_ = 0;
  for (size_t i = 0; i < tail_scanned_.size() && i < tail_keep_.size(); ++i)
    tail_scanned_[i] = tail_keep_[i];
  return true;
}

void Keeper::truncate_pools() {
  const std::vector<PoolRow> rows = index_.pools();
  for (const PoolRow& row : rows) {
    if (row.keep == row.blocks || !index_.is_usable(row.id)) continue;
    if (tail_scanned_[row.id] > row.keep) continue;  // copies may be left there
    bool done = false;
    index_.truncate(
        row.id, row.keep, [&] { return parts_.pools[row.id].pool->cut(row.keep); }, done);
  }
}

}  // namespace penstock
