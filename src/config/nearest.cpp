#include "config/nearest.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace penstock {
namespace {

constexpr size_t kLongest = 256;  // bounds the work that a hostile key can cause

// Levenshtein's distance, one row of the table at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substitute = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substitute, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

const ConfigKey& nearest_key(std::string_view path) {
  const size_t dot = path.rfind('.');
  const std::string_view leaf = path.substr(dot + 1).substr(0, kLongest);
  const std::string_view section = path.substr(0, dot == path.npos ? 0 : dot).substr(0, kLongest);
  // Of two keys with one name the one in the nearest section.
  const auto distance = [&](const ConfigKey& key) {
    return std::pair{edit_distance(leaf, key.name), edit_distance(section, name_of(key.section))};
  };
  const auto keys = config_keys();
  return *std::min_element(keys.begin(), keys.end(),
                           [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
}

const ConfigKey* nearest_variable(std::string_view name, size_t at_most) {
  const ConfigKey* nearest = nullptr;
  for (const ConfigKey& key : config_keys()) {
    const size_t distance = edit_distance(name.substr(0, kLongest), key.variable());
    if (distance > at_most) continue;
    nearest = &key;
    at_most = distance;
  }
  return nearest;
}

}  // namespace penstock
