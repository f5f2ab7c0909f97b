// Single values out of /proc and /sys. What cannot be read is empty. Any thread.
#pragma once

#include <filesystem>
#include <string>

namespace penstock::cli {

std::string first_line(const std::filesystem::path& path);  // without blanks at its end
// Of /proc/driver/nvidia/version's first line: "580.159.04".
std::string nvidia_driver_version(const std::string& line);

}  // namespace penstock::cli
