// The table of configuration keys: one row a key, and everything that is derived from it (parsing,
// ranges, error texts, docs/CONFIGURATION.md) reads that row.
//
// Immutable after start; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "penstock/config.hpp"

namespace penstock {

// Finds the key's field in a Config. The alternative that is held is the key's type.
using FieldAccess = std::variant<bool& (*)(Config&), uint32_t& (*)(Config&), uint64_t& (*)(Config&),
                                 double& (*)(Config&), std::string& (*)(Config&),
                                 std::vector<std::string>& (*)(Config&)>;

// A value that is known and refused, because what it asks for does not exist in this build.
struct NotBuilt {
  std::string_view value;
  std::string_view use_instead;
};

// Where a key stands in the file.
enum class Section : uint8_t { Top, Gds, Local };
inline constexpr Section kSections[] = {Section::Top, Section::Gds, Section::Local};
std::string_view name_of(Section section);  // "", "gds_config", "local_config"

struct ConfigKey {
  std::string_view name = {};
  Section section = Section::Top;
  FieldAccess access = {};
  std::string_view unit = {};  // "bytes", "GB", "seconds", ...; may be empty
  std::string_view help = {};
  double min = 0;  // numbers only
  double max = 0;
  uint64_t multiple = 1;                       // whole numbers only
  std::vector<std::string_view> choices = {};  // texts only; empty: free text
  std::vector<NotBuilt> not_built = {};
  bool takes_classes = false;  // also a Python class: "package.module:Class"

  std::string path() const;  // "gds_config.cache_dir"
  // Keys of gds_config may also stand at the top level.
  bool is_called(std::string_view path) const;
  std::string variable() const;                  // "PENSTOCK_CACHE_DIR", "PENSTOCK_LOCAL_DIRECTORY"
  std::string expectation() const;               // "a whole number from 1 to 4096"
  std::string show(const Config& config) const;  // the field's value as text
};

std::span<const ConfigKey> config_keys();

}  // namespace penstock
