#include "store/copy_table.hpp"

#include <algorithm>
#include <cstring>

#include "base/sizes.hpp"

namespace penstock {
namespace {

constexpr size_t kExtentBytes = 12;  // pool, first, count; little-endian

int64_t first_integer(Query query) {
  return query.row() ? query.integer(0) : 0;
}

CopyRow read_row(const Query& query, const HeadRows& head) {
  CopyRow row;
  row.id = query.integer(0);
  row.name_space = query.integer(1);
  const auto key = query.blob(2);
  row.name.group = static_cast<uint32_t>(query.integer(3));
  row.name.shard = static_cast<uint32_t>(query.integer(4));
  row.parent = query.integer(5);
  row.children = query.integer(6);
  row.stamp = query.integer(7);
  row.record.id = row.id;
  row.record.length = static_cast<uint64_t>(query.integer(8));
  row.record.stored = static_cast<uint64_t>(query.integer(9));
  row.is_valid =
      key.size() == row.name.key.bytes.size() &&
      decode_blocks(query.blob(10), query.blob(11), head.meta.block_size, head.pools, row.record);
  if (row.is_valid) std::memcpy(row.name.key.bytes.data(), key.data(), key.size());
  row.record.status = row.is_valid ? Status::Ok : Status::Corrupt;
  return row;
}

#define PENSTOCK_COPY_COLUMNS \
  "id, ns, key, grp, shard, parent, children, stamp, length, stored, extents, checksums"

}  // namespace

std::vector<std::byte> encode_extents(std::span<const Extent> extents) {
  std::vector<std::byte> blob(extents.size() * kExtentBytes);
  std::byte* at = blob.data();
  for (const Extent& extent : extents) {
    const uint32_t words[3] = {extent.pool, extent.first, extent.count};
    static_assert(sizeof words == kExtentBytes);
    std::memcpy(at, words, sizeof words);
    at += sizeof words;
  }
  return blob;
}

bool decode_blocks(std::span<const std::byte> extents, std::span<const std::byte> checksums,
                   uint64_t block_size, std::span<const PoolRow> pools, CopyRecord& record) {
  if (extents.empty() || extents.size() % kExtentBytes != 0) return false;
  uint64_t blocks = 0;
  for (; !extents.empty(); extents = extents.subspan(kExtentBytes)) {
    uint32_t words[3];
    std::memcpy(words, extents.data(), sizeof words);
    const Extent extent{words[0], words[1], words[2]};
    if (extent.pool >= pools.size() || extent.count == 0) return false;
    if (uint64_t{extent.first} + extent.count > pools[extent.pool].blocks) return false;
    record.extents.push_back(extent);
    blocks += extent.count;
  }
  if (record.stored == 0 || record.stored > record.length) return false;
  if (record.length > kMaxBlocksOfCopy * block_size) return false;
  if (record.stored > blocks * block_size) return false;
  if (div_up(record.stored, block_size) != blocks) return false;
  if (checksums.size() != blocks * sizeof(uint64_t)) return false;
  record.checksums.resize(blocks);
  std::memcpy(record.checksums.data(), checksums.data(), checksums.size());
  return true;
}

CopyTable::CopyTable(Database& db, const HeadRows& head)
    : db_{db},
      head_{head},
      id_of_{db, "SELECT id FROM copy WHERE ns = ? AND key = ? AND grp = ? AND shard = ?"},
      find_{db,
            "SELECT id, length, stored, extents, checksums FROM copy "
            "WHERE ns = ? AND key = ? AND grp = ? AND shard = ?"},
      row_{db, "SELECT " PENSTOCK_COPY_COLUMNS " FROM copy WHERE id = ?"},
      rows_after_{db,
                  "SELECT " PENSTOCK_COPY_COLUMNS " FROM copy WHERE id > ? ORDER BY id LIMIT ?"},
      last_id_{db, "SELECT max(id) FROM copy"},
      insert_{db,
              "INSERT INTO copy(ns, key, grp, shard, parent, children, stamp, length, stored, "
              "extents, checksums) VALUES(?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"},
      delete_{db, "DELETE FROM copy WHERE id = ?"},
      add_child_{db, "UPDATE copy SET children = children + 1 WHERE id = ?"},
      tree_{db, "SELECT children, stamp FROM copy WHERE id = ?"},
      set_tree_{db, "UPDATE copy SET children = ?, stamp = ? WHERE id = ?"},
      set_stamp_{db, "UPDATE copy SET stamp = ? WHERE id = ?"},
      lower_stamps_{db,
                    "UPDATE copy SET stamp = ? WHERE id IN (SELECT id FROM copy INDEXED BY "
                    "copy_leaf WHERE children = 0 AND stamp > ? ORDER BY stamp LIMIT ?)"},
      bury_{db, "UPDATE copy SET ns = -id WHERE id = ?"},
      oldest_leaf_{db,
                   "SELECT id FROM copy INDEXED BY copy_leaf WHERE children = 0 "
                   "ORDER BY stamp LIMIT 1"},
      first_child_{db,
                   "SELECT id FROM copy INDEXED BY copy_child WHERE parent = ? AND parent > 0 "
                   "LIMIT 1"},
      first_buried_{db, "SELECT id FROM copy INDEXED BY copy_name WHERE ns < 0 LIMIT 1"} {}

int64_t CopyTable::id_of(NamespaceId name_space, const CopyName& name) noexcept {
  Query query = id_of_.bind(name_space, name.key.bytes, int64_t{name.group}, int64_t{name.shard});
  return query.row() ? query.integer(0) : 0;
}

CopyRecord CopyTable::find(NamespaceId name_space, const CopyName& name) {
  CopyRecord record;
  Query query = find_.bind(name_space, name.key.bytes, int64_t{name.group}, int64_t{name.shard});
  if (!query.row()) return record;
  record.id = query.integer(0);
  record.length = static_cast<uint64_t>(query.integer(1));
  record.stored = static_cast<uint64_t>(query.integer(2));
  const bool good =
      decode_blocks(query.blob(3), query.blob(4), head_.meta.block_size, head_.pools, record);
  record.status = good ? Status::Ok : Status::Corrupt;
  return record;
}

std::optional<CopyRow> CopyTable::row(int64_t id) {
  Query query = row_.bind(id);
  if (!query.row()) return std::nullopt;
  return read_row(query, head_);
}

std::vector<CopyRow> CopyTable::rows_after(int64_t id, uint32_t limit) {
  std::vector<CopyRow> rows;
  Query query = rows_after_.bind(id, int64_t{limit});
  while (query.row()) rows.push_back(read_row(query, head_));
  return rows;
}

int64_t CopyTable::last_id() noexcept {
  Query query = last_id_.bind();
  return query.row() ? query.integer(0) : 0;  // NULL reads as 0
}

bool CopyTable::insert(NamespaceId name_space, const CopyInsert& copy, int64_t parent,
                       Stamp stamp) {
  const std::vector<std::byte> extents = encode_extents(copy.extents);
  const bool ran =
      insert_
          .bind(name_space, copy.name.key.bytes, int64_t{copy.name.group}, int64_t{copy.name.shard},
                parent, stamp, static_cast<int64_t>(copy.length), static_cast<int64_t>(copy.stored),
                std::span<const std::byte>{extents}, std::as_bytes(std::span{copy.checksums}))
          .run();
  if (!ran || sqlite3_changes(db_.handle()) == 0) return false;
  if (parent != 0) add_child_.bind(parent).run();
  return true;
}

void CopyTable::remove(const CopyRow& leaf) {
  delete_.bind(leaf.id).run();
  if (leaf.parent == 0) return;
  int64_t children = 0;
  Stamp stamp = 0;
  {
    Query query = tree_.bind(leaf.parent);
    if (!query.row()) return db_.note(SQLITE_CORRUPT);  // it hung under nothing
    children = query.integer(0);
    stamp = query.integer(1);
  }
  if (children < 1) return db_.note(SQLITE_CORRUPT);  // it did not know of this one
  set_tree_.bind(children - 1, stamp_on_child_evicted(stamp, leaf.stamp), leaf.parent).run();
}

void CopyTable::stamp(int64_t id, Stamp now) {
  restamp(id, [now](Stamp current) { return stamp_on_hit(current, now); });
}

void CopyTable::settle(int64_t id, Stamp now) {
  restamp(id, [now](Stamp current) { return stamp_on_settled(current, now); });
}

template <typename Change>
void CopyTable::restamp(int64_t id, Change&& change) {
  Stamp current = 0;
  {
    Query query = tree_.bind(id);
    if (!query.row()) return;  // evicted meanwhile
    current = query.integer(1);
  }
  const Stamp next = change(current);
  if (next != current) set_stamp_.bind(next, id).run();
}

void CopyTable::lower_stamps(Stamp latest, Stamp now, uint32_t limit) {
  lower_stamps_.bind(now, latest, int64_t{limit}).run();
}

void CopyTable::bury(int64_t id) {
  bury_.bind(id).run();
}

int64_t CopyTable::oldest_leaf() noexcept {
  return first_integer(oldest_leaf_.bind());
}

int64_t CopyTable::first_child(int64_t id) noexcept {
  return first_integer(first_child_.bind(id));
}

int64_t CopyTable::first_buried() noexcept {
  return first_integer(first_buried_.bind());
}

#undef PENSTOCK_COPY_COLUMNS

}  // namespace penstock
