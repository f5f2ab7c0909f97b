#include "store/directory.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

Error refuse(const std::string& path, const std::string& why, Status status = Status::Invalid) {
  return Error{status, "cache directory " + path + " " + why};
}

std::string reason(int error) {
  return std::system_category().message(error);
}

std::filesystem::path parent_of(const std::string& path) {
  std::filesystem::path parent = std::filesystem::path{path}.parent_path();
  return parent.empty() ? "." : parent;
}

bool is_open_to_all(const std::filesystem::path& directory) {
  struct stat about {};
  return ::stat(directory.c_str(), &about) == 0 && (about.st_mode & S_IWOTH) != 0;
}

Result<void> create(const std::string& path) {
  const std::filesystem::path parent = parent_of(path);
  struct stat about {};
  if (::stat(parent.c_str(), &about) != 0) {
    return refuse(path, "cannot be created: its parent " + parent.string() + ": " + reason(errno) +
                            "; create that first (is the drive mounted?)");
  }
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  const int error = errno;
  return refuse(path, "cannot be created: " + reason(error),
                error == ENOSPC ? Status::NoSpace : Status::Invalid);
}

// SQLite maps the index's shared memory from a file, of which it allocates one byte a page first.
// Where writing to the rest of such a page takes a block that a full file system has not, the
// kernel answers with SIGBUS, which ends the engine.
Result<void> rule_out_sigbus(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  struct statfs about {};
  if (!fd || ::fstatfs(fd.get(), &about) != 0)
    return refuse(path, "cannot be used: " + reason(errno));
  if (static_cast<uint64_t>(about.f_bsize) < kSector) {
    return refuse(path,
                  "is on a file system with blocks of " + std::to_string(about.f_bsize) +
                      " bytes; they must have 4096 (mkfs -b 4096)",
                  Status::Unsupported);
  }
  if (about.f_type != BTRFS_SUPER_MAGIC) return {};
  // Copy-on-write takes a block for each write, so new files do without it. That does not rule it
  // out altogether: the tree of the file system has to grow now and then, too.
  int flags = 0;
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) == 0) {
    flags |= FS_NOCOW_FL;
    ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
  }
  log_once(LogLevel::Warning, path +
                                  " is on btrfs, where a process can die when the file system is "
                                  "full: keep some of it free, or use ext4 or xfs");
  return {};
}

}  // namespace

Result<std::string> prepare_directory(const std::string& given) {
  if (given.empty()) return Error{Status::Invalid, "the path of a cache directory is empty"};
  std::string path = given;
  while (path.size() > 1 && path.back() == '/') path.pop_back();

  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) {
    if (errno != ENOENT) return refuse(path, "cannot be used: " + reason(errno));
    if (auto done = create(path); !done) return done.take_error();
    if (::stat(path.c_str(), &about) != 0) return refuse(path, "cannot be used: " + reason(errno));
  }
  if (!S_ISDIR(about.st_mode)) return refuse(path, "is not a directory");
  if (about.st_mode & S_IWOTH)
    return refuse(path, "can be written to by everybody; use a directory inside it" +
                            (about.st_mode & S_ISVTX ? "" : ", or run: chmod o-w " + path));
  if (about.st_uid != ::geteuid() && is_open_to_all(parent_of(path)))
    return refuse(path, "lies where everybody may make directories, and belongs to user " +
                            std::to_string(about.st_uid) + "; remove it or name another");
  // With the ids that open(2) will use.
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) != 0)
    return refuse(path, "is not writable for this user: " + reason(errno));
  if (auto done = rule_out_sigbus(path); !done) return done.take_error();

  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return refuse(path, "cannot be used: " + reason(errno));
  std::string canonical = real;
  std::free(real);
  return canonical;
}

}  // namespace penstock
