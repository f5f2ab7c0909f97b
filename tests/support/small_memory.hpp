// A file system in memory of a chosen size, for what happens where it is small or full.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>

namespace penstock::test {

// Mounts a tmpfs of `bytes` on `directory`, in a mount namespace of this process's own. Call it in
// a child (in_child) that has one thread. False: this machine does not let us.
inline bool mount_small_memory(const std::string& directory, uint64_t bytes) {
  const std::string map = "0 " + std::to_string(::geteuid()) + " 1";
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const int fd = ::open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    const bool mapped = fd >= 0 && ::write(fd, map.data(), map.size()) == std::ssize(map);
    if (fd >= 0) ::close(fd);
    if (!mapped) return false;
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  const std::string options = "size=" + std::to_string(bytes) + ",mode=0700";
  return ::mount("tmpfs", directory.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

}  // namespace penstock::test
