#include "cli/command.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace penstock::cli {

void CommonOptions::add_json(CLI::App& command) {
  command.add_option("--json", json, "Also write the result as JSON to this file")
      ->type_name("FILE");
}

void CommonOptions::add_store_dir(CLI::App& command) {
  command
      .add_option("--dir", dir,
                  "Directory of the store. Several drives: every directory, separated by commas, "
                  "in the order of cache_dir")
      ->delimiter(',')
      ->required()
      ->envname("PENSTOCK_CACHE_DIR")
      ->type_name("DIR");
}

int could_not_run(std::string_view message) {
  fmt::print(stderr, "penstock: {}\n", message);
  return kCouldNotRun;
}

int could_not_run(const Error& error) {
  return could_not_run(error.message);
}

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  file << text << std::flush;
  if (!file) could_not_run(fmt::format("{}: {}", path, std::strerror(errno)));
  return static_cast<bool>(file);
}

int write_json(const CommonOptions& common, const Json& json, int code) {
  if (common.json.empty()) return code;
  // Descriptions come from a store and may hold bytes that are not UTF-8.
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  return write_file(common.json, text) ? code : kCouldNotRun;
}

}  // namespace penstock::cli
