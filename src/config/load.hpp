// load_config: from keys and values, as a file, a dictionary or the environment gives them, to a
// checked Config.
//
// Pure apart from read_yaml, which reads one file. Any thread. On failure nothing is kept: the
// Error is one sentence that names the key, what it held and what is expected.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "penstock/config.hpp"

namespace penstock {

// One key. `path` is its place ("gds_config.cache_dir"; the keys of gds_config may also stand at
// the top level), `values` its scalars as text.
struct ConfigEntry {
  std::string path;
  std::vector<std::string> values;
  bool is_list = false;
};

// getenv() in a program; nullptr or an empty text: not set.
using EnvironmentLookup = std::function<const char*(const char*)>;

// PENSTOCK_<KEY> (upper-case last part of the path; lists split at commas) wins over `entries`.
Result<Config> load_config(std::span<const ConfigEntry> entries, const EnvironmentLookup& lookup);

// A sentence for each variable ("NAME=value") that is no key's but is spelt much like one.
std::vector<std::string> misspelt_variables(std::span<const char* const> environment);

// In yaml.cpp, which alone needs yaml-cpp: a program that uses neither links without it.
Result<std::vector<ConfigEntry>> parse_yaml(const std::string& text);
Result<std::vector<ConfigEntry>> read_yaml(const std::string& path);

// docs/CONFIGURATION.md, and what `penstock --help-config` prints.
std::string configuration_document();

}  // namespace penstock
