#include "cli/pcie.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "cli/system_files.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::array kRates{2.5, 5.0, 8.0, 16.0, 32.0, 64.0};  // of generations 1, 2, ...
constexpr int kDeepest = 4;                                    // md on dm on a partition

// "16.0 GT/s PCIe" and "4"; "Unknown" reads as 0.
LinkRate read_rate(const fs::path& device, const std::string& which) {
  LinkRate rate;
  std::ifstream{device / (which + "_link_speed")} >> rate.gigatransfers;
  std::ifstream{device / (which + "_link_width")} >> rate.lanes;
  return rate;
}

std::optional<PcieLink> read_link(const fs::path& device) {
  PcieLink link;
  link.address = device.filename().string();
  link.now = read_rate(device, "current");
  link.device = read_rate(device, "max");
  if (link.device.generation() == 0 || link.device.lanes == 0) return std::nullopt;
  std::error_code error;
  const fs::path real = fs::canonical(device, error);
  if (!error) link.slot = read_rate(real.parent_path(), "max");
  return link;
}

void add_drives(const fs::path& block, int depth, std::vector<fs::path>& drives) {
  std::error_code error;
  const fs::path whole = fs::exists(block / "partition", error) ? block.parent_path() : block;
  bool below = false;
  for (const auto& slave : fs::directory_iterator{whole / "slaves", error}) {
    const fs::path real = fs::canonical(slave.path(), error);
    below = true;
    if (!error && depth < kDeepest) add_drives(real, depth + 1, drives);
  }
  if (!below && std::ranges::find(drives, whole) == drives.end()) drives.push_back(whole);
}

}  // namespace

int LinkRate::generation() const noexcept {
  const auto found = std::ranges::find(kRates, gigatransfers);
  return found == kRates.end() ? 0 : static_cast<int>(found - kRates.begin()) + 1;
}

double LinkRate::gb_per_s() const noexcept {
  const double code = generation() <= 2 ? 8.0 / 10 : 128.0 / 130;
  return gigatransfers * lanes * code / 8;
}

LinkRate PcieLink::possible() const noexcept {
  LinkRate rate = device;
  if (slot.generation() != 0) rate.gigatransfers = std::min(rate.gigatransfers, slot.gigatransfers);
  if (slot.lanes != 0) rate.lanes = std::min(rate.lanes, slot.lanes);
  return rate;
}

std::vector<PcieLink> find_gpu_links(const std::string& system_root) {
  std::vector<PcieLink> links;
  std::error_code error;
  for (const auto& device : fs::directory_iterator{system_root + "/sys/bus/pci/devices", error}) {
    if (first_line(device.path() / "vendor") != "0x10de") continue;
    if (!first_line(device.path() / "class").starts_with("0x03")) continue;
    if (auto link = read_link(device.path())) links.push_back(std::move(*link));
  }
  std::ranges::sort(links, {}, &PcieLink::address);
  return links;
}

std::vector<fs::path> find_drives(const std::string& directory, const std::string& system_root) {
  std::vector<fs::path> drives;
  struct stat status {};
  if (stat(directory.c_str(), &status) != 0 || major(status.st_dev) == 0) return drives;
  std::error_code error;
  const fs::path block = fs::canonical(fmt::format("{}/sys/dev/block/{}:{}", system_root,
                                                   major(status.st_dev), minor(status.st_dev)),
                                       error);
  if (!error) add_drives(block, 0, drives);
  return drives;
}

std::vector<PcieLink> find_drive_links(const std::string& directory,
                                       const std::string& system_root) {
  std::vector<PcieLink> links;
  std::error_code error;
  for (const fs::path& drive : find_drives(directory, system_root)) {
    fs::path at = drive;
    while (at.has_relative_path() && !fs::exists(at / "max_link_speed", error))
      at = at.parent_path();
    if (!at.has_relative_path()) continue;
    if (auto link = read_link(at)) links.push_back(std::move(*link));
  }
  return links;
}

std::string describe(const LinkRate& rate) {
  return fmt::format("PCIe {}.0 x{}, {:.1f} GB/s", rate.generation(), rate.lanes, rate.gb_per_s());
}

}  // namespace penstock::cli
