// What `penstock doctor` finds out about speed: PCIe links, driver and CUDA, how busy the drives,
// their queue and the RDMA ports are now; and for each that costs speed, the setting to change.
// Reads /proc and /sys twice, a moment apart. One thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/live_view.hpp"
#include "cli/load_now.hpp"
#include "cli/pcie.hpp"

namespace penstock::cli {

struct TuningExamination {
  std::vector<PcieLink> gpu_links;
  std::vector<PcieLink> drive_links;
  std::string driver;     // "580.159.04"; empty: none
  std::string cuda;       // that the driver serves at most, "13.0"; empty: unknown
  std::string built_for;  // CUDA of this program; empty: none
  std::vector<std::pair<std::string, DriveLoad>> drives;  // by name
  std::map<std::string, RdmaPort> rdma;
  std::map<std::string, std::string> rdma_contention;
  std::vector<LiveRow> processes;  // that use the store there
  std::vector<std::string> advice;
};

struct TuningOptions {
  std::string directory;         // exists
  double raw_read_gbs = 0;       // measured of it; 0: not
  std::string system_root;       // before /proc and /sys; for tests
  std::function<double()> wait;  // a moment; returns its seconds. Empty: 300 ms; for tests
};
TuningExamination examine_tuning(const TuningOptions& options);
void print(const TuningExamination& found);
Json to_json(const TuningExamination& found);

}  // namespace penstock::cli
