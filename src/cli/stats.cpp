// penstock stats: how full a store is, and who fills it.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/live_view.hpp"
#include "cli/namespaces.hpp"
#include "cli/store_view.hpp"
#include "cli/table.hpp"
#include "store/space.hpp"

namespace penstock::cli {
namespace {

Json pools_json(StoreView& view) {
  Json pools = Json::array();
  const auto& rows = view.inspector().pools();
  for (size_t i = 0; i < rows.size(); ++i)
    pools.push_back({{"path", view.pools()[i].path},
                     {"bytes", rows[i].blocks * view.block_size()},
                     {"free_bytes", rows[i].free * view.block_size()},
                     {"problem", view.pools()[i].problem}});
  return pools;
}

// What the store can still take: up to its capacity, and no more than its drives have.
uint64_t free_bytes(const StoreTotals& totals, uint64_t used, const StoreView& view) {
  std::vector<std::string> directories;
  for (const PoolFile& pool : view.pools())
    if (pool.fd) directories.push_back(std::filesystem::path{pool.path}.parent_path().string());
  const uint64_t room = totals.blocks_free * totals.block_size + space_of(directories).available;
  return std::min(room, totals.max_bytes - std::min(totals.max_bytes, used));
}

void print(const Json& json) {
  const auto line = [](const char* name, const std::string& value) {
    fmt::print("{:<14} {}\n", name, value);
  };
  const auto bytes = [&json](const char* key) {
    return format_bytes(json.at(key).get<uint64_t>());
  };
  line("capacity", bytes("capacity_bytes"));
  line("used", fmt::format("{} ({} of it index)", bytes("used_bytes"), bytes("index_bytes")));
  line("free", bytes("free_bytes"));
  line("block", bytes("block_bytes"));
  line("copies", fmt::format("{}", json.at("copies").get<uint64_t>()));
  line("evictions", fmt::format("{}", json.at("evictions").get<uint64_t>()));
  line("written today", bytes("written_today_bytes"));
  for (const Json& pool : json.at("pools")) {
    const auto problem = pool.at("problem").get<std::string>();
    line("pool", problem.empty() ? fmt::format("{}, {}", pool.at("path").get<std::string>(),
                                               format_bytes(pool.at("bytes").get<uint64_t>()))
                                 : "MISSING: " + problem);
  }
}

int run(const CommonOptions& common) {
  auto view = StoreView::open(common.dir, O_RDONLY);
  if (!view) return could_not_run(view.error());
  const auto totals = view->inspector().totals();
  if (!totals) return could_not_run(totals.error());
  const auto namespaces = view->inspector().namespaces();
  if (!namespaces) return could_not_run(namespaces.error());
  const uint64_t used =
      (totals->blocks_total - std::min(totals->blocks_free, totals->blocks_total)) *
          totals->block_size +
      totals->index_bytes;
  const std::vector<LiveRow> rows = live_rows(common.dir.front());
  const Json json = {{"capacity_bytes", totals->max_bytes},
                     {"used_bytes", used},
                     {"free_bytes", free_bytes(*totals, used, *view)},
                     {"index_bytes", totals->index_bytes},
                     {"block_bytes", totals->block_size},
                     {"copies", totals->copies},
                     {"evictions", totals->evictions},
                     {"written_today_bytes", totals->written_today},
                     {"pools", pools_json(*view)},
                     {"namespaces", namespaces_json(*namespaces)},
                     {"processes", to_json(rows)}};
  print(json);
  fmt::print("\n{}", namespace_table(*namespaces));
  if (!rows.empty()) fmt::print("\n{}", live_table(rows, {}, 0));
  return write_json(common, json, kGood);
}

}  // namespace

void add_stats(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CommonOptions>();
  CLI::App* command = app.add_subcommand("stats", "Say how full a store is");
  command->footer(
      "Capacity is what the store was last opened with; pool files grow towards it in steps, as "
      "needed. Used\n"
      "counts blocks that hold copies or are being written, and the index. Free is what is left of "
      "the\n"
      "capacity, or what the drives still have if that is less. \"Written today\" is what\n"
      "the daily write limit counts (days of UTC). Evictions are copies, since the index was made. "
      "May\n"
      "run while engines use the store.\n"
      "\n"
      "Examples:\n"
      "  penstock stats --dir /mnt/nvme/llm_cache\n"
      "  penstock stats --dir /mnt/a/cache,/mnt/b/cache --json stats.json\n"
      "\n"
      "Exit code: 0 shown, 2 could not run.");
  options->add_store_dir(*command);
  options->add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
