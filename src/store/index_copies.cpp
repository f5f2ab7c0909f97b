// What the index does with copies: lookup, find, reserve, commit, release, evict, drop.
#include <algorithm>

#include "base/sizes.hpp"
#include "store/extents.hpp"
#include "store/index.hpp"
#include "store/prefix_search.hpp"

namespace penstock {
namespace {

constexpr size_t kMaxDescription = 64 * 1024;
constexpr int64_t kAllDescriptions = 256 * 1024;  // of all namespaces; they must not fill the index
constexpr size_t kMaxDepth = 1 << 20;  // of a tree; only a cycle made by damage is deeper

}  // namespace

bool Index::has_holes() const noexcept {
  return std::any_of(head_.pools.begin(), head_.pools.end(),
                     [&](const PoolRow& pool) { return !is_usable(pool.id) && pool.blocks > 0; });
}

bool Index::available(const CopyRecord& record) const noexcept {
  return std::all_of(record.extents.begin(), record.extents.end(),
                     [&](const Extent& extent) { return is_usable(extent.pool); });
}

uint32_t Index::lookup(NamespaceId ns, std::span<const Key> chain,
                       std::span<const GroupNeed> groups) {
  uint32_t found = 0;
  const bool holes = has_holes();
  const Status status = read([&] {
    found = longest_prefix(static_cast<uint32_t>(chain.size()), groups, !holes,
                           [&](uint32_t group, uint32_t shard, uint32_t chunk) {
                             const CopyName name{chain[chunk], group, shard};
                             if (!holes) return copies_.id_of(ns, name) != 0;
                             const CopyRecord record = copies_.find(ns, name);
                             return record.status == Status::Ok && available(record);
                           });
  });
  return status == Status::Ok ? found : 0;
}

std::vector<CopyRecord> Index::find(NamespaceId ns, std::span<const CopyName> names) {
  std::vector<CopyRecord> records;
  records.reserve(names.size());
  const Status status = read([&] {
    if (!head_.load()) return;  // the pools may have grown
    for (const CopyName& name : names) {
      CopyRecord record = copies_.find(ns, name);
      if (record.status == Status::Corrupt) {
        ++counters_.corrupt_copies;
        record = CopyRecord{};
      } else if (!available(record)) {
        record = CopyRecord{};
      }
      records.push_back(std::move(record));
    }
  });
  if (status != Status::Ok) records.assign(names.size(), CopyRecord{});
  return records;
}

std::vector<CopyRow> Index::rows_after(int64_t id, uint32_t limit) {
  std::vector<CopyRow> rows;
  const Status status = read([&] {
    if (head_.load()) rows = copies_.rows_after(id, limit);
  });
  if (status != Status::Ok) rows.clear();
  return rows;
}

std::vector<Extent> Index::sample(uint32_t limit, uint64_t random) {
  std::vector<CopyRow> rows;
  const Status status = read([&] {
    if (!head_.load()) return;
    const auto last = static_cast<uint64_t>(std::max<int64_t>(copies_.last_id(), 1));
    const auto start = static_cast<int64_t>(random % last);
    rows = copies_.rows_after(start, limit);
    const auto missing = limit - static_cast<uint32_t>(rows.size());
    if (missing == 0) return;
    for (CopyRow& row : copies_.rows_after(0, missing))
      if (row.id <= start) rows.push_back(std::move(row));
  });
  std::vector<Extent> blocks;
  if (status != Status::Ok) return blocks;
  for (const CopyRow& row : rows) {
    if (!row.is_valid || !available(row.record)) continue;
    const Extent& run = row.record.extents[random % row.record.extents.size()];
    blocks.push_back({run.pool, run.first + static_cast<uint32_t>(random % run.count), 1});
  }
  return blocks;
}

std::vector<int64_t> Index::ids_of_parents(NamespaceId ns, std::span<const Wish> wishes) {
  std::vector<int64_t> ids;
  const Status status = read([&] {
    for (const Wish& wish : wishes) {
      if (!wish.parent) continue;
      const int64_t id = copies_.id_of(ns, {*wish.parent, wish.name.group, wish.name.shard});
      if (id != 0) ids.push_back(id);
    }
  });
  if (status != Status::Ok) ids.clear();
  return ids;
}

Result<NamespaceId> Index::open_namespace(const NamespaceSpec& spec, Stamp now) {
  NamespaceId id = 0;
  const auto look = [&] {
    Query query = find_namespace_.bind(spec.digest.bytes);
    if (query.row()) id = query.integer(0);
  };
  Status status = read(look);
  if (status == Status::Ok && id == 0) {
    status = write([&] {
      look();
      if (id != 0) return;
      prune_namespaces(now);
      add_namespace_
          .bind(spec.digest.bytes,
                std::string_view{spec.description}.substr(0, room_for_description()), now)
          .run();
      id = sqlite3_last_insert_rowid(db_->handle());
    });
  }
  if (status != Status::Ok) return Error{status, "cannot open a namespace: " + last_error_};
  return id;
}

// Beyond what they may take together, descriptions, which are for people only, are left out.
size_t Index::room_for_description() {
  const int64_t taken =
      db_->integer("SELECT ifnull(sum(length(CAST(description AS BLOB))), 0) FROM namespace");
  return taken < kAllDescriptions ? kMaxDescription : 0;
}

// A model's every new version makes a namespace; those that have been empty for a day go. Many more
// in one day must not fill a small index: then the oldest go that are empty, whatever their age.
void Index::prune_namespaces(Stamp now) {
  constexpr int64_t kManyNamespaces = 1000;
  constexpr int64_t kMostNamespaces = 2000;
  constexpr Stamp kDayMs = 24 * 3600 * 1000;
  const int64_t count = db_->integer("SELECT count(*) FROM namespace");
  if (count < kManyNamespaces) return;
  Statement prune{*db_,
                  "WITH empty AS (SELECT id, created FROM namespace WHERE NOT EXISTS "
                  "(SELECT 1 FROM copy WHERE copy.ns = namespace.id)) "
                  "DELETE FROM namespace WHERE id IN (SELECT id FROM empty WHERE created < ?) "
                  "OR id IN (SELECT id FROM empty ORDER BY id LIMIT ?)"};
  prune.bind(now - kDayMs, std::max<int64_t>(count - kMostNamespaces + 1, 0)).run();
}

bool Index::reserve_one(uint64_t blocks, uint32_t process, std::vector<Extent>& extents) {
  if (usable_free() < blocks) return false;
  std::vector<PoolRow*> pools;
  for (PoolRow& pool : head_.pools)
    if (is_usable(pool.id)) pools.push_back(&pool);
  std::rotate(pools.begin(), pools.begin() + first_pool_++ % pools.size(), pools.end());
  // An even part from each pool in turn, then whatever is missing from those that have it.
  uint64_t missing = blocks;
  for (size_t turn = 0; turn < pools.size() && missing > 0; ++turn)
    missing -= free_.take(*pools[turn], div_up(missing, pools.size() - turn), extents);
  for (size_t turn = 0; turn < pools.size() && missing > 0; ++turn)
    missing -= free_.take(*pools[turn], missing, extents);
  for (const Extent& extent : extents) reservations_.insert(extent, process);
  if (missing != 0) db_->note(SQLITE_CORRUPT);  // the pools' rows promised more than there is
  return true;
}

Status Index::reserve(NamespaceId ns, uint32_t process, std::span<const Wish> wishes,
                      WriteLimit limit, std::vector<Reservation>& reservations) {
  const Status status = write([&] {
    reservations.assign(wishes.size(), Reservation{});
    if (limit.day != head_.meta.day) {
      head_.meta.day = limit.day;
      head_.meta.written = 0;
    }
    for (size_t i = 0; i < wishes.size(); ++i) {
      Reservation& answer = reservations[i];
      const uint64_t length = wishes[i].length;
      const uint64_t blocks = div_up(length, head_.meta.block_size);
      const uint64_t bytes = blocks * head_.meta.block_size;
      if (length == 0 || length > kMaxBlocksOfCopy * head_.meta.block_size) {
        answer.status = Status::Invalid;
      } else if (copies_.id_of(ns, wishes[i].name) != 0) {
        answer.status = Status::Present;
        ++counters_.rejected_present;
      } else if (const auto& parent = wishes[i].parent;
                 parent && !parent->is_root() &&
                 copies_.id_of(ns, {*parent, wishes[i].name.group, wishes[i].name.shard}) == 0) {
        answer.status = Status::NotFound;
        ++counters_.rejected_parent;
      } else if (limit.bytes_per_day != 0 && head_.meta.written + bytes > limit.bytes_per_day) {
        answer.status = Status::Rejected;
        ++counters_.rejected_write_limit;
      } else if (!reserve_one(blocks, process, answer.extents)) {
        answer.status = Status::NoSpace;
      } else {
        head_.meta.written += bytes;
      }
    }
  });
  if (status != Status::Ok) reservations.assign(wishes.size(), Reservation{status, {}});
  return status;
}

void Index::give(const Extent& extent) {
  if (extent.pool >= head_.pools.size()) return db_->note(SQLITE_CORRUPT);
  free_.give(head_.pools[extent.pool], extent.first, extent.count);
}

Status Index::commit_one(NamespaceId ns, uint32_t process, const CopyInsert& copy, Stamp now) {
  const uint64_t block_size = head_.meta.block_size;
  std::vector<Extent> claimed;
  for (const Extent& extent : copy.extents)
    if (reservations_.claim(extent, process)) claimed.push_back(extent);
  CopyInsert insert = copy;
  if (insert.stored == 0) insert.stored = insert.length;
  const uint64_t blocks = div_up(insert.stored, block_size);
  const bool is_reserved =
      blocks != 0 && insert.stored <= insert.length && claimed.size() == copy.extents.size() &&
      blocks == copy.checksums.size() && block_count(claimed) == div_up(insert.length, block_size);
  const TrimmedExtents trimmed = is_reserved ? trim(claimed, blocks) : TrimmedExtents{claimed, {}};
  insert.extents = trimmed.kept;
  const bool retired = std::ranges::any_of(trimmed.kept, [&](const Extent& extent) {
    return extent.pool < head_.pools.size() &&
           uint64_t{extent.first} + extent.count > head_.pools[extent.pool].keep;
  });
  Status status = Status::Ok;
  int64_t parent = 0;
  if (!is_reserved) {
    status = Status::Invalid;
  } else if (retired) {
    status = Status::Rejected;  // the pool shrinks there
  } else if (!copy.parent.is_root()) {
    parent = copies_.id_of(ns, {copy.parent, copy.name.group, copy.name.shard});
    if (parent == 0) status = Status::NotFound;
    if (parent == 0) ++counters_.rejected_parent;
  }
  if (status == Status::Ok &&
      !copies_.insert(ns, insert, parent, stamp_on_insert(now, copy.held))) {
    status = Status::Present;
    ++counters_.rejected_present;
  }
  if (status == Status::Ok) ++head_.meta.copies;
  for (const Extent& extent : status == Status::Ok ? trimmed.spare : claimed) {
    if (status == Status::NotFound && copy.keeps_blocks)
      reservations_.insert(extent, process);
    else
      give(extent);
  }
  if (status == Status::Ok) {  // what was not needed was not written
    const uint64_t spare = block_count(trimmed.spare) * block_size;
    head_.meta.written -= std::min(spare, head_.meta.written);
  }
  return status;
}

Status Index::commit(NamespaceId ns, uint32_t process, std::span<const CopyInsert> copies,
                     Stamp now, std::vector<Status>& statuses) {
  const Status status = write([&] {
    statuses.clear();
    for (const CopyInsert& copy : copies) statuses.push_back(commit_one(ns, process, copy, now));
  });
  if (status != Status::Ok) statuses.assign(copies.size(), status);
  return status;
}

Status Index::release(uint32_t process, std::span<const Extent> extents) {
  return write_to_free([&] {
    for (const Extent& extent : extents)
      if (reservations_.claim(extent, process)) give(extent);
  });
}

Status Index::reclaim(const std::function<bool(uint32_t)>& is_dead) {
  return write_to_free([&] {
    for (const uint32_t process : reservations_.processes()) {
      // Asked inside the transaction: who takes a dead process's place cannot reserve meanwhile.
      if (!is_dead(process)) continue;
      while (const auto extent = reservations_.first_of(process)) {
        if (!reservations_.claim(*extent, process)) return db_->note(SQLITE_CORRUPT);
        give(*extent);
      }
    }
  });
}

Status Index::stamp(std::span<const int64_t> ids, Stamp now) {
  return write([&] {
    for (const int64_t id : ids) copies_.stamp(id, now);
  });
}

void Index::remove(const CopyRow& leaf) {
  if (!leaf.is_valid) return db_->note(SQLITE_CORRUPT);  // which blocks it had cannot be known
  for (const Extent& extent : leaf.record.extents) give(extent);
  copies_.remove(leaf);
  if (head_.meta.copies == 0) return db_->note(SQLITE_CORRUPT);
  --head_.meta.copies;
}

Status Index::settle(std::span<const int64_t> ids, Stamp now) {
  return write([&] {
    for (const int64_t id : ids) copies_.settle(id, now);
  });
}

Status Index::evict(uint64_t goal, uint32_t limit, uint32_t& removed, const Spared& spared) {
  const Status status = write_to_free([&] {
    removed = 0;
    if (spared.now > 0 && usable_free() < goal)
      copies_.lower_stamps(latest_stamp(spared.now), spared.now, limit);
    while (removed < limit && usable_free() < goal) {
      const int64_t id = copies_.oldest_leaf();
      if (id == 0 || std::find(spared.ids.begin(), spared.ids.end(), id) != spared.ids.end()) break;
      const auto row = copies_.row(id);
      if (!row) return db_->note(SQLITE_CORRUPT);
      if (is_held(row->stamp, spared.now)) break;
      remove(*row);
      if (db_->error()) return;
      ++removed;
    }
    head_.meta.evictions += removed;
  });
  if (status != Status::Ok) removed = 0;
  counters_.evictions += removed;
  return status;
}

Status Index::bury(std::span<const int64_t> ids) {
  return write_to_free([&] {
    for (const int64_t id : ids) copies_.bury(id);
  });
}

Status Index::sweep(uint32_t limit, uint32_t& removed) {
  const Status status = write_to_free([&] {
    removed = 0;
    while (removed < limit) {
      int64_t id = copies_.first_buried();
      if (id == 0) break;
      std::vector<int64_t> path;
      for (; id != 0; id = copies_.first_child(id)) {
        path.push_back(id);
        if (path.size() > kMaxDepth) return db_->note(SQLITE_CORRUPT);
      }
      // Up again as far as there are no other children.
      for (; !path.empty() && removed < limit; path.pop_back()) {
        if (copies_.first_child(path.back()) != 0) break;
        const auto row = copies_.row(path.back());
        if (!row) return db_->note(SQLITE_CORRUPT);
        remove(*row);
        if (db_->error()) return;
        ++removed;
      }
    }
  });
  if (status != Status::Ok) removed = 0;
  return status;
}

}  // namespace penstock
