// penstock._core: the engine for Python. Thin: converts, releases the GIL around whatever may wait,
// turns an Error into penstock.PenstockError. What the calls do stands in docs.hpp.
#include <fcntl.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/unique_ptr.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>

#include "base/log.hpp"
#include "base/sizes.hpp"
#include "convert.hpp"
#include "docs.hpp"
#include "engine/tiers.hpp"
#include "gil.hpp"
#include "io/open.hpp"
#include "io/raw_speed.hpp"
#include "keys.hpp"
#include "metrics/catalog.hpp"
#include "metrics/histogram.hpp"
#include "metrics/trace.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::python {
namespace {

using Millis = std::chrono::milliseconds;

// Up, so that what is short is not none; what is longer than anybody waits is that long.
Millis to_millis(double seconds) {
  constexpr double kLongest = 1e9;
  if (!(seconds > 0)) return Millis{0};
  return Millis{static_cast<int64_t>(std::ceil(std::min(seconds, kLongest) * 1000))};
}

// The engine until close(); every call after it raises. Any thread.
class PyEngine {
 public:
  explicit PyEngine(std::unique_ptr<Engine> engine) : engine_{std::move(engine)} {}
  PyEngine(const PyEngine&) = delete;
  PyEngine& operator=(const PyEngine&) = delete;
  ~PyEngine() { close(); }
  std::shared_ptr<Engine> get() const {
    if (process_ != ::getpid())
      throw Failure{{Status::Unsupported,
                     "this process was forked from the one that opened the engine; open one here"}};
    std::scoped_lock lock{mutex_};
    if (!engine_) throw Failure{{Status::Closed, "the engine is closed"}};
    return engine_;
  }
  // Another thread may be waiting in it, so the last to let go is not who ends it.
  void close() {
    std::shared_ptr<Engine> last;
    {
      std::scoped_lock lock{mutex_};
      last.swap(engine_);
    }
    if (!last) return;
    if (process_ == ::getpid()) return last->stop();
    // A child has neither its threads nor what the kernel was asked for: nothing can be waited for.
    new std::shared_ptr<Engine>{std::move(last)};
  }

