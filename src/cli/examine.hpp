// What `penstock doctor` finds out about a directory, by trying the real thing: a file with
// O_DIRECT, the I/O engine that would be used, a throwaway store, a short raw measurement. Blocks
// for seconds; everything that it makes is removed. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/depth_trial.hpp"
#include "cli/machine.hpp"
#include "penstock/status.hpp"

namespace penstock::cli {

struct Examination {
  std::string directory;  // where the cache would be
  std::string examined;   // that, or its parent if it does not exist yet
  Machine machine;
  bool direct = false;
  std::string direct_reason;
  bool uring = false;
  std::string uring_reason;
  std::string engine;         // that would be used
  std::string engine_reason;  // why; empty: the best one, with all it wants
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t memlock_bytes = 0;  // UINT64_MAX: unlimited
  double raw_read_gbs = 0;     // 0: not measured
  double raw_write_gbs = 0;
  DepthTrial depths;                  // empty: not tried
  std::string speed_reason;           // why not measured
  std::vector<std::string> problems;  // a store does not work here
  std::vector<std::string> advice;    // it works, and could be better
};

// An error only where nothing can be said about the directory at all.
Result<Examination> examine(const std::string& directory);

}  // namespace penstock::cli
