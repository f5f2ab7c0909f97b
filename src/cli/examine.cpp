#include "cli/examine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/sizes.hpp"
#include "cli/temp_dir.hpp"
#include "io/open.hpp"
#include "io/raw_speed.hpp"
#include "penstock/engine.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMeasured = 256 * 1024 * 1024;
constexpr uint64_t kStaging = 40 * 1024 * 1024;  // what an engine registers at io_depth 32

constexpr double kSlowDriveGbs = 0.4;

struct Caveat {
  std::string_view type;  // of a file system, as /proc/self/mountinfo has it
  std::string_view text;
};
constexpr std::string_view kGone =
    "is host memory, which a restart of the machine empties. Use a directory on ext4 or xfs; "
    "backend: [local, gds] keeps copies in memory besides.";
constexpr std::string_view kRemote =
    "is not a local file system: reads are as fast as what it stands on, and locks are only as "
    "good. Use a directory on ext4 or xfs on a local drive.";
constexpr auto kCaveats = std::to_array<Caveat>({
    {"tmpfs", kGone},
    {"ramfs", kGone},
    {"overlay",
     "is the container's own file system, which goes with the container. Mount a directory of the "
     "host, on ext4 or xfs, and use that."},
    {"btrfs",
     "can end a process that writes to it when it is full. Keep some of it free, or use a "
     "directory on ext4 or xfs."},
    {"nfs", kRemote},
    {"nfs4", kRemote},
    {"cifs", kRemote},
    {"smb3", kRemote},
    {"ceph", kRemote},
    {"lustre", kRemote},
    {"9p", kRemote},
    {"virtiofs", kRemote},
});

// Absolute, without dots and without a slash at its end.
fs::path normal_path(const std::string& directory) {
  std::error_code error;
  const fs::path path = fs::absolute(directory, error).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

// The store makes the last part of its path, and no more.
Result<std::string> find_directory(const std::string& directory) {
  std::error_code error;
  const fs::path path = normal_path(directory);
  if (fs::is_directory(path, error)) return path.string();
  if (fs::exists(path, error))
    return Error{Status::Invalid, fmt::format("{}: not a directory", directory)};
  const fs::path parent = path.parent_path();
  if (fs::is_directory(parent, error)) return parent.string();
  return Error{Status::Invalid,
               fmt::format("{}: no such directory, and neither is {}", directory, parent.string())};
}

void check_limits(Examination& found) {
  struct statvfs space {};
  if (statvfs(found.examined.c_str(), &space) == 0) {
    found.free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
    found.total_bytes = uint64_t{space.f_blocks} * space.f_frsize;
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
    found.memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

void check_file_system(Examination& found) {
  const std::string& type = found.machine.mount.type;
  for (const Caveat& caveat : kCaveats)
    if (type == caveat.type)
      found.advice.push_back(fmt::format("{} ({}) {}", found.directory, type, caveat.text));
}

void check_access(Examination& found) {
  struct stat status {};
  if (found.examined != found.directory || stat(found.examined.c_str(), &status) != 0) return;
  if ((status.st_mode & S_IWOTH) == 0) return;
  const bool is_meant = (status.st_mode & S_ISVTX) != 0;  // as /tmp is
  found.advice.push_back(
      fmt::format("Everybody may write to {0}, so it cannot be the cache directory itself. Use a "
                  "directory inside it{1}.",
                  found.directory, is_meant ? "" : ", or: chmod o-w " + found.directory));
}

void check_engine(Examination& found) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kSector, kStaging) != 0) memory = nullptr;
  const std::unique_ptr<void, decltype(&std::free)> owner{memory, &std::free};
  IoOptions options{.kind = "uring", .depth = 32, .memory = {}};
  const auto uring = open_io_engine(options);
  found.uring = static_cast<bool>(uring);
  if (!uring) found.uring_reason = uring.error().message;
  options.kind = "auto";
  if (memory != nullptr) options.memory = {static_cast<std::byte*>(memory), kStaging};
  const auto chosen = open_io_engine(options);
  if (!chosen) {
    found.problems.push_back(chosen.error().message);
    return;
  }
  found.engine = chosen->engine->name();
  found.engine_reason = chosen->reason;
  if (!found.uring)
    found.advice.push_back(
        fmt::format("Allow io_uring ({}). In a container: a seccomp profile "
                    "that permits io_uring_setup, _enter and _register.",
                    found.uring_reason));
  else if (!found.engine_reason.empty())
    found.advice.push_back(
        fmt::format("Raise the memory lock limit (ulimit -l, or LimitMEMLOCK= "
                    "of a service) to at least {} MiB.",
                    kStaging >> 20));
}

