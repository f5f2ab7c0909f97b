// What the two processes of `penstock demo` hand each other. Values.
#pragma once

#include <string>

#include "cli/command.hpp"
#include "penstock/config.hpp"

namespace penstock::cli {

struct DemoOptions {
  CommonOptions common;
  std::string dir = ".";
  std::string text;  // file; empty: the text that ships
  uint64_t tokens = 8192;
  std::string trace;  // file; empty: none
  bool keep = false;
};

// The configuration of the demo's store, which is in `directory` and has room for `bytes`.
Config demo_config(const std::string& directory, uint64_t bytes);
// Opens the store, restores and compares; what it found goes into `json`. The second process.
int demo_restore(const DemoOptions& options, Json& json);

}  // namespace penstock::cli
