// penstock top: what the processes that use a store do, live.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/live_view.hpp"
#include "cli/screen.hpp"
#include "cli/store_view.hpp"
#include "cli/table.hpp"
#include "store/clock.hpp"

namespace penstock::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPeriod{1};

struct Options {
  CommonOptions common;
  bool once = false;
};

struct Snapshot {
  Clock::time_point at = Clock::now();
  StoreTotals totals;
  std::vector<LiveRow> rows;
};

Result<Snapshot> look(Inspector& inspector, const std::string& directory) {
  Snapshot seen;
  auto totals = inspector.totals();
  if (!totals) return totals.error();
  seen.totals = *totals;
  seen.rows = live_rows(directory);
  return seen;
}

uint64_t used_bytes(const StoreTotals& totals) {
  return (totals.blocks_total - std::min(totals.blocks_free, totals.blocks_total)) *
             totals.block_size +
         totals.index_bytes;
}

std::string text_of(const std::string& directory, const Snapshot& seen, const Snapshot& before) {
  const StoreTotals& totals = seen.totals;
  const double seconds = std::chrono::duration<double>(seen.at - before.at).count();
  const uint64_t used = used_bytes(totals);
  const double percent = totals.max_bytes == 0 ? 0
                                               : 100 * static_cast<double>(used) /
                                                     static_cast<double>(totals.max_bytes);
  std::string text = fmt::format("{}  {}\n", directory, format_time(now_ms()));
  text += fmt::format("{} used of {} ({:.0f} %)  {} copies  {} evictions  {} written today\n\n",
                      format_bytes(used), format_bytes(totals.max_bytes), percent, totals.copies,
                      totals.evictions, format_bytes(totals.written_today));
  return text + live_table(seen.rows, before.rows, seconds);
}

Json json_of(const Snapshot& seen) {
  const StoreTotals& totals = seen.totals;
  return {{"capacity_bytes", totals.max_bytes},
          {"used_bytes", used_bytes(totals)},
          {"copies", totals.copies},
          {"evictions", totals.evictions},
          {"written_today_bytes", totals.written_today},
          {"processes", to_json(seen.rows)}};
}

int run(const Options& options) {
  const std::string& directory = options.common.dir.front();
  auto inspector = open_inspector(directory);
  if (!inspector) return could_not_run(inspector.error());
  auto before = look(**inspector, directory);
  if (!before) return could_not_run(before.error());
  if (options.once || !options.common.json.empty() || !Screen::is_possible()) {
    fmt::print("{}", text_of(directory, *before, *before));
    return write_json(options.common, json_of(*before), kGood);
  }
  auto seen = before;
  {
    Screen screen;
    for (;;) {
      screen.draw(text_of(directory, *seen, *before) + "\nq quits\n");
      if (!screen.pause(kPeriod)) break;
      before = std::move(seen);
      seen = look(**inspector, directory);
      if (!seen) break;
    }
  }
  return seen ? kGood : could_not_run(seen.error());
}

}  // namespace

void add_top(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("top", "Watch the processes that use a store");
  command->footer(
      "Each process that has a store open tells others about once a second what it does, in a "
      "small\n"
      "file beside the index (not with enable_metrics: false). A row is an engine: a rank of vLLM "
      "has\n"
      "one, its scheduler another that only looks things up. Loaded, saved and all counts are "
      "since it\n"
      "was opened; queue is requests that the drives have and may have; jobs are loads+saves under "
      "way.\n"
      "Without a terminal, with --once or with --json it is shown once.\n"
      "\n"
      "Examples:\n"
      "  penstock top --dir /mnt/nvme/llm_cache         q or Ctrl-C ends it\n"
      "  penstock top --dir /mnt/nvme/llm_cache --json top.json\n"
      "\n"
      "Exit code: 0 shown, 2 could not run.");
  options->common.add_store_dir(*command);
  command->add_flag("--once", options->once, "Show it once");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
