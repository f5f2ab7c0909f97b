// Keeper: keeps a store in order, a small piece at a time: room ahead of need (grow, then evict),
// stamps, dead processes' reservations, shrinking, checkpoints. Index thread only.
//
// Each process of a store has one; what they do meets in the index's transactions, so that two that
// see the same need do not fill it twice. Nothing here fails: what did not work now is tried again
// later, and counted.
#pragma once

#include <chrono>
#include <span>
#include <unordered_set>
#include <vector>

#include "store/clock.hpp"
#include "store/store_parts.hpp"

namespace penstock {

struct KeeperCounters {
  uint64_t growth_failures = 0;  // ENOSPC, or min_free reached
  uint64_t shrink_drops = 0;     // copies that lay beyond a smaller pool's end
};

class Keeper {
 public:
  Keeper(StoreParts& parts, uint64_t min_free_bytes, const StoreClock& clock);

  // Now, for a save that found no room; `keep` are copies that are not evicted for it. True:
  // `blocks` are free.
  bool make_room(uint64_t blocks, std::span<const int64_t> keep);
  // One piece of upkeep; how long the next can wait.
  std::chrono::milliseconds step();
  // At the end: what is pending.
  void finish();

  bool is_low() const noexcept { return index_.usable_free() < target(); }
  void note_hit(int64_t id);
  void note_settled(std::span<const int64_t> ids);  // their copies need not be held any more
  void note_copy(uint64_t blocks) noexcept { copy_blocks_ = blocks; }
  void release_later(std::vector<Extent> extents);  // blocks whose release has to be tried again
  void bury(int64_t id);  // a damaged copy, which is swept with its descendants
  const KeeperCounters& counters() const noexcept { return counters_; }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void tick();
  bool keep_room();  // each of these: true: there is more to do at once
  bool keep_index();
  bool sweep();
  bool shrink();
  bool can_grow(const PoolRow& row) const noexcept;
  bool grow(uint64_t wanted);  // the smallest pool
  bool grow_pool(uint32_t id, uint64_t wanted);
  uint64_t allocate(Pool& pool, const PoolRow& row, uint64_t wanted);
  void begin_shrinking();
  bool scan_tail();
  void truncate_pools();
  void flush_stamps();
  void release_pending();
  bool bury_pending();
  uint64_t target() const noexcept;
  uint64_t growth_target() const noexcept;
  uint64_t room_of_index() const noexcept;
  uint64_t total_blocks() const noexcept;
  bool is_shrinking() const noexcept;

  StoreParts& parts_;
  Index& index_;
  uint64_t min_free_bytes_;
  const StoreClock& clock_;
  KeeperCounters counters_;
  uint64_t copy_blocks_ = 1;  // of the usual copy: the last one that was asked for
  std::unordered_set<int64_t> hits_;
  std::vector<int64_t> settled_;
  std::vector<Extent> releases_;
  std::vector<int64_t> damaged_;       // to be buried; an index that is busy refuses
  std::vector<Time> no_growth_until_;  // by pool
  Time tick_due_{};
  Time dead_due_{};
  uint64_t writes_seen_ = 0;
  bool sweeping_ = true;                // the last process may have been killed in the middle
  bool evicted_all_ = false;            // until the next tick
  std::vector<uint64_t> tail_scanned_;  // by pool: the keep that no copy reaches beyond any more
  std::vector<uint64_t> tail_keep_;     // by pool: what the pass under way looks for
  int64_t tail_cursor_ = 0;
};

}  // namespace penstock
