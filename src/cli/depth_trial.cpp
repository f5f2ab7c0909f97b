#include "cli/depth_trial.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cli/samples.hpp"
#include "penstock/config.hpp"

namespace penstock::cli {
namespace {

constexpr size_t kRounds = 3;
constexpr double kWorthIt = 1.15;  // a drive's own speed varies by a tenth

uint32_t default_depth() {
  return GdsConfig{}.io_depth;
}

}  // namespace

double DepthTrial::by_default() const {
  const auto found = read_gbs.find(default_depth());
  return found == read_gbs.end() ? 0 : found->second;
}

std::string DepthTrial::advice() const {
  const auto best = std::ranges::max_element(
      read_gbs, [](const auto& a, const auto& b) { return a.second < b.second; });
  if (best == read_gbs.end() || best->second < kWorthIt * by_default()) return {};
  return fmt::format(
      "With {} requests in flight this drive reads {:.2f} GB/s, with {} (the default of io_depth) "
      "{:.2f}. Set io_depth: {}.",
      best->first, best->second, default_depth(), by_default(), best->first);
}

Result<DepthTrial> try_depths(const RawRange& range) {
  const std::array<uint32_t, 3> depths{default_depth() / 4, default_depth(), 4 * default_depth()};
  std::map<uint32_t, Samples> seen;
  for (size_t round = 0; round < kRounds; ++round) {
    for (const uint32_t depth : depths) {
      const auto read = measure_raw_speed({&range, 1}, {.depth = depth});
      if (!read) return read.error();
      seen[depth].add(read->gb_per_s());
    }
  }
  DepthTrial trial;
  for (const auto& [depth, speeds] : seen) trial.read_gbs[depth] = speeds.median();
  return trial;
}

}  // namespace penstock::cli
