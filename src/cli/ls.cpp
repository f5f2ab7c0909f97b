// penstock ls: what is in a store.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/namespaces.hpp"
#include "cli/store_view.hpp"
#include "cli/table.hpp"

namespace penstock::cli {
namespace {

struct Options {
  CommonOptions common;
  NamespaceId copies_of = 0;  // 0: list namespaces
};

Json copy_json(const StoreView& view, const CopyRow& row) {
  Json extents = Json::array();
  for (const Extent& extent : row.record.extents)
    extents.push_back({{"path", view.pools()[extent.pool].path},
                       {"offset", view.offset_of(extent.first)},
                       {"bytes", extent.count * view.block_size()}});
  return {{"id", row.id},
          {"parent", row.parent},
          {"key", row.name.key.hex()},
          {"group", row.name.group},
          {"shard", row.name.shard},
          {"bytes", row.record.length},
          {"stored_bytes", row.record.stored},
          {"last_used_ms", row.stamp},
          {"extents", std::move(extents)}};
}

int list_namespaces(const Options& options, StoreView& view) {
  const auto namespaces = view.inspector().namespaces();
  if (!namespaces) return could_not_run(namespaces.error());
  fmt::print("{}", namespace_table(*namespaces));
  return write_json(options.common, {{"namespaces", namespaces_json(*namespaces)}}, kGood);
}

int list_copies(const Options& options, StoreView& view) {
  const auto namespaces = view.inspector().namespaces();
  if (!namespaces) return could_not_run(namespaces.error());
  if (std::ranges::find(*namespaces, options.copies_of, &NamespaceInfo::id) == namespaces->end())
    return could_not_run(fmt::format("--copies {}: no such namespace", options.copies_of));
  Json copies = Json::array();
  fmt::print("{:<64}  group  shard       bytes      stored  extents  last used\n", "key");
  const auto read = view.inspector().for_each_copy(options.copies_of, [&](const CopyRow& row) {
    fmt::print("{}  {:>5}  {:>5}  {:>10}  {:>10}  {:>7}  {}\n", row.name.key.hex(), row.name.group,
               row.name.shard, format_bytes(row.record.length), format_bytes(row.record.stored),
               row.record.extents.size(), row.is_valid ? format_time(row.stamp) : "DAMAGED ROW");
    if (!options.common.json.empty() && row.is_valid) copies.push_back(copy_json(view, row));
    return true;
  });
  if (!read) return could_not_run(read.error());
  return write_json(options.common, {{"namespace", options.copies_of}, {"copies", copies}}, kGood);
}

int run(const Options& options) {
  auto view = StoreView::open(options.common.dir, O_RDONLY);
  if (!view) return could_not_run(view.error());
  return options.copies_of == 0 ? list_namespaces(options, *view) : list_copies(options, *view);
}

}  // namespace

void add_ls(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("ls", "List namespaces, or the copies of one");
  command->footer(
      "A namespace holds what one model in one layout saved; nothing is shared between two. A "
      "copy\n"
      "is the KV of one chunk of tokens (of one group of layers, of one rank). Where stored is "
      "less "
      "than\n"
      "bytes, it is compressed. May run while engines use the store.\n"
      "\n"
      "Examples:\n"
      "  penstock ls --dir /mnt/nvme/llm_cache\n"
      "  penstock ls --dir /mnt/nvme/llm_cache --copies 1 --json copies.json\n"
      "\n"
      "Exit code: 0 listed, 2 could not run.");
  options->common.add_store_dir(*command);
  command->add_option("--copies", options->copies_of, "List the copies of this namespace")
      ->check(CLI::PositiveNumber)
      ->type_name("ID");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
