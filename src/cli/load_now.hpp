// How busy drives and RDMA ports are now: two readings of /sys and what lies between them. Values;
// any thread.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace penstock::cli {

// One reading of a drive's `stat`; counts since it was there.
struct DriveReading {
  double requests = 0, read_bytes = 0, written_bytes = 0;
  double request_ms = 0;  // summed over requests
  double busy_ms = 0, queue_ms = 0;
};
DriveReading read_drive(const std::filesystem::path& drive);

struct DriveLoad {
  double busy = 0;  // part of the time with a request in flight
  double read_gbs = 0, write_gbs = 0;
  double queue = 0;       // requests in flight, on the average
  double request_ms = 0;  // that one took, on the average
};
DriveLoad load_between(const DriveReading& before, const DriveReading& after, double seconds);

// One port, "mlx5_0 port 1".
struct RdmaPort {
  std::string state;                         // "ACTIVE"
  std::string rate;                          // "100 Gb/sec (4X EDR)"
  std::map<std::string, double> contention;  // counters that grow when it is contended
};
std::map<std::string, RdmaPort> read_rdma(const std::string& system_root);
// The counters that have grown, by port: "rp_cnp_handled +12"; ports where none has are left out.
std::map<std::string, std::string> contention_between(const std::map<std::string, RdmaPort>& before,
                                                      const std::map<std::string, RdmaPort>& after);

}  // namespace penstock::cli
