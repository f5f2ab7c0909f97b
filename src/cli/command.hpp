// What the subcommands of `penstock` have in common: options, exit codes, messages and JSON files.
//
// A subcommand is one file with one add_...() function, which registers it; its work runs while the
// command line is parsed and leaves the exit code. One thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "penstock/status.hpp"

namespace CLI {
class App;  // its header takes seconds to compile
}

namespace penstock::cli {

using Json = nlohmann::ordered_json;

enum ExitCode : int { kGood = 0, kShortfall = 1, kCouldNotRun = 2 };

struct CommonOptions {
  std::vector<std::string> dir;
  std::string json;  // file; empty: none

  void add_json(CLI::App& command);
  // --dir of a store: all of its directories, in the order of its configuration.
  void add_store_dir(CLI::App& command);
};

// Prints one sentence on stderr and returns kCouldNotRun.
int could_not_run(std::string_view message);
int could_not_run(const Error& error);
// False, after could_not_run(), if that failed.
bool write_file(const std::string& path, const std::string& text);
// Writes `json` where --json asked for it. Returns `code`, or kCouldNotRun if that failed.
int write_json(const CommonOptions& common, const Json& json, int code);

void add_demo(CLI::App& app, int& exit_code);
void add_demo_restore(CLI::App& app, int& exit_code);  // demo's second process; not in --help
void add_bench(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_ls(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_stats(CLI::App& app, int& exit_code);
void add_top(CLI::App& app, int& exit_code);
void add_simulate(CLI::App& app, int& exit_code);
void add_size(CLI::App& app, int& exit_code);

}  // namespace penstock::cli
