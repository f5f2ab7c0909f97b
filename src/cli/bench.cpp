// penstock bench: save, restore, lookup and open against the raw speed of the drive.
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/checksum.hpp"
#include "base/sizes.hpp"
#include "cli/bench_size.hpp"
#include "cli/command.hpp"
#include "cli/machine.hpp"
#include "cli/table.hpp"
#include "cli/temp_dir.hpp"
#include "io/open.hpp"
#include "penstock/config.hpp"

namespace penstock::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string dir = ".";
  std::vector<uint64_t> sizes = {128 << 10, 512 << 10, 1 << 20, 4 << 20, 32 << 20};
  double gb = 4;
  uint32_t rounds = 5;
  uint32_t io_depth = GdsConfig{}.io_depth;
};

std::string size_name(uint64_t bytes) {
  if (bytes % (1 << 20) == 0) return fmt::format("{}M", bytes >> 20);
  return fmt::format("{}K", bytes >> 10);
}

Table new_table() {
  return Table{{"chunk", "raw read", "restore", "of raw", "CPU s/GB", "raw write", "save", "of raw",
                "CPU s/GB", "lookup p50", "p99", "open"}};
}

void add_row(Table& table, const Json& json) {
  const auto number = [&json](const char* key) { return json.at(key).get<double>(); };
  const auto rate = [&](const char* key) { return fmt::format("{:.2f}", number(key)); };
  table.add({size_name(json.at("chunk_bytes").get<uint64_t>()), rate("raw_read_gbs"),
             rate("restore_gbs"), fmt::format("{:.0f} %", number("restore_pct_of_raw")),
             fmt::format("{:.3f}", number("restore_cpu_s_per_gb")), rate("raw_write_gbs"),
             rate("save_gbs"), fmt::format("{:.0f} %", number("save_pct_of_raw")),
             fmt::format("{:.3f}", number("save_cpu_s_per_gb")),
             fmt::format("{:.0f} us", number("lookup_us_p50")),
             fmt::format("{:.0f} us", number("lookup_us_p99")),
             fmt::format("{:.1f} ms", number("open_ms"))});
}

Result<void> check(const Options& options) {
  for (const uint64_t size : options.sizes)
    if (size == 0 || size % kSector != 0 || size > kMaxBlock || (size > 65536 && size % 65536 != 0))
      return Error{Status::Invalid,
                   fmt::format("--sizes: {} is not accepted; expected a multiple of 4K up to 64K, "
                               "or a multiple of 64K up to 64M",
                               size)};
  struct statvfs space {};
  if (statvfs(options.dir.c_str(), &space) != 0)
    return Error{Status::Invalid, fmt::format("{}: {}", options.dir, std::strerror(errno))};
  const double free = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
  if (free < options.gb * 1.2e9 + 1e9)
    return Error{Status::NoSpace,
                 fmt::format("{}: {} free, not enough for --gb {}", options.dir,
                             format_bytes(static_cast<uint64_t>(free)), options.gb)};
  return {};
}

int run(const Options& options) {
  if (const auto good = check(options); !good) return could_not_run(good.error());
  const auto scratch = TempDir::create(options.dir, "penstock-bench");
  if (!scratch) return could_not_run(scratch.error());
  Json json = {{"machine", to_json(describe_machine(options.dir))}, {"chunk_sizes", Json::array()}};
  Table table = new_table();
  for (const uint64_t chunk : options.sizes) {
    const auto chunks = static_cast<uint64_t>(options.gb * 1e9) / chunk;
    const BenchSize size{.directory = fmt::format("{}/{}", scratch->path(), size_name(chunk)),
                         .chunk_bytes = chunk,
                         .total_bytes = std::max<uint64_t>(1, chunks) * chunk,
                         .rounds = options.rounds,
                         .io_depth = options.io_depth};
    const auto figures = bench_size(size);
    if (!figures) return could_not_run(figures.error());
    std::filesystem::remove_all(size.directory);
    fmt::print(stderr, "{} done\n", size_name(chunk));
    add_row(table, *figures);
    json["chunk_sizes"].push_back(*figures);
  }
  fmt::print("GB/s, median of {} rounds of raw and ours on the same places, {} each\n\n{}",
             options.rounds, format_bytes(static_cast<uint64_t>(options.gb * 1e9)), table.text());
  return write_json(options.common, json, kGood);
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("bench", "Measure a drive, and Penstock on it");
  command->footer(
      "For each chunk size: a fresh store; in each round the places of its pool file are written\n"
      "raw, saved to, restored from and read raw (O_DIRECT, 1 MiB requests, --io-depth in "
      "flight).\n"
      "Medians of the rounds; \"of raw\" is the median of the rounds' own ratios. CPU s/GB counts "
      "the whole\n"
      "process, checksums and copies included. Saved and restored pages are scattered host "
      "memory.\n"
      "\n"
      "Examples:\n"
      "  penstock bench --dir /mnt/nvme --json bench.json\n"
      "  penstock bench --dir /mnt/nvme --sizes 2M,32M --gb 1 --rounds 3\n"
      "\n"
      "Exit code: 0 measured, 2 could not run. Everything made is removed again.");
  command
      ->add_option("--dir", options->dir, "Where to make the stores: in a new directory inside DIR")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str()
      ->type_name("DIR");
  command
      ->add_option("--sizes", options->sizes,
                   "Chunk sizes, separated by commas [128K,512K,1M,4M,32M]")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->type_name("SIZES");
  command->add_option("--gb", options->gb, "GB (1e9 bytes) moved in each measurement")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "Rounds of raw and ours")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--io-depth", options->io_depth, "Requests in flight, raw and ours")
      ->check(CLI::Range(1, static_cast<int>(kMaxIoDepth)))
      ->capture_default_str();
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
