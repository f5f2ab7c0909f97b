#include "cli/fio.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/process.hpp"

namespace penstock::cli {

std::optional<double> fio_read_gbs(const std::string& file, uint64_t offset, uint64_t size) {
  std::string output;
  // Huge pages, as everybody else here has: with small ones a virtio drive splits the requests.
  if (std::system("command -v fio >/dev/null 2>&1") != 0) return std::nullopt;
  const auto code =
      run_process("env",
                  {"env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "fio", "--name=penstock",
                   "--rw=read", "--bs=1M", "--iodepth=32", "--ioengine=io_uring", "--direct=1",
                   "--readonly", "--output-format=json", "--filename=" + file,
                   fmt::format("--offset={}", offset), fmt::format("--size={}", size)},
                  &output);
  if (!code || *code != 0) return std::nullopt;
  const Json report = Json::parse(output, nullptr, false);
  const Json::json_pointer place{"/jobs/0/read/bw_bytes"};
  if (report.is_discarded() || !report.contains(place) || !report.at(place).is_number())
    return std::nullopt;
  return report.at(place).get<double>() / 1e9;
}

}  // namespace penstock::cli
