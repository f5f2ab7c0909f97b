#include "cli/live_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "cli/table.hpp"
#include "metrics/histogram.hpp"

namespace penstock::cli {
namespace {

class Reader {
 public:
  explicit Reader(const LiveEngine& engine) : engine_{engine} {}

  std::string fact(const char* name) const {
    const auto found = engine_.facts.find(name);
    return found == engine_.facts.end() ? "" : found->second;
  }
  double operator()(const std::string& name) const {
    const auto found = engine_.figures.find(name);
    return found == engine_.figures.end() ? 0 : found->second;
  }
  double time(const std::string& histogram, double q) const {
    Histogram::Cumulative counts{};
    for (size_t i = 0; i < counts.size(); ++i)
      counts[i] = (*this)(histogram + Histogram::suffix(i));
    return quantile(counts, q);
  }

 private:
  const LiveEngine& engine_;
};

LiveRow row_of(const LiveEngine& engine) {
  const Reader read{engine};
  LiveRow row;
  row.pid = read.fact("pid");
  row.device = read.fact("device");
  row.path = read.fact("io_engine");
  row.loaded_bytes = read("loaded_bytes");
  row.saved_bytes = read("saved_bytes");
  row.hits = read("lookup_hits_local") + read("lookup_hits_gds");
  row.chunks = read("lookup_chunks");
  row.load_p50 = read.time("load_seconds", 0.5);
  row.load_p99 = read.time("load_seconds", 0.99);
  row.io_read_p50 = read.time("io_read_seconds", 0.5);
  row.io_read_p99 = read.time("io_read_seconds", 0.99);
  row.in_flight = read("io_in_flight");
  row.in_flight_limit = read("io_in_flight_limit");
  row.loads_open = read("load_jobs_open");
  row.saves_open = read("save_jobs_open");
  for (const char* name : {"load_chunks_missed", "load_chunks_corrupt", "load_chunks_failed",
                           "load_chunks_timeout", "load_chunks_cancelled"})
    row.chunks_not_loaded += read(name);
  row.chunks_dropped = read("save_chunks_dropped");
  row.corrupt = read("load_chunks_corrupt");
  return row;
}

std::string bytes(double count) {
  return format_bytes(static_cast<uint64_t>(count));
}

std::string milliseconds(double seconds) {
  return seconds == 0 ? "-" : fmt::format("{:.1f} ms", seconds * 1e3);
}

// Of the same engine: nothing it counts becomes less.
const LiveRow* find_before(const std::vector<LiveRow>& before, const LiveRow& row) {
  const auto found = std::ranges::find_if(before, [&](const LiveRow& earlier) {
    return earlier.pid == row.pid && earlier.device == row.device &&
           earlier.loaded_bytes <= row.loaded_bytes && earlier.saved_bytes <= row.saved_bytes;
  });
  return found == before.end() ? nullptr : &*found;
}

}  // namespace

std::vector<LiveRow> live_rows(const std::string& directory) {
  std::vector<LiveRow> rows;
  for (const std::string& text : read_live_files(directory))
    rows.push_back(row_of(parse_live_engine(text)));
  std::ranges::sort(rows, [](const LiveRow& a, const LiveRow& b) {
    return std::tuple{a.pid.size(), a.pid, a.device} < std::tuple{b.pid.size(), b.pid, b.device};
  });
  return rows;
}

Json to_json(const std::vector<LiveRow>& rows) {
  Json list = Json::array();
  for (const LiveRow& row : rows)
    list.push_back({{"pid", row.pid},
                    {"device", row.device},
                    {"io_engine", row.path},
                    {"loaded_bytes", row.loaded_bytes},
                    {"saved_bytes", row.saved_bytes},
                    {"lookup_chunks", row.chunks},
                    {"lookup_hits", row.hits},
                    {"load_p50_seconds", row.load_p50},
                    {"load_p99_seconds", row.load_p99},
                    {"io_read_p50_seconds", row.io_read_p50},
                    {"io_read_p99_seconds", row.io_read_p99},
                    {"io_in_flight", row.in_flight},
                    {"io_in_flight_limit", row.in_flight_limit},
                    {"loads_in_progress", row.loads_open},
                    {"saves_in_progress", row.saves_open},
                    {"chunks_not_loaded", row.chunks_not_loaded},
                    {"chunks_not_saved", row.chunks_dropped},
                    {"chunks_corrupt", row.corrupt}});
  return list;
}

std::string live_table(const std::vector<LiveRow>& rows, const std::vector<LiveRow>& before,
                       double seconds) {
  if (rows.empty()) return "no process uses this store\n";
  std::vector<std::string> header = {"process", "device", "path", "loaded", "saved"};
  if (seconds > 0) header.insert(header.end(), {"load/s", "save/s"});
  header.insert(header.end(), {"hits", "load p50", "p99", "read p50", "p99", "queue", "jobs",
                               "not loaded", "not saved", "corrupt"});
  Table table{std::move(header)};
  table.align_left(1);
  table.align_left(2);
  for (const LiveRow& row : rows) {
    std::vector<std::string> cells = {row.pid, row.device.empty() ? "(lookups)" : row.device,
                                      row.path, bytes(row.loaded_bytes), bytes(row.saved_bytes)};
    if (seconds > 0) {
      const LiveRow* const earlier = find_before(before, row);
      const LiveRow& from = earlier == nullptr ? row : *earlier;
      cells.push_back(bytes((row.loaded_bytes - from.loaded_bytes) / seconds));
      cells.push_back(bytes((row.saved_bytes - from.saved_bytes) / seconds));
    }
    cells.push_back(row.chunks == 0 ? "-" : fmt::format("{:.0f} %", 100 * row.hits / row.chunks));
    cells.insert(cells.end(), {milliseconds(row.load_p50), milliseconds(row.load_p99),
                               milliseconds(row.io_read_p50), milliseconds(row.io_read_p99)});
    cells.push_back(fmt::format("{}/{}", row.in_flight, row.in_flight_limit));
    cells.push_back(fmt::format("{}+{}", row.loads_open, row.saves_open));
    for (const double count : {row.chunks_not_loaded, row.chunks_dropped, row.corrupt})
      cells.push_back(fmt::format("{}", count));
    table.add(std::move(cells));
  }
  return table.text();
}

}  // namespace penstock::cli
