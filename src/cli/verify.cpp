// penstock verify: is the index in order, and is every saved byte what it was?
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/check_copies.hpp"
#include "cli/command.hpp"
#include "cli/drop_copies.hpp"
#include "cli/interrupt.hpp"
#include "cli/table.hpp"

namespace penstock::cli {
namespace {

struct Options {
  CommonOptions common;
  bool repair = false;
};

struct Report {
  std::vector<std::string> audit;     // contradictions within the index
  std::vector<std::string> problems;  // pools that are not there
  CheckResult check;
  Dropped dropped;
};

Result<Report> examine_store(const std::vector<std::string>& directories) {
  auto view = StoreView::open(directories, O_RDONLY);
  if (!view) return view.take_error();
  Report report;
  report.audit = view->inspector().audit();
  for (const PoolFile& pool : view->pools())
    if (!pool.fd) report.problems.push_back(pool.problem);
  auto check = check_copies(*view);
  if (!check) return check.take_error();
  report.check = std::move(*check);
  return report;
}

std::string describe(const DamagedCopy& damaged) {
  const CopyRow& row = damaged.row;
  std::string text = fmt::format("copy {} (namespace {}, group {}, shard {})", row.name.key.hex(),
                                 row.name_space, row.name.group, row.name.shard);
  if (!damaged.path.empty())
    text += fmt::format(", block {} at byte {} of {}", damaged.block, damaged.offset, damaged.path);
  return fmt::format("{}: {}", text, damaged.reason);
}

void print(const Report& report) {
  const CheckResult& check = report.check;
  const double rate =
      check.seconds > 0 ? static_cast<double>(check.bytes) / check.seconds / 1e9 : 0;
  for (const auto& text : report.problems) fmt::print("POOL MISSING  {}\n", text);
  for (const auto& text : report.audit) fmt::print("INDEX  {}\n", text);
  for (const auto& damaged : check.damaged) fmt::print("DAMAGED  {}\n", describe(damaged));
  fmt::print("{} copies, {} read and right, {:.2f} GB/s; {} damaged\n", check.copies,
             format_bytes(check.bytes), rate, check.damaged.size());
  if (check.unreachable != 0)
    fmt::print(
        "{} copies are in pools that are not there: mount their drives, or name every "
        "directory of cache_dir in --dir\n",
        check.unreachable);
  if (check.evicted != 0)
    fmt::print("{} copies were evicted while they were being read\n", check.evicted);
}

Json to_json(const Report& report) {
  Json json = {{"copies", report.check.copies},
               {"bytes", report.check.bytes},
               {"seconds", report.check.seconds},
               {"evicted_meanwhile", report.check.evicted},
               {"unreachable", report.check.unreachable},
               {"problems", report.problems},
               {"audit", report.audit},
               {"damaged", Json::array()},
               {"dropped", report.dropped.copies},
               {"not_dropped", report.dropped.remaining}};
  for (const DamagedCopy& damaged : report.check.damaged)
    json["damaged"].push_back({{"key", damaged.row.name.key.hex()},
                               {"namespace", damaged.row.name_space},
                               {"group", damaged.row.name.group},
                               {"shard", damaged.row.name.shard},
                               {"block", damaged.block},
                               {"path", damaged.path},
                               {"offset", damaged.offset},
                               {"reason", damaged.reason}});
  return json;
}

Result<void> repair(const Options& options, Report& report) {
  if (report.check.damaged.empty()) return {};
  std::vector<CopyRow> rows;
  for (const DamagedCopy& damaged : report.check.damaged) rows.push_back(damaged.row);
  const auto dropped = drop_copies(options.common.dir, rows);
  if (!dropped) return dropped.error();
  report.dropped = *dropped;
  fmt::print("{} copies dropped: the damaged ones, and those that hang below them\n",
             dropped->copies);
  if (dropped->remaining != 0)
    fmt::print("{} could not be dropped: their rows in the index are damaged\n",
               dropped->remaining);
  return {};
}

int run(const Options& options) {
  auto report = examine_store(options.common.dir);
  if (report.status() == Status::Corrupt) {
    fmt::print("UNUSABLE  {}\n", report.error().message);
    fmt::print(
        "The next process that opens the store alone sets this index aside and begins a new "
        "one: nothing wrong is ever loaded, and the cache starts empty.\n");
    return write_json(options.common, {{"index_damage", report.error().message}}, kShortfall);
  }
  if (!report) return could_not_run(report.error());
  if (interrupted()) return could_not_run("interrupted");
  print(*report);
  if (options.repair)
    if (const auto repaired = repair(options, *report); !repaired)
      return could_not_run(repaired.error());
  const bool repaired = options.repair && report->dropped.remaining == 0;
  const bool good = (repaired || report->check.damaged.empty()) && report->audit.empty() &&
                    report->problems.empty();
  return write_json(options.common, to_json(*report), good ? kGood : kShortfall);
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("verify", "Check every byte of a store");
  command->footer(
      "Looks for contradictions in the index, then reads every copy and compares every block with "
      "its\n"
      "checksum, of compressed ones before and after it is unpacked. May run while engines use the "
      "store. An engine does the same check on each load, "
      "so\n"
      "that damage is a miss and never a wrong byte; this finds it before anybody needs the copy.\n"
      "\n"
      "Examples:\n"
      "  penstock verify --dir /mnt/nvme/llm_cache\n"
      "  penstock verify --dir /mnt/nvme/llm_cache --repair   drop what is damaged\n"
      "\n"
      "Exit code: 0 all is right (or repaired), 1 damage found, 2 could not run.");
  options->common.add_store_dir(*command);
  command->add_flag("--repair", options->repair,
                    "Drop damaged copies and the chunks that follow them");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
