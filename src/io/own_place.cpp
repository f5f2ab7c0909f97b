#include "io/own_place.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <system_error>

namespace penstock {

std::vector<std::filesystem::path> own_directories() {
  std::vector<std::filesystem::path> found;
  Dl_info info{};
  // Of a program this is what it was called by, which is a path only at times.
  if (::dladdr(reinterpret_cast<const void*>(&own_directories), &info) != 0 &&
      info.dli_fname != nullptr && info.dli_fname[0] == '/')
    found.push_back(std::filesystem::path{info.dli_fname}.parent_path());
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error && std::ranges::find(found, program.parent_path()) == found.end())
    found.push_back(program.parent_path());
  return found;
}

}  // namespace penstock
