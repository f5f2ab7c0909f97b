// run_jobs: many saves or loads through an engine, some of them in flight at a time. Blocks until
// all of them have completed; one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cli/progress.hpp"
#include "penstock/engine.hpp"

namespace penstock::cli {

struct JobPlan {
  JobKind kind = JobKind::Load;
  NamespaceId namespace_id = 0;
  std::vector<std::vector<JobChunk>> jobs;  // all but the last of one length
  // Cut into slots of one job's rows. A job takes the slot that has been free longest: job i has
  // slot i while there are as many slots as jobs. At most one job a slot is in flight.
  std::span<const int32_t> rows;
  uint32_t rows_per_chunk = 1;
};

struct RunTotals {
  double seconds = 0;
  double cpu_seconds = 0;  // of the whole process
  uint64_t bytes = 0;      // of the chunks that are Ok
  uint64_t chunks_ok = 0;
  uint64_t chunks_failed = 0;
  std::string failure;  // of the first chunk that is not Ok

  RunTotals& operator+=(const RunTotals& other);
  double gb_per_s() const noexcept {
    return seconds > 0 ? static_cast<double>(bytes) / 1e9 / seconds : 0;
  }
};

// Ends early, with the rest counted as failed, when interrupted().
RunTotals run_jobs(Engine& engine, const JobPlan& plan, Progress& progress);

}  // namespace penstock::cli
