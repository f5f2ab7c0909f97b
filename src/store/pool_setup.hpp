// set_up_pools: finds, opens and makes the pools of a store that is being opened.
#pragma once

#include "store/store_parts.hpp"

namespace penstock {

// Fills parts.pools, and tells the index which of them this process can use.
//
// The pool in the index's own directory must be there; if it is not, or if any pool's header is not
// what the index expects, the two do not belong together: Corrupt. A pool that is missing in
// another directory is out until it returns (an unmounted drive); it is never made anew while the
// index expects it. A directory that the index does not know gets a new pool.
Result<void> set_up_pools(StoreParts& parts);

}  // namespace penstock
