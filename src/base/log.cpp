#include "base/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <set>
#include <string>

namespace penstock {
namespace {

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made{"penstock", std::make_shared<spdlog::sinks::stderr_color_sink_mt>()};
    made.set_pattern("%Y-%m-%d %H:%M:%S.%e penstock %l: %v");
    return made;
  }();
  return instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::Debug:
      return spdlog::level::debug;
    case LogLevel::Info:
      return spdlog::level::info;
    case LogLevel::Warning:
      return spdlog::level::warn;
    case LogLevel::Error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void set_log_level(std::string_view name) noexcept {
  if (name == "debug") logger().set_level(spdlog::level::debug);
  if (name == "info") logger().set_level(spdlog::level::info);
  if (name == "warning") logger().set_level(spdlog::level::warn);
  if (name == "error") logger().set_level(spdlog::level::err);
}

void log(LogLevel level, std::string_view text) noexcept {
  logger().log(to_spdlog(level), text);
}

void log_once(LogLevel level, std::string_view text) noexcept {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> seen;
  constexpr size_t kMaxRemembered = 1024;
  {
    std::scoped_lock lock{mutex};
    if (seen.contains(text)) return;
    if (seen.size() < kMaxRemembered) seen.emplace(text);
  }
  log(level, text);
}

}  // namespace penstock
