#include "io/cufile_library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>
#include <vector>

#include "io/own_place.hpp"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSoname = "libcufile.so.0";
constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;

std::string loader_error() {
  const char* const text = ::dlerror();
  return text == nullptr ? "unknown error" : text;
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

std::string path_of(const void* symbol) {
  Dl_info info{};
  return ::dladdr(symbol, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

Result<CufileLibrary> bind(void* opened, const std::string& name) {
  CufileLibrary library;
  const bool complete = find(opened, "cuFileDriverOpen", library.driver_open) &&
                        find(opened, "cuFileDriverClose_v2", library.driver_close) &&
                        find(opened, "cuFileHandleRegister", library.handle_register) &&
                        find(opened, "cuFileHandleDeregister", library.handle_deregister) &&
                        find(opened, "cuFileBufRegister", library.buffer_register) &&
                        find(opened, "cuFileBufDeregister", library.buffer_deregister) &&
                        find(opened, "cuFileRead", library.read) &&
                        find(opened, "cuFileWrite", library.write);
  if (!complete) return Error{Status::Unsupported, name + ": " + loader_error()};
  find(opened, "cuFileGetVersion", library.get_version);
  find(opened, "cuFileDriverGetProperties", library.get_properties);
  find(opened, "cuFileSetStatsLevel", library.set_stats_level);
  find(opened, "cuFileStatsStart", library.stats_start);
  find(opened, "cuFileStatsStop", library.stats_stop);
  find(opened, "cuFileGetStatsL3", library.get_stats_l3);
  if (library.get_version != nullptr && library.get_version(&library.version).code != 0)
    library.version = 0;
  library.path = path_of(reinterpret_cast<const void*>(library.driver_open));
  return library;
}

Result<CufileLibrary> open(const std::string& name, int more_flags = 0) {
  void* const opened = ::dlopen(name.c_str(), kFlags | more_flags);
  if (opened == nullptr) return Error{Status::Unsupported, loader_error()};
  return bind(opened, name);
}

// One of the process's own, whoever brought it in.
Result<CufileLibrary> open_loaded() {
  if (::dlsym(RTLD_DEFAULT, "cuFileDriverOpen") != nullptr)
    return bind(RTLD_DEFAULT, "the process's own libcufile");
  return open(kSoname, RTLD_NOLOAD);
}

// Every directory below `parent` whose name begins with `prefix`, with `rest` behind it.
void add_matching(std::vector<fs::path>& found, const fs::path& parent, std::string_view prefix,
                  const fs::path& rest) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{parent, error})
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path() / rest);
}

// Directories that a wheel or the toolkit puts it into.
std::vector<fs::path> usual_directories() {
  std::vector<fs::path> packages;
  for (const fs::path& own : own_directories()) {
    packages.push_back(own.parent_path());  // an extension in site-packages/penstock
    add_matching(packages, own.parent_path() / "lib", "python3", "site-packages");  // bin/penstock
  }
  std::vector<fs::path> found;
  for (const fs::path& package : packages)
    for (const char* const wheel : {"cu13", "cufile"})
      found.push_back(package / "nvidia" / wheel / "lib");
  found.emplace_back("/usr/local/cuda/lib64");
  add_matching(found, "/usr/local/cuda/targets", "", "lib");
  return found;
}

}  // namespace

bool CufileLibrary::has_stats() const noexcept {
  return version >= cufile::kStatsVersion && set_stats_level != nullptr && stats_start != nullptr &&
         stats_stop != nullptr && get_stats_l3 != nullptr;
}

Result<CufileLibrary> load_cufile(std::span<const std::string> directories) {
#ifdef __aarch64__
  // A wheel of this architecture was linked without librt, which it needs.
  ::dlopen("librt.so.1", RTLD_NOW | RTLD_GLOBAL);
#endif
  if (const char* const named = std::getenv(kCufileLibraryVariable);
      named != nullptr && *named != '\0') {
    auto library = open(named);
    if (library) return library;
    return Error{Status::Unsupported,
                 std::string{kCufileLibraryVariable} + ": " + library.error().message};
  }
  if (auto library = open_loaded()) return library;
  std::string reason;
  for (const char* const name : {kSoname, "libcufile.so.1", "libcufile.so"}) {
    auto library = open(name);
    if (library) return library;
    if (reason.empty()) reason = library.error().message;
  }
  std::vector<fs::path> more{directories.begin(), directories.end()};
  std::ranges::move(usual_directories(), std::back_inserter(more));
  for (const fs::path& directory : more) {
    const std::string path = directory / kSoname;
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    auto library = open(path);
    if (library) return library;
    reason = library.error().message;
  }
  return Error{Status::Unsupported,
               "libcufile is not to be found (" + reason +
                   "); install the package nvidia-cufile, or name the file in " +
                   kCufileLibraryVariable};
}

std::string loaded_cufile() {
  const auto library = open_loaded();
  return library ? library->path : "";
}

}  // namespace penstock
