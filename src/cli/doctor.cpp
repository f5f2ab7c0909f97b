// penstock doctor: is this directory good for a cache, how fast is it, what would make it better.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/examine.hpp"
#include "cli/examine_gds.hpp"
#include "cli/examine_tuning.hpp"
#include "cli/table.hpp"

namespace penstock::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> dirs{"."};
  std::string gpu = "0";
};

std::string yes_or_no(bool yes, const std::string& reason) {
  if (yes) return "yes";
  return reason.empty() ? "no" : fmt::format("no: {}", reason);
}

std::string speed(double gbs, const std::string& reason) {
  if (gbs == 0) return fmt::format("not measured: {}", reason);
  return fmt::format("{:.2f} GB/s{}", gbs, reason.empty() ? "" : ", " + reason);
}

std::string by_depth(const DepthTrial& trial) {
  std::vector<std::string> parts;
  for (const auto& [depth, gbs] : trial.read_gbs)
    parts.push_back(fmt::format("{}: {:.2f} GB/s", depth, gbs));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string memlock(uint64_t bytes) {
  return bytes == UINT64_MAX ? "unlimited" : format_bytes(bytes);
}

void print(const Examination& found, const GdsExamination& gds, const TuningExamination& tuning) {
  const auto line = [](std::string_view name, std::string_view value) {
    fmt::print("{:<13} {}\n", name, value);
  };
  const Machine& machine = found.machine;
  line("directory",
       found.examined == found.directory
           ? found.directory
           : fmt::format("{} (does not exist yet; a store would make it)", found.directory));
  line("file system",
       fmt::format("{} on {}, mounted at {} ({})", machine.mount.type, machine.mount.source,
                   machine.mount.point, machine.mount.options));
  line("drive", machine.drive.empty() ? "not a block device" : machine.drive);
  line("free space",
       fmt::format("{} of {}", format_bytes(found.free_bytes), format_bytes(found.total_bytes)));
  line("O_DIRECT", yes_or_no(found.direct, found.direct_reason));
  line("io_uring", yes_or_no(found.uring, found.uring_reason));
  line("memory lock", memlock(found.memlock_bytes));
  line("raw write", speed(found.raw_write_gbs, found.speed_reason));
  line("raw read", speed(found.raw_read_gbs, found.speed_reason));
  if (!found.depths.read_gbs.empty()) line("by io_depth", by_depth(found.depths));
  line("I/O engine", found.engine_reason.empty()
                         ? fmt::format("{}: the best one, with all that it wants", found.engine)
                         : fmt::format("{}: {}", found.engine, found.engine_reason));
  print(gds);
  print(tuning);
  for (const auto& text : found.problems) fmt::print("\nDOES NOT WORK: {}\n", text);
  for (const auto* advice : {&found.advice, &gds.advice, &tuning.advice})
    for (const auto& text : *advice) fmt::print("\nTO CHANGE: {}\n", text);
  if (found.problems.empty() && found.advice.empty() && gds.advice.empty() && tuning.advice.empty())
    fmt::print("\nNothing to change.\n");
}

Json by_depth_json(const DepthTrial& trial) {
  Json json = Json::object();
  for (const auto& [depth, gbs] : trial.read_gbs) json[std::to_string(depth)] = gbs;
  return json;
}

Json to_json(const Examination& found, const GdsExamination& gds, const TuningExamination& tuning) {
  return {{"directory", found.directory},
          {"machine", to_json(found.machine)},
          {"free_bytes", found.free_bytes},
          {"total_bytes", found.total_bytes},
          {"o_direct", found.direct},
          {"o_direct_reason", found.direct_reason},
          {"io_uring", found.uring},
          {"io_uring_reason", found.uring_reason},
          {"memlock_bytes", found.memlock_bytes},
          {"raw_read_gbs", found.raw_read_gbs},
          {"raw_write_gbs", found.raw_write_gbs},
          {"raw_read_gbs_by_io_depth", by_depth_json(found.depths)},
          {"raw_reason", found.speed_reason},
          {"io_engine", found.engine},
          {"io_engine_reason", found.engine_reason},
          {"cufile", to_json(gds)},
          {"problems", found.problems},
          {"advice", found.advice},
          {"cufile_advice", gds.advice},
          {"tuning", to_json(tuning)},
          {"tuning_advice", tuning.advice}};
}

int run(const Options& options) {
  Json reports = Json::array();
  int code = kGood;
  for (const std::string& directory : options.dirs) {
    const auto found = examine(directory);
    if (!found) return could_not_run(found.error());
    const auto gds = examine_gds(found->examined, options.gpu, found->machine.mount);
    const auto tuning = examine_tuning({.directory = found->examined,
                                        .raw_read_gbs = found->raw_read_gbs,
                                        .system_root = {},
                                        .wait = {}});
    if (!reports.empty()) fmt::print("\n");
    print(*found, gds, tuning);
    reports.push_back(to_json(*found, gds, tuning));
    if (!found->problems.empty()) code = kShortfall;
  }
  return write_json(options.common, reports.size() == 1 ? reports.front() : reports, code);
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("doctor", "Say what a directory and this machine are good for");
  command->footer(
      "Tries the real thing: opens a file with O_DIRECT, sets up io_uring, makes a store, and "
      "reads\n"
      "and writes 256 MiB for the raw speed of the drive. Everything is removed again. A store "
      "that\n"
      "is there already is not touched. Moves 4 MiB between drive and GPU by cuFile, in a process "
      "of\n"
      "its own, and reads which way they went. No GPU is needed. Reads how GPU, drives and RDMA\n"
      "ports are linked and how busy they are now, and names the setting that would help.\n"
      "\n"
      "Examples:\n"
      "  penstock doctor --dir /mnt/nvme\n"
      "  penstock doctor --dir /mnt/nvme/llm_cache --json doctor.json\n"
      "\n"
      "Exit code: 0 a store works here (there may be advice), 1 it does not, 2 could not run.");
  command
      ->add_option("--dir", options->dirs,
                   "Directory where the cache is, or would be. Several, separated by commas, are "
                   "examined one after the other; --json then writes a list")
      ->delimiter(',')
      ->envname("PENSTOCK_CACHE_DIR")
      ->capture_default_str()
      ->type_name("DIR");
  command->add_option("--gpu", options->gpu, "GPU for cuFile: number, GPU-<uuid> or PCI bus id")
      ->capture_default_str()
      ->type_name("GPU");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
