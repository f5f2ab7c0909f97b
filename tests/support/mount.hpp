// A small file system of its own for a test, mounted where only a child process sees it, and gone
// with that process: for what only a real mount does when it is full or read-only.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <cstdlib>
#include <ostream>

#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock::test {

struct MountKind {
  const char* name;
  const char* make;  // makes the file system in an image, which is its last argument; "": tmpfs
};

inline constexpr MountKind kTmpfs{"tmpfs", ""};
// ext2 reserves no room ahead of a write: fallocate(2) is refused.
inline constexpr MountKind kMountKinds[] = {
    kTmpfs,
    {"ext4", "mkfs.ext4 -q -b 4096 -m 0"},
    {"ext2", "mkfs.ext2 -q -b 4096 -m 0"},
};
inline constexpr MountKind kSmallBlocks{"ext4 with small blocks", "mkfs.ext4 -q -b 1024"};
inline constexpr MountKind kBtrfs{"btrfs", "mkfs.btrfs -q --mixed"};

inline void PrintTo(const MountKind& kind, std::ostream* out) {
  *out << kind.name;
}

inline bool put(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool whole = ::write(fd, text.data(), text.size()) == std::ssize(text);
  return ::close(fd) == 0 && whole;
}

// Where this process is root it gets mounts of its own; otherwise it becomes root of a user
// namespace first, where the kernel allows that.
inline bool own_mounts() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    if (!put("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") ||
        !put("/proc/self/setgroups", "deny") ||
        !put("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1"))
      return false;
  }
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// Mounts a new file system of `bytes` where only this process sees it. Call it in a child
// (in_child) that has one thread. False: this machine does not let us.
inline bool mount_at(const std::string& where, const MountKind& kind, uint64_t bytes,
                     const std::string& image = {}) {
  if (!own_mounts()) return false;
  if (std::string{kind.make}.empty()) {
    const std::string size = "mode=0700,size=" + std::to_string(bytes);
    return ::mount("none", where.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  write_file(image, {});
  std::filesystem::resize_file(image, bytes);
  const std::string quiet = " >/dev/null 2>&1";
  return std::system((kind.make + (" " + image) + quiet).c_str()) == 0 &&
         std::system(("mount -o loop " + image + " " + where + quiet).c_str()) == 0;
}

inline bool is_unmountable(const std::string& answer) {
  return answer == "cannot mount";
}

// What `function(path)` returns in a child, where `path` is the root of a new file system of
// `bytes`. is_unmountable(): there cannot be one on this machine. Call it while this process has
// one thread.
template <typename Function>
std::string in_mount(const MountKind& kind, uint64_t bytes, Function function) {
  TempDir directory{in_memory()};
  const std::string where = directory / "mount";
  std::filesystem::create_directory(where);
  return in_child([&]() -> std::string {
    if (!mount_at(where, kind, bytes, directory / "image")) return "cannot mount";
    return function(where);
  });
}

}  // namespace penstock::test
