// check_copies: reads every copy of a store, compares every block with its checksum, and unpacks
// what is packed.
//
// Reads only, beside processes that save and evict: a copy that was evicted while it was being read
// is no damage. Blocks until done or interrupted(). One thread.
#pragma once

#include <string>
#include <vector>

#include "cli/store_view.hpp"

namespace penstock::cli {

struct DamagedCopy {
  CopyRow row;
  uint32_t block = 0;  // the first one found, counted within the copy
  std::string path;  // of the pool file, and where the block lies in it; empty: the row is damaged
  uint64_t offset = 0;
  std::string reason;
};

struct CheckResult {
  uint64_t copies = 0;  // looked at
  uint64_t bytes = 0;   // read and right
  double seconds = 0;
  uint64_t evicted = 0;      // meanwhile
  uint64_t unreachable = 0;  // copies with blocks in a pool that is not there
  std::vector<DamagedCopy> damaged;
};

Result<CheckResult> check_copies(StoreView& view);

}  // namespace penstock::cli
