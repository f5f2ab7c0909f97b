// Opens a cufile engine where it is proven that bytes go straight between the drives and the GPU,
// or, by `Force`, wherever cuFile works at all.
//
// Blocks for the probes (once per drive, GPU and process; seconds) and for opening the driver. Any
// thread. Nothing is kept after a refusal but the verdicts.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/cufile_verdict.hpp"
#include "io/io_engine.hpp"

namespace penstock {

struct CufileOptions {
  enum class Mode : uint8_t { Proven, Force };  // Force: compatibility mode too, for comparison
  Mode mode = Mode::Proven;
  std::vector<std::string> directories = {};  // of the pools, one a drive; exist
  std::string gpu = "0";                      // number, "GPU-<uuid>" or PCI bus id "0000:3b:00.0"
  std::span<std::byte> memory = {};  // GPU staging, by device address; a multiple of kSector
  // Keeps `memory` as long as a call may touch it; let go of at the end of the engine, or, after a
  // call that hangs, when that comes back.
  std::shared_ptr<const void> memory_owner = {};
  size_t depth = 32;
  size_t threads = 8;
  std::function<void()> thread_init =
      {};  // makes the GPU's context current in a thread of the engine
  // For a driving thread that sleeps elsewhere: called by a thread of the engine when poll() has
  // something to return, never after the engine's end. Must not use the engine.
  std::function<void()> on_result = {};
  std::vector<std::string> library_directories = {};  // where a wheel may have put libcufile
  std::chrono::seconds probe_limit{20};
  std::chrono::milliseconds open_limit{10'000};
  std::chrono::milliseconds close_limit{5'000};
  bool fresh = false;            // probes again even where the verdict is known
  std::string system_root = {};  // for tests, see cufile_host.hpp
};

struct OpenedCufile {
  std::unique_ptr<IoEngine> engine;
  std::vector<CufileVerdict> verdicts;  // one a directory
  // How the bytes go, for metrics: "p2p", "nvfs", "posix", "unknown"; "mixed" where the directories
  // differ.
  std::string path;
  std::string reason;  // a sentence for the log, with the evidence
};

// Unsupported, with the reason in one sentence, where it is not proven; Invalid for wrong options;
// Io or Timeout if the engine fails to open all the same.
Result<OpenedCufile> open_cufile_engine(const CufileOptions& options);

}  // namespace penstock
