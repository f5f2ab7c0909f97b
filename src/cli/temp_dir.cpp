#include "cli/temp_dir.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace penstock::cli {

Result<TempDir> TempDir::create(const std::string& parent, const std::string& name) {
  std::string path = fmt::format("{}/{}-XXXXXX", parent, name);
  if (mkdtemp(path.data()) == nullptr)
    return Error{Status::Io, fmt::format("{}: cannot make a directory there: {}", parent,
                                         std::strerror(errno))};
  return TempDir{std::move(path)};
}

TempDir::~TempDir() {
  if (path_.empty()) return;
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) fmt::print(stderr, "penstock: {}: left behind: {}\n", path_, error.message());
}

}  // namespace penstock::cli