void try_depths(Examination& found, const RawRange& range) {
  auto trial = cli::try_depths(range);
  if (!trial) return found.problems.push_back("reading fails: " + trial.error().message);
  found.depths = std::move(*trial);
  found.raw_read_gbs = found.depths.by_default();
  if (std::string advice = found.depths.advice(); !advice.empty())
    found.advice.push_back(std::move(advice));
}

void measure(Examination& found, const OpenedFile& file) {
  const int fd = file.fd.get();
  if (found.free_bytes < 2 * kMeasured) {
    found.speed_reason = "too little free space to measure";
    return;
  }
  if (const int error = posix_fallocate(fd, 0, kMeasured); error != 0) {
    found.speed_reason = std::strerror(error);
    return;
  }
  const RawRange range{.fd = fd, .offset = 0, .size = kMeasured};
  const RawOptions write{.write = true};
  // The first pass turns reserved space into written space, as a pool in use is.
  auto written = measure_raw_speed({&range, 1}, write);
  if (written) written = measure_raw_speed({&range, 1}, write);
  if (written) found.raw_write_gbs = written->gb_per_s();
  if (!file.direct) {
    if (fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
      found.speed_reason = "through the page cache";
  }
  const auto read = measure_raw_speed({&range, 1}, {});
  if (read) found.raw_read_gbs = read->gb_per_s();
  if (read && file.direct && found.raw_read_gbs >= kSlowDriveGbs) try_depths(found, range);
  // Virtual drives say that they spin, too.
  if (read && found.machine.rotational && found.raw_read_gbs < kSlowDriveGbs)
    found.advice.push_back(
        "This drive spins: restoring will often take longer than computing. "
        "Use a directory on NVMe.");
  if (!written) found.problems.push_back("writing fails: " + written.error().message);
  if (!read) found.problems.push_back("reading fails: " + read.error().message);
}

void check_file(Examination& found, const TempDir& scratch) {
  const auto file = open_direct(scratch.path() + "/raw", O_RDWR | O_CREAT | O_EXCL);
  if (!file) {
    found.problems.push_back(file.error().message);
    return;
  }
  found.direct = file->direct;
  found.direct_reason = file->reason;
  if (!found.direct)
    found.advice.push_back(
        fmt::format("{} has no O_DIRECT: every byte passes through the page "
                    "cache. Use ext4 or xfs on a local drive.",
                    found.machine.mount.type));
  measure(found, *file);
}

// Everything else that a store wants (shared locks, SQLite's WAL) is found out by making one.
void check_store(Examination& found, const TempDir& scratch) {
  Config config;
  config.gds_config.cache_dir = {scratch.path() + "/store"};
  config.gds_config.max_cache_size_gb = 0.05;
  config.gds_config.min_free_gb = 0;
  config.log_level = "error";
  if (const auto engine = Engine::open(config, {}); !engine)
    found.problems.push_back("a store cannot be made here: " + engine.error().message);
}

}  // namespace

Result<Examination> examine(const std::string& directory) {
  auto examined = find_directory(directory);
  if (!examined) return examined.take_error();
  Examination found;
  found.directory = normal_path(directory).string();
  found.examined = *examined;
  found.machine = describe_machine(found.examined);
  check_limits(found);
  check_file_system(found);
  check_access(found);
  check_engine(found);
  auto scratch = TempDir::create(found.examined, ".penstock-doctor");
  if (!scratch) {
    found.problems.push_back(scratch.error().message);
    found.direct_reason = found.speed_reason = "nothing can be written here";
    return found;
  }
  check_store(found, *scratch);
  check_file(found, *scratch);
  return found;
}

}  // namespace penstock::cli
