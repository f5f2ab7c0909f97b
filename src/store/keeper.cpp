#include "store/keeper.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "store/memory_directory.hpp"
#include "store/store_files.hpp"

namespace penstock {
namespace {

constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::seconds kDeadPeriod{10};
constexpr std::chrono::seconds kNoGrowth{60};
constexpr uint32_t kBatch = 64;    // copies removed in one transaction
constexpr size_t kMaxHits = 4096;  // stamps that wait
constexpr uint64_t kIndexFullPercent = 95;
// Memory is zeroed when it is allocated, some GB a second: a little at a time, so that lookups get
// their turn.
constexpr uint64_t kMappedStep = 8 * 1024 * 1024;

}  // namespace

Keeper::Keeper(StoreParts& parts, uint64_t min_free_bytes, const StoreClock& clock)
    : parts_{parts},
      index_{*parts.index},
      min_free_bytes_{min_free_bytes},
      clock_{clock},
      no_growth_until_(parts.pools.size()),
      tail_scanned_(parts.pools.size(), UINT64_MAX) {
  // A new pool gets its first blocks before anything is saved, so that the first saves already go
  // to all drives.
  for (uint32_t id = 0; id < index_.pools().size(); ++id)
    if (index_.pools()[id].blocks == 0 && can_grow(index_.pools()[id])) grow_pool(id, 1);
}

uint64_t Keeper::target() const noexcept {
  return free_target(parts_.plan.blocks, copy_blocks_);
}

// Memory is taken as soon as there is time: saves come faster than it can be zeroed and pinned.
uint64_t Keeper::growth_target() const noexcept {
  return parts_.mapped ? parts_.plan.blocks : target();
}

uint64_t Keeper::total_blocks() const noexcept {
  uint64_t blocks = 0;
  for (const PoolRow& pool : index_.pools()) blocks += pool.blocks;
  return blocks;
}

std::chrono::milliseconds Keeper::step() {
  if (clock_.steady() >= tick_due_) {
    tick_due_ = clock_.steady() + kTick;
    tick();
  }
  const bool more = sweep() || shrink() || keep_room() || keep_index();
  return more ? std::chrono::milliseconds{0} : std::chrono::milliseconds{kTick};
}

void Keeper::tick() {
  evicted_all_ = false;
  flush_stamps();
  release_pending();
  if (clock_.steady() >= dead_due_) {
    dead_due_ = clock_.steady() + kDeadPeriod;
    index_.reclaim([&](uint32_t process) { return !parts_.lock->is_alive(process); });
  }
  index_.refresh();  // what other processes did
  // A mapping has the size that it was given when it was made.
  if (auto plan = plan_now(index_, parts_.directories.front()); plan && !parts_.mapped)
    parts_.plan = *plan;
  // Idle since the last tick: the log is copied and emptied while nobody waits.
  const uint64_t wal = index_.wal_bytes();
  if (wal != 0 && wal == writes_seen_) index_.checkpoint(true);
  writes_seen_ = wal;
}

void Keeper::finish() {
  flush_stamps();
  release_pending();
  bury_pending();
}

void Keeper::note_hit(int64_t id) {
  hits_.insert(id);
  if (hits_.size() >= kMaxHits) flush_stamps();
}

void Keeper::note_settled(std::span<const int64_t> ids) {
  settled_.insert(settled_.end(), ids.begin(), ids.end());
  if (settled_.size() >= kMaxHits) flush_stamps();
}

void Keeper::flush_stamps() {
  if (!hits_.empty()) {
    const std::vector<int64_t> ids{hits_.begin(), hits_.end()};
    index_.stamp(ids,
                 clock_.now_ms());  // if it fails these hits are forgotten: age is all they change
    hits_.clear();
  }
  if (!settled_.empty())
    index_.settle(settled_, clock_.now_ms());  // then they are held for a minute
  settled_.clear();
}

void Keeper::release_later(std::vector<Extent> extents) {
  releases_.insert(releases_.end(), extents.begin(), extents.end());
}

void Keeper::release_pending() {
  if (!releases_.empty() && index_.release(parts_.process, releases_) == Status::Ok)
    releases_.clear();
}

bool Keeper::make_room(uint64_t blocks, std::span<const int64_t> keep) {
  release_pending();
  if (index_.usable_free() < blocks)
    index_.reclaim([&](uint32_t process) { return !parts_.lock->is_alive(process); });
  while (index_.usable_free() < blocks && grow(blocks - index_.usable_free())) {
  }
  if (index_.usable_free() < blocks) flush_stamps();  // a victim must not have been used just now
  for (uint32_t removed = 1; removed > 0 && index_.usable_free() < blocks;)
    if (index_.evict(blocks, kBatch, removed, {keep, clock_.now_ms()}) != Status::Ok) break;
  return index_.usable_free() >= blocks;
}

// A piece at a time, so that lookups get their turn: a step of growth or a batch of leaves.
bool Keeper::keep_room() {
  const uint64_t free = index_.usable_free();
  if (free < growth_target() && grow(growth_target() - free)) return true;
  if (free >= target() || evicted_all_) return false;
  flush_stamps();
  uint32_t removed = 0;
  // A little more than the target, or every save would evict one copy; but the last copy stays.
  const uint64_t total = total_blocks();
  const uint64_t goal = std::min(target() + target() / 4, total - std::min(total, copy_blocks_));
  const Status status = index_.evict(goal, kBatch, removed, {{}, clock_.now_ms()});
  evicted_all_ = status != Status::Ok || removed == 0;
  return !evicted_all_;
}

// Evicts for the index's own bound, should its rows be larger than planned.
bool Keeper::keep_index() {
  if (evicted_all_) return false;
  const uint64_t full = Index::bound_of_saves(parts_.plan.database_bytes);
  if (index_.used_bytes() < full / 100 * kIndexFullPercent) return false;
  uint32_t removed = 0;
  evicted_all_ = index_.evict(UINT64_MAX, kBatch, removed) != Status::Ok || removed == 0;
  return !evicted_all_;
}

void Keeper::bury(int64_t id) {
  if (damaged_.size() < kMaxHits) damaged_.push_back(id);  // beyond: it will be found damaged again
  sweeping_ = true;
  bury_pending();
}

bool Keeper::bury_pending() {
  if (!damaged_.empty() && index_.bury(damaged_) != Status::Ok) return false;
  damaged_.clear();
  return true;
}

bool Keeper::sweep() {
  if (!sweeping_ || !bury_pending()) return false;
  uint32_t removed = 0;
  const Status status = index_.sweep(kBatch, removed);
  if (status == Status::Ok && removed == 0) sweeping_ = false;
  return status == Status::Ok && sweeping_;
}

bool Keeper::can_grow(const PoolRow& row) const noexcept {
  return row.id < parts_.pools.size() && parts_.pools[row.id].pool && row.keep == row.blocks &&
         clock_.steady() >= no_growth_until_[row.id];
}

bool Keeper::grow(uint64_t wanted) {
  const PoolRow* chosen = nullptr;
  for (const PoolRow& row : index_.pools())
    if (can_grow(row) && (!chosen || row.blocks < chosen->blocks)) chosen = &row;
  return chosen && total_blocks() < parts_.plan.blocks && grow_pool(chosen->id, wanted);
}

bool Keeper::grow_pool(uint32_t id, uint64_t wanted) {
  uint64_t step = std::max(wanted, growth_step(parts_.plan.blocks));
  if (parts_.mapped) step = std::min(step, std::max<uint64_t>(kMappedStep / parts_.block_size, 1));
  uint64_t added = 0;
  const Status status = index_.extend(id, [&](const PoolRow& row) {
    added = allocate(*parts_.pools[id].pool, row, step);
    return added;
  });
  if (status == Status::Ok && added > 0) return true;
  if (total_blocks() < parts_.plan.blocks) {
    ++counters_.growth_failures;
    no_growth_until_[id] = clock_.steady() + kNoGrowth;
  }
  return false;
}

// What the index and its log, beside the first pool, may still take of the file system: without it
// there would be blocks, and no way to say what is in them.
uint64_t Keeper::room_of_index() const noexcept {
  const StoreFiles files{parts_.directories.front()};
  const uint64_t taken = file_size(files.index) + file_size(files.wal);
  const uint64_t planned = parts_.plan.database_bytes + parts_.plan.wal_bytes;
  return planned > taken ? planned - taken : 0;
}

// Inside the transaction: the rows of all pools are as every process sees them.
uint64_t Keeper::allocate(Pool& pool, const PoolRow& row, uint64_t wanted) {
  const uint64_t total = total_blocks();
  if (total >= parts_.plan.blocks) return 0;
  // Not of the path in the row, by which another process may know it.
  uint64_t available = file_system_space(pool.fd()).available;
  if (parts_.mapped) available = std::min(available, available_memory());
  const uint64_t kept = min_free_bytes_ + (row.id == 0 ? room_of_index() : 0);
  const uint64_t spare = available > kept ? available - kept : 0;
  const uint64_t count = std::min({wanted, parts_.plan.blocks - total, spare / parts_.block_size});
  if (count == 0) return 0;
  return pool.grow(row.blocks, count) == Status::Ok ? count : 0;
}

}  // namespace penstock
