#include "io/cufile_settings.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace penstock {
namespace {

namespace fs = std::filesystem;

// Without a word about P2PDMA it is off. "block" stands at the top level: inside "fs" it is
// ignored. Compatibility mode is allowed so that the counters can show it; the proof refuses it.
constexpr std::string_view kJson = R"({{
  "logging": {{ "dir": "{}", "level": "ERROR" }},
  "properties": {{
    "allow_compat_mode": true,
    "use_pci_p2pdma": true,
    "max_direct_io_size_kb": 16384
  }},
  "block": {{
    "nvme": {{ "use_pci_p2pdma": true }},
    "nvmeof": {{ "use_pci_p2pdma": true }},
    "raid": {{ "use_pci_p2pdma": true }},
    "raid1": {{ "use_pci_p2pdma": true }},
    "raid10": {{ "use_pci_p2pdma": true }}
  }}
}}
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

Result<CufileSettings> CufileSettings::create() {
  const char* const users = std::getenv(kCufileConfigVariable);
  if (users != nullptr && *users != '\0') return CufileSettings{""};
  std::error_code error;
  const fs::path parent = fs::temp_directory_path(error);
  std::string path = (error ? fs::path{"/tmp"} : parent) / "penstock-cufile-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return Error{Status::Io, fmt::format("cannot make a private directory for cuFile: {}: {}", path,
                                         std::system_category().message(errno))};
  CufileSettings settings{std::move(path)};
  std::ofstream file{settings.path()};
  file << fmt::format(kJson, escaped(settings.directory_)) << std::flush;
  if (!file)
    return Error{Status::Io, fmt::format("cannot write {}: {}", settings.path(),
                                         std::system_category().message(errno))};
  return settings;
}

CufileSettings::~CufileSettings() {
  if (directory_.empty()) return;
  std::error_code ignored;  // a file left behind in a directory for temporary files
  fs::remove_all(directory_, ignored);
}

std::string CufileSettings::path() const {
  return directory_.empty() ? "" : directory_ + "/cufile.json";
}

std::string CufileSettings::last_log_line() const {
  if (directory_.empty()) return {};
  std::string last;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{directory_, error}) {
    if (entry.path().extension() != ".log") continue;
    std::ifstream file{entry.path()};
    for (std::string line; std::getline(file, line);)
      if (!line.empty()) last = line;
  }
  return last;
}

ScopedVariable::ScopedVariable(const char* name, const std::string& value) {
  if (value.empty()) return;
  name_ = name;
  if (const char* const before = std::getenv(name)) before_ = before;
  ::setenv(name, value.c_str(), 1);
}

ScopedVariable::~ScopedVariable() {
  if (name_ == nullptr) return;
  if (before_) {
    ::setenv(name_, before_->c_str(), 1);
  } else {
    ::unsetenv(name_);
  }
}

}  // namespace penstock
