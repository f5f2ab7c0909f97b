// Config::validate(): the ranges of the table, and the few rules that one row cannot express.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <type_traits>

#include "config/keys.hpp"

namespace penstock {
namespace {

Error refuse(const ConfigKey& key, std::string_view given) {
  return {Status::Invalid,
          fmt::format("{}: {} is not accepted; expected {}", key.path(), given, key.expectation())};
}

bool is_class(std::string_view text) {
  const size_t colon = text.find(':');
  return colon != std::string_view::npos && colon > 0 && colon + 1 < text.size();
}

Result<void> check_text(const ConfigKey& key, const std::string& text) {
  for (const NotBuilt& refused : key.not_built)
    if (text == refused.value)
      return Error{Status::Invalid, fmt::format("{}: {} is not built yet; use {}", key.path(), text,
                                                refused.use_instead)};
  if (key.takes_classes && is_class(text)) return {};
  if (!key.choices.empty() && std::ranges::find(key.choices, text) == key.choices.end())
    return refuse(key, fmt::format("\"{}\"", text));
  return {};
}

template <typename T>
Result<void> check(const ConfigKey& key, const T& value) {
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    for (const std::string& text : value)
      if (auto good = check_text(key, text); !good) return good;
    return {};
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    return check_text(key, fmt::format("{}", value));
  } else {
    const auto number = static_cast<double>(value);
    bool good = number >= key.min && number <= key.max;  // false for NaN too
    if constexpr (std::is_integral_v<T>) good = good && value % key.multiple == 0;
    if (!good) return refuse(key, fmt::format("{}", value));
    return {};
  }
}

// From fast to slow, each once; Python classes, which get their copies from a store, behind them.
Result<void> check_backend(const std::vector<std::string>& backend) {
  constexpr std::array<std::string_view, 3> kOrder{"local", "gds", "remote"};
  const auto place = [&](const std::string& name) {
    return std::ranges::find(kOrder, name) - kOrder.begin();  // classes: the last
  };
  bool good = !backend.empty();
  for (size_t i = 0; i + 1 < backend.size(); ++i) {
    const bool both_classes = is_class(backend[i]) && is_class(backend[i + 1]);
    good &= both_classes ? backend[i] != backend[i + 1] : place(backend[i]) < place(backend[i + 1]);
  }
  if (!good)
    return Error{
        Status::Invalid,
        fmt::format("backend: [{}] is not accepted; expected some of local, gds and remote "
                    "in this order, each once, and then any package.module:Class",
                    fmt::join(backend, ", "))};
  if (backend.front() == "remote")
    return Error{Status::Invalid,
                 "backend: remote is not built yet; use gds, or a list that has gds or local"};
  if (is_class(backend.front()))
    return Error{Status::Invalid, fmt::format("backend: {} needs a store in front of it, such as "
                                              "[gds, {}]",
                                              backend.front(), backend.front())};
  return {};
}

Result<void> check_directories(const std::vector<std::string>& directories) {
  constexpr size_t kMaxDirectories = 64;
  if (directories.empty())
    return Error{Status::Invalid,
                 "gds_config.cache_dir: missing; name the directory where the cache is kept"};
  if (directories.size() > kMaxDirectories)
    return Error{Status::Invalid, fmt::format("gds_config.cache_dir: {} directories; at most {}",
                                              directories.size(), kMaxDirectories)};
  std::set<std::string> seen;
  for (const std::string& directory : directories) {
    if (directory.empty())
      return Error{Status::Invalid, "gds_config.cache_dir: an empty path; expected a directory"};
    if (!seen.insert(directory).second)
      return Error{Status::Invalid,
                   fmt::format("gds_config.cache_dir: {} is given twice", directory)};
  }
  return {};
}

}  // namespace

Result<void> Config::validate() const {
  Config copy = *this;  // the table's accessors take a Config that can be written
  for (const ConfigKey& key : config_keys()) {
    auto good = std::visit([&](auto find) { return check(key, find(copy)); }, key.access);
    if (!good) return good;
  }
  if (auto good = check_backend(backend); !good) return good;
  const double writes = gds_config.max_write_gb_per_day;
  if (writes < 0 && writes != -1)
    return Error{
        Status::Invalid,
        fmt::format("gds_config.max_write_gb_per_day: {} is not accepted; expected -1 (the "
                    "file system's capacity once a day), 0 (no limit) or more",
                    writes)};
  const bool on_drives = std::ranges::find(backend, "gds") != backend.end();
  if (!on_drives && gds_config.cache_dir.empty()) return {};  // else only a name for the memory
  return check_directories(gds_config.cache_dir);
}

}  // namespace penstock
