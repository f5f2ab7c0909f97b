#include "cli/bench_size.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/sha256.hpp"
#include "base/sizes.hpp"
#include "cli/drop_copies.hpp"
#include "cli/fio.hpp"
#include "cli/interrupt.hpp"
#include "cli/kv_pattern.hpp"
#include "cli/pages.hpp"
#include "cli/run_jobs.hpp"
#include "cli/samples.hpp"
#include "cli/store_view.hpp"
#include "key/identity.hpp"

namespace penstock::cli {
namespace {

constexpr uint64_t kMaxPage = 64 * 1024;
constexpr uint64_t kMaxBlockSize = 1024 * 1024;
constexpr uint64_t kJobBytes = 128 * 1024 * 1024;
constexpr uint64_t kJobsInFlight = 4;
constexpr size_t kLookupsPerRound = 400;

class SizeBench {
 public:
  SizeBench(const BenchSize& size, PageMemory pages) : size_{size}, pages_{std::move(pages)} {
    rows_ = scattered_rows(pages_.rows());
    for (uint64_t row = 0; row < pages_.rows(); ++row)
      fill_page(pages_.page(0, row), Key{}, 0, static_cast<uint32_t>(row));
    config_.gds_config.cache_dir = {size.directory};
    config_.gds_config.block_size = std::min(kMaxBlockSize, size.chunk_bytes);
    config_.gds_config.max_cache_size_gb = static_cast<double>(size.total_bytes) * 1.1 / 1e9 + 0.3;
    config_.gds_config.min_free_gb = 0;
    config_.gds_config.max_write_gb_per_day = 0;
    config_.gds_config.io_depth = size.io_depth;
    config_.gds_config.load_deadline_s = config_.gds_config.save_deadline_s = 3000;
    config_.log_level = "warning";
  }

  Result<Json> run() {
    // The first save makes the pool file grow; only later ones are what a store in use does.
    if (auto grown = save_round(0, nullptr); !grown) return grown.take_error();
    for (uint32_t round = 1; round <= size_.rounds; ++round) {
      if (auto cleared = drop_all_copies(size_.directory); !cleared) return cleared.take_error();
      // Raw writes destroy what the places hold; they hold nothing now.
      if (auto raw = raw_round(true); !raw) return raw.take_error();
      if (auto saved = save_round(round, &save_); !saved) return saved.take_error();
      const bool raw_first = round % 2 == 0;
      if (raw_first)
        if (auto raw = raw_round(false); !raw) return raw.take_error();
      if (auto loaded = load_round(round); !loaded) return loaded.take_error();
      if (!raw_first)
        if (auto raw = raw_round(false); !raw) return raw.take_error();
    }
    return report();
  }

 private:
  std::vector<std::vector<JobChunk>> jobs(uint32_t round) const {
    const uint64_t chunks = size_.total_bytes / size_.chunk_bytes;
    const uint64_t per_job = std::max<uint64_t>(1, kJobBytes / size_.chunk_bytes);
    std::vector<std::vector<JobChunk>> all;
    for (uint64_t first = 0; first < chunks; first += per_job) {
      // Each job is a chain of its own, as each request of an engine is.
      std::vector<JobChunk> job;
      Key parent;
      for (uint64_t i = first; i < std::min(chunks, first + per_job); ++i) {
        const std::array<uint32_t, 2> tokens = {round, static_cast<uint32_t>(i)};
        const Key key = chain_key(parent, tokens.data(), tokens.size());
        job.push_back({.key = key, .parent = parent});
        parent = key;
      }
      all.push_back(std::move(job));
    }
    return all;
  }

  NamespaceSpec name_space() const {
    NamespaceSpec spec;
    spec.description = Json{{"model", "penstock bench"}, {"chunk_bytes", size_.chunk_bytes}}.dump();
    spec.digest.bytes = sha256({std::as_bytes(std::span{spec.description})});
    return spec;
  }

  Result<RunTotals> run_ours(Engine& engine, NamespaceId id, JobKind kind, uint32_t round) {
    const std::string label = kind == JobKind::Save ? "save" : "restore";
    Progress progress{label, size_.total_bytes};
    auto totals = run_jobs(engine,
                           {.kind = kind,
                            .namespace_id = id,
                            .jobs = jobs(round),
                            .rows = rows_,
                            .rows_per_chunk = pages_.geometry().rows_per_chunk},
                           progress);
    if (interrupted()) return Error{Status::Cancelled, "interrupted"};
    if (totals.chunks_failed != 0)
      return Error{Status::Io,
                   fmt::format("{} of {} chunks failed to {}: {}", totals.chunks_failed,
                               totals.chunks_ok + totals.chunks_failed, label, totals.failure)};
    return totals;
  }

  // Saves under this round's keys and learns where the copies lie.
  Result<void> save_round(uint32_t round, Samples* samples) {
    auto engine = Engine::open(config_, {pages_.layout()});
    if (!engine) return engine.take_error();
    facts_ = (*engine)->facts();
    const auto id = (*engine)->open_namespace(name_space());
    if (!id) return id.error();
    const auto totals = run_ours(**engine, *id, JobKind::Save, round);
    if (!totals) return totals.error();
    if (samples != nullptr) {
      samples->add(totals->gb_per_s());
      save_cpu_.add(totals->cpu_seconds / (static_cast<double>(totals->bytes) / 1e9));
    }
    engine->reset();
    return find_places();
  }

