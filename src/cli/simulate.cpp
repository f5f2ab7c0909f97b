// penstock simulate: how large should the store be? A trace of requests, replayed through the
// store's own code.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/sizes.hpp"
#include "cli/command.hpp"
#include "cli/curve.hpp"
#include "cli/kv_model.hpp"
#include "cli/progress.hpp"
#include "cli/replay.hpp"
#include "cli/table.hpp"
#include "cli/temp_dir.hpp"
#include "store/space.hpp"

namespace penstock::cli {
namespace {

constexpr uint64_t kDefaultBlock = 1 << 20;  // block_size
constexpr double kWarrantyDays = 5 * 365;

struct Options {
  CommonOptions common;
  std::string trace;
  std::vector<double> capacities = {64, 128, 256, 512, 1024, 2048, 4096};  // GB
  std::string model;
  uint32_t tp = 1;
  uint64_t bytes_per_token = 131072;
  uint32_t chunk = 256;
  uint32_t trace_block = 512;
  double max_write_gb_per_day = 0;
  double drive_tb = 7.68;
  double dwpd = 1;
  double tbw = 0;  // 0: from dwpd
  std::string dir;
  std::string png;
};

uint64_t to_bytes(double gb) {
  return static_cast<uint64_t>(std::llround(gb * double{kGb}));
}

Result<ReplaySetup> make_setup(const Options& options) {
  ReplaySetup setup;
  setup.trace = options.trace;
  setup.trace_block = options.trace_block;
  setup.chunk_tokens = options.chunk;
  setup.bytes_per_token = options.bytes_per_token;
  setup.max_write_bytes_per_day = to_bytes(options.max_write_gb_per_day);
  if (options.chunk % options.trace_block != 0 && options.trace_block % options.chunk != 0)
    return Error{Status::Invalid,
                 fmt::format("--chunk {} and --trace-block {}: one must divide the other",
                             options.chunk, options.trace_block)};
  if (!options.model.empty()) {
    const auto model = KvModel::read(options.model, KvType::Auto);
    if (!model) return model.error();
    if (!model->can_split(options.tp))
      return Error{Status::Invalid,
                   fmt::format("--tp {}: the model has {} KV heads", options.tp, model->kv_heads)};
    setup.bytes_per_token = model->total_bytes(options.tp);
  }
  setup.block_bytes =
      std::min(kDefaultBlock, round_up(setup.bytes_per_token * setup.chunk_tokens, kSector));
  auto totals = scan_trace(setup.trace, setup.trace_block, setup.chunk_tokens);
  if (!totals) return totals.take_error();
  setup.totals = *totals;
  return setup;
}

Drive drive_of(const Options& options) {
  const double by_dwpd = options.drive_tb * options.dwpd * kWarrantyDays;
  return {options.drive_tb, options.tbw > 0 ? options.tbw : by_dwpd};
}

Json row_json(const ReplaySetup& setup, const ReplayFigures& figures, const Drive& drive) {
  const auto wear = wear_of(setup, figures, drive);
  const auto number = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  const bool endless = figures.capacity_bytes == 0;
  return {{"capacity_gb",
           endless ? Json(nullptr) : Json(static_cast<double>(figures.capacity_bytes) / 1e9)},
          {"token_hit_rate", figures.hit_rate()},
          {"request_hit_rate", figures.request_hit_rate()},
          {"prompt_tokens", figures.prompt_tokens},
          {"restored_tokens", figures.restored_tokens},
          {"written_bytes", figures.store.written_bytes},
          {"written_bytes_per_day", wear ? Json(wear->bytes_per_day) : Json(nullptr)},
          {"drive_writes_per_day", wear ? Json(wear->drive_writes_per_day) : Json(nullptr)},
          {"drive_life_years", number(wear ? wear->years : std::nullopt)},
          {"evicted_chunks", figures.store.evicted_chunks},
          {"rejected_chunks", figures.store.rejected_chunks},
          {"dropped_chunks", figures.store.dropped_chunks},
          {"peak_bytes", figures.store.peak_bytes}};
}

Json to_json(const ReplaySetup& setup, const std::vector<ReplayFigures>& rows, const Drive& drive) {
  Json json = {{"trace", setup.trace},
               {"requests", setup.totals.requests},
               {"prompt_tokens", setup.totals.prompt_tokens},
               {"output_tokens", setup.totals.output_tokens},
               {"seconds", setup.totals.seconds()},
               {"chunk_tokens", setup.chunk_tokens},
               {"bytes_per_token", setup.bytes_per_token},
               {"block_bytes", setup.block_bytes},
               {"max_write_bytes_per_day", setup.max_write_bytes_per_day},
               {"drive_tb", drive.tb},
               {"drive_tb_written", drive.tb_written},
               {"capacities", Json::array()}};
  for (const ReplayFigures& figures : rows)
    json["capacities"].push_back(row_json(setup, figures, drive));
  return json;
}

std::string years_text(const Json& years) {
  if (years.is_null()) return "-";
  const auto value = years.get<double>();
  return value >= 100 ? ">100" : fmt::format("{:.{}f}", value, value < 10 ? 2 : 1);
}

void print(const Json& json) {
  fmt::print("{} requests in {:.0f} s, {} prompt tokens; {} bytes a token, chunks of {} tokens\n",
             json.at("requests").get<uint64_t>(), json.at("seconds").get<double>(),
             json.at("prompt_tokens").get<uint64_t>(), json.at("bytes_per_token").get<uint64_t>(),
             json.at("chunk_tokens").get<uint64_t>());
  fmt::print("drive: {} TB, {:.0f} TB until it is worn out\n\n", json.at("drive_tb").get<double>(),
             json.at("drive_tb_written").get<double>());
  Table table{
      {"capacity", "tokens", "requests", "prefill", "written a day", "DWPD", "life, years"}};
  for (const Json& row : json.at("capacities")) {
    const Json& gb = row.at("capacity_gb");
    const double rate = row.at("token_hit_rate").get<double>();
    const Json& daily = row.at("written_bytes_per_day");
    table.add({gb.is_null() ? "no end" : format_bytes(to_bytes(gb.get<double>())),
               fmt::format("{:.1f} %", rate * 100),
               fmt::format("{:.1f} %", row.at("request_hit_rate").get<double>() * 100),
               rate < 1 ? fmt::format("{:.2f} x", 1 / (1 - rate)) : "-",
               daily.is_null() ? "-" : format_bytes(static_cast<uint64_t>(daily.get<double>())),
               daily.is_null()
                   ? "-"
                   : fmt::format("{:.2f}", row.at("drive_writes_per_day").get<double>()),
               years_text(row.at("drive_life_years"))});
  }
  fmt::print("{}", table.text());
}

Curve curve_of(const ReplaySetup& setup, const std::vector<ReplayFigures>& rows) {
  Curve curve;
  curve.title = fmt::format("prompt tokens restored, {} bytes a token", setup.bytes_per_token);
  for (const ReplayFigures& figures : rows) {
    if (figures.capacity_bytes == 0)
      curve.ceiling = figures.hit_rate();
    else
      curve.marks.push_back(
          {static_cast<double>(figures.capacity_bytes) / 1e9, figures.hit_rate()});
  }
  return curve;
}

// Memory where there is plenty of it: an index on a drive waits for that at each checkpoint.
std::string scratch_parent(const ReplaySetup& setup) {
  constexpr char kMemory[] = "/dev/shm";
  constexpr uint64_t kRow = 600, kRowBlock = 16;  // bytes of a copy in the index, generously
  const uint64_t blocks = div_up(setup.chunk_tokens * setup.bytes_per_token, setup.block_bytes);
  const uint64_t index_bytes = setup.totals.chunks * (kRow + kRowBlock * blocks);
  const uint64_t needed = index_bytes * std::max(1u, std::thread::hardware_concurrency());
  if (std::getenv("TMPDIR") == nullptr && file_system_space(kMemory).available / 4 > needed)
    return kMemory;
  std::error_code error;
  const auto temporary = std::filesystem::temp_directory_path(error);
  return error ? "." : temporary.string();
}

int run(const Options& options) {
  const auto setup = make_setup(options);
  if (!setup) return could_not_run(setup.error());
  std::vector<uint64_t> capacities;
  for (const double gb : options.capacities) capacities.push_back(to_bytes(gb));
  std::sort(capacities.begin(), capacities.end());
  capacities.erase(std::unique(capacities.begin(), capacities.end()), capacities.end());
  capacities.push_back(0);  // without end: the ceiling

  const auto scratch = TempDir::create(options.dir.empty() ? scratch_parent(*setup) : options.dir,
                                       "penstock-simulate");
  if (!scratch) return could_not_run(scratch.error());
  Result<std::vector<ReplayFigures>> rows{std::vector<ReplayFigures>{}};
  {
    Progress progress{"simulate", setup->totals.bytes * capacities.size(), false};
    rows = replay_all(*setup, capacities, scratch->path(),
                      [&](uint64_t bytes) { progress.add(bytes); });
  }
  if (!rows) return could_not_run(rows.error());
  const Json json = to_json(*setup, *rows, drive_of(options));
  print(json);
  const Curve curve = curve_of(*setup, *rows);
  fmt::print("\n{}", curve.text());
  if (!options.png.empty())
    if (const auto written = curve.picture().write_png(options.png); !written)
      return could_not_run(fmt::format("--png {}", written.error().message));
  return write_json(options.common, json, kGood);
}

}  // namespace

void add_simulate(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("simulate", "Replay a trace of requests: how large should the store be?");
  command->footer(
      "Each request looks its prompt up in a store of the given size, restores what is there and "
      "saves\n"
      "the rest: through the index, eviction and reservations of the store itself, on a scratch "
      "index,\n"
      "with the trace's time for a clock. No KV is written. A trace is a file of lines like\n"
      "  {\"timestamp\": 27482, \"input_length\": 955, \"output_length\": 52, \"hash_ids\": [46, "
      "47]}\n"
      "(Mooncake's format: ms, tokens, and an id for each 512 tokens of the prompt and what is "
      "before).\n"
      "\n"
      "tokens    share of the prompt tokens that were restored; one token is always computed\n"
      "requests  share of the requests that restored any\n"
      "prefill   how much less is computed: 1 / (1 - tokens), what a GPU gains at most\n"
      "written   what the drive takes in a day that goes on as the trace does\n"
      "DWPD      the same in drive writes a day\n"
      "life      until the endurance is used up\n"
      "no end    a store that evicts nothing: the most that this trace can give\n"
      "\n"
      "Left out: the cache in GPU memory, which would take some of the hits; output tokens, which "
      "have\n"
      "no ids; the time that requests take, so that two at the same moment find each other's "
      "chunks.\n"
      "\n"
      "Defaults: 131072 bytes a token is Llama-3.1-8B in bf16. 7.68 TB at one drive write a day "
      "for\n"
      "five years is what makers' data sheets give for read-intensive data-centre drives (Samsung "
      "PM9A3,\n"
      "Micron 7450 PRO), rated with small random writes (JESD219), which wear more than blocks of "
      "1 MiB.\n"
      "\n"
      "Examples:\n"
      "  penstock simulate conversation_trace.jsonl\n"
      "  penstock simulate trace.jsonl --model config.json --tp 8 --capacity 500,1000,2000,4000 "
      "--png curve.png\n"
      "  penstock simulate trace.jsonl --drive-tb 30.72 --dwpd 3 --json sizes.json\n"
      "\n"
      "Exit code: 0 computed, 2 could not run.");
  command->add_option("TRACE", options->trace, "The trace: one JSON object a line")->required();
  command
      ->add_option("--capacity", options->capacities,
                   "Sizes of the store in GB, separated by commas [64,128,...,4096]")
      ->delimiter(',')
      ->check(CLI::Range(1e-3, 1e9))
      ->type_name("GB");
  auto* model =
      command->add_option("--model", options->model, "The model's config.json")->type_name("FILE");
  command->add_option("--tp", options->tp, "Tensor parallel ranks of the model")
      ->check(CLI::Range(1, 1024))
      ->needs(model)
      ->capture_default_str();
  command->add_option("--bytes-per-token", options->bytes_per_token, "Bytes of KV a token")
      ->check(CLI::Range(1, 1 << 30))
      ->excludes(model)
      ->capture_default_str();
  command->add_option("--chunk", options->chunk, "Tokens of a chunk (chunk_size)")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--trace-block", options->trace_block, "Tokens of a hash id of the trace")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--max-write-gb-per-day", options->max_write_gb_per_day,
                   "The store's daily write limit; 0: none")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  command->add_option("--drive-tb", options->drive_tb, "Size of the drive, or of all together")
      ->check(CLI::Range(1e-3, 1e6))
      ->capture_default_str();
  auto* dwpd =
      command->add_option("--dwpd", options->dwpd, "Its drive writes a day, over five years")
          ->check(CLI::Range(1e-3, 1e3))
          ->capture_default_str();
  command->add_option("--tbw", options->tbw, "Its endurance in TB written, instead")
      ->check(CLI::Range(1e-3, 1e9))
      ->excludes(dwpd);
  command
      ->add_option("--dir", options->dir,
                   "Where to put scratch files [TMPDIR; /dev/shm if there is plenty of it; /tmp]")
      ->check(CLI::ExistingDirectory)
      ->type_name("DIR");
  command->add_option("--png", options->png, "Also draw the curve into this file")
      ->type_name("FILE");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
