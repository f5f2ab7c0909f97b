// Index: what is where. One SQLite database (WAL) that all processes of a store share.
//
// Knows rows, not files: pools are numbers of blocks here, and the callers of extend() and
// truncate() move the file's end. Every write is one transaction under the writer lock of the
// store's LockFile, and so is every checkpoint. Synchronous; one thread at a time. Nothing read
// from the database is trusted. After an error the transaction has had no effect; Corrupt is final
// (is_corrupt()), the others may pass: the caller goes on.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/copy_table.hpp"
#include "store/free_space.hpp"
#include "store/head_rows.hpp"
#include "store/lock_file.hpp"
#include "store/reservation_table.hpp"
#include "store/statement.hpp"
#include "store/types.hpp"

namespace penstock {

struct IndexOptions {
  std::string path;
  std::string vfs;  // of SQLite; empty: the default one
  MetaRow meta;     // for an index that is made anew
};

struct IndexLimits {
  uint64_t database_bytes = UINT64_MAX;  // a hard bound: beyond it a write is NoSpace
  uint64_t checkpoint_bytes = 4 << 20;   // WAL size from which on it is checkpointed
  uint64_t wal_bytes = UINT64_MAX;       // WAL size from which on nothing is written
};

struct WriteLimit {
  int64_t day = 0;
  uint64_t bytes_per_day = 0;  // 0: none
};

struct IndexCounters {
  uint64_t rejected_present = 0, rejected_parent = 0, rejected_write_limit = 0;
  uint64_t rejected_wal_full = 0, evictions = 0, corrupt_copies = 0, errors = 0, checkpoints = 0;
};

// What eviction leaves.
struct Spared {
  std::span<const int64_t> ids;
  Stamp now = std::numeric_limits<Stamp>::min();  // what is held at this time; the default: nothing
};

// A namespace and what lies in it, for people.
struct NamespaceInfo {
  NamespaceId id = 0;
  Digest digest;
  std::string description;
  Stamp created = 0;
  uint64_t copies = 0;
  uint64_t bytes = 0;   // of the copies
  uint64_t stored = 0;  // the same, packed where they are; they take whole blocks
  Stamp last_used = 0;  // 0: it is empty
};

class Index {
 public:
  // Opens or makes the database. Corrupt: damaged, or of another format version; Unsupported: WAL
  // does not work here.
  static Result<std::unique_ptr<Index>> open(const IndexOptions& options, LockFile& lock);
  // For reports: nothing can be written, and no lock of ours is taken. NotFound: there is none.
  static Result<std::unique_ptr<Index>> open_to_read(const std::string& path);
  ~Index();  // checkpoints if it can
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  bool was_created() const noexcept { return created_; }
  void set_limits(const IndexLimits& limits);
  // What saves may fill of a bound on the database; the rest is for writes that give space back.
  static uint64_t bound_of_saves(uint64_t database_bytes) noexcept;
  // Pools that this process can use; copies in others are not found. Bit i: pool i.
  void set_usable(uint64_t pools) noexcept { usable_ = pools; }
  bool is_usable(uint32_t pool) const noexcept { return pool < kMaxPools && (usable_ >> pool & 1); }

  // Reading. An error reads as a miss.
  uint32_t lookup(NamespaceId ns, std::span<const Key> chain, std::span<const GroupNeed> groups);
  std::vector<CopyRecord> find(NamespaceId ns, std::span<const CopyName> names);
  std::vector<CopyRow> rows_after(int64_t id, uint32_t limit);
  // Single blocks of about as many copies, from a place that `random` chooses; at most `limit`.
  std::vector<Extent> sample(uint32_t limit, uint64_t random);
  std::vector<int64_t> ids_of_parents(NamespaceId ns, std::span<const Wish> wishes);
  Status refresh();  // meta() and pools() are as of the last transaction, or of this
  const MetaRow& meta() const noexcept { return head_.meta; }
  const std::vector<PoolRow>& pools() const noexcept { return head_.pools; }
  uint64_t usable_free() const noexcept;    // blocks; the same
  std::vector<NamespaceInfo> namespaces();  // reads all copies
  Status has_buried(bool& found);           // copies that are hidden and not swept yet
  std::vector<std::string> audit();         // every contradiction found; reads everything

