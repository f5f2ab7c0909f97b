// What the store's parts say to each other: extents, records, reservations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "key/identity.hpp"
#include "penstock/engine.hpp"

namespace penstock {

// `count` adjacent blocks of pool `pool`, from block `first`.
struct Extent {
  uint32_t pool = 0;
  uint32_t first = 0;
  uint32_t count = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};

// Where a copy lies. Blocks in order; the last one may be partly used.
struct CopyRecord {
  Status status = Status::NotFound;
  int64_t id = 0;       // row of the index; differs if the copy was written again
  uint64_t length = 0;  // bytes of the copy
  std::vector<Extent> extents;
  std::vector<uint64_t> checksums;  // one per block
};

// Blocks that are wanted for a copy.
struct Wish {
  CopyName name;
  uint64_t length = 0;  // bytes of the copy
};

struct Reservation {
  Status status = Status::Ok;  // Ok; Present: no need; Rejected: over the write limit; NoSpace
  std::vector<Extent> extents;
};

struct CopyInsert {
  CopyName name;
  Key parent;
  uint64_t length = 0;
  std::vector<Extent> extents;
  std::vector<uint64_t> checksums;
};

}  // namespace penstock
