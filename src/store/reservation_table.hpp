// ReservationTable: blocks that a process may be writing to, by the number of the process (its byte
// in the lock file). Inside a write transaction of the index; index thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "store/statement.hpp"
#include "store/types.hpp"

namespace penstock {

class ReservationTable {
 public:
  explicit ReservationTable(Database& db);

  void insert(const Extent& extent, uint32_t process);
  // Removes exactly this reservation; false: `process` does not hold it.
  bool claim(const Extent& extent, uint32_t process);
  std::vector<uint32_t> processes();
  // One reservation of `process`; nullopt: it has none.
  std::optional<Extent> first_of(uint32_t process);
  // Whether a block at or beyond `first` is reserved.
  bool reaches(uint32_t pool, uint64_t first);
  struct Row {
    Extent extent;
    uint32_t process = 0;
  };
  std::vector<Row> rows();

 private:
  Database& db_;
  Statement insert_, delete_, processes_, first_of_, last_, rows_;
};

}  // namespace penstock
