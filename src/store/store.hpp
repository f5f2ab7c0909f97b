// Store: the index and the pools of one set of cache directories, shared by all processes of a
// node.
//
// A process opens a directory once: a second open with the same options returns the same Store,
// with other options an error. Each call below queues work for the store's one index thread and
// returns at once; the callback runs on that thread, must be quick and must not call back into a
// waiting function. The queue is bounded: a call that returns false was not queued and its callback
// will not run. No failure is fatal: a damaged or unreachable index answers NotFound / NoSpace, and
// says so once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "store/memory_watch.hpp"
#include "store/options.hpp"
#include "store/types.hpp"

namespace penstock {

class Store {
 public:
  static Result<std::shared_ptr<Store>> open(const StoreOptions& options);
  ~Store();  // stops the index thread after the work that is queued
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  uint64_t block_size() const noexcept;
  const std::string& directory() const noexcept;  // the first: the index lies there
  // Descriptor of a pool for I/O (O_DIRECT where possible); -1: that pool is out.
  // Block b of a pool starts at pool_data_offset() + b * block_size().
  int pool_fd(uint32_t pool) const noexcept;
  uint32_t pool_count() const noexcept;
  static uint64_t pool_data_offset() noexcept;
  // Memory of a mapped pool, from block 0 on; empty: it is not mapped, or out. Blocks that find()
  // and reserve() name may be touched, others may not be there yet (that ends the process). What
  // lies there may change at any moment, but for blocks that this process has reserved.
  std::span<std::byte> pool_memory(uint32_t pool) const noexcept;
  // Tells `listener` what memory the mapped pools have, now and as they grow, on a thread of its
  // own. False: they are not mapped, somebody listens already, or there is no thread for it.
  bool listen(MemoryListener listener);
  void unlisten();  // for whoever listens; see MemoryWatch
  // See MemoryWatch::range_end; 0 too if the pools are not mapped.
  uint64_t range_end(uint32_t pool, uint64_t block) const;

  template <typename T>
  using Callback = std::function<void(T)>;

  bool open_namespace(const NamespaceSpec& spec, Callback<Result<NamespaceId>> done);
  // Chunks, from the first on, that all `groups` can load.
  bool lookup(NamespaceId ns, std::vector<Key> chain, std::vector<GroupNeed> groups,
              Callback<uint32_t> done);
  // One record per name, in order. The hit is stamped: the last found name of each (group, shard).
  bool find(NamespaceId ns, std::vector<CopyName> names, Callback<std::vector<CopyRecord>> done);
  // Some blocks that hold copies, to read for a measurement; at most `limit`.
  bool sample(uint32_t limit, uint64_t random, Callback<std::vector<Extent>> done);
  // Blocks for copies that are about to be written, under this process's name. One answer per wish.
  using Wish = penstock::Wish;
  bool reserve(NamespaceId ns, std::vector<Wish> wishes, Callback<std::vector<Reservation>> done);
  // Publishes copies whose bytes have been written. Ok; or its blocks are given back: Present;
  // NotFound: its parent is not there; Rejected: the pool shrinks where they lie.
  bool commit(NamespaceId ns, std::vector<CopyInsert> copies, Callback<std::vector<Status>> done);
  // Gives back reserved blocks that were not committed.
  bool release(std::vector<Extent> extents);
  // Copies that were published as held, by their records' ids, need not be any more.
  bool settle(std::vector<int64_t> ids);
  // The bytes of this record did not match. Reads the record again: if it has not changed, the copy
  // and its descendants are deleted and counted, and the answer is Corrupt; else NotFound.
  bool damaged(NamespaceId ns, CopyName name, int64_t record_id, Callback<Status> done);
  // Pools written since the last call, for which fdatasync is due (the mover does it).
  std::vector<uint32_t> take_dirty_pools();
  void mark_written(uint32_t pool, uint64_t bytes) noexcept;

  // Calls `work` about once a second on the index thread, until it returns false. It may wait for
  // the drive, as all that this thread does.
  void each_second(std::function<bool()> work);

  std::map<std::string, double> metrics() const;  // any thread
  std::map<std::string, std::string> facts() const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
