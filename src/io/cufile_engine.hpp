// The cufile engine: an IoEngine of a few threads that call cuFileRead and cuFileWrite between
// files and registered GPU memory.
//
// Whether bytes go straight from the drive is not its business; cufile_open.hpp proves that first.
// Offsets, sizes and addresses must be multiples of kSector, or the request ends with EINVAL:
// cuFile would take others by slow detours. Every call into cuFile, setting up and tearing down
// included, is made by the engine's own threads, each of which has called `thread_init` to make the
// CUDA context current. A call that hangs keeps its slot. Destruction waits for `close_limit` at
// most; then the thread that hangs, the registrations, the driver and `memory_owner` are left
// behind until it comes back, and the log says so.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock {

struct CufileEngineOptions {
  size_t depth = 32;
  size_t threads = 8;
  std::span<std::byte> memory = {};               // registered whole; may be empty
  std::shared_ptr<const void> memory_owner = {};  // kept as long as a call may touch `memory`
  std::function<void()> thread_init = {};         // may be empty
  std::function<void()> on_result = {};           // as AttemptQueue's; never after the engine's end
  std::vector<std::string> library_directories = {};
  std::chrono::milliseconds open_limit{10'000};
  std::chrono::milliseconds close_limit{5'000};
};

// Opens the process's cuFile driver and registers the memory. Says which of the two failed, or hung
// for longer than open_limit (Timeout).
Result<std::unique_ptr<IoEngine>> make_cufile_engine(CufileEngineOptions options);

}  // namespace penstock
