// PCIe links of GPUs and drives, from /sys: how they run, and what device and slot could do. Any
// thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace penstock::cli {

struct LinkRate {
  double gigatransfers = 0;  // a second and lane: 16 is PCIe 4.0
  unsigned lanes = 0;

  int generation() const noexcept;   // 0: unknown
  double gb_per_s() const noexcept;  // in one direction, after the line code
};

struct PcieLink {
  std::string address;  // "0000:3b:00.0"
  LinkRate now;
  LinkRate device;  // at most
  LinkRate slot;    // at most; generation() 0: unknown

  // What it could be: an idle GPU lowers its speed, so `now` says little of that.
  LinkRate possible() const noexcept;
};

// `system_root` stands before /sys; for tests. What cannot be read is left out.
std::vector<PcieLink> find_gpu_links(const std::string& system_root);
// Of the drives that hold `directory`; none for a network, memory or a virtual drive.
std::vector<PcieLink> find_drive_links(const std::string& directory,
                                       const std::string& system_root);

// The whole drives that hold `directory`, as folders of /sys: several under md or dm.
std::vector<std::filesystem::path> find_drives(const std::string& directory,
                                               const std::string& system_root);

std::string describe(const LinkRate& rate);  // "PCIe 4.0 x4, 7.9 GB/s"

}  // namespace penstock::cli
