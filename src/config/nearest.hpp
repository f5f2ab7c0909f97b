// Which known key, or variable of the environment, an unknown one was probably meant to be. Pure;
// any thread.
#pragma once

#include <string_view>

#include "config/keys.hpp"

namespace penstock {

// The key whose name takes the fewest single-character edits from the last part of `path`.
const ConfigKey& nearest_key(std::string_view path);

// The key whose variable is at most so many edits away from `name`; nullptr: there is none.
const ConfigKey* nearest_variable(std::string_view name, size_t at_most);

}  // namespace penstock
