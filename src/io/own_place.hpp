// Where Penstock itself is installed: beside what other files are looked for. Any thread.
#pragma once

#include <filesystem>
#include <vector>

namespace penstock {

// The directory that this code was loaded from (an extension's, where it is one) and that of the
// process's program; absolute, those that can be told.
std::vector<std::filesystem::path> own_directories();

}  // namespace penstock
