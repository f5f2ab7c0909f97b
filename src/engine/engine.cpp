#include "penstock/engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/log.hpp"
#include "base/sizes.hpp"
#include "device/open.hpp"
#include "engine/direct_path.hpp"
#include "engine/drive_probe.hpp"
#include "engine/live_report.hpp"
#include "engine/test_fault.hpp"
#include "engine/tiers.hpp"
#include "io/open.hpp"
#include "mover/mover.hpp"

namespace penstock {
namespace {

constexpr uint64_t kMaxStaging = 256 * 1024 * 1024;
constexpr uint64_t kSlot = 1024 * 1024;  // adjacent smaller blocks share one request of this size
constexpr size_t kSpareSlots = 8;  // being copied and hashed while io_depth others are in flight

std::chrono::milliseconds to_ms(double seconds) {
  return std::chrono::milliseconds{static_cast<int64_t>(seconds * 1000)};
}

// Copies that are packed can always be loaded, whatever the configuration says of saves; memory
// that is not used is not taken.
PackerOptions packer_options(const Config& config, const std::vector<CopyMap>& maps,
                             uint64_t block_size) {
  const GdsConfig& gds = config.gds_config;
  PackerOptions options;
  options.packs = gds.enable_compression;
  options.method = gds.compression_algo == "lz4" ? Method::Lz4 : Method::Zstd;
  options.block_size = block_size;
  for (const CopyMap& map : maps) {
    const uint64_t blocks = div_up(map.copy_bytes(), block_size);
    options.copy_bytes = std::max(options.copy_bytes, map.copy_bytes());
    options.head_bytes = std::max(options.head_bytes, PackedCopy::head_bytes(blocks, map.slices()));
  }
  options.threads = std::clamp<size_t>(std::thread::hardware_concurrency() / 4, 2, 8);
  return options;
}

}  // namespace

struct Engine::Impl {
  ~Impl() {
    if (report) report->stop();
  }

  std::unique_ptr<Tiers> tiers;
  std::unique_ptr<Mover> mover;  // none for an engine that only looks things up
  std::map<std::string, std::string> facts;
  Figures fixed;  // what is known once the engine is open
  std::shared_ptr<LiveReport> report;

