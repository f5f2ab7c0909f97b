// What the store's parts say to each other: extents, records, reservations.
#pragma once

#include <cstdint>
#include <optional>
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

inline constexpr uint64_t kMaxBlocksOfCopy = 64 * 1024;

// Where a copy lies. Blocks in order; the last one may be partly used.
struct CopyRecord {
  Status status = Status::NotFound;
  int64_t id = 0;       // row of the index; differs if the copy was written again
  uint64_t length = 0;  // bytes of the copy
  uint64_t stored = 0;  // bytes in its blocks; fewer than `length`: it is packed
  std::vector<Extent> extents;
  std::vector<uint64_t> checksums;  // one per block, of what is stored
};

// Blocks that are wanted for a copy.
struct Wish {
  CopyName name;
  uint64_t length = 0;  // bytes of the copy
  // Must be there, or the copy could not be published: else nothing is reserved (NotFound). Left
  // out where it is about to be published itself.
  std::optional<Key> parent = std::nullopt;
};

struct Reservation {
  // Ok; Present: no need; NotFound: its parent is not there; Rejected: over the write limit;
  // NoSpace
  Status status = Status::Ok;
  std::vector<Extent> extents;
};

struct CopyInsert {
  CopyName name;
  Key parent;
  uint64_t length = 0;
  std::vector<Extent> extents;  // as they were reserved; trim() says which of them are needed
  std::vector<uint64_t> checksums;
  // If its parent is not there (NotFound), the blocks stay reserved, for another use of what is in
  // them, instead of being given back.
  bool keeps_blocks = false;
  bool held = false;    // not evicted before settle(), for a minute at most
  uint64_t stored = 0;  // bytes in its blocks; 0: all of `length`
};

}  // namespace penstock
