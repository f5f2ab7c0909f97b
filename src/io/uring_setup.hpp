// Makes an io_uring, or says in one sentence why this kernel or process may not have one.
//
// The caller owns the ring and ends it with io_uring_queue_exit(). Any thread. After a failure
// nothing is left.
#pragma once

#include <liburing.h>

#include "penstock/status.hpp"

namespace penstock {

// A ring with room for `entries` queued requests and twice as many completions.
Result<io_uring> setup_ring(unsigned entries);

}  // namespace penstock