  Figures figures() const;
  void show();
  void note_path(const GdsConfig& gds, size_t requests);
  Result<void> start_mover(const Config& config, std::vector<GroupLayout> layouts, CopyMaps maps,
                           const std::string& device_name);
};

Result<void> Engine::Impl::start_mover(const Config& config, std::vector<GroupLayout> layouts,
                                       CopyMaps maps, const std::string& device_name) {
  const GdsConfig& gds = config.gds_config;
  const TierStores& stores = tiers->stores();
  const uint64_t slot = std::max(tiers->slowest().block_size(), kSlot);
  const size_t pools = stores.has(Tier::Gds) ? stores.get(Tier::Gds)->pool_count() : 0;
  const size_t depth = size_t{gds.io_depth} * pools;
  const size_t slots = std::max<size_t>(4, std::min(depth + kSpareSlots, kMaxStaging / slot));
  auto device = open_device(device_name, std::move(layouts), maps);
  if (!device) return device.take_error();
  facts["device"] = (*device)->name();
  auto staging = Staging::create(slots, slot);
  if (!staging) return staging.take_error();
  (*device)->pin(staging->memory());
  // Each slot a request, as many past the slots from and to host memory, and an fdatasync a pool.
  const size_t requests = std::min(2 * slots + pools, kMaxIoDepth);
  auto opened = open_io_engine({gds.io_engine, requests, staging->memory()});
  if (!opened) return opened.take_error();
  facts["io_engine"] = opened->engine->name();
  facts["io_reason"] = opened->reason;
  if (!opened->reason.empty()) log_once(LogLevel::Info, "I/O engine: " + opened->reason);
  auto engine = with_test_fault(std::move(opened->engine));
  if (!engine) return engine.take_error();
  auto direct = open_direct_path(gds, **device,
                                 {.has_memory_tier = stores.has(Tier::Local),
                                  .slots = slots,
                                  .slot_bytes = slot,
                                  .on_result = [io = engine->get()] { io->wake(); }});
  facts["gds_path"] = direct.name;
  facts["gds_reason"] = direct.reason;
  note_path(gds, std::min(depth, slots));
  PackerOptions packing = packer_options(config, *maps, tiers->slowest().block_size());
  packing.packs &= stores.has(Tier::Gds);  // memory is read where it lies
  auto packer = Packer::create(packing);
  if (!packer) return packer.take_error();
  if ((*packer)->packs()) (*device)->pin((*packer)->memory());
  facts["compression"] = (*packer)->packs() ? gds.compression_algo : "off";
  if (packing.packs && !(*packer)->packs()) {
    facts["compression"] = "off: copies are too large";
    log_once(LogLevel::Warning, "copies are too large to be compressed: use a smaller chunk_size");
  }
  MoverOptions options;
  options.io_depth = gds.io_depth;
  options.max_concurrent_ops = gds.max_concurrent_ops;
  options.load_deadline = to_ms(gds.load_deadline_s);
  options.save_deadline = to_ms(gds.save_deadline_s);
  mover = std::make_unique<Mover>(stores, std::move(maps), std::move(*staging), std::move(*engine),
                                  std::move(direct.path), std::move(*device), std::move(*packer),
                                  options);
  return {};
}

void Engine::Impl::note_path(const GdsConfig& gds, size_t requests) {
  const std::string& engine = facts["io_engine"];
  for (const char* known : {"uring", "posix"})
    fixed[std::string{"io_engine_"} + known] = engine == known ? 1 : 0;
  const std::string& path = facts["gds_path"];
  fixed["io_engine_cufile"] = path == "none" ? 0 : 1;
  fixed["cufile_proven"] = path == "p2p" || path == "nvfs" ? 1 : 0;
  const bool asked_for = gds.io_engine == engine && engine != "uring";
  fixed["fallback_io_engine"] = facts["io_reason"].empty() || asked_for ? 0 : 1;
  fixed["io_in_flight_limit"] = static_cast<double>(requests);
}

Figures Engine::Impl::figures() const {
  Figures all = tiers->metrics();
  if (mover) {
    mover->metrics().visit(
        [&](const std::string& name, auto value) { all[name] = static_cast<double>(value); });
  }
  all.insert(fixed.begin(), fixed.end());
  return all;
}

// From here on the index thread reads this object once a second, until the report is stopped.
void Engine::Impl::show() {
  std::map<std::string, std::string> said{{"pid", std::to_string(::getpid())}};
  for (const char* name : {"device", "io_engine"})
    if (const auto found = facts.find(name); found != facts.end()) said.insert(*found);
  for (const TierFigures& tier : tiers->figures_by_tier())
    said["tiers"] += (said["tiers"].empty() ? "" : " ") + std::string{tier.tier};
  report = std::make_shared<LiveReport>(tiers->slowest().directory(), [this, said] {
    return LiveEngine{said, figures()};
  });
  tiers->slowest().each_second([report = report] { return report->tick(); });
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(const Config& config, std::vector<GroupLayout> layouts,
                                             const std::string& device) {
  if (auto valid = config.validate(); !valid) return valid.take_error();
  set_log_level(config.log_level);
  std::vector<CopyMap> maps;
  for (const GroupLayout& layout : layouts) {
    auto map = CopyMap::create(layout);
    if (!map) {
      Error error = map.take_error();
      error.message = "group " + std::to_string(maps.size()) + ": " + error.message;
      return error;
    }
    maps.push_back(std::move(*map));
  }
  auto tiers = Tiers::open(config, maps);
  if (!tiers) return tiers.take_error();
  auto impl = std::make_unique<Impl>();
  impl->tiers = std::move(*tiers);
  if (!maps.empty()) {
    auto shared = std::make_shared<const std::vector<CopyMap>>(std::move(maps));
    auto started = impl->start_mover(config, std::move(layouts), std::move(shared), device);
    if (!started) return started.take_error();
  }
  if (config.enable_metrics) impl->show();
  return std::unique_ptr<Engine>{new Engine{std::move(impl)}};
}

void Engine::stop() {
  if (impl_->mover) impl_->mover->stop();
}

Result<NamespaceId> Engine::open_namespace(const NamespaceSpec& spec) {
  return impl_->tiers->open_namespace(spec);
}

Lookup Engine::lookup(NamespaceId namespace_id, std::vector<Key> chain,
                      std::vector<GroupNeed> groups) {
  return impl_->tiers->lookup(namespace_id, std::move(chain), std::move(groups));
}

Result<JobId> Engine::submit(JobRequest request) {
  if (!impl_->mover) return Error{Status::Invalid, "this engine was opened without regions"};
  const auto space = impl_->tiers->find_namespace(request.namespace_id);
  if (!space) return Error{Status::Invalid, "the namespace was not opened by this engine"};
  return impl_->mover->submit(std::move(request), *space);
}

std::vector<JobResult> Engine::poll() {
  return impl_->mover ? impl_->mover->outbox().take() : std::vector<JobResult>{};
}

bool Engine::wait(std::chrono::milliseconds timeout) {
  return impl_->mover && impl_->mover->outbox().wait_result(timeout);
}

void Engine::cancel(JobId id) {
  if (impl_->mover) impl_->mover->cancel(id);
}

uint32_t Engine::layers_ready(JobId id) const {
  return impl_->mover ? impl_->mover->outbox().layers_ready(id) : UINT32_MAX;
}

bool Engine::wait_layer(JobId id, uint32_t layer, std::chrono::milliseconds timeout) const {
  return !impl_->mover || impl_->mover->outbox().wait_layer(id, layer, timeout);
}

bool Engine::wait_layer_on_stream(JobId id, uint32_t layer, Stream stream) {
  return impl_->mover && impl_->mover->wait_layer_on_stream(id, layer, stream);
}

void Engine::release_rows(uint32_t group, std::span<const int32_t> rows, Stream stream) {
  if (impl_->mover) impl_->mover->release_rows(group, rows, stream);
}

Result<DriveSpeed> Engine::probe_drives(uint64_t bytes) {
  Store* const drives = impl_->tiers->stores().get(Tier::Gds);
  if (drives == nullptr) return Error{Status::NotFound, "there are no drives"};
  return penstock::probe_drives(*drives, bytes);
}

std::map<std::string, double> Engine::metrics() const {
  return impl_->figures();
}

std::map<std::string, double> Engine::samples() const {
  std::map<std::string, double> named;
  for (const MetricSample& sample : samples_of(metrics(), impl_->tiers->figures_by_tier()))
    named[sample.id()] = sample.value;
  return named;
}

std::map<std::string, std::string> Engine::facts() const {
  auto all = impl_->tiers->facts();
  all.insert(impl_->facts.begin(), impl_->facts.end());
  if (impl_->mover && impl_->mover->metrics().cufile_given_up.value() > 0) {
    all["gds_path"] = "none";
    all["gds_reason"] += "; given up since, because it kept failing";
  }
  return all;
}

uint64_t Engine::block_size() const noexcept {
  return impl_->tiers->slowest().block_size();
}

}  // namespace penstock
