#include "io/open.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "base/sizes.hpp"
#include "io/posix_engine.hpp"
#include "io/uring_engine.hpp"

namespace penstock {
namespace {

Error open_error(const std::string& path, int error) {
  Status status = Status::Io;
  if (error == ENOENT) status = Status::NotFound;
  if (error == ENOSPC || error == EDQUOT) status = Status::NoSpace;
  if (error == EINVAL) status = Status::Invalid;
  return Error{status, "cannot open " + path + ": " + std::system_category().message(error)};
}

// 0, or the errno of one aligned read of the file's first sector. At the end of an empty file most
// file systems answer 0 whatever the alignment, which then is all that can be learned.
int probe_direct(int fd) noexcept {
  alignas(kSector) std::byte sector[kSector];
  ssize_t result = 0;
  do {
    result = ::pread(fd, sector, sizeof sector, 0);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? errno : 0;
}

}  // namespace

Result<OpenedIo> open_io_engine(const IoOptions& options) {
  if (options.depth < 1 || options.depth > kMaxIoDepth) {
    return Error{Status::Invalid, "io_depth must be 1 to " + std::to_string(kMaxIoDepth) +
                                      ", not " + std::to_string(options.depth)};
  }
  if (options.kind != "auto" && options.kind != "uring" && options.kind != "posix") {
    return Error{Status::Invalid,
                 "io_engine must be auto, uring or posix, not \"" + options.kind + "\""};
  }
  std::string reason = "posix was asked for";
  if (options.kind != "posix") {
    auto uring = make_uring_engine(options);
    if (uring || options.kind == "uring") return uring;
    reason = uring.error().message;
  }
  auto posix = make_posix_engine(options.depth);
  if (!posix) return posix.take_error();
  return OpenedIo{std::move(*posix), std::move(reason)};
}

// O_DIRECT is switched on after the open: open(2) with O_CREAT | O_DIRECT makes the file before it
// refuses the flag, and a second open would then fail on O_EXCL.
Result<OpenedFile> open_direct(const std::string& path, int flags, int mode) {
  const int plain = (flags & ~O_DIRECT) | O_CLOEXEC;
  OpenedFile file;
  file.fd = UniqueFd{::open(path.c_str(), plain, mode)};
  if (!file.fd) return open_error(path, errno);

  const int fd = file.fd.get();
  const int status_flags = ::fcntl(fd, F_GETFL);
  if (status_flags < 0) return open_error(path, errno);
  if (::fcntl(fd, F_SETFL, status_flags | O_DIRECT) < 0) {
    file.reason =
        "the file system of " + path + " has no O_DIRECT: " + std::system_category().message(errno);
    return file;
  }
  const bool readable = (flags & O_ACCMODE) != O_WRONLY;
  const int error = readable ? probe_direct(fd) : 0;
  file.direct = error == 0;
  if (file.direct) return file;
  if (::fcntl(fd, F_SETFL, status_flags & ~O_DIRECT) < 0) return open_error(path, errno);
  file.reason = "an O_DIRECT read of " + path + " failed, so it goes through the page cache: " +
                std::system_category().message(error);
  return file;
}

}  // namespace penstock
