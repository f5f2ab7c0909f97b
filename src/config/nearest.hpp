// nearest_key: which known key an unknown one was probably meant to be. Pure; any thread.
#pragma once

#include <string_view>

#include "config/keys.hpp"

namespace penstock {

// The key whose name takes the fewest single-character edits from the last part of `path`.
const ConfigKey& nearest_key(std::string_view path);

}  // namespace penstock
