#include "io/cufile_verdict.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "io/cufile_abi.hpp"

namespace penstock {
namespace {

template <size_t N>
bool parse_numbers(std::string_view text, std::array<uint64_t, N>& numbers) {
  const char* at = text.data();
  const char* const end = at + text.size();
  for (uint64_t& number : numbers) {
    while (at != end && *at == ' ') ++at;
    const auto [stop, error] = std::from_chars(at, end, number);
    if (error != std::errc{}) return false;
    at = stop;
  }
  return at == end;
}

void parse_counts(std::string_view text, CufileCounts& counts) {
  std::array<uint64_t, 3> numbers{};
  if (parse_numbers(text, numbers)) counts = {numbers[0], numbers[1], numbers[2]};
}

struct Report {
  CufileVerdict verdict;
  std::string stage = "starting";
  std::string error;
  bool done = false;

  void take(std::string_view word, std::string_view value) {
    std::array<uint64_t, 1> number{};
    if (word == "stage") stage = value;
    if (word == "error") error = value;
    if (word == "library") verdict.library = value;
    if (word == "gpu") verdict.gpu = value;
    if (word == "version" && parse_numbers(value, number))
      verdict.version = static_cast<int>(number[0]);
    if (word == "usable") verdict.usable = true;
    if (word == "reads") parse_counts(value, verdict.reads);
    if (word == "writes") parse_counts(value, verdict.writes);
    if (word == "done") done = true;
  }
};

std::string sentence_of(const Report& report, const HelperEnd& end) {
  const CufileVerdict& verdict = report.verdict;
  const std::string counts =
      fmt::format("reads: {}; writes: {}", verdict.reads.text(), verdict.writes.text());
  if (!report.error.empty()) return report.error;
  if (verdict.proven()) return counts;  // also if it went wrong afterwards, on its way out
  if (!report.done) {
    if (end.timed_out)
      return fmt::format("the probe did not come back within {} s from {}; it was ended",
                         end.limit_s, report.stage);
    if (end.signal != 0)
      return fmt::format("the probe crashed (signal {}) while {}", end.signal, report.stage);
    return fmt::format("the probe ended while {}", report.stage);
  }
  if (verdict.version < cufile::kStatsVersion)
    return fmt::format(
        "cuFile works, but version {} counts nothing that would prove its path; {} does",
        format_version(verdict.version), format_version(cufile::kStatsVersion));
  if (verdict.reads.path() == CufilePath::Unknown && verdict.writes.path() == CufilePath::Unknown)
    return "cuFile works, but its counters show nothing, so the path of the bytes is not known";
  return fmt::format("cuFile works, but bytes pass through host memory ({})", counts);
}

}  // namespace

std::string_view to_string(CufilePath path) noexcept {
  switch (path) {
    case CufilePath::Posix:
      return "posix";
    case CufilePath::P2p:
      return "p2p";
    case CufilePath::Nvfs:
      return "nvfs";
    case CufilePath::Unknown:
      break;
  }
  return "unknown";
}

CufilePath CufileCounts::path() const noexcept {
  if (posix > 0) return CufilePath::Posix;
  if (p2p > 0) return CufilePath::P2p;
  return nvfs > 0 ? CufilePath::Nvfs : CufilePath::Unknown;
}

std::string CufileCounts::text() const {
  return fmt::format("{} by P2PDMA, {} by nvidia-fs, {} by POSIX", p2p, nvfs, posix);
}

bool CufileVerdict::proven() const noexcept {
  const auto direct = [](CufilePath path) {
    return path == CufilePath::P2p || path == CufilePath::Nvfs;
  };
  return usable && direct(reads.path()) && direct(writes.path());
}

std::string format_version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

CufileVerdict read_report(std::string_view text, const HelperEnd& end) {
  Report report;
  for (size_t stop; (stop = text.find('\n')) != std::string_view::npos;) {
    const std::string_view line = text.substr(0, stop);
    text.remove_prefix(stop + 1);
    const size_t blank = line.find(' ');
    report.take(line.substr(0, blank),
                blank == std::string_view::npos ? std::string_view{} : line.substr(blank + 1));
  }
  report.verdict.sentence = sentence_of(report, end);
  return report.verdict;
}

}  // namespace penstock
