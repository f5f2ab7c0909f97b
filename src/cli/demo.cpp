// penstock demo: save the KV of a text, forget it, restore it in a new process, compare every byte.
#include "cli/demo.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/fd.hpp"
#include "base/sizes.hpp"
#include "cli/demo_kv.hpp"
#include "cli/interrupt.hpp"
#include "cli/process.hpp"
#include "cli/run_jobs.hpp"
#include "cli/table.hpp"
#include "cli/temp_dir.hpp"
#include "metrics/trace.hpp"

namespace penstock::cli {
namespace {

Result<void> check_space(const std::string& directory, uint64_t bytes) {
  struct statvfs space {};
  if (statvfs(directory.c_str(), &space) != 0)
    return Error{Status::Invalid, fmt::format("{}: {}", directory, std::strerror(errno))};
  const uint64_t free = uint64_t{space.f_bavail} * space.f_frsize;
  const uint64_t needed = bytes + bytes / 4 + kGb;
  if (free >= needed) return {};
  return Error{Status::NoSpace, fmt::format("{}: {} free, {} needed; take fewer --tokens",
                                            directory, format_bytes(free), format_bytes(needed))};
}

Result<RunTotals> save(const DemoKv& kv, const std::string& store) {
  const size_t window = std::min<size_t>(kDemoWindowChunks, kv.chunks.size());
  auto pages = PageMemory::create(kDemoGeometry, window * kDemoGeometry.rows_per_chunk);
  if (!pages) return pages.take_error();
  auto engine = Engine::open(demo_config(store, kv.bytes()), {pages->layout()});
  if (!engine) return engine.take_error();
  const auto name_space = (*engine)->open_namespace(demo_namespace());
  if (!name_space) return name_space.error();
  const std::vector<int32_t> rows = scattered_rows(pages->rows());
  RunTotals totals;
  Progress progress{"save", kv.bytes()};
  for (size_t first = 0; first < kv.chunks.size() && !interrupted(); first += window) {
    const size_t count = std::min(window, kv.chunks.size() - first);
    demo_fill(kv, first, count, rows, *pages);
    totals += run_jobs(**engine,
                       {.kind = JobKind::Save,
                        .namespace_id = *name_space,
                        .jobs = demo_jobs(kv, first, count),
                        .rows = rows,
                        .rows_per_chunk = kDemoGeometry.rows_per_chunk},
                       progress);
  }
  return totals;
}

// What O_DIRECT wrote is in no cache; where there is no O_DIRECT, this makes the restore read the
// drive and not the memory.
Result<void> drop_page_cache(const std::string& store) {
  for (const auto& entry : std::filesystem::directory_iterator(store)) {
    if (!entry.is_regular_file()) continue;
    const UniqueFd fd{open(entry.path().c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd || fdatasync(fd.get()) != 0 || posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED) != 0)
      return Error{Status::Io, fmt::format("{}: {}", entry.path().string(), std::strerror(errno))};
  }
  return {};
}

// Runs this program again, so that nothing that this process remembers can help. `store` is the
// directory of the store; the child leaves its findings in `findings`.
Result<Json> restore_in_new_process(const DemoOptions& options, const std::string& store,
                                    const std::string& findings) {
  std::vector<std::string> words = {"penstock", "demo-restore", "--dir",
                                    store,      "--tokens",     std::to_string(options.tokens),
                                    "--json",   findings};
  if (!options.text.empty()) words.insert(words.end(), {"--text", options.text});
  if (!options.trace.empty()) words.insert(words.end(), {"--trace", findings + ".trace"});
  const auto code = run_process("/proc/self/exe", std::move(words));
  if (!code) return code.error();
  if (*code != kGood && *code != kShortfall)
    return Error{Status::Io, "the restoring process failed"};
  std::ifstream file{findings};
  Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded()) return Error{Status::Io, "the restoring process left no result"};
  return json;
}

// One file of what both processes did: their clock is the same.
bool write_trace(const DemoOptions& options, const std::string& saved,
                 const std::string& restored_file) {
  std::ifstream file{restored_file};
  const Json restored = Json::parse(file, nullptr, false);
  Json all = Json::parse(saved);
  if (!restored.is_discarded())
    for (const Json& event : restored.at("traceEvents")) all["traceEvents"].push_back(event);
  return write_file(options.trace, all.dump() + "\n");
}

void print(const DemoKv& kv, const Json& json) {
  Table table{{"", "tokens", "bytes", "seconds", "GB/s", "of raw"}};
  const auto row = [&](const char* name, const char* tokens, const char* key, std::string of_raw) {
    const auto gbs = json.at(fmt::format("{}_gbs", key)).get<double>();
    const auto seconds = json.at(fmt::format("{}_seconds", key)).get<double>();
    const auto bytes = json.at(fmt::format("{}_bytes", key)).get<uint64_t>();
    table.add({name, tokens[0] == '\0' ? "" : fmt::format("{}", json.at(tokens).get<uint64_t>()),
               format_bytes(bytes), fmt::format("{:.3f}", seconds), fmt::format("{:.2f}", gbs),
               std::move(of_raw)});
  };
  row("save", "saved_tokens", "save", "");
  row("restore", "restored_tokens", "restore",
      fmt::format("{:.0f} %", json.at("restore_pct_of_raw").get<double>()));
  row("raw read", "", "raw_read", "100 %");
  fmt::print("{}\n", table.text());
  if (json.at("bytes_equal").get<bool>()) {
    fmt::print(
        "Every byte is what was saved: {} tokens in {} chunks, by a process that had never "
        "seen them.\n",
        kv.tokens(), kv.chunks.size());
    return;
  }
  fmt::print("FAILED: {} of {} tokens restored, {} bytes differ{}\n",
             json.at("restored_tokens").get<uint64_t>(), kv.tokens(),
             json.at("wrong_bytes").get<uint64_t>(),
             json.at("failure").get<std::string>().empty()
                 ? ""
                 : "; first failure: " + json.at("failure").get<std::string>());
}

int run(const DemoOptions& options) {
  if (options.tokens < kDemoChunkTokens)
    return could_not_run(fmt::format("--tokens {}: at least {}", options.tokens, kDemoChunkTokens));
  const auto kv = DemoKv::make(options.text, options.tokens);
  if (!kv) return could_not_run(kv.error());
  if (const auto good = check_space(options.dir, kv->bytes()); !good)
    return could_not_run(good.error());
  auto scratch = TempDir::create(options.dir, "penstock-demo");
  if (!scratch) return could_not_run(scratch.error());
  const std::string store = scratch->path() + "/store";

  if (!options.trace.empty()) start_trace();
  const auto saved = save(*kv, store);
  const std::string save_trace = options.trace.empty() ? "" : stop_trace();
  if (!saved) return could_not_run(saved.error());
  if (interrupted()) return could_not_run("interrupted");
  if (saved->chunks_failed != 0)
    return could_not_run(fmt::format("{} of {} chunks could not be saved: {}", saved->chunks_failed,
                                     kv->chunks.size(), saved->failure));
  if (const auto dropped = drop_page_cache(store); !dropped) return could_not_run(dropped.error());
  const std::string findings = scratch->path() + "/restore.json";
  const auto restored = restore_in_new_process(options, store, findings);
  if (!restored) return could_not_run(restored.error());
  if (!options.trace.empty() && !write_trace(options, save_trace, findings + ".trace"))
    return kCouldNotRun;

  Json json = {{"tokens", kv->tokens()},
               {"chunks", kv->chunks.size()},
               {"saved_tokens", saved->chunks_ok * kDemoChunkTokens},
               {"save_bytes", saved->bytes},
               {"save_seconds", saved->seconds},
               {"save_gbs", saved->gb_per_s()}};
  json.update(*restored);
  print(*kv, json);
  if (options.keep) {
    std::filesystem::remove(findings);
    std::filesystem::remove(findings + ".trace");
    json["store"] = store;
    fmt::print("The store is in {}\n", store);
    scratch->keep();
  }
  return write_json(options.common, json, json.at("bytes_equal").get<bool>() ? kGood : kShortfall);
}

}  // namespace

