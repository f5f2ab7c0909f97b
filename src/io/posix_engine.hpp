// The posix engine: an IoEngine of min(depth, 16) threads that call pread, pwrite and fdatasync.
//
// For machines without io_uring. Any kind of file. The driving thread hands requests over and takes
// results back under one mutex; the workers hold it for a few instructions only. The engine owns
// its threads; destruction drops what has not started and joins them, so it waits for calls that a
// drive is holding. Workers block all signals: handlers stay with the host's own threads.
#pragma once

#include <memory>

#include "io/io_engine.hpp"

namespace penstock {

// Io if not a single thread can be started.
Result<std::unique_ptr<IoEngine>> make_posix_engine(size_t depth);

}  // namespace penstock
