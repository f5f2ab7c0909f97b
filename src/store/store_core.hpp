// StoreCore: what a Store does on its index thread. One call here for each kind of work.
//
// Owns the parts. All methods belong to the index thread, except where it says otherwise. Once the
// index is found damaged there is no way back in this process: every answer is a miss from then on,
// which is said once, and a note is left for the next process that opens the store alone.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "metrics/counter.hpp"
#include "store/keeper.hpp"
#include "store/memory_watch.hpp"
#include "store/store_parts.hpp"

namespace penstock {

class StoreCore {
 public:
  StoreCore(const StoreOptions& options, StoreParts parts);
  ~StoreCore();

  Result<NamespaceId> open_namespace(const NamespaceSpec& spec);
  uint32_t lookup(NamespaceId ns, std::span<const Key> chain, std::span<const GroupNeed> groups);
  std::vector<Extent> sample(uint32_t limit, uint64_t random);
  std::vector<CopyRecord> find(NamespaceId ns, std::span<const CopyName> names);
  std::vector<Reservation> reserve(NamespaceId ns, std::span<const Wish> wishes);
  std::vector<Status> commit(NamespaceId ns, std::span<const CopyInsert> copies);
  void release(std::vector<Extent> extents);
  void settle(std::span<const int64_t> ids);
  Status damaged(NamespaceId ns, const CopyName& name, int64_t record_id);
  void each_second(std::function<bool()> work);
  std::chrono::milliseconds upkeep();
  bool needs_room() const noexcept { return keeper_ && keeper_->is_low(); }

  // Any thread; fixed once the store is open.
  uint64_t block_size() const noexcept { return parts_.block_size; }
  uint32_t pool_count() const noexcept { return static_cast<uint32_t>(parts_.pools.size()); }
  int pool_fd(uint32_t pool) const noexcept;
  std::span<std::byte> pool_memory(uint32_t pool) const noexcept;
  // Any thread. Null: the pools are not mapped.
  MemoryWatch* memory_watch() noexcept { return watch_ ? &*watch_ : nullptr; }
  // Any thread.
  void mark_written(uint32_t pool, uint64_t bytes) noexcept;
  std::vector<uint32_t> take_dirty_pools();
  std::map<std::string, double> metrics() const;
  std::map<std::string, std::string> facts() const;

 private:
  bool works() const noexcept { return parts_.index && failure_.empty(); }
  void run_each_second();
  void check_health();
  void measure_files();
  void publish();
  uint64_t usable_blocks() const noexcept;
  void note_growth();
  bool has_memory(std::span<const Extent> extents);

  StoreOptions options_;
  uint64_t write_limit_ = 0;
  StoreParts parts_;
  std::optional<Keeper> keeper_;
  std::optional<MemoryWatch> watch_;  // goes before the mappings
  std::vector<uint64_t> allocated_;   // by pool: blocks that may be touched; mapped pools only
  std::vector<std::function<bool()>> each_second_;
  std::chrono::steady_clock::time_point second_due_{};
  std::string failure_;
  uint64_t corrupt_seen_ = 0;
  uint64_t index_bytes_ = 0;
  uint64_t wal_bytes_ = 0;

  Counter lookups_, lookup_ns_, no_space_, written_, corrupt_;
  std::array<std::atomic<bool>, kMaxPools> dirty_{};
  mutable std::mutex mutex_;
  std::map<std::string, double> figures_;  // guarded by mutex_; as of the last publish()
  std::string failure_seen_;               // guarded by mutex_; copy of failure_
};

}  // namespace penstock
