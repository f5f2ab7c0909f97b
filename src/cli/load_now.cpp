#include "cli/load_now.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "cli/system_files.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kSectorBytes = 512;  // of this file, whatever the drive has

// Waits for credits, marks and answers of congestion control, and what had to be sent again.
constexpr std::array kContention{"counters/port_xmit_wait",
                                 "hw_counters/np_cnp_sent",
                                 "hw_counters/np_ecn_marked_roce_packets",
                                 "hw_counters/rp_cnp_handled",
                                 "hw_counters/out_of_sequence",
                                 "hw_counters/packet_seq_err",
                                 "hw_counters/local_ack_timeout_err",
                                 "hw_counters/rnr_nak_retry_err",
                                 "hw_counters/roce_adp_retrans"};

// "4: ACTIVE" -> "ACTIVE".
std::string after_colon(std::string line) {
  const size_t colon = line.find(": ");
  return colon == std::string::npos ? line : line.substr(colon + 2);
}

}  // namespace

DriveReading read_drive(const fs::path& drive) {
  std::array<double, 11> fields{};
  std::ifstream file{drive / "stat"};
  for (double& field : fields) file >> field;
  if (!file) return {};
  return {.requests = fields[0] + fields[4],
          .read_bytes = fields[2] * kSectorBytes,
          .written_bytes = fields[6] * kSectorBytes,
          .request_ms = fields[3] + fields[7],
          .busy_ms = fields[9],
          .queue_ms = fields[10]};
}

DriveLoad load_between(const DriveReading& before, const DriveReading& after, double seconds) {
  if (seconds <= 0) return {};
  const auto per_second = [seconds](double from, double to) {
    return std::max(to - from, 0.0) / seconds;
  };
  const double requests = after.requests - before.requests;
  return {.busy = std::min(per_second(before.busy_ms, after.busy_ms) / 1e3, 1.0),
          .read_gbs = per_second(before.read_bytes, after.read_bytes) / 1e9,
          .write_gbs = per_second(before.written_bytes, after.written_bytes) / 1e9,
          .queue = per_second(before.queue_ms, after.queue_ms) / 1e3,
          .request_ms = requests > 0 ? (after.request_ms - before.request_ms) / requests : 0};
}

std::map<std::string, RdmaPort> read_rdma(const std::string& system_root) {
  std::map<std::string, RdmaPort> ports;
  std::error_code error;
  for (const auto& device : fs::directory_iterator{system_root + "/sys/class/infiniband", error}) {
    for (const auto& port : fs::directory_iterator{device.path() / "ports", error}) {
      RdmaPort read;
      read.state = after_colon(first_line(port.path() / "state"));
      read.rate = first_line(port.path() / "rate");
      for (const char* name : kContention) {
        double value = 0;
        if (std::ifstream{port.path() / name} >> value)
          read.contention[fs::path{name}.filename().string()] = value;
      }
      ports[fmt::format("{} port {}", device.path().filename().string(),
                        port.path().filename().string())] = std::move(read);
    }
  }
  return ports;
}

std::map<std::string, std::string> contention_between(
    const std::map<std::string, RdmaPort>& before, const std::map<std::string, RdmaPort>& after) {
  std::map<std::string, std::string> grown;
  for (const auto& [name, port] : after) {
    const auto earlier = before.find(name);
    if (earlier == before.end()) continue;
    for (const auto& [counter, value] : port.contention) {
      const auto from = earlier->second.contention.find(counter);
      if (from == earlier->second.contention.end() || value <= from->second) continue;
      std::string& text = grown[name];
      text += fmt::format("{}{} +{:.0f}", text.empty() ? "" : ", ", counter, value - from->second);
    }
  }
  return grown;
}

}  // namespace penstock::cli
