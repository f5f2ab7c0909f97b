#include "io/cufile_host.hpp"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>

namespace penstock {
namespace {

struct Magic {
  uint32_t number;
  const char* name;
};

constexpr auto kNever = std::to_array<Magic>({
    {0x794c7630, "overlayfs"},
    {0x01021994, "tmpfs"},
    {0x858458f6, "ramfs"},
    {0x2fc12fc1, "zfs"},
    {0x9123683e, "btrfs"},
    {0xf2f52010, "f2fs"},
    {0x65735546, "fuse"},
    {0x73717368, "squashfs"},
});

std::string file_system_of(const std::string& directory) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) return {};
  const auto found =
      std::ranges::find(kNever, static_cast<uint32_t>(status.f_type), &Magic::number);
  return found == kNever.end() ? "" : found->name;
}

bool is_readable(const std::string& path) {
  return ::access(path.c_str(), R_OK) == 0;
}

}  // namespace

std::string CufileHost::obstacle() const {
  if (wsl) return "cuFile does not work under WSL";
  if (!nvidia_driver)
    return "there is no NVIDIA driver (neither /proc/driver/nvidia/version nor /dev/nvidiactl)";
  if (!file_system.empty())
    return "cuFile never goes straight to the GPU from " + file_system +
           "; use a directory on ext4 or xfs on a local NVMe drive (in a container: mount one)";
  if (!block_device.empty() && !udev_record)
    return "/run/udev/data/b" + block_device +
           " is not there, and cuFile needs udev's record of the drive (in a container: "
           "-v /run/udev:/run/udev:ro)";
  return {};
}

CufileHost examine_cufile_host(const std::string& directory, const std::string& system_root) {
  CufileHost host;
  std::ifstream release{system_root + "/proc/sys/kernel/osrelease"};
  std::string kernel;
  std::getline(release, kernel);
  host.wsl =
      kernel.find("icrosoft") != std::string::npos || kernel.find("WSL") != std::string::npos;
  host.nvidia_driver = is_readable(system_root + "/proc/driver/nvidia/version") ||
                       is_readable(system_root + "/dev/nvidiactl");
  host.file_system = file_system_of(directory);
  struct stat status {};
  if (::stat(directory.c_str(), &status) == 0 && major(status.st_dev) != 0) {
    host.block_device =
        std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
    host.udev_record = is_readable(system_root + "/run/udev/data/b" + host.block_device);
  }
  return host;
}

}  // namespace penstock
