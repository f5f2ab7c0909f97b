// What the processes that use a store say of themselves (LiveFile), as rows for people and JSON.
// Values; one thread.
#pragma once

#include <string>
#include <vector>

#include "cli/command.hpp"
#include "metrics/live_file.hpp"

namespace penstock::cli {

// One engine of a living process.
struct LiveRow {
  std::string pid;
  std::string device;                        // empty: it only looks things up
  std::string path;                          // "uring"
  double loaded_bytes = 0, saved_bytes = 0;  // since it was opened
  double hits = 0, chunks = 0;               // of lookups
  double load_p50 = 0, load_p99 = 0, io_read_p50 = 0, io_read_p99 = 0;  // seconds
  double in_flight = 0, in_flight_limit = 0;
  double loads_open = 0, saves_open = 0;
  double chunks_not_loaded = 0, chunks_dropped = 0, corrupt = 0;
};

// In the order of their process ids.
std::vector<LiveRow> live_rows(const std::string& directory);
Json to_json(const std::vector<LiveRow>& rows);
// `seconds` > 0: with the rates since `before`, which has the rows of that long ago.
std::string live_table(const std::vector<LiveRow>& rows, const std::vector<LiveRow>& before,
                       double seconds);

}  // namespace penstock::cli
