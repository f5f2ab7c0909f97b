// DepthTrial: how fast a drive reads with few and with many requests in flight, and whether that is
// a reason to set `io_depth`.
//
// Arrays of drives want many. Where a virtual machine's host copies what it reads, fewer are
// faster: the memory that they read into stays in the processor's cache. Blocks for a second or a
// few; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/raw_speed.hpp"
#include "penstock/status.hpp"

namespace penstock::cli {

struct DepthTrial {
  std::map<uint32_t, double> read_gbs;  // by requests in flight; the default is one of them

  double by_default() const;   // GB/s; 0: not measured
  std::string advice() const;  // what to set; empty: nothing is worth it
};

// Medians of a few rounds in which the depths take turns. `range` has been written, with O_DIRECT.
Result<DepthTrial> try_depths(const RawRange& range);

}  // namespace penstock::cli
