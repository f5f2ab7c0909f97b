// Chooses an I/O engine for this machine, and opens files for it.
//
// Nothing is kept: the caller owns what is returned. Any thread. After a failure nothing is left
// open; a file that `flags` asked to create may exist.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/fd.hpp"
#include "io/io_engine.hpp"

namespace penstock {

inline constexpr size_t kMaxIoDepth = 4096;

struct IoOptions {
  std::string kind = "auto";    // auto | uring | posix
  size_t depth = 32;            // requests in flight, 1 to kMaxIoDepth
  std::span<std::byte> memory;  // where most requests read and write; registered where possible;
                                // outlives the engine
};

struct OpenedIo {
  std::unique_ptr<IoEngine> engine;
  std::string reason;  // why this one, and what was fallen back from; empty when the best one works
};

// auto: io_uring where the kernel allows it, else a pool of threads. `uring` asked for by name and
// not available is an error that says why (seccomp, sysctl kernel.io_uring_disabled, old kernel).
// Registered memory that RLIMIT_MEMLOCK does not allow is left unregistered, with a reason.
Result<OpenedIo> open_io_engine(const IoOptions& options);

struct OpenedFile {
  UniqueFd fd;
  bool direct = false;  // O_DIRECT
  std::string reason;   // why not, when not
};

// Opens with O_DIRECT where the file system has it (proved by one aligned read), else without.
// `flags` as for open(2), O_CLOEXEC is added.
Result<OpenedFile> open_direct(const std::string& path, int flags, int mode = 0600);

}  // namespace penstock