 private:
  const pid_t process_ = ::getpid();
  mutable std::mutex mutex_;
  std::shared_ptr<Engine> engine_;
};

std::unique_ptr<PyEngine> open_engine(const Config& config, const std::vector<LayoutTuple>& layouts,
                                      const std::string& device) {
  auto converted = layouts_from_tuples(layouts);
  const WithoutGil released;
  return std::make_unique<PyEngine>(
      value_or_throw(Engine::open(config, std::move(converted), device)));
}

NamespaceId open_namespace(PyEngine& self, const nb::bytes& digest, std::string description) {
  const NamespaceSpec spec{digest_from_bytes(digest), std::move(description)};
  const WithoutGil released;
  return value_or_throw(self.get()->open_namespace(spec));
}

Lookup lookup(PyEngine& self, NamespaceId ns, const nb::bytes& chain,
              const std::vector<std::tuple<uint32_t, uint32_t, uint32_t>>& groups) {
  std::vector<GroupNeed> needs;
  for (const auto& [group, shards, window_chunks] : groups)
    needs.push_back({group, shards, window_chunks});
  return self.get()->lookup(ns, keys_from_bytes(chain), std::move(needs));
}

std::optional<JobId> submit(PyEngine& self, const std::string& kind, NamespaceId ns, uint32_t shard,
                            const nb::bytes& keys, const nb::bytes& parents,
                            const std::vector<uint32_t>& groups, std::vector<int32_t> rows,
                            bool layerwise, double deadline_s, Stream stream) {
  if (kind != "save" && kind != "load") throw nb::value_error("kind: 'save' or 'load'");
  const auto key_list = keys_from_bytes(keys);
  const auto parent_list = keys_from_bytes(parents);
  if (key_list.size() != groups.size() || parent_list.size() != groups.size())
    throw nb::value_error("keys, parents and groups: one entry for each chunk");
  JobRequest request;
  request.kind = kind == "save" ? JobKind::Save : JobKind::Load;
  request.namespace_id = ns;
  request.shard = shard;
  request.layerwise = layerwise;
  request.rows = std::move(rows);
  request.deadline = to_millis(deadline_s);
  request.stream = stream;
  for (size_t i = 0; i < groups.size(); ++i)
    request.chunks.push_back({key_list[i], parent_list[i], groups[i]});
  auto id = self.get()->submit(std::move(request));
  if (!id && id.status() == Status::Busy) return std::nullopt;
  return value_or_throw(std::move(id));
}

std::optional<std::pair<uint64_t, double>> probe_drives(PyEngine& self, uint64_t bytes) {
  const WithoutGil released;
  const auto speed = self.get()->probe_drives(bytes);
  if (speed.status() == Status::NotFound) return std::nullopt;
  const DriveSpeed read = value_or_throw(Result<DriveSpeed>{speed});
  return std::pair{read.bytes, read.seconds};
}

double raw_read(const std::string& path, uint64_t size, uint64_t offset, uint32_t depth) {
  const OpenedFile file = value_or_throw(open_direct(path, O_RDONLY));
  const RawRange range{file.fd.get(), offset / kSector * kSector, size / kSector * kSector};
  return value_or_throw(measure_raw_speed({&range, 1}, {.depth = depth})).gb_per_s();
}

// (name, type, scope, help, [(labels, figure), ...]) for each metric.
nb::list metric_catalog_list() {
  nb::list rows;
  for (const Metric& metric : metric_catalog()) {
    nb::list sources;
    for (const MetricSource& source : metric.sources)
      sources.append(nb::make_tuple(std::string{source.labels}, std::string{source.figure}));
    const char* scope = metric.scope == MetricScope::Engine ? "engine"
                        : metric.scope == MetricScope::Tier ? "tier"
                                                            : "connector";
    rows.append(nb::make_tuple(std::string{metric.name}, std::string{to_string(metric.type)}, scope,
                               std::string{metric.help}, sources));
  }
  return rows;
}

std::span<const char* const> environment() {
  size_t count = 0;
  while (environ[count] != nullptr) ++count;
  return {environ, count};
}

void bind_config(nb::module_& m) {
  nb::class_<Config> config(m, "Config", docs::kConfig);
  config.def_static(
      "from_entries",
      [](const std::vector<EntryTuple>& entries) {
        const auto converted = entries_from_tuples(entries);
        for (const std::string& sentence : misspelt_variables(environment()))
          log_once(LogLevel::Warning, sentence);
        return value_or_throw(
            load_config(converted, [](const char* name) { return std::getenv(name); }));
      },
      "entries"_a, docs::kFromEntries);
  config.def_ro("backend", &Config::backend)
      .def_ro("chunk_size", &Config::chunk_size)
      .def_ro("max_age_s", &Config::max_age_s)
      .def_ro("enable_layerwise", &Config::enable_layerwise)
      .def_ro("use_async", &Config::use_async)
      .def_ro("use_mla", &Config::use_mla)
      .def_ro("save_decode_cache", &Config::save_decode_cache)
      .def_ro("enable_metrics", &Config::enable_metrics)
      .def_ro("log_level", &Config::log_level)
      .def_ro("trace_file", &Config::trace_file)
      .def_ro("load_policy", &Config::load_policy)
      .def_ro("load_in_step", &Config::load_in_step);
  const auto gds = [&config](const char* name, auto member) {
    config.def_prop_ro(name, [member](const Config& self) { return self.gds_config.*member; });
  };
  const auto local = [&config](const char* name, auto member) {
    config.def_prop_ro(name, [member](const Config& self) { return self.local_config.*member; });
  };
  local("local_directory", &LocalConfig::directory);
  local("local_max_cache_size_gb", &LocalConfig::max_cache_size_gb);
  gds("cache_dir", &GdsConfig::cache_dir);
  gds("block_size", &GdsConfig::block_size);
  gds("max_cache_size_gb", &GdsConfig::max_cache_size_gb);
  gds("max_concurrent_ops", &GdsConfig::max_concurrent_ops);
  gds("prefetch_factor", &GdsConfig::prefetch_factor);
  gds("io_engine", &GdsConfig::io_engine);
  gds("io_depth", &GdsConfig::io_depth);
  gds("load_deadline_s", &GdsConfig::load_deadline_s);
  gds("save_deadline_s", &GdsConfig::save_deadline_s);
  gds("max_load_gb_in_flight", &GdsConfig::max_load_gb_in_flight);
  gds("enable_gds", &GdsConfig::enable_gds);
  gds("enable_rdma", &GdsConfig::enable_rdma);
  gds("remote_nixl_server", &GdsConfig::remote_nixl_server);
  gds("eviction_policy", &GdsConfig::eviction_policy);
  gds("enable_compression", &GdsConfig::enable_compression);
  gds("compression_algo", &GdsConfig::compression_algo);
  gds("min_free_gb", &GdsConfig::min_free_gb);
  gds("max_write_gb_per_day", &GdsConfig::max_write_gb_per_day);
}

void bind_results(nb::module_& m) {
  nb::class_<Lookup>(m, "Lookup", docs::kLookup)
      .def(
          "wait",
          [](Lookup& self, int64_t timeout_us) {
            return self.wait(std::chrono::microseconds{timeout_us});
          },
          "timeout_us"_a, nb::call_guard<WithoutGil>(), docs::kLookupWait)
      .def(
          "runs",
          [](const Lookup& self) {
            nb::list list;
            for (const TierRun& run : self.runs())
              list.append(nb::make_tuple(std::string{name_of(run.tier)}, run.chunks));
            return list;
          },
          docs::kLookupRuns)
      .def(
          "held_by",
          [](const Lookup& self, const std::string& tier) {
            for (const Tier known : kAllTiers)
              if (tier == name_of(known)) return self.held_by(known);
            throw nb::value_error("a tier is \"local\" or \"gds\"");
          },
          "tier"_a, docs::kLookupHeldBy);
  nb::class_<JobResult>(m, "JobResult", docs::kJobResult)
      .def_ro("id", &JobResult::id)
      .def_prop_ro(
          "kind",
          [](const JobResult& self) { return self.kind == JobKind::Save ? "save" : "load"; })
      .def_prop_ro("status", [](const JobResult& self) { return to_string(self.status).data(); })
      .def_prop_ro("chunk_status",
                   [](const JobResult& self) {
                     nb::list list;
                     for (Status status : self.chunk_status) list.append(to_string(status).data());
                     return list;
                   })
      .def_ro("bytes", &JobResult::bytes)
      .def_ro("seconds", &JobResult::seconds);
}

void bind_engine(nb::module_& m) {
  const nb::call_guard<WithoutGil> no_gil;
  nb::class_<PyEngine>(m, "Engine", docs::kEngine)
      .def_static("open", &open_engine, "config"_a, "layouts"_a, "device"_a = "cpu", docs::kOpen)
      .def("open_namespace", &open_namespace, "digest"_a, "description"_a, docs::kOpenNamespace)
      .def("lookup", &lookup, "ns"_a, "chain"_a, "groups"_a, docs::kLookupCall)
      .def("submit", &submit, "kind"_a, "ns"_a, "shard"_a, "keys"_a, "parents"_a, "groups"_a,
           "rows"_a, "layerwise"_a = false, "deadline_s"_a = 0.0, "stream"_a = nb::none(),
           docs::kSubmit)
      .def(
          "poll", [](PyEngine& self) { return self.get()->poll(); }, docs::kPoll)
      .def(
          "wait",
          [](PyEngine& self, double timeout_s) { return self.get()->wait(to_millis(timeout_s)); },
          "timeout_s"_a, no_gil, docs::kWait)
      .def(
          "cancel", [](PyEngine& self, JobId id) { self.get()->cancel(id); }, "id"_a, docs::kCancel)
      .def(
          "layers_ready", [](PyEngine& self, JobId id) { return self.get()->layers_ready(id); },
          "id"_a, docs::kLayersReady)
      .def(
          "wait_layer",
          [](PyEngine& self, JobId id, uint32_t layer, double timeout_s) {
            return self.get()->wait_layer(id, layer, to_millis(timeout_s));
          },
          "id"_a, "layer"_a, "timeout_s"_a, no_gil, docs::kWaitLayer)
      .def(
          "release_rows",
          [](PyEngine& self, uint32_t group, const std::vector<int32_t>& rows, Stream stream) {
            self.get()->release_rows(group, rows, stream);
          },
          "group"_a, "rows"_a, "stream"_a = nb::none(), no_gil, docs::kReleaseRows)
      .def(
          "wait_layer_on_stream",
          [](PyEngine& self, JobId id, uint32_t layer, uint64_t stream) {
            return self.get()->wait_layer_on_stream(id, layer, stream);
          },
          "id"_a, "layer"_a, "stream"_a, docs::kWaitLayerOnStream)
      .def("probe_drives", &probe_drives, "bytes"_a, docs::kProbeDrives)
      .def(
          "metrics", [](PyEngine& self) { return self.get()->metrics(); }, docs::kMetrics)
      .def(
          "samples", [](PyEngine& self) { return self.get()->samples(); }, docs::kSamples)
      .def(
          "facts", [](PyEngine& self) { return self.get()->facts(); }, docs::kFacts)
      .def_prop_ro(
          "block_size", [](PyEngine& self) { return self.get()->block_size(); }, docs::kBlockSize)
      .def("close", &PyEngine::close, no_gil, docs::kClose);
}

}  // namespace
}  // namespace penstock::python

