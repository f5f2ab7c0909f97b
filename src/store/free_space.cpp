#include "store/free_space.hpp"

#include <algorithm>

namespace penstock {

FreeSpace::FreeSpace(Database& db)
    : db_{db},
      fitting_{db,
               "SELECT first, count FROM free_extent INDEXED BY free_size "
               "WHERE pool = ? AND count >= ? ORDER BY count LIMIT 1"},
      longest_{db,
               "SELECT first, count FROM free_extent INDEXED BY free_size "
               "WHERE pool = ? ORDER BY count DESC LIMIT 1"},
      before_{db,
              "SELECT first, count FROM free_extent WHERE pool = ? AND first <= ? "
              "ORDER BY first DESC LIMIT 1"},
      after_{db,
             "SELECT first, count FROM free_extent WHERE pool = ? AND first > ? "
             "ORDER BY first LIMIT 1"},
      last_{db, "SELECT first, count FROM free_extent WHERE pool = ? ORDER BY first DESC LIMIT 1"},
      insert_{db, "INSERT INTO free_extent(pool, first, count) VALUES(?, ?, ?)"},
      delete_{db, "DELETE FROM free_extent WHERE pool = ? AND first = ?"} {}

namespace {

// One row of (first, count); false: none, or an error, which is noted.
template <typename Run, typename... Arguments>
bool get(Statement& statement, Run& run, const Arguments&... arguments) {
  Query query = statement.bind(arguments...);
  if (!query.row()) return false;
  run.first = static_cast<uint64_t>(query.integer(0));
  run.count = static_cast<uint64_t>(query.integer(1));
  return true;
}

}  // namespace

void FreeSpace::insert(const PoolRow& pool, Run run) {
  insert_.bind(int64_t{pool.id}, static_cast<int64_t>(run.first), static_cast<int64_t>(run.count))
      .run();
}

void FreeSpace::erase(const PoolRow& pool, uint64_t first) {
  delete_.bind(int64_t{pool.id}, static_cast<int64_t>(first)).run();
}

uint64_t FreeSpace::take(PoolRow& pool, uint64_t count, std::vector<Extent>& extents) {
  uint64_t taken = 0;
  while (taken < count) {
    Run run;
    const uint64_t wanted = count - taken;
    if (!get(fitting_, run, int64_t{pool.id}, static_cast<int64_t>(wanted)) &&
        !get(longest_, run, int64_t{pool.id})) {
      break;
    }
    if (run.count == 0 || run.first > pool.keep || run.count > pool.keep - run.first ||
        run.count > pool.free) {
      db_.note(SQLITE_CORRUPT);
      break;
    }
    const uint64_t part = std::min(run.count, wanted);
    erase(pool, run.first);
    if (run.count > part) insert(pool, {run.first + part, run.count - part});
    extents.push_back({pool.id, static_cast<uint32_t>(run.first), static_cast<uint32_t>(part)});
    pool.free -= part;
    taken += part;
  }
  return taken;
}

void FreeSpace::give(PoolRow& pool, uint64_t first, uint64_t count) {
  if (count == 0 || first > pool.blocks || count > pool.blocks - first) {
    db_.note(SQLITE_CORRUPT);
    return;
  }
  if (first >= pool.keep) return;
  count = std::min(count, pool.keep - first);
  Run merged{first, count};
  Run near;
  if (get(before_, near, int64_t{pool.id}, static_cast<int64_t>(first))) {
    if (near.first + near.count > first) return db_.note(SQLITE_CORRUPT);
    if (near.first + near.count == first) {
      erase(pool, near.first);
      merged = {near.first, near.count + count};
    }
  }
  if (get(after_, near, int64_t{pool.id}, static_cast<int64_t>(first))) {
    if (near.first < first + count) return db_.note(SQLITE_CORRUPT);
    if (near.first == first + count) {
      erase(pool, near.first);
      merged.count += near.count;
    }
  }
  insert(pool, merged);
  pool.free += count;
}

void FreeSpace::trim(PoolRow& pool, uint64_t keep) {
  Run run;
  while (get(last_, run, int64_t{pool.id}) && run.first + run.count > keep) {
    const uint64_t cut = std::min(run.count, run.first + run.count - keep);
    erase(pool, run.first);
    if (run.count > cut) insert(pool, {run.first, run.count - cut});
    pool.free -= std::min(cut, pool.free);
  }
  pool.keep = keep;
}

}  // namespace penstock
