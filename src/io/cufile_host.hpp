// What this machine and a directory's file system tell about cuFile without running it: reasons why
// a probe would be in vain.
//
// Read from /proc, /run/udev and the file system. Nothing found here proves that cuFile goes
// straight to the GPU; it only rules out. Any thread.
#pragma once

#include <string>

namespace penstock {

struct CufileHost {
  bool wsl = false;
  bool nvidia_driver = false;
  std::string file_system;   // name, if it is one that cuFile never reads directly; else empty
  std::string block_device;  // "259:0"; empty for a network or memory
  bool udev_record = false;  // of that device, readable
  // Why a probe would be in vain, as a sentence; empty: nothing known speaks against it.
  std::string obstacle() const;
};

// `system_root` stands before /proc, /run and /dev; for tests.
CufileHost examine_cufile_host(const std::string& directory, const std::string& system_root = "");

}  // namespace penstock
