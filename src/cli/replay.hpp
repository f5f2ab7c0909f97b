// What a trace does to a store of one size, and what that does to a drive. Replays block for
// seconds; each is of one thread and shares nothing with others but the trace file.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/simulated_store.hpp"
#include "cli/trace.hpp"

namespace penstock::cli {

struct ReplaySetup {
  std::string trace;
  uint64_t trace_block = 512;  // tokens of a hash id
  uint64_t chunk_tokens = 256;
  uint64_t bytes_per_token = 0;
  uint64_t block_bytes = 0;              // of the store; no larger than a chunk
  uint64_t max_write_bytes_per_day = 0;  // 0: none
  TraceTotals totals;                    // of the trace
};

struct ReplayFigures {
  uint64_t capacity_bytes = 0;  // 0: without end
  uint64_t requests = 0, hit_requests = 0;
  uint64_t prompt_tokens = 0, restored_tokens = 0;
  SimulatedFigures store;

  double hit_rate() const noexcept;  // of the prompt tokens
  double request_hit_rate() const noexcept;
};

// `advance` is told how many bytes of the trace each request took. Cancelled: it was interrupted.
Result<ReplayFigures> replay(const ReplaySetup& setup, uint64_t capacity_bytes,
                             const std::string& scratch_directory,
                             const std::function<void(uint64_t)>& advance);

// All capacities, on as many threads as there are cores, each in a directory of its own below
// `scratch_directory`; in the order of `capacities`. `advance` is called by one thread at a time.
Result<std::vector<ReplayFigures>> replay_all(const ReplaySetup& setup,
                                              const std::vector<uint64_t>& capacities,
                                              const std::string& scratch_directory,
                                              const std::function<void(uint64_t)>& advance);

struct Drive {
  double tb = 0;          // of all drives of the store together
  double tb_written = 0;  // until they are worn out, by their maker's word
};

struct Wear {
  double bytes_per_day = 0;
  double drive_writes_per_day = 0;
  std::optional<double> years;  // nullopt: nothing is written
};

// The trace's writes, repeated all day (but never above the write limit); nullopt: it has no
// length.
std::optional<Wear> wear_of(const ReplaySetup& setup, const ReplayFigures& figures,
                            const Drive& drive);

}  // namespace penstock::cli
