#include "cli/machine.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "cli/system_files.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

std::string cpu_model() {
  std::ifstream stream{"/proc/cpuinfo"};
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return {};
}

// mountinfo writes blanks and the like in paths as \040.
std::string unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool lies_under(const std::string& path, const std::string& point) {
  return path.starts_with(point) &&
         (point.ends_with('/') || path.size() == point.size() || path[point.size()] == '/');
}

// The whole drive's directory in /sys, also for a partition; empty for a network or memory.
fs::path drive_directory(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return {};
  std::error_code error;
  fs::path device = fs::canonical(
      fmt::format("/sys/dev/block/{}:{}", major(status.st_dev), minor(status.st_dev)), error);
  if (error) return {};
  return fs::exists(device / "partition", error) ? device.parent_path() : device;
}

}  // namespace

Mount find_mount(const std::string& path) {
  std::error_code error;
  const std::string real = fs::canonical(path, error).string();
  std::ifstream stream{"/proc/self/mountinfo"};
  Mount best;
  for (std::string line; std::getline(stream, line);) {
    // id parent major:minor root point options [fields] - type source super_options
    std::istringstream words{line};
    std::string skip, point, options, type, source, super_options;
    words >> skip >> skip >> skip >> skip >> point >> options;
    while (words >> skip && skip != "-") {
    }
    words >> type >> source >> super_options;
    point = unescape(point);
    // Of several mounts on one point the last is the one that is seen.
    if (words && lies_under(real, point) && point.size() >= best.point.size())
      best = {type, point, unescape(source), options, super_options};
  }
  return best;
}

Machine describe_machine(const std::string& path) {
  Machine machine{.cpu = cpu_model(),
                  .cpus = std::thread::hardware_concurrency(),
                  .kernel = {},
                  .mount = find_mount(path),
                  .drive = {},
                  .rotational = false};
  utsname name{};
  if (uname(&name) == 0) machine.kernel = fmt::format("{} {}", name.sysname, name.release);
  if (const fs::path drive = drive_directory(path); !drive.empty()) {
    machine.drive = first_line(drive / "device" / "model");
    if (machine.drive.empty()) machine.drive = drive.filename().string();
    machine.rotational = first_line(drive / "queue" / "rotational") == "1";
  }
  return machine;
}

Json to_json(const Machine& machine) {
  return {{"cpu", machine.cpu},
          {"cpus", machine.cpus},
          {"kernel", machine.kernel},
          {"filesystem", machine.mount.type},
          {"mount_point", machine.mount.point},
          {"source", machine.mount.source},
          {"mount_options", machine.mount.options},
          {"drive", machine.drive},
          {"rotational", machine.rotational}};
}

}  // namespace penstock::cli
