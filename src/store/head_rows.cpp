#include "store/head_rows.hpp"

#include <algorithm>
#include <limits>

#include "base/checksum.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

constexpr uint64_t kMaxBlocks = std::numeric_limits<uint32_t>::max();

bool read_uuid(std::span<const std::byte> blob, Uuid& uuid) {
  if (blob.size() != uuid.size()) return false;
  std::copy(blob.begin(), blob.end(), std::as_writable_bytes(std::span{uuid}).begin());
  return true;
}

bool is_valid(const MetaRow& row) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  return row.block_size >= kSector && row.block_size <= kMaxBlock &&
         row.block_size % kSector == 0 && row.max_bytes <= kMost && row.copies <= kMost &&
         row.written <= kMost && row.evictions <= kMost;
}

bool is_valid(const PoolRow& row) {
  return row.blocks <= kMaxBlocks && row.keep <= row.blocks && row.free <= row.keep;
}

}  // namespace

HeadRows::HeadRows(Database& db)
    : db_{db},
      select_meta_{
          db, "SELECT store, block_size, max_bytes, copies, day, written, evictions FROM meta"},
      select_pools_{db,
                    "SELECT id, directory, uuid, generation, blocks, keep, free FROM pool "
                    "ORDER BY id"},
      update_meta_{
          db, "UPDATE meta SET max_bytes = ?, copies = ?, day = ?, written = ?, evictions = ?"},
      update_pool_{db,
                   "UPDATE pool SET directory = ?, blocks = ?, keep = ?, free = ? WHERE id = ?"},
      insert_meta_{db, "INSERT INTO meta VALUES(1, ?, ?, ?, ?, ?, ?, ?)"},
      insert_pool_{db, "INSERT INTO pool VALUES(?, ?, ?, ?, ?, ?, ?)"} {}

bool HeadRows::load() {
  MetaRow row;
  bool good = false;
  {
    Query query = select_meta_.bind();
    if (query.row()) {
      good = read_uuid(query.blob(0), row.store);
      row.block_size = static_cast<uint64_t>(query.integer(1));
      row.max_bytes = static_cast<uint64_t>(query.integer(2));
      row.copies = static_cast<uint64_t>(query.integer(3));
      row.day = query.integer(4);
      row.written = static_cast<uint64_t>(query.integer(5));
      row.evictions = static_cast<uint64_t>(query.integer(6));
    }
  }
  std::vector<PoolRow> rows;
  Query query = select_pools_.bind();
  while (good && query.row()) {
    PoolRow pool;
    good = query.integer(0) == static_cast<int64_t>(rows.size()) && rows.size() < kMaxPools &&
           read_uuid(query.blob(2), pool.uuid);
    pool.id = static_cast<uint32_t>(rows.size());
    pool.directory = query.text(1);
    pool.generation = static_cast<uint64_t>(query.integer(3));
    pool.blocks = static_cast<uint64_t>(query.integer(4));
    pool.keep = static_cast<uint64_t>(query.integer(5));
    pool.free = static_cast<uint64_t>(query.integer(6));
    good = good && is_valid(pool);
    rows.push_back(std::move(pool));
  }
  if (!good || !is_valid(row)) db_.note(SQLITE_CORRUPT);
  if (db_.error() != SQLITE_OK) return false;
  meta = loaded_meta_ = row;
  loaded_pools_ = rows;
  pools = std::move(rows);
  return true;
}

void HeadRows::save() {
  if (meta != loaded_meta_) {
    update_meta_
        .bind(static_cast<int64_t>(meta.max_bytes), static_cast<int64_t>(meta.copies), meta.day,
              static_cast<int64_t>(meta.written), static_cast<int64_t>(meta.evictions))
        .run();
  }
  for (const PoolRow& row : pools) {
    if (row.id < loaded_pools_.size() && row == loaded_pools_[row.id]) continue;
    if (!is_valid(row)) db_.note(SQLITE_CORRUPT);  // the accounts of the tables do not agree
    update_pool_
        .bind(row.directory, static_cast<int64_t>(row.blocks), static_cast<int64_t>(row.keep),
              static_cast<int64_t>(row.free), static_cast<int64_t>(row.id))
        .run();
  }
}

void HeadRows::insert_meta(const MetaRow& row) {
  insert_meta_
      .bind(row.store, static_cast<int64_t>(row.block_size), static_cast<int64_t>(row.max_bytes),
            static_cast<int64_t>(row.copies), row.day, static_cast<int64_t>(row.written),
            static_cast<int64_t>(row.evictions))
      .run();
  meta = loaded_meta_ = row;
}

void HeadRows::insert_pool(const PoolRow& row) {
  insert_pool_
      .bind(static_cast<int64_t>(row.id), row.directory, row.uuid,
            static_cast<int64_t>(row.generation), static_cast<int64_t>(row.blocks),
            static_cast<int64_t>(row.keep), static_cast<int64_t>(row.free))
      .run();
  pools.push_back(row);
  loaded_pools_.push_back(row);
}

}  // namespace penstock
