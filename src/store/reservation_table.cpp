#include "store/reservation_table.hpp"

namespace penstock {
namespace {

Extent extent_of(const Query& query) {
  return {static_cast<uint32_t>(query.integer(0)), static_cast<uint32_t>(query.integer(1)),
          static_cast<uint32_t>(query.integer(2))};
}

}  // namespace

ReservationTable::ReservationTable(Database& db)
    : db_{db},
      insert_{db, "INSERT INTO reservation(pool, first, count, writer) VALUES(?, ?, ?, ?)"},
      delete_{db,
              "DELETE FROM reservation WHERE pool = ? AND first = ? AND count = ? AND writer = ?"},
      processes_{db, "SELECT DISTINCT writer FROM reservation"},
      first_of_{db, "SELECT pool, first, count FROM reservation WHERE writer = ? LIMIT 1"},
      last_{db, "SELECT first, count FROM reservation WHERE pool = ? ORDER BY first DESC LIMIT 1"},
      rows_{db, "SELECT pool, first, count, writer FROM reservation"} {}

void ReservationTable::insert(const Extent& extent, uint32_t process) {
  insert_.bind(int64_t{extent.pool}, int64_t{extent.first}, int64_t{extent.count}, int64_t{process})
      .run();
}

bool ReservationTable::claim(const Extent& extent, uint32_t process) {
  const bool ran = delete_
                       .bind(int64_t{extent.pool}, int64_t{extent.first}, int64_t{extent.count},
                             int64_t{process})
                       .run();
  return ran && sqlite3_changes(db_.handle()) == 1;
}

std::vector<uint32_t> ReservationTable::processes() {
  std::vector<uint32_t> found;
  Query query = processes_.bind();
  while (query.row()) found.push_back(static_cast<uint32_t>(query.integer(0)));
  return found;
}

std::optional<Extent> ReservationTable::first_of(uint32_t process) {
  Query query = first_of_.bind(int64_t{process});
  if (!query.row()) return std::nullopt;
  return extent_of(query);
}

bool ReservationTable::reaches(uint32_t pool, uint64_t first) {
  Query query = last_.bind(int64_t{pool});
  return query.row() && static_cast<uint64_t>(query.integer(0) + query.integer(1)) > first;
}

std::vector<ReservationTable::Row> ReservationTable::rows() {
  std::vector<Row> found;
  Query query = rows_.bind();
  while (query.row()) found.push_back({extent_of(query), static_cast<uint32_t>(query.integer(3))});
  return found;
}

}  // namespace penstock
