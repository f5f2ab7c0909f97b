// LockFile: the locks that the processes of a store share, as byte locks (fcntl) of one file.
//
//   byte 0         users: shared while a process uses the store; exclusive to replace the index
//   byte 1         writer: held during each write transaction and checkpoint of the index
//   byte 2         opening: held while a process opens the store, so that one at a time asks
//                  whether it is alone
//   byte 4096 + i  process i is alive; its reservations go back once the lock is gone
//
// The kernel drops the locks of a process that dies, and also all of them as soon as the process
// closes *any* descriptor of the file: so a process opens it exactly once (the registry of open
// stores sees to it). Record locks, not open-file ones: a child after fork() must not keep its dead
// parent's locks. A lock that is not granted is asked for again until the time is up; there is no
// unbounded wait. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.hpp"
#include "penstock/status.hpp"

namespace penstock {

class LockFile {
 public:
  static constexpr uint32_t kMaxWriters = 1024;
  static constexpr std::chrono::milliseconds kPatience{1000};

  static Result<std::unique_ptr<LockFile>> open(const std::string& path);

  // Users. Each replaces what this process held before. Busy: not granted in time.
  Status share_users(std::chrono::milliseconds timeout = kPatience) noexcept;
  Status own_users(std::chrono::milliseconds timeout = kPatience) noexcept;
  void leave_users() noexcept;

  Status lock_opening(std::chrono::milliseconds timeout) noexcept;
  void unlock_opening() noexcept;

  Status lock_writer(std::chrono::milliseconds timeout = kPatience) noexcept;
  void unlock_writer() noexcept;

  // Takes the first free place; Busy: all are taken.
  Result<uint32_t> claim_process() noexcept;
  bool is_alive(uint32_t process) const noexcept;  // true when in doubt

 private:
  Status acquire(short type, int64_t byte, std::chrono::milliseconds timeout) noexcept;

  UniqueFd fd_;
  int64_t claimed_ = -1;
};

// Holds the opening lock for a scope; goes on without it if its holder does not get on.
class OpeningLock {
 public:
  explicit OpeningLock(LockFile& file) noexcept : file_{file} { file_.lock_opening(kPatience); }
  OpeningLock(const OpeningLock&) = delete;
  OpeningLock& operator=(const OpeningLock&) = delete;
  ~OpeningLock() { file_.unlock_opening(); }

 private:
  // Each opening takes milliseconds.
  static constexpr std::chrono::milliseconds kPatience{5000};
  LockFile& file_;
};

// Holds the writer lock for a scope.
class WriterLock {
 public:
  explicit WriterLock(LockFile& file) noexcept : file_{file}, status_{file.lock_writer()} {}
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;
  ~WriterLock() {
    if (status_ == Status::Ok) file_.unlock_writer();
  }
  Status status() const noexcept { return status_; }

 private:
  LockFile& file_;
  Status status_;
};

}  // namespace penstock