  // Copies.
  Result<NamespaceId> open_namespace(const NamespaceSpec& spec, Stamp now);
  // Answers one Reservation a wish. NoSpace: there were not enough free blocks; make room, ask
  // again. A copy is split into one run of blocks for each usable pool, so that all drives work on
  // it; which pool comes first rotates.
  Status reserve(NamespaceId ns, uint32_t process, std::span<const Wish> wishes, WriteLimit limit,
                 std::vector<Reservation>& reservations);
  // Answers one Status a copy; if it is not Ok, its blocks have been given back (but for
  // CopyInsert::keeps_blocks).
  Status commit(NamespaceId ns, uint32_t process, std::span<const CopyInsert> copies, Stamp now,
                std::vector<Status>& statuses);
  Status release(uint32_t process, std::span<const Extent> extents);
  Status reclaim(const std::function<bool(uint32_t process)>& is_dead);
  Status stamp(std::span<const int64_t> ids, Stamp now);
  Status settle(std::span<const int64_t> ids, Stamp now);
  // Removes the oldest leaves, at most `limit`, until `goal` blocks are free in usable pools or the
  // oldest is spared: all others are worth more then.
  Status evict(uint64_t goal, uint32_t limit, uint32_t& removed, const Spared& spared = {});
  // Hides copies at once; sweep() then removes them with their descendants, bottom up, at most
  // `limit` a call; `removed` 0: nothing is left to do.
  Status bury(std::span<const int64_t> ids);
  Status sweep(uint32_t limit, uint32_t& removed);

  // Pools.
  Status set_max_bytes(uint64_t bytes);
  // Runs `change` on the pools' rows in a transaction; it may append one row (a new pool).
  Status edit_pools(const std::function<void(std::vector<PoolRow>&)>& change);
  // Adds the blocks that `allocate` says it has made room for at the end of the pool's file.
  Status extend(uint32_t pool, const std::function<uint64_t(const PoolRow&)>& allocate);
  Status retire(uint32_t pool, uint64_t keep);  // blocks from `keep` on are not given out any more
  // If the pool still ends at `keep`, and nothing is reserved or buried beyond it, calls `cut`,
  // then forgets the blocks there. The caller has buried all copies that lay there. `done`: it
  // happened.
  Status truncate(uint32_t pool, uint64_t keep, const std::function<bool()>& cut, bool& done);

  // Upkeep.
  Status checkpoint(bool truncate);
  uint64_t wal_bytes() const noexcept { return wal_pages_ * (kWalFrame); }
  // Pages in use, in bytes (the file may have free ones), and the bound on them.
  uint64_t used_bytes();
  uint64_t file_bytes();
  bool is_corrupt() const noexcept { return corrupt_; }
  const std::string& last_error() const noexcept { return last_error_; }
  const IndexCounters& counters() const noexcept { return counters_; }

 private:
  static constexpr uint64_t kWalFrame = 4096 + 24;

  Index(std::unique_ptr<Database> db, LockFile* lock, std::string path, bool created);
  static Result<std::unique_ptr<Index>> finish_open(std::unique_ptr<Database> opened,
                                                    LockFile* lock, const std::string& path,
                                                    bool created);
  Status read(const std::function<void()>& body);
  Status write(const std::function<void()>& body);
  // The same for a write that gives space back: it may use the pages that are kept for that.
  Status write_to_free(const std::function<void()>& body);
  Status fail();
  void set_page_bound(uint64_t bytes);
  bool has_holes() const noexcept;  // some copies cannot be used by this process
  bool available(const CopyRecord& record) const noexcept;
  bool reserve_one(uint64_t blocks, uint32_t process, std::vector<Extent>& extents);
  Status commit_one(NamespaceId ns, uint32_t process, const CopyInsert& copy, Stamp now);
  void give(const Extent& extent);
  void remove(const CopyRow& leaf);
  void prune_namespaces(Stamp now);
  size_t room_for_description();
  Status checkpoint_locked(bool truncate);

  std::unique_ptr<Database> db_;
  LockFile* lock_;  // null: only for reading
  std::string path_;
  bool created_;
  HeadRows head_;
  FreeSpace free_;
  ReservationTable reservations_;
  CopyTable copies_;
  Statement begin_read_, begin_write_, commit_, rollback_, find_namespace_, add_namespace_;
  IndexLimits limits_;
  IndexCounters counters_;
  uint64_t usable_ = ~uint64_t{0};
  uint64_t wal_pages_ = 0;
  uint32_t first_pool_ = 0;  // rotates
  bool corrupt_ = false;
  std::string last_error_;
};

}  // namespace penstock
