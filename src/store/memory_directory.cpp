#include "store/memory_directory.hpp"

#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "base/sha256.hpp"
#include "base/sizes.hpp"
#include "penstock/key.hpp"
#include "store/space.hpp"

namespace penstock {
namespace {

constexpr uint64_t kLittle = kGb;  // a file system below it was not made for a cache
constexpr uint64_t kMostFree = kGb;
constexpr uint64_t kShare = 4;       // a part of it unless a size is given
constexpr uint64_t kFreeShare = 16;  // left to others

std::string gb(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g GB",
                static_cast<double>(bytes) / static_cast<double>(kGb));
  return text;
}

std::string what_to_change(const std::string& where, uint64_t bytes) {
  const std::string size = std::to_string(div_up(bytes, kGb)) + "g";
  return "start the container with --shm-size=" + size +
         " (docker), mount an emptyDir with medium: Memory and a sizeLimit at " + where +
         " (Kubernetes), or remount it with -o size=" + size;
}

// What this container may use, as its control group says; UINT64_MAX: no limit, or it cannot be
// read.
uint64_t memory_limit() {
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    uint64_t bytes = 0;
    if (std::ifstream file{path}; file >> bytes && bytes > 0) return bytes;
  }
  return UINT64_MAX;
}

// The number behind `key` at the beginning of a line; `otherwise` if it is not there.
uint64_t number_in(const char* path, const std::string& key, uint64_t otherwise) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return std::strtoull(line.c_str() + key.size(), nullptr, 10);
  return otherwise;
}

}  // namespace

uint64_t available_memory() {
  constexpr uint64_t kKib = 1024;
  uint64_t bytes = number_in("/proc/meminfo", "MemAvailable:", UINT64_MAX / kKib) * kKib;
  uint64_t used = 0;
  const uint64_t limit = memory_limit();
  if (std::ifstream file{"/sys/fs/cgroup/memory.current"}; limit != UINT64_MAX && file >> used) {
    // Files that nobody used lately go when memory is wanted.
    used -= std::min(used, number_in("/sys/fs/cgroup/memory.stat", "inactive_file ", 0));
    bytes = std::min(bytes, limit - std::min(limit, used));
  }
  return bytes;
}

std::string default_memory_directory(std::span<const std::string> cache_dirs) {
  std::string first;
  if (!cache_dirs.empty()) {
    std::error_code failed;  // a name of it that does not depend on how it was written
    const auto path = std::filesystem::weakly_canonical(cache_dirs.front(), failed);
    first = failed ? cache_dirs.front() : path.string();
    while (first.size() > 1 && first.back() == '/') first.pop_back();
  }
  const std::string digest = Digest{sha256({std::as_bytes(std::span{first})})}.hex();
  return "/dev/shm/penstock-" + std::to_string(::geteuid()) + "-" + digest.substr(0, 8);
}

Result<MemorySize> memory_size(const std::string& directory, uint64_t wanted_bytes) {
  std::string where = directory;
  struct statfs about {};
  int result = ::statfs(where.c_str(), &about);
  if (result != 0 && errno == ENOENT) {
    where = std::filesystem::path{directory}.parent_path().string();
    result = ::statfs(where.c_str(), &about);
  }
  if (result != 0)
    return Error{Status::Invalid,
                 "local_config.directory: " + where + ": " + std::system_category().message(errno)};
  if (about.f_type != TMPFS_MAGIC)
    return Error{Status::Invalid, "local_config.directory: " + directory +
                                      " is not in memory (its file system is no tmpfs); name a "
                                      "directory on /dev/shm or on another tmpfs"};
  const uint64_t capacity = file_system_space(where).capacity;
  MemorySize size;
  size.min_free_bytes = std::min(capacity / kFreeShare, kMostFree);
  const uint64_t most = capacity - size.min_free_bytes;
  if (wanted_bytes > most)
    return Error{Status::Invalid,
                 "local_config.max_cache_size_gb: " + gb(wanted_bytes) + " are wanted, and " +
                     where + " has " + gb(capacity) + ", of which " + gb(size.min_free_bytes) +
                     " are left to others; " + what_to_change(where, wanted_bytes + kMostFree) +
                     ", or ask for less"};
  size.max_bytes = wanted_bytes != 0 ? wanted_bytes : std::min(capacity, memory_limit()) / kShare;
  if (wanted_bytes == 0 && size.max_bytes < kLittle)
    size.warning = "the cache in memory gets " + gb(size.max_bytes) + ", a quarter of what " +
                   where + " or this container has; for a larger one " +
                   what_to_change(where, 16 * kGb) + ", and set local_config.max_cache_size_gb";
  return size;
}

}  // namespace penstock
