// The uring engine: an IoEngine on one io_uring.
//
// Requests that lie in options.memory use registered buffers, so that the kernel does not pin and
// unpin pages for each of them. wait() sleeps in the kernel; wake() writes an eventfd that the ring
// polls. The engine owns the ring and the eventfd. It may be built, driven and destroyed on
// different threads, one after the other (see uring_setup.cpp); destruction waits for every
// request that the kernel still holds. If the kernel refuses the ring later (a sandbox put on after
// open), what is queued and all that follows completes with that errno.
#pragma once

#include "io/open.hpp"

namespace penstock {

// Unsupported, with the reason, if this kernel or process may not use io_uring. If only the
// registration of options.memory failed, the engine works without and `reason` says why.
Result<OpenedIo> make_uring_engine(const IoOptions& options);

}  // namespace penstock
