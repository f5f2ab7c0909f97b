// CufileLibrary: libcufile as it was found on this machine, with its functions.
//
// Loading it runs the vendor's code in this process, but opens no driver. It is never unloaded
// (unloading is known to crash), so a CufileLibrary is a value that stays good. Any thread.
#pragma once

#include <span>
#include <string>

#include "io/cufile_abi.hpp"
#include "penstock/status.hpp"

namespace penstock {

struct CufileLibrary {
  std::string path;
  int version = 0;  // 1190 is 1.19; 0: it does not say (before 1.7)

  cufile::DriverOpen driver_open = nullptr;
  cufile::DriverClose driver_close = nullptr;
  cufile::HandleRegister handle_register = nullptr;
  cufile::HandleDeregister handle_deregister = nullptr;
  cufile::BufferRegister buffer_register = nullptr;
  cufile::BufferDeregister buffer_deregister = nullptr;
  cufile::Read read = nullptr;
  cufile::Write write = nullptr;
  // Null where the version has none.
  cufile::GetVersion get_version = nullptr;
  cufile::GetProperties get_properties = nullptr;
  cufile::SetStatsLevel set_stats_level = nullptr;
  cufile::StatsStart stats_start = nullptr;
  cufile::StatsStop stats_stop = nullptr;
  cufile::GetStatsL3 get_stats_l3 = nullptr;

  bool has_stats() const noexcept;
};

// The variable that names the library and overrides the search.
inline constexpr const char* kCufileLibraryVariable = "PENSTOCK_CUFILE_LIBRARY";

// In this order: the file that the variable names, and no other; a copy that this process has
// loaded already (a second one beside it would be a second driver); the names that the loader
// knows; `directories`; those of the wheel nvidia-cufile beside our own place; the toolkit's.
// Unsupported if there is none, or none with the functions that are needed; says what was tried.
Result<CufileLibrary> load_cufile(std::span<const std::string> directories);
// The path of the copy that this process has loaded; empty if none.
std::string loaded_cufile();

}  // namespace penstock
