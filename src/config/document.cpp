// docs/CONFIGURATION.md as text, made from the table of keys.
#include <fmt/format.h>

#include "config/keys.hpp"
#include "config/load.hpp"

namespace penstock {
namespace {

constexpr std::string_view kIntroduction =
    R"(# Configuration

One key is required: the directory where the cache is kept.

```yaml
backend: "gds"
gds_config:
  cache_dir: "/mnt/nvme/llm_cache"
  max_cache_size_gb: 256
chunk_size: 256
```

- The keys of `gds_config` may also stand at the top level (`cache_dir: ...`).
- Every key can be set by a variable of the environment, which wins over the file:
  `PENSTOCK_CACHE_DIR`, `PENSTOCK_MAX_CACHE_SIZE_GB`, `PENSTOCK_CHUNK_SIZE`, ...; those of
  `local_config` begin with `PENSTOCK_LOCAL_`. Lists are split at commas. An empty variable counts as
  not set.
- An unknown key is refused by name, with the nearest known one; a value of a wrong type or out of
  range is refused with the key, the value and what is expected.
- Sizes in GB are 1e9 bytes.

This page is printed by `penstock --help-config`; a test keeps the two equal.
)";

void append_key(std::string& text, const ConfigKey& key) {
  const Config defaults;
  const std::string value = key.show(defaults);
  fmt::format_to(std::back_inserter(text), "\n### `{}`\n\n{}\n\n- expected: {}\n- default: {}\n",
                 key.path(), key.help, key.expectation(),
                 value.empty() ? "none" : fmt::format("`{}`", value));
  for (const NotBuilt& refused : key.not_built)
    fmt::format_to(std::back_inserter(text), "- `{}` is not built yet; use `{}`\n", refused.value,
                   refused.use_instead);
  fmt::format_to(std::back_inserter(text), "- variable: `{}`\n", key.variable());
}

}  // namespace

std::string configuration_document() {
  std::string text{kIntroduction};
  for (const Section section : kSections) {
    text += section == Section::Top ? "\n## At the top level\n"
                                    : fmt::format("\n## In `{}`\n", name_of(section));
    for (const ConfigKey& key : config_keys())
      if (key.section == section) append_key(text, key);
  }
  return text;
}

}  // namespace penstock
