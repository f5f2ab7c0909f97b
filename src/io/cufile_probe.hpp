// The proof that cuFile moves bytes straight between one directory's drive and one GPU, made by a
// helper process (`penstock-probe`).
//
// A process of its own, because cuFile is known to hang in its first call, to crash in its
// statistics and to claim success for bytes that went through host memory. The helper moves 4 MiB
// both ways, compares every byte and reads cuFile's own counters; at the limit it is killed. The
// file that it uses is removed. Blocks for up to the limit and a little more. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "io/cufile_verdict.hpp"
#include "penstock/status.hpp"

namespace penstock {

struct CufileProbeOptions {
  std::string directory = {};     // exists, and can be written
  std::string gpu = "0";          // number, "GPU-<uuid>" or PCI bus id "0000:3b:00.0"
  uint64_t registered_bytes = 0;  // as much is registered as the engine will; 4 MiB at least
  std::vector<std::string> library_directories = {};
  std::chrono::seconds limit{20};
  bool check_host = true;        // answers at once where cufile_host.hpp knows that it is in vain
  std::string system_root = {};  // for tests, see cufile_host.hpp
};

CufileVerdict probe_cufile(const CufileProbeOptions& options);
// The same with one helper per (drive, GPU) and process: later calls get its verdict.
CufileVerdict probe_cufile_once(const CufileProbeOptions& options);

// The variable that names the helper; without it, the one beside this library or program.
inline constexpr const char* kProbeVariable = "PENSTOCK_PROBE";
Result<std::string> find_probe_program();

}  // namespace penstock
