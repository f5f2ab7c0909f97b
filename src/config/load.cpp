#include "config/load.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <type_traits>

#include "config/keys.hpp"
#include "config/nearest.hpp"

namespace penstock {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == y; });
}

bool parse(const std::string& text, bool& value) {
  for (std::string_view yes : {"true", "yes", "on", "1"})
    if (equal_ignoring_case(text, yes)) return value = true, true;
  for (std::string_view no : {"false", "no", "off", "0"})
    if (equal_ignoring_case(text, no)) return value = false, true;
  return false;
}

template <typename T>
requires std::is_arithmetic_v<T>
bool parse(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return false;
  if constexpr (std::is_floating_point_v<T>) return std::isfinite(value);
  return true;
}

bool parse(const std::string& text, std::string& value) {
  return value = text, true;
}

// A choice of texts that has "true" among them takes every way to write it.
void spell_out(const ConfigKey& key, std::string& text) {
  bool yes = false;
  if (std::ranges::find(key.choices, "true") != key.choices.end() && parse(text, yes))
    text = yes ? "true" : "false";
}

template <typename T>
bool assign(const ConfigKey& key, const ConfigEntry& entry, T& value) {
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    value = entry.values;
    return true;
  } else {
    if (entry.is_list || entry.values.size() != 1 || !parse(entry.values[0], value)) return false;
    if constexpr (std::is_same_v<T, std::string>) spell_out(key, value);
    return true;
  }
}

// `origin` is what the user wrote: a path, or a variable and the path that it stands for.
Result<void> set(Config& config, const ConfigKey& key, const ConfigEntry& entry,
                 const std::string& origin) {
  const bool good =
      std::visit([&](auto find) { return assign(key, entry, find(config)); }, key.access);
  if (good) return {};
  const std::string given = entry.is_list ? fmt::format("[{}]", fmt::join(entry.values, ", "))
                                          : fmt::format("\"{}\"", fmt::join(entry.values, ", "));
  return Error{Status::Invalid, fmt::format("{}: {} is not accepted; expected {}", origin, given,
                                            key.expectation())};
}

Result<const ConfigKey*> find_key(const std::string& path) {
  for (const ConfigKey& key : config_keys())
    if (key.is_called(path)) return &key;
  if (path == "gds_config")
    return Error{Status::Invalid, "gds_config: expected a section with keys, such as cache_dir"};
  if (path == "local_config")
    return Error{Status::Invalid, "local_config: expected a section with keys, such as directory"};
  return Error{Status::Invalid, fmt::format("{}: unknown key; the nearest known key is {}", path,
                                            nearest_key(path).path())};
}

ConfigEntry split_at_commas(const ConfigKey& key, const std::string& text) {
  ConfigEntry entry{.path = key.path(), .values = {}, .is_list = false};
  const bool list = std::holds_alternative<std::vector<std::string>& (*)(Config&)>(key.access);
  size_t begin = 0;
  for (size_t comma; list && (comma = text.find(',', begin)) != std::string::npos;
       begin = comma + 1)
    entry.values.push_back(text.substr(begin, comma - begin));
  entry.values.push_back(text.substr(begin));
  return entry;
}

}  // namespace

Result<Config> load_config(std::span<const ConfigEntry> entries, const EnvironmentLookup& lookup) {
  Config config;
  std::set<const ConfigKey*> seen;
  for (const ConfigEntry& entry : entries) {
    auto key = find_key(entry.path);
    if (!key) return key.take_error();
    if (!seen.insert(*key).second)
      return Error{Status::Invalid, fmt::format("{}: given twice", (*key)->path())};
    if (auto done = set(config, **key, entry, entry.path); !done) return done.take_error();
  }
  for (const ConfigKey& key : config_keys()) {
    const char* text = lookup(key.variable().c_str());
    if (text == nullptr || *text == '\0') continue;
    const std::string origin = fmt::format("{} ({})", key.variable(), key.path());
    if (auto done = set(config, key, split_at_commas(key, text), origin); !done)
      return done.take_error();
  }
  if (auto valid = config.validate(); !valid) return valid.take_error();
  return config;
}

std::vector<std::string> misspelt_variables(std::span<const char* const> environment) {
  constexpr size_t kTypo = 2;  // edits
  std::vector<std::string> sentences;
  for (const std::string_view entry : environment) {
    const std::string_view name = entry.substr(0, entry.find('='));
    if (!name.starts_with("PENSTOCK_")) continue;
    const ConfigKey* const meant = nearest_variable(name, kTypo);
    if (meant != nullptr && meant->variable() != name)
      sentences.push_back(fmt::format("{} sets nothing: no key has it; {} is the nearest", name,
                                      meant->variable()));
  }
  return sentences;
}

}  // namespace penstock
