#include "store/space.hpp"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <set>

#include "base/sizes.hpp"
#include "metrics/live_file.hpp"
#include "store/pool.hpp"

namespace penstock {
namespace {

constexpr uint64_t kMib = 1024 * 1024;
constexpr uint64_t kDatabaseBase = 1 * kMib;  // tables that do not grow with the copies, headroom
constexpr uint64_t kTransaction = 2 * kMib;  // a transaction that began right below the WAL's bound
// Shared memory, lock file, directories, extent maps, and what living processes say of themselves.
constexpr uint64_t kSmallFiles = 256 * 1024 + LiveFile::kMaxFiles * LiveFile::kMaxBytes;
constexpr uint64_t kFewestBlocks = 4;

FileSystemSpace space_in(const struct statvfs& about) noexcept {
  return {about.f_blocks * about.f_frsize, about.f_bavail * about.f_frsize};
}

}  // namespace

Result<SpacePlan> plan_space(uint64_t max_bytes, uint64_t block_size, uint32_t pools,
                             uint64_t database_bytes_now, uint64_t other_bytes) {
  SpacePlan plan;
  plan.checkpoint_bytes = std::clamp(max_bytes / 4096, kMib, 16 * kMib);
  plan.wal_bytes = 2 * plan.checkpoint_bytes;
  const uint64_t fixed = plan.wal_bytes + kTransaction + kSmallFiles + kDatabaseBase + other_bytes +
                         pools * kPoolHeader;
  const uint64_t per_block = block_size + kIndexBytesPerBlock;
  uint64_t blocks = max_bytes > fixed ? (max_bytes - fixed) / per_block : 0;
  plan.database_bytes = kDatabaseBase + blocks * kIndexBytesPerBlock;
  if (database_bytes_now > plan.database_bytes) {
    // The index of a store that was larger; its file does not shrink, so the pools do.
    const uint64_t excess = database_bytes_now - plan.database_bytes;
    blocks -= std::min(blocks, div_up(excess, block_size));
    plan.database_bytes = database_bytes_now;
  }
  if (blocks < kFewestBlocks) {
    const uint64_t needed = fixed + std::max(database_bytes_now, kDatabaseBase) - kDatabaseBase +
                            kFewestBlocks * per_block;
    return Error{Status::Invalid,
                 "a cache of " + std::to_string(max_bytes) + " bytes is too small: index and " +
                     std::to_string(kFewestBlocks) + " blocks of " + std::to_string(block_size) +
                     " bytes need " + std::to_string(needed) + " (max_cache_size_gb: " +
                     std::to_string(static_cast<double>(div_up(needed, kGb / 1000)) / 1000) + ")"};
  }
  plan.blocks = blocks;
  return plan;
}

uint64_t growth_step(uint64_t blocks_of_store) noexcept {
  return std::max<uint64_t>(blocks_of_store / 64, 1);
}

uint64_t free_target(uint64_t blocks_of_store, uint64_t blocks_of_copy) noexcept {
  const uint64_t wanted = std::max(blocks_of_store / 100, 4 * blocks_of_copy);
  // Large copies in a small store: half of it at most, or there would be no cache left.
  return std::min(wanted, std::max<uint64_t>(blocks_of_store / 2, 1));
}

FileSystemSpace file_system_space(const std::string& directory) noexcept {
  struct statvfs about {};
  return ::statvfs(directory.c_str(), &about) == 0 ? space_in(about) : FileSystemSpace{};
}

FileSystemSpace file_system_space(int fd) noexcept {
  struct statvfs about {};
  return ::fstatvfs(fd, &about) == 0 ? space_in(about) : FileSystemSpace{};
}

FileSystemSpace space_of(std::span<const std::string> directories) noexcept {
  std::set<dev_t> seen;
  FileSystemSpace sum;
  for (const std::string& directory : directories) {
    struct stat about {};
    if (::stat(directory.c_str(), &about) != 0 || !seen.insert(about.st_dev).second) continue;
    const FileSystemSpace space = file_system_space(directory);
    sum.capacity += space.capacity;
    sum.available += space.available;
  }
  return sum;
}

uint64_t file_size(const std::string& path) noexcept {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? static_cast<uint64_t>(about.st_size) : 0;
}

}  // namespace penstock
