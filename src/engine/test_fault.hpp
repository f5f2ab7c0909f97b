// PENSTOCK_TEST_FAULT: wraps the I/O engine of this process in the fault adaptor, so that a real
// serving engine can be tested against a failing drive.
// `<read|write>:<n>:<eio|enospc|stuck|corrupt>`, e.g. `read:3:stuck`; `n+` instead of n: that
// operation and all after it. Says so in the log.
#pragma once

#include <memory>

#include "io/io_engine.hpp"

namespace penstock {

Result<std::unique_ptr<IoEngine>> with_test_fault(std::unique_ptr<IoEngine> engine);

}  // namespace penstock
