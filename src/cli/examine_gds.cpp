#include "cli/examine_gds.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/system_files.hpp"
#include "io/cufile_probe.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

// The first line of the file that has `word` in it; empty if there is none.
std::string line_with(const fs::path& path, std::string_view word) {
  std::ifstream file{path};
  for (std::string line; std::getline(file, line);)
    if (line.find(word) != std::string::npos) return line;
  return {};
}

std::string describe_driver(const std::string& line) {
  const std::string version = nvidia_driver_version(line);
  const bool open = line.find("Open Kernel Module") != std::string::npos;
  return version.empty() ? version : version + (open ? ", open modules" : ", closed modules");
}

// BAR1 is the window through which a drive reaches the GPU's memory: second line of `resource`.
std::vector<std::string> find_bar1(const std::string& root) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& device : fs::directory_iterator{root + "/sys/bus/pci/devices", error}) {
    if (first_line(device.path() / "vendor") != "0x10de") continue;
    if (!first_line(device.path() / "class").starts_with("0x03")) continue;
    std::ifstream file{device.path() / "resource"};
    std::string skip;
    std::getline(file, skip);
    uint64_t begin = 0;
    uint64_t end = 0;
    file >> std::hex >> begin >> end;
    if (file && end > begin)
      found.push_back(
          fmt::format("{} {} MiB", device.path().filename().string(), (end - begin + 1) >> 20));
  }
  std::ranges::sort(found);
  return found;
}

std::vector<std::string> find_p2pdma_lacks(const std::string& root, const Mount& mount,
                                           const std::string& driver_line) {
  std::vector<std::string> lacks;
  const auto need = [&lacks](bool there, std::string what) {
    if (!there) lacks.push_back(std::move(what));
  };
  need(driver_line.find("Open Kernel Module") != std::string::npos,
       "NVIDIA's open kernel modules, 570 or later");
  need(!line_with(root + "/proc/driver/nvidia/params", "RMForceStaticBar1=1").empty(),
       "options nvidia NVreg_RegistryDwords=\"RMForceStaticBar1=1;RmForceDisableIomapWC=1;\" in "
       "/etc/modprobe.d");
  need(!line_with(root + "/proc/kallsyms", "p2pdma_pgmap_ops").empty(),
       "a kernel with CONFIG_PCI_P2PDMA, 6.2 or later");
  need(first_line(root + "/sys/module/nvme_core/parameters/multipath") != "Y",
       "nvme_core.multipath=N");
  need(mount.source.starts_with("/dev/nvme"),
       fmt::format("a directory directly on an NVMe drive (this one is on {})", mount.source));
  const bool ordered = mount.super_options.find("data=ordered") != std::string::npos;
  need(mount.type == "xfs" || (mount.type == "ext4" && ordered),
       "xfs, or ext4 mounted with an explicit data=ordered");
  return lacks;
}

void advise(GdsExamination& found) {
  if (found.driver.empty() && !found.host.nvidia_driver) return;  // no GPU is not a fault
  if (found.verdict.proven()) return;
  std::string text =
      fmt::format("cuFile is not used, and io_uring is: {}.", found.verdict.sentence);
  // Only where cuFile itself ran; before, its own reason says what to do.
  if (found.verdict.usable && found.nvidia_fs.empty() && !found.p2pdma_lacks.empty())
    text += fmt::format(
        " Without the module nvidia-fs, a straight way needs: {}. All of this is the "
        "administrator's; io_uring reads at the drive's speed through host memory until then.",
        fmt::join(found.p2pdma_lacks, "; "));
  found.advice.push_back(std::move(text));
}

std::string or_else(const std::string& text, std::string_view otherwise) {
  return text.empty() ? std::string{otherwise} : text;
}

}  // namespace

GdsExamination examine_gds(const std::string& directory, const std::string& gpu, const Mount& mount,
                           const std::string& system_root) {
  GdsExamination found;
  found.host = examine_cufile_host(directory, system_root);
  const std::string driver = first_line(system_root + "/proc/driver/nvidia/version");
  found.driver = describe_driver(driver);
  found.nvidia_fs = first_line(system_root + "/proc/driver/nvidia-fs/version");
  found.bar1 = find_bar1(system_root);
  found.p2pdma_lacks = find_p2pdma_lacks(system_root, mount, driver);
  found.verdict = probe_cufile({.directory = directory, .gpu = gpu, .system_root = system_root});
  advise(found);
  return found;
}

void print(const GdsExamination& found) {
  const auto line = [](std::string_view name, std::string_view value) {
    fmt::print("{:<13} {}\n", name, value);
  };
  const CufileVerdict& verdict = found.verdict;
  line("cuFile", fmt::format("{}: {}", verdict.proven() ? "used" : "not used", verdict.sentence));
  if (!found.host.nvidia_driver) return;  // the rest would only repeat that there is no GPU
  line("NVIDIA driver", or_else(found.driver, "of an unknown version"));
  line("nvidia-fs", or_else(found.nvidia_fs, "not loaded"));
  line("BAR1",
       found.bar1.empty() ? "not readable" : fmt::format("{}", fmt::join(found.bar1, ", ")));
  line("P2PDMA", found.p2pdma_lacks.empty()
                     ? "nothing known speaks against it"
                     : fmt::format("lacks {}", fmt::join(found.p2pdma_lacks, "; ")));
  line("udev record", found.host.block_device.empty() ? "not needed"
                      : found.host.udev_record        ? "yes"
                                               : "no: /run/udev/data/b" + found.host.block_device);
  if (!verdict.library.empty())
    line("libcufile", fmt::format("{}, {}", format_version(verdict.version), verdict.library));
}

Json to_json(const GdsExamination& found) {
  const CufileVerdict& verdict = found.verdict;
  const auto counts = [](const CufileCounts& each) {
    return Json{{"p2p", each.p2p}, {"nvfs", each.nvfs}, {"posix", each.posix}};
  };
  return {{"proven", verdict.proven()},
          {"usable", verdict.usable},
          {"sentence", verdict.sentence},
          {"reads", counts(verdict.reads)},
          {"writes", counts(verdict.writes)},
          {"gpu", verdict.gpu},
          {"library", verdict.library},
          {"version", verdict.version},
          {"driver", found.driver},
          {"nvidia_fs", found.nvidia_fs},
          {"bar1", found.bar1},
          {"p2pdma_lacks", found.p2pdma_lacks},
          {"udev_record", found.host.udev_record}};
}

}  // namespace penstock::cli