Config demo_config(const std::string& directory, uint64_t bytes) {
  constexpr double kDeadline = 3000;  // a slow drive is slow, not a failure
  Config config;
  config.gds_config.cache_dir = {directory};
  config.gds_config.max_cache_size_gb = static_cast<double>(bytes + bytes / 8) / 1e9 + 0.2;
  config.gds_config.min_free_gb = 0;
  config.gds_config.max_write_gb_per_day = 0;
  config.gds_config.load_deadline_s = kDeadline;
  config.gds_config.save_deadline_s = kDeadline;
  config.log_level = "warning";
  return config;
}

void add_demo(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* command =
      app.add_subcommand("demo", "Save, forget, restore in a new process, compare every byte");
  command->footer(
      "Does what a serving engine does with a long prompt, without the engine: takes a text, "
      "makes\n"
      "KV of Llama-3.1-8B's geometry for it (32 layers, 8 KV heads of 128 bf16 values, pages of "
      "16\n"
      "tokens: 128 KiB a token, 32 MiB a chunk of 256 tokens), saves it to DIR, drops it from "
      "memory\n"
      "and from the page cache, restores it in a new process and compares every byte. The raw "
      "speed\n"
      "of the drive is measured in the same run on the same places of the same file.\n"
      "\n"
      "Examples:\n"
      "  penstock demo                                  8192 tokens (1.07 GB) in this directory\n"
      "  penstock demo --dir /mnt/nvme --tokens 65536 --json demo.json\n"
      "  penstock demo --text book.txt --keep           then: penstock ls --dir ...\n"
      "  penstock demo --tokens 2048 --trace out.json   open out.json in ui.perfetto.dev\n"
      "\n"
      "Exit code: 0 every byte is right, 1 bytes differ or are missing, 2 could not run.");
  command
      ->add_option("--dir", options->dir,
                   "Where to make the store: in a new directory inside DIR, removed afterwards")
      ->check(CLI::ExistingDirectory)
      ->capture_default_str()
      ->type_name("DIR");
  command->add_option("--tokens", options->tokens, "Tokens; cut to full chunks of 256")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 24))
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--text", options->text, "Text to take the tokens of, repeated as needed")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  command->add_flag("--keep", options->keep, "Leave the store there, to look at");
  command
      ->add_option("--trace", options->trace,
                   "Write what both processes did, for ui.perfetto.dev, to this file")
      ->type_name("FILE");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
