// StoreOptions: what a store is opened with. A value; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/clock.hpp"

namespace penstock {

struct StoreOptions {
  std::vector<std::string> directories;  // the first holds the index; one pool in each
  uint64_t block_size =
      1'048'576;                // used when the store is created; an existing store keeps its own
  uint64_t max_bytes = 0;       // everything together: pools, index, WAL
  uint64_t min_free_bytes = 0;  // left free on each file system
  int64_t max_write_bytes_per_day = -1;  // -1: capacity of the file systems; 0: none
  // The pools are mapped, for directories in memory. What they hold is extra: where a store of
  // another size (or of another block size, with exact_block_size) is there and nobody uses it, it
  // begins anew instead of shrinking under a mapping.
  bool mapped = false;
  bool exact_block_size = false;
  const StoreClock* clock = &StoreClock::machine();  // outlives the store
  // The block size is left out: a store that exists keeps its own.
  friend bool operator==(const StoreOptions& a, const StoreOptions& b) {
    return a.directories == b.directories && a.max_bytes == b.max_bytes &&
           a.min_free_bytes == b.min_free_bytes &&
           a.max_write_bytes_per_day == b.max_write_bytes_per_day && a.mapped == b.mapped &&
           a.clock == b.clock;
  }
};

}  // namespace penstock
