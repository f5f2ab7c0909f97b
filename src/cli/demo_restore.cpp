// The second process of `penstock demo`: knows the text and the directory, and nothing else.
#include <fcntl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/demo.hpp"
#include "cli/demo_kv.hpp"
#include "cli/interrupt.hpp"
#include "cli/machine.hpp"
#include "cli/run_jobs.hpp"
#include "cli/store_view.hpp"
#include "metrics/trace.hpp"

namespace penstock::cli {
namespace {

struct Restored {
  RunTotals totals;
  uint64_t wrong_bytes = 0;
  std::map<std::string, std::string> facts;
};

// How many chunks the store says it has.
Result<size_t> look_up(Engine& engine, NamespaceId name_space, const DemoKv& kv) {
  std::vector<Key> chain;
  for (const JobChunk& chunk : kv.chunks) chain.push_back(chunk.key);
  const auto found =
      engine.lookup(name_space, std::move(chain), {GroupNeed{}}).wait(std::chrono::seconds{5});
  if (!found) return Error{Status::Timeout, "the index does not answer"};
  return *found;
}

Result<Restored> restore(const DemoKv& kv, const std::string& store) {
  const size_t window = std::min<size_t>(kDemoWindowChunks, kv.chunks.size());
  auto pages = PageMemory::create(kDemoGeometry, window * kDemoGeometry.rows_per_chunk);
  if (!pages) return pages.take_error();
  auto engine = Engine::open(demo_config(store, kv.bytes()), {pages->layout()});
  if (!engine) return engine.take_error();
  const auto name_space = (*engine)->open_namespace(demo_namespace());
  if (!name_space) return name_space.error();
  const auto present = look_up(**engine, *name_space, kv);
  if (!present) return present.error();
  const std::vector<int32_t> rows = scattered_rows(pages->rows());
  Restored restored{.totals = {}, .wrong_bytes = 0, .facts = (*engine)->facts()};
  Progress progress{"restore", kv.bytes()};
  for (size_t first = 0; first < *present && !interrupted(); first += window) {
    const size_t count = std::min(window, *present - first);
    const auto totals = run_jobs(**engine,
                                 {.kind = JobKind::Load,
                                  .namespace_id = *name_space,
                                  .jobs = demo_jobs(kv, first, count),
                                  .rows = rows,
                                  .rows_per_chunk = kDemoGeometry.rows_per_chunk},
                                 progress);
    // Pages of a chunk that failed are undefined and reported as failed; all others must be right.
    if (totals.chunks_failed == 0)
      restored.wrong_bytes += demo_wrong_bytes(kv, first, count, rows, *pages);
    restored.totals += totals;
  }
  return restored;
}

int run(const DemoOptions& options) {
  Json json;
  const int code = demo_restore(options, json);
  return code == kCouldNotRun ? code : write_json(options.common, json, code);
}

}  // namespace

int demo_restore(const DemoOptions& options, Json& json) {
  const auto kv = DemoKv::make(options.text, options.tokens);
  if (!kv) return could_not_run(kv.error());
  auto view = StoreView::open({options.dir}, O_RDONLY);
  if (!view) return could_not_run(view.error());
  const auto places = view->places();
  if (!places) return could_not_run(places.error());
  // Raw before and after, and the faster one counts: whatever warms up on the way helps the raw
  // figure, not ours.
  const auto before = measure_raw_speed(*places, {});
  if (!before) return could_not_run(before.error());
  if (!options.trace.empty()) start_trace();
  const auto restored = restore(*kv, options.dir);
  if (!options.trace.empty() && !write_file(options.trace, stop_trace())) return kCouldNotRun;
  if (!restored) return could_not_run(restored.error());
  if (interrupted()) return could_not_run("interrupted");
  const auto after = measure_raw_speed(*places, {});
  if (!after) return could_not_run(after.error());
  const RawSpeed& raw = before->seconds < after->seconds ? *before : *after;

  const RunTotals& totals = restored->totals;
  const uint64_t tokens = totals.chunks_ok * kDemoChunkTokens;
  const bool equal = restored->wrong_bytes == 0 && tokens == kv->tokens();
  json = {
      {"restored_tokens", tokens},
      {"expected_tokens", kv->tokens()},
      {"wrong_bytes", restored->wrong_bytes},
      {"bytes_equal", equal},
      {"failure", totals.failure},
      {"restore_bytes", totals.bytes},
      {"restore_seconds", totals.seconds},
      {"restore_gbs", totals.gb_per_s()},
      {"restore_cpu_seconds", totals.cpu_seconds},
      {"raw_read_bytes", raw.bytes},
      {"raw_read_seconds", raw.seconds},
      {"raw_read_gbs", raw.gb_per_s()},
      {"restore_pct_of_raw", raw.gb_per_s() > 0 ? 100 * totals.gb_per_s() / raw.gb_per_s() : 0.0},
      {"facts", restored->facts},
      {"machine", to_json(describe_machine(options.dir))}};
  return equal ? kGood : kShortfall;
}

void add_demo_restore(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* command = app.add_subcommand("demo-restore", "The second process of demo");
  command->group("");
  command->add_option("--dir", options->dir)->required();
  command->add_option("--tokens", options->tokens)->required();
  command->add_option("--text", options->text);
  command->add_option("--trace", options->trace);
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
