#include "cli/examine_tuning.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "cli/system_files.hpp"
#include "device/open.hpp"

namespace penstock::cli {
namespace {

constexpr int kOldGeneration = 3;        // of PCIe: a drive of today gives twice as much
constexpr unsigned kOldestDriver = 470;  // for GPUDirect Storage
constexpr double kBusy = 0.9;
constexpr double kSaturated = 0.7;   // of what the drive reads together with us
constexpr double kLongRequest = 20;  // ms
constexpr double kLongWait = 0.05;   // s, of a request of ours at p99
constexpr double kDeepQueue = 64;

struct DriverCuda {
  unsigned driver;
  const char* cuda;
};
// The newest CUDA of each driver branch (release notes of the CUDA toolkit).
constexpr auto kServes = std::to_array<DriverCuda>({{450, "11.0"},
                                                    {470, "11.4"},
                                                    {510, "11.6"},
                                                    {515, "11.7"},
                                                    {520, "11.8"},
                                                    {525, "12.0"},
                                                    {530, "12.1"},
                                                    {535, "12.2"},
                                                    {545, "12.3"},
                                                    {550, "12.4"},
                                                    {555, "12.5"},
                                                    {560, "12.6"},
                                                    {565, "12.7"},
                                                    {570, "12.8"},
                                                    {575, "12.9"},
                                                    {580, "13.0"},
                                                    {590, "13.1"}});
// The oldest driver that runs programs of a CUDA version's first number.
constexpr auto kNeeds = std::to_array<DriverCuda>({{450, "11"}, {525, "12"}, {580, "13"}});

unsigned branch_of(const std::string& driver) {
  unsigned branch = 0;
  std::istringstream{driver} >> branch;
  return branch;
}

std::string cuda_of(unsigned branch) {
  std::string cuda;
  for (const DriverCuda& row : kServes)
    if (row.driver <= branch) cuda = row.cuda;
  return cuda;
}

std::string format_cuda(int version) {
  return version == 0 ? "" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

void advise_link(const PcieLink& link, const std::string& what, TuningExamination& found) {
  const LinkRate possible = link.possible();
  if (link.now.lanes != 0 && link.now.lanes < link.device.lanes)
    found.advice.push_back(fmt::format(
        "The {} at {} uses {} of its {} PCIe lanes. Put it into a slot that has them, or give the "
        "slot all of them in the BIOS (bifurcation).",
        what, link.address, link.now.lanes, link.device.lanes));
  if (possible.generation() < link.device.generation())
    found.advice.push_back(fmt::format(
        "The {} at {} is made for PCIe {}.0 and its slot for {}.0. Use another slot, or set the "
        "slot's speed in the BIOS to automatic.",
        what, link.address, link.device.generation(), link.slot.generation()));
  else if (possible.generation() <= kOldGeneration)
    found.advice.push_back(
        fmt::format("The {} at {} has {}; PCIe 4.0 or later is twice as fast. Where restoring is "
                    "slower than computing, load_policy: auto computes.",
                    what, link.address, describe(possible)));
}

void advise_driver(TuningExamination& found) {
  if (found.driver.empty()) return;
  const unsigned branch = branch_of(found.driver);
  if (found.built_for.empty())
    found.advice.push_back(
        "There is an NVIDIA driver, but this build has no CUDA and cannot use the GPU: build it "
        "again with nvcc on the PATH.");
  if (branch < kOldestDriver)
    found.advice.push_back(
        fmt::format("The NVIDIA driver {} is too old for GPUDirect Storage: install {} or later.",
                    found.driver, kOldestDriver));
  for (const DriverCuda& row : kNeeds)
    if (found.built_for.starts_with(std::string{row.cuda} + ".") && branch < row.driver)
      found.advice.push_back(fmt::format(
          "This build uses CUDA {}, which needs driver {} or later; {} is installed. Update it, or "
          "build with CUDA {}.",
          found.built_for, row.driver, found.driver, found.cuda));
}

void advise_drive(const std::string& name, const DriveLoad& load, double raw_read_gbs,
                  TuningExamination& found) {
  const double rate = load.read_gbs + load.write_gbs;
  const bool is_full = raw_read_gbs > 0 && rate >= kSaturated * (rate + raw_read_gbs);
  if (load.busy >= kBusy && (is_full || load.request_ms >= kLongRequest))
    found.advice.push_back(fmt::format(
        "The drive {} is saturated: {:.0f} % busy, {:.2f} GB/s read, {:.2f} GB/s written, {:.0f} "
        "ms a request. Set enable_compression: true, name a directory on another drive in "
        "cache_dir as well, or keep what else uses this drive away from it.",
        name, 100 * load.busy, load.read_gbs, load.write_gbs, load.request_ms));
  else if (load.queue >= kDeepQueue)
    found.advice.push_back(fmt::format(
        "The queue of the drive {} is congested: {:.0f} requests wait on the average. Lower "
        "max_concurrent_ops and io_depth, or make chunk_size smaller.",
        name, load.queue));
}

void advise_processes(TuningExamination& found) {
  for (const LiveRow& row : found.processes) {
    if (row.in_flight_limit == 0 || row.in_flight < row.in_flight_limit) continue;
    if (row.io_read_p99 < kLongWait) continue;
    found.advice.push_back(fmt::format(
        "The queue of process {} is congested: {} of {} requests are in flight, and of a hundred "
        "reads one takes {:.0f} ms or more. Lower max_concurrent_ops, or make chunk_size smaller; "
        "a drive that likes long queues wants a larger io_depth instead.",
        row.pid, row.in_flight, row.in_flight_limit, row.io_read_p99 * 1e3));
  }
}

void advise_rdma(TuningExamination& found) {
  for (const auto& [name, grown] : found.rdma_contention)
    found.advice.push_back(fmt::format(
        "RDMA on {} is contended ({}). Set enable_rdma: false to use the drives only, or give the "
        "remote server a process and a port of its own.",
        name, grown));
}

double wait_a_moment() {
  constexpr std::chrono::milliseconds kMoment{300};
  const auto begin = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(kMoment);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Json to_json(const LinkRate& rate) {
  return {{"generation", rate.generation()}, {"lanes", rate.lanes}, {"gbs", rate.gb_per_s()}};
}

Json to_json(const std::vector<PcieLink>& links) {
  Json list = Json::array();
  for (const PcieLink& link : links)
    list.push_back({{"address", link.address},
                    {"now", to_json(link.now)},
                    {"device", to_json(link.device)},
                    {"slot", to_json(link.slot)}});
  return list;
}

}  // namespace

TuningExamination examine_tuning(const TuningOptions& options) {
  TuningExamination found;
  const std::string& root = options.system_root;
  found.gpu_links = find_gpu_links(root);
  found.drive_links = find_drive_links(options.directory, root);
  found.driver = nvidia_driver_version(first_line(root + "/proc/driver/nvidia/version"));
  found.cuda = cuda_of(branch_of(found.driver));
  found.built_for = format_cuda(cuda_version());
  const auto drives = find_drives(options.directory, root);
  std::vector<DriveReading> before;
  for (const auto& drive : drives) before.push_back(read_drive(drive));
  const auto ports = read_rdma(root);
  const double seconds = options.wait ? options.wait() : wait_a_moment();
  for (size_t i = 0; i < drives.size(); ++i)
    found.drives.push_back(
        {drives[i].filename().string(), load_between(before[i], read_drive(drives[i]), seconds)});
  found.rdma = read_rdma(root);
  found.rdma_contention = contention_between(ports, found.rdma);
  found.processes = live_rows(options.directory);

  for (const PcieLink& link : found.gpu_links) advise_link(link, "GPU", found);
  for (const PcieLink& link : found.drive_links) advise_link(link, "drive", found);
  advise_driver(found);
  for (const auto& [name, load] : found.drives)
    advise_drive(name, load, options.raw_read_gbs, found);
  advise_processes(found);
  advise_rdma(found);
  return found;
}

void print(const TuningExamination& found) {
  const auto line = [](std::string_view name, std::string_view value) {
    fmt::print("{:<13} {}\n", name, value);
  };
  const auto links = [&](std::string_view name, const std::vector<PcieLink>& list) {
    for (const PcieLink& link : list)
      line(name, fmt::format("{} {}; could be {}", link.address,
                             link.now.generation() == 0 ? "unknown" : describe(link.now),
                             describe(link.possible())));
  };
  links("GPU link", found.gpu_links);
  links("drive link", found.drive_links);
  if (!found.driver.empty())
    line("CUDA", fmt::format("driver {} serves up to {}; this build has {}", found.driver,
                             found.cuda.empty() ? "?" : found.cuda,
                             found.built_for.empty() ? "none" : found.built_for));
  for (const auto& [name, load] : found.drives)
    line("drive load",
         fmt::format("{}: {:.0f} % busy, {:.2f} GB/s read, {:.2f} GB/s written, queue {:.1f}, "
                     "{:.1f} ms a request",
                     name, 100 * load.busy, load.read_gbs, load.write_gbs, load.queue,
                     load.request_ms));
  for (const auto& [name, port] : found.rdma) {
    const auto contended = found.rdma_contention.find(name);
    line("RDMA",
         fmt::format("{}: {}, {}, {}", name, port.state, port.rate,
                     contended == found.rdma_contention.end() ? "not contended"
                                                              : "contended: " + contended->second));
  }
  if (!found.processes.empty())
    line("in use by", fmt::format("{} engines: penstock top", found.processes.size()));
}

Json to_json(const TuningExamination& found) {
  Json drives = Json::array();
  for (const auto& [name, load] : found.drives)
    drives.push_back({{"name", name},
                      {"busy", load.busy},
                      {"read_gbs", load.read_gbs},
                      {"write_gbs", load.write_gbs},
                      {"queue", load.queue},
                      {"request_ms", load.request_ms}});
  Json rdma = Json::array();
  for (const auto& [name, port] : found.rdma) {
    const auto contended = found.rdma_contention.find(name);
    rdma.push_back(
        {{"port", name},
         {"state", port.state},
         {"rate", port.rate},
         {"contention", contended == found.rdma_contention.end() ? "" : contended->second}});
  }
  return {{"gpu_links", to_json(found.gpu_links)},
          {"drive_links", to_json(found.drive_links)},
          {"driver", found.driver},
          {"driver_cuda", found.cuda},
          {"built_for_cuda", found.built_for},
          {"drives", drives},
          {"rdma", rdma},
          {"processes", to_json(found.processes)}};
}

}  // namespace penstock::cli
