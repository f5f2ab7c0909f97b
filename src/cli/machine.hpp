// What a measurement ran on: processor, kernel, file system, drive. Read from /proc and /sys; what
// cannot be read is left empty. Any thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "cli/command.hpp"

namespace penstock::cli {

// The mounted file system that holds `path` (which exists).
struct Mount {
  std::string type;           // "ext4"
  std::string point;          // "/mnt/nvme"
  std::string source;         // "/dev/nvme0n1"
  std::string options;        // "rw,relatime"
  std::string super_options;  // of the file system itself: "rw,data=ordered"
};
Mount find_mount(const std::string& path);

struct Machine {
  std::string cpu;
  unsigned cpus = 0;
  std::string kernel;
  Mount mount;
  std::string drive;  // model of the block device, or its name
  bool rotational = false;
};
Machine describe_machine(const std::string& path);
Json to_json(const Machine& machine);

}  // namespace penstock::cli
