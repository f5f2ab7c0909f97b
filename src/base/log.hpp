// Log lines for people, to stderr through spdlog. Any thread. The level is process-wide.
// log_once() keeps a line that would repeat (a fallback, a damaged index) from filling a log.
#pragma once

#include <string_view>

namespace penstock {

enum class LogLevel { Debug, Info, Warning, Error };

// Accepts debug, info, warning, error; anything else leaves the level as it is.
void set_log_level(std::string_view name) noexcept;
void log(LogLevel level, std::string_view text) noexcept;
void log_once(LogLevel level, std::string_view text) noexcept;

}  // namespace penstock
