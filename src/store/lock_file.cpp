#include "store/lock_file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

namespace penstock {
namespace {

constexpr int64_t kUsersByte = 0;
constexpr int64_t kWriterByte = 1;
constexpr int64_t kOpeningByte = 2;
constexpr int64_t kFirstProcessByte = 4096;

struct flock byte_lock(short type, int64_t byte) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// 0, or errno.
int set_lock(int fd, short type, int64_t byte) noexcept {
  struct flock lock = byte_lock(type, byte);
  int result = 0;
  do {
    result = ::fcntl(fd, F_SETLK, &lock);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? errno : 0;
}

}  // namespace

Result<std::unique_ptr<LockFile>> LockFile::open(const std::string& path) {
  UniqueFd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!fd) {
    const int error = errno;
    return Error{error == ENOSPC ? Status::NoSpace : Status::Io,
                 "cannot open " + path + ": " + std::system_category().message(error)};
  }
  auto file = std::make_unique<LockFile>();
  file->fd_ = std::move(fd);
  const int error = set_lock(file->fd_.get(), F_RDLCK, kWriterByte);
  if (error != 0 && error != EAGAIN && error != EACCES) {
    return Error{Status::Unsupported, "the file system of " + path + " has no byte locks (" +
                                          std::system_category().message(error) +
                                          "): use a directory on a local file system"};
  }
  file->unlock_writer();
  return file;
}

Status LockFile::acquire(short type, int64_t byte, std::chrono::milliseconds timeout) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::chrono::microseconds pause{50};
  constexpr std::chrono::microseconds kLongestPause{1000};
  for (;;) {
    const int error = set_lock(fd_.get(), type, byte);
    if (error == 0) return Status::Ok;
    if (error != EAGAIN && error != EACCES) return Status::Io;
    if (std::chrono::steady_clock::now() >= deadline) return Status::Busy;
    // fcntl has no wait with a limit, and a stopped process may hold the lock for ever.
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

Status LockFile::share_users(std::chrono::milliseconds timeout) noexcept {
  return acquire(F_RDLCK, kUsersByte, timeout);
}

Status LockFile::own_users(std::chrono::milliseconds timeout) noexcept {
  return acquire(F_WRLCK, kUsersByte, timeout);
}

void LockFile::leave_users() noexcept {
  set_lock(fd_.get(), F_UNLCK, kUsersByte);
}

Status LockFile::lock_opening(std::chrono::milliseconds timeout) noexcept {
  return acquire(F_WRLCK, kOpeningByte, timeout);
}

void LockFile::unlock_opening() noexcept {
  set_lock(fd_.get(), F_UNLCK, kOpeningByte);
}

Status LockFile::lock_writer(std::chrono::milliseconds timeout) noexcept {
  return acquire(F_WRLCK, kWriterByte, timeout);
}

void LockFile::unlock_writer() noexcept {
  set_lock(fd_.get(), F_UNLCK, kWriterByte);
}

Result<uint32_t> LockFile::claim_process() noexcept {
  for (uint32_t process = 0; process < kMaxWriters; ++process) {
    if (set_lock(fd_.get(), F_WRLCK, kFirstProcessByte + process) != 0) continue;
    claimed_ = process;
    return process;
  }
  return Error{Status::Busy,
               "more than " + std::to_string(kMaxWriters) + " processes use this store"};
}

bool LockFile::is_alive(uint32_t process) const noexcept {
  if (claimed_ == static_cast<int64_t>(process)) return true;  // F_GETLK does not see our own
  struct flock lock = byte_lock(F_WRLCK, kFirstProcessByte + process);
  if (::fcntl(fd_.get(), F_GETLK, &lock) < 0) return true;
  return lock.l_type != F_UNLCK;
}

}  // namespace penstock
