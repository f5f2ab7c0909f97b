// The raw ceiling: how fast this machine reads or writes given places of given files, with nothing
// of Penstock in between.
//
// Its own io_uring loop with registered buffers (threads with pread and pwrite where io_uring is
// forbidden), deliberately not an IoEngine: it is what the engines are measured against, on the
// same offsets. Blocks until done; any thread. Descriptors stay the caller's, and should be
// O_DIRECT. A write destroys what is there. After a failure part of the ranges may be written.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "penstock/status.hpp"

namespace penstock {

struct RawRange {
  int fd = -1;
  uint64_t offset = 0;  // a multiple of kSector
  uint64_t size = 0;    // a multiple of kSector
};

struct RawOptions {
  bool write = false;
  uint64_t request_size = 1'048'576;  // a multiple of kSector, at most 64 MiB
  uint32_t depth = 32;                // at most kMaxIoDepth
  bool allow_uring = true;
};

struct RawSpeed {
  uint64_t bytes = 0;
  double seconds = 0;
  double cpu_seconds = 0;  // user and system time of the process meanwhile
  double p50_us = 0;       // latency of one request
  double p99_us = 0;
  std::string method;  // "io_uring" or "threads"
  double gb_per_s() const noexcept {
    return seconds > 0 ? static_cast<double>(bytes) / 1e9 / seconds : 0;
  }
};

// Transfers every range once, in order, cut into requests. Invalid: a size or depth is out of
// range. Io: a request failed or was short.
Result<RawSpeed> measure_raw_speed(std::span<const RawRange> ranges, const RawOptions& options);

}  // namespace penstock