  Result<void> find_places() {
    auto view = StoreView::open({size_.directory}, O_RDWR);
    if (!view) return view.take_error();
    auto places = view->places();
    if (!places) return places.take_error();
    uint64_t bytes = 0;
    for (const RawRange& place : *places) bytes += place.size;
    if (bytes < size_.total_bytes)
      return Error{Status::NoSpace,
                   fmt::format("only {} of {} bytes are in the store", bytes, size_.total_bytes)};
    view_.emplace(std::move(*view));
    places_ = std::move(*places);
    return {};
  }

  Result<void> load_round(uint32_t round) {
    if (auto timed = time_open(); !timed) return timed;
    auto engine = Engine::open(config_, {pages_.layout()});
    if (!engine) return engine.take_error();
    const auto id = (*engine)->open_namespace(name_space());
    if (!id) return id.error();
    const auto totals = run_ours(**engine, *id, JobKind::Load, round);
    if (!totals) return totals.error();
    restore_.add(totals->gb_per_s());
    restore_cpu_.add(totals->cpu_seconds / (static_cast<double>(totals->bytes) / 1e9));
    return time_lookups(**engine, *id, round);
  }

  Result<void> time_open() {
    const auto started = Clock::now();
    const auto engine = Engine::open(config_, {});
    if (!engine) return engine.error();
    open_ms_.add(std::chrono::duration<double, std::milli>(Clock::now() - started).count());
    return {};
  }

  Result<void> time_lookups(Engine& engine, NamespaceId id, uint32_t round) {
    const auto chains = jobs(round);
    for (size_t i = 0; i < kLookupsPerRound; ++i) {
      std::vector<Key> chain;
      for (const JobChunk& chunk : chains[i % chains.size()]) chain.push_back(chunk.key);
      const size_t expected = chain.size();
      const auto started = Clock::now();
      const auto found =
          engine.lookup(id, std::move(chain), {GroupNeed{}}).wait(std::chrono::seconds{5});
      lookup_us_.add(std::chrono::duration<double, std::micro>(Clock::now() - started).count());
      if (found != expected)
        return Error{Status::NotFound,
                     fmt::format("a lookup found {} of {} chunks", found.value_or(0), expected)};
    }
    return {};
  }

  Result<void> raw_round(bool write) {
    if (interrupted()) return Error{Status::Cancelled, "interrupted"};
    const auto raw = measure_raw_speed(places_, {.write = write, .depth = size_.io_depth});
    if (!raw) return raw.error();
    (write ? raw_write_ : raw_read_).add(raw->gb_per_s());
    return {};
  }

  Json report() {
    Json json = {{"chunk_bytes", size_.chunk_bytes},
                 {"block_bytes", config_.gds_config.block_size},
                 {"page_bytes", pages_.geometry().page_bytes},
                 {"bytes", size_.total_bytes},
                 {"rounds", size_.rounds},
                 {"raw_read_gbs", raw_read_.median()},
                 {"restore_gbs", restore_.median()},
                 {"restore_pct_of_raw", 100 * restore_.ratios(raw_read_).median()},
                 {"restore_cpu_s_per_gb", restore_cpu_.median()},
                 {"raw_write_gbs", raw_write_.median()},
                 {"save_gbs", save_.median()},
                 {"save_pct_of_raw", 100 * save_.ratios(raw_write_).median()},
                 {"save_cpu_s_per_gb", save_cpu_.median()},
                 {"lookup_us_p50", lookup_us_.quantile(0.5)},
                 {"lookup_us_p99", lookup_us_.quantile(0.99)},
                 {"open_ms", open_ms_.median()},
                 {"round_figures",
                  {{"raw_read_gbs", raw_read_.values()},
                   {"restore_gbs", restore_.values()},
                   {"raw_write_gbs", raw_write_.values()},
                   {"save_gbs", save_.values()}}},
                 {"facts", facts_}};
    if (const auto fio = fio_read_gbs(view_->pools()[0].path, places_[0].offset, places_[0].size))
      json["fio_read_gbs"] = *fio;
    return json;
  }

  using Clock = std::chrono::steady_clock;

  BenchSize size_;
  PageMemory pages_;
  std::vector<int32_t> rows_;
  Config config_;
  std::optional<StoreView> view_;  // owns the descriptors of places_
  std::vector<RawRange> places_;
  std::map<std::string, std::string> facts_;
  Samples raw_read_, raw_write_, restore_, save_, restore_cpu_, save_cpu_, lookup_us_, open_ms_;
};

}  // namespace

Result<Json> bench_size(const BenchSize& size) {
  const uint64_t page = std::min(kMaxPage, size.chunk_bytes);
  const Geometry geometry{.layers = 1,
                          .page_bytes = page,
                          .rows_per_chunk = static_cast<uint32_t>(size.chunk_bytes / page)};
  const uint64_t job = std::max(kJobBytes / size.chunk_bytes, uint64_t{1}) * size.chunk_bytes;
  auto pages = PageMemory::create(
      geometry, std::min(kJobsInFlight * job, round_up(size.total_bytes, job)) / page);
  if (!pages) return pages.take_error();
  return SizeBench{size, std::move(*pages)}.run();
}

}  // namespace penstock::cli
