#include "metrics/catalog.hpp"

namespace penstock {
namespace {

constexpr auto kCounter = MetricType::Counter;
constexpr auto kGauge = MetricType::Gauge;
constexpr auto kHistogram = MetricType::Histogram;
constexpr auto kEngine = MetricScope::Engine;
constexpr auto kTier = MetricScope::Tier;
constexpr auto kConnector = MetricScope::Connector;
constexpr double kMicro = 1e-6;

void add_lookups(std::vector<Metric>& rows) {
  rows.insert(rows.end(),
              {{"penstock_lookups_total",
                kCounter,
                kEngine,
                "Prompts that were looked up.",
                {{"", "lookups"}}},
               {"penstock_lookup_chunks_total",
                kCounter,
                kEngine,
                "Chunks of these prompts.",
                {{"", "lookup_chunks"}}},
               {"penstock_lookup_hits_total",
                kCounter,
                kEngine,
                "Chunks that could be loaded, by the fastest tier that has them.",
                {{R"(tier="local")", "lookup_hits_local"}, {R"(tier="gds")", "lookup_hits_gds"}}},
               {"penstock_lookup_misses_total",
                kCounter,
                kEngine,
                "Chunks that could not.",
                {{"", "lookup_misses"}}},
               {"penstock_index_lookups_total",
                kCounter,
                kTier,
                "Questions for a prefix that this process's index thread has answered.",
                {{"", "index_lookups"}}},
               {"penstock_index_lookup_seconds_total",
                kCounter,
                kTier,
                "Time that these took in the index.",
                {{"", "index_lookup_seconds"}}}});
}

void add_loads(std::vector<Metric>& rows) {
  rows.insert(
      rows.end(),
      {{"penstock_load_jobs_total",
        kCounter,
        kEngine,
        "Loads that were begun.",
        {{"", "load_jobs"}}},
       {"penstock_load_chunks_total",
        kCounter,
        kEngine,
        "Chunks of loads by what came of them. What is not ok is computed: missed (evicted "
        "meanwhile), corrupt (bytes differ from what was saved), failed (I/O error), timeout (the "
        "deadline), cancelled (with a chunk before it, or by the engine).",
        {{R"(result="ok")", "load_chunks_ok"},
         {R"(result="missed")", "load_chunks_missed"},
         {R"(result="corrupt")", "load_chunks_corrupt"},
         {R"(result="failed")", "load_chunks_failed"},
         {R"(result="timeout")", "load_chunks_timeout"},
         {R"(result="cancelled")", "load_chunks_cancelled"}}},
       {"penstock_load_chunks_reread_total",
        kCounter,
        kEngine,
        "Of those that are ok: bad or gone in memory when they were read, and taken from a drive.",
        {{"", "load_chunks_reread"}}},
       {"penstock_load_bytes_total",
        kCounter,
        kEngine,
        "Bytes that were loaded and verified, by the tier that they came from.",
        {{R"(tier="local")", "local_loaded_bytes"},
         {R"(tier="gds")", "loaded_bytes", "local_loaded_bytes"}}},
       {"penstock_load_seconds",
        kHistogram,
        kEngine,
        "From the submission of a load to its completion.",
        {{"", "load_seconds"}}},
       {"penstock_load_busy_seconds_total",
        kCounter,
        kEngine,
        "Time with at least one load under way.",
        {{"", "load_busy_micros", "", kMicro}}},
       {"penstock_promoted_chunks_total",
        kCounter,
        kEngine,
        "Chunks that a load from a drive has left in memory.",
        {{"", "promoted_chunks"}}},
       {"penstock_promoted_bytes_total",
        kCounter,
        kEngine,
        "Their bytes.",
        {{"", "promoted_bytes"}}}});
}

void add_saves(std::vector<Metric>& rows) {
  rows.insert(
      rows.end(),
      {{"penstock_save_jobs_total",
        kCounter,
        kEngine,
        "Saves that were begun.",
        {{"", "save_jobs"}}},
       {"penstock_save_chunks_total",
        kCounter,
        kEngine,
        "Chunks of saves by what came of them: ok, present (there already), fenced (the engine "
        "needed the memory first), dropped (no space, a limit, an error, or with a chunk before "
        "it).",
        {{R"(result="ok")", "save_chunks_ok"},
         {R"(result="present")", "save_chunks_present"},
         {R"(result="fenced")", "save_chunks_fenced"},
         {R"(result="dropped")", "save_chunks_dropped", "save_chunks_fenced"}}},
       {"penstock_save_bytes_total",
        kCounter,
        kEngine,
        "Bytes that were saved, by the tier that took them.",
        {{R"(tier="local")", "local_saved_bytes"},
         {R"(tier="gds")", "saved_bytes", "local_saved_bytes"}}},
       {"penstock_save_seconds",
        kHistogram,
        kEngine,
        "From the submission of a save to its completion.",
        {{"", "save_seconds"}}},
       {"penstock_write_behind_chunks_total",
        kCounter,
        kEngine,
        "Chunks on their way from memory to a drive, by what came of them.",
        {{R"(result="ok")", "write_behind_chunks"},
         {R"(result="present")", "write_behind_present"},
         {R"(result="dropped")", "write_behind_dropped"}}},
       {"penstock_write_behind_bytes_total",
        kCounter,
        kEngine,
        "Bytes that were written to a drive behind the jobs.",
        {{"", "write_behind_bytes"}}},
       {"penstock_write_behind_pending_bytes",
        kGauge,
        kEngine,
        "Bytes that are on their way there.",
        {{"", "write_behind_pending_bytes"}}},
       {"penstock_compressed_chunks_total",
        kCounter,
        kEngine,
        "Chunks on their way to a drive with enable_compression: packed, or raw because they would "
        "not have got 1.05 times smaller.",
        {{R"(result="packed")", "packed_chunks"}, {R"(result="raw")", "unpackable_chunks"}}},
       {"penstock_compressed_bytes_total",
        kCounter,
        kEngine,
        "Bytes of those that were packed, before and after: their quotient is the ratio.",
        {{R"(when="before")", "packed_raw_bytes"}, {R"(when="after")", "packed_bytes"}}},
       {"penstock_decompressed_chunks_total",
        kCounter,
        kEngine,
        "Chunks that were loaded from packed copies.",
        {{"", "unpacked_chunks"}}}});
}

void add_io(std::vector<Metric>& rows) {
  rows.insert(
      rows.end(),
      {{"penstock_io_seconds",
        kHistogram,
        kEngine,
        "gds: a request to a drive, from its start to its completion. local: a run of blocks "
        "between memory and the engine's pages.",
        {{R"(tier="gds",direction="read")", "io_read_seconds"},
         {R"(tier="gds",direction="write")", "io_write_seconds"},
         {R"(tier="local",direction="read")", "memory_read_seconds"},
         {R"(tier="local",direction="write")", "memory_write_seconds"}}},
       {"penstock_io_bytes_total",
        kCounter,
        kEngine,
        "Bytes of these, checksummed padding included.",
        {{R"(tier="gds",direction="read")", "io_read_bytes"},
         {R"(tier="gds",direction="write")", "io_write_bytes"},
         {R"(tier="local",direction="read")", "memory_read_bytes"},
         {R"(tier="local",direction="write")", "memory_write_bytes"}}},
       {"penstock_io_errors_total",
        kCounter,
        kEngine,
        "Requests to a drive that failed.",
        {{R"(direction="read")", "io_read_errors"}, {R"(direction="write")", "io_write_errors"}}},
       {"penstock_io_in_flight",
        kGauge,
        kEngine,
        "Queue depth: requests that the drives have now.",
        {{"", "io_in_flight"}}},
       {"penstock_io_in_flight_limit",
        kGauge,
        kEngine,
        "io_depth of all drives together.",
        {{"", "io_in_flight_limit"}}},
       {"penstock_jobs_in_progress",
        kGauge,
        kEngine,
        "Jobs that wait or are at work.",
        {{R"(kind="load")", "load_jobs_open"}, {R"(kind="save")", "save_jobs_open"}}},
       {"penstock_io_engine",
        kGauge,
        kEngine,
        "1 for each way between drive and memory that is used: uring or posix for host memory, and "
        "cufile for the GPU's.",
        {{R"(path="uring")", "io_engine_uring"},
         {R"(path="posix")", "io_engine_posix"},
         {R"(path="cufile")", "io_engine_cufile"}}},
       {"penstock_cufile_proven",
        kGauge,
        kEngine,
        "1: cuFile is used, because a test at start has proven that bytes go straight between "
        "drive and GPU; 0: it is not.",
        {{"", "cufile_proven"}}},
       {"penstock_cufile_bytes_total",
        kCounter,
        kEngine,
        "Bytes of requests to a drive that went through cuFile.",
        {{R"(direction="read")", "cufile_read_bytes"},
         {R"(direction="write")", "cufile_written_bytes"}}},
       {"penstock_cufile_failures_total",
        kCounter,
        kEngine,
        "Requests through cuFile that failed, or brought wrong bytes.",
        {{"", "cufile_failures"}}},
       {"penstock_backends_left_out",
        kGauge,
        kEngine,
        "Backends of the configuration that could not start; the log says why.",
        {{"", "backends_left_out"}}},
       {"penstock_fallback",
        kGauge,
        kEngine,
        "1: less than what the configuration asks for is used; the log says why. io_engine: not "
        "io_uring with registered memory. memory_tier: there is none. cufile: it kept failing and "
        "was given up.",
        {{R"(part="io_engine")", "fallback_io_engine"},
         {R"(part="cufile")", "cufile_given_up"},
         {R"(part="memory_tier")", "fallback_memory_tier"}}},
       {"penstock_mover_cpu_seconds_total",
        kCounter,
        kEngine,
        "Processor time of the thread that moves the bytes.",
        {{"", "mover_cpu_micros", "", kMicro}}}});
}

void add_stores(std::vector<Metric>& rows) {
  rows.insert(
      rows.end(),
      {{"penstock_copies", kGauge, kTier, "Copies in the store.", {{"", "copies"}}},
       {"penstock_capacity_bytes",
        kGauge,
        kTier,
        "Size of the store, index included.",
        {{"", "bytes_capacity"}}},
       {"penstock_used_bytes",
        kGauge,
        kTier,
        "Blocks that hold copies or are being written.",
        {{"", "bytes_used"}}},
       {"penstock_index_bytes", kGauge, kTier, "Size of the index.", {{"", "index_bytes"}}},
       {"penstock_wal_bytes", kGauge, kTier, "Size of its write-ahead log.", {{"", "wal_bytes"}}},
       {"penstock_written_bytes_total",
        kCounter,
        kTier,
        "Bytes that this process has written to the pools.",
        {{"", "written_bytes"}}},
       {"penstock_written_today_bytes",
        kGauge,
        kTier,
        "Bytes of copies that all processes have written since midnight UTC: what "
        "max_write_gb_per_day limits.",
        {{"", "written_bytes_today"}}},
       {"penstock_write_limit_bytes",
        kGauge,
        kTier,
        "That limit; 0: none.",
        {{"", "write_limit_bytes"}}},
       {"penstock_evictions_total",
        kCounter,
        kTier,
        "Copies that this process has evicted.",
        {{"", "evictions"}}},
       {"penstock_corrupt_copies_total",
        kCounter,
        kTier,
        "Copies whose bytes were not what was saved. They are deleted; the chunk is computed.",
        {{"", "corrupt_copies"}}},
       {"penstock_rejections_total",
        kCounter,
        kTier,
        "Copies that the store did not take. present: it has them. parent: it lacks the one before "
        "them. write_limit: max_write_gb_per_day. wal_full: a reader keeps the index from being "
        "written. no_space.",
        {{R"(reason="present")", "rejected_present"},
         {R"(reason="parent")", "rejected_parent"},
         {R"(reason="write_limit")", "rejected_write_limit"},
         {R"(reason="wal_full")", "rejected_wal_full"},
         {R"(reason="no_space")", "rejected_no_space"}}},
       {"penstock_growth_failures_total",
        kCounter,
        kTier,
        "Times that a pool could not grow: the file system is full, or min_free_gb is reached.",
        {{"", "growth_failures"}}},
       {"penstock_shrink_drops_total",
        kCounter,
        kTier,
        "Copies that were dropped because the store was made smaller.",
        {{"", "shrink_drops"}}},
       {"penstock_index_errors_total",
        kCounter,
        kTier,
        "Errors of SQLite.",
        {{"", "index_errors"}}},
       {"penstock_checkpoints_total",
        kCounter,
        kTier,
        "Checkpoints of SQLite.",
        {{"", "checkpoints"}}},
       {"penstock_store_failed",
        kGauge,
        kTier,
        "1: the index is damaged; everything is a miss until the next start.",
        {{"", "failed"}}}});
}

void add_connector(std::vector<Metric>& rows) {
  rows.insert(
      rows.end(),
      {{"penstock_restored_tokens_total",
        kCounter,
        kConnector,
        "Tokens whose KV came from the store. vLLM's own external hits count what was claimed, "
        "failed loads included; this counts what happened.",
        {{"", "restored_tokens"}}},
       {"penstock_in_step_loads_total",
        kCounter,
        kConnector,
        "Loads within the step that uses them, not beside the steps.",
        {{"", "in_step_loads"}}},
       {"penstock_saved_tokens_total",
        kCounter,
        kConnector,
        "Tokens whose KV was saved.",
        {{"", "saved_tokens"}}},
       {"penstock_failed_loads_total",
        kCounter,
        kConnector,
        "Loads that failed and were computed instead.",
        {{"", "failed_loads"}}},
       {"penstock_failed_tokens_total",
        kCounter,
        kConnector,
        "Tokens that were claimed as hits and had to be computed.",
        {{"", "failed_tokens"}}},
       {"penstock_load_decisions_total",
        kCounter,
        kConnector,
        "Hits by what was decided. load: all of it. part: what lies in a faster tier. compute: "
        "which was expected to be sooner. unknown: computed while a speed was not known.",
        {{R"(decision="load")", "policy_loads"},
         {R"(decision="part")", "policy_parts"},
         {R"(decision="compute")", "policy_computes"},
         {R"(decision="unknown")", "policy_unknown"}}},
       {"penstock_late_loads_total",
        kCounter,
        kConnector,
        "Loads that missed the deadline of their prediction.",
        {{"", "policy_late"}}},
       {"penstock_predictions_total",
        kCounter,
        kConnector,
        "Loads, and steps with prompts, whose time was predicted and measured.",
        {{R"(of="load")", "load_predictions"}, {R"(of="prefill")", "prefill_predictions"}}},
       {"penstock_prediction_error_ratio_total",
        kCounter,
        kConnector,
        "Relative errors of these predictions, summed.",
        {{R"(of="load")", "load_error_sum"}, {R"(of="prefill")", "prefill_error_sum"}}}});
}

}  // namespace

std::span<const Metric> metric_catalog() {
  static const std::vector<Metric> rows = [] {
    std::vector<Metric> made;
    add_lookups(made);
    add_loads(made);
    add_saves(made);
    add_io(made);
    add_stores(made);
    add_connector(made);
    return made;
  }();
  return rows;
}

std::string_view to_string(MetricType type) {
  switch (type) {
    case MetricType::Counter:
      return "counter";
    case MetricType::Gauge:
      return "gauge";
    case MetricType::Histogram:
      break;
  }
  return "histogram";
}

}  // namespace penstock
