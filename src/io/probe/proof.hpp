// The proof itself: bytes through cuFile both ways, compared, and what its counters say about them.
// Blocks, and may hang or crash in the vendor's code. One thread.
#pragma once

#include <span>
#include <string>

#include "io/probe/report.hpp"
#include "penstock/status.hpp"

namespace penstock::probe {

struct ProofOptions {
  std::string file;  // exists, empty
  std::string gpu;
  uint64_t registered_bytes = 0;
  std::span<const std::string> library_directories;
};

Result<void> prove(const ProofOptions& options, const Report& report);

}  // namespace penstock::probe
