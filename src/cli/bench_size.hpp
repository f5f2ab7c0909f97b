// One chunk size of `penstock bench`: a fresh store, and rounds of raw and ours on the same places
// of its pool file. Blocks for minutes; leaves nothing behind but the store in `directory`. One
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "cli/command.hpp"

namespace penstock::cli {

struct BenchSize {
  std::string directory;  // of the store; does not exist yet
  uint64_t chunk_bytes = 0;
  uint64_t total_bytes = 0;  // moved in each measurement; a multiple of chunk_bytes
  uint32_t rounds = 0;
  uint32_t io_depth = 0;  // requests in flight, raw and ours
};

// The figures, under the names that `penstock bench --help` gives.
Result<Json> bench_size(const BenchSize& size);

}  // namespace penstock::cli