NB_MODULE(_core, m) {
  using penstock::python::Failure;
  m.doc() = "The native core of penstock.";
  static nb::object error_type = nb::steal(PyErr_NewExceptionWithDoc(
      "penstock._core.PenstockError", penstock::python::docs::kError, PyExc_RuntimeError, nullptr));
  m.attr("PenstockError") = error_type;
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Failure& failure) {
      nb::object error = error_type(failure.error.message);
      error.attr("status") = std::string{penstock::to_string(failure.error.status)};
      PyErr_SetObject(error_type.ptr(), error.ptr());
    }
  });
  penstock::python::bind_config(m);
  penstock::python::bind_results(m);
  penstock::python::bind_engine(m);
  penstock::python::bind_keys(m);
  m.def("metric_catalog", &penstock::python::metric_catalog_list,
        penstock::python::docs::kMetricCatalog);
  m.def("start_trace", &penstock::start_trace, "events"_a = penstock::kTraceCapacity,
        penstock::python::docs::kStartTrace);
  m.def("stop_trace", &penstock::stop_trace, penstock::python::docs::kStopTrace);
  m.attr("HISTOGRAM_BOUNDS") =
      std::vector<double>{penstock::Histogram::kBounds.begin(), penstock::Histogram::kBounds.end()};
  m.def("raw_read", &penstock::python::raw_read, "path"_a, "size"_a, "offset"_a = 0,
        "depth"_a = penstock::RawOptions{}.depth, nb::call_guard<penstock::python::WithoutGil>(),
        penstock::python::docs::kRawRead);
}
