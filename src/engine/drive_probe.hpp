// The drive probe: reads a little of what a store holds, to know how fast its drives are now.
//
// The blocks are those of copies (what was never written does not come from the drive), from a
// random place, at the depth of a load. Blocks the caller for as long as the drives take; any
// thread. What was read is thrown away, so it does not matter if a block is evicted meanwhile.
#pragma once

#include "store/store.hpp"

namespace penstock {

// NotFound: the store is empty. Busy: its index does not answer.
Result<DriveSpeed> probe_drives(Store& store, uint64_t bytes);

}  // namespace penstock
