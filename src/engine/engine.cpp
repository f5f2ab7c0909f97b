#include "penstock/engine.hpp"

#include <algorithm>
#include <future>
#include <mutex>
#include <unordered_map>

#include "base/log.hpp"
#include "base/sizes.hpp"
#include "device/open.hpp"
#include "engine/drive_probe.hpp"
#include "engine/lookup.hpp"
#include "engine/test_fault.hpp"
#include "io/open.hpp"
#include "mover/mover.hpp"
#include "store/store.hpp"

namespace penstock {
namespace {

constexpr std::chrono::seconds kNamespaceWait{5};
constexpr uint64_t kMaxStaging = 256 * 1024 * 1024;
constexpr uint64_t kSlot = 1024 * 1024;  // adjacent smaller blocks share one request of this size
constexpr size_t kSpareSlots = 8;  // being copied and hashed while io_depth others are in flight

StoreOptions store_options(const Config& config, const std::vector<CopyMap>& maps) {
  const GdsConfig& gds = config.gds_config;
  StoreOptions options;
  options.directories = gds.cache_dir;
  options.block_size = gds.block_size;
  for (const CopyMap& map : maps)
    options.block_size = std::min(options.block_size, round_up(map.copy_bytes(), kSector));
  options.max_bytes = static_cast<uint64_t>(gds.max_cache_size_gb * double{kGb});
  options.min_free_bytes = static_cast<uint64_t>(gds.min_free_gb * double{kGb});
  options.max_write_bytes_per_day =
      gds.max_write_gb_per_day < 0 ? -1
                                   : static_cast<int64_t>(gds.max_write_gb_per_day * double{kGb});
  return options;
}

std::chrono::milliseconds to_ms(double seconds) {
  return std::chrono::milliseconds{static_cast<int64_t>(seconds * 1000)};
}

}  // namespace

std::optional<uint32_t> Lookup::wait(std::chrono::microseconds timeout) {
  std::unique_lock lock{state_->mutex};
  state_->changed.wait_for(lock, timeout, [this] { return state_->chunks.has_value(); });
  return state_->chunks;
}

struct Engine::Impl {
  std::shared_ptr<Store> store;
  std::unique_ptr<Mover> mover;  // none for an engine that only looks things up
  std::map<std::string, std::string> facts;
  std::mutex mutex;
  std::unordered_map<NamespaceId, Digest> digests;  // guarded by mutex

  Result<void> start_mover(const Config& config, std::vector<GroupLayout> layouts, CopyMaps maps,
                           const std::string& device_name);
};

Result<void> Engine::Impl::start_mover(const Config& config, std::vector<GroupLayout> layouts,
                                       CopyMaps maps, const std::string& device_name) {
  const GdsConfig& gds = config.gds_config;
  const uint64_t slot = std::max(store->block_size(), kSlot);
  const size_t depth = size_t{gds.io_depth} * store->pool_count();
  const size_t slots = std::max<size_t>(4, std::min(depth + kSpareSlots, kMaxStaging / slot));
  auto device = open_device(device_name, std::move(layouts), maps);
  if (!device) return device.take_error();
  facts["device"] = (*device)->name();
  auto staging = Staging::create(slots, slot);
  if (!staging) return staging.take_error();
  (*device)->pin(staging->memory());
  auto opened = open_io_engine({gds.io_engine, slots + store->pool_count(), staging->memory()});
  if (!opened) return opened.take_error();
  facts["io_engine"] = opened->engine->name();
  facts["io_reason"] = opened->reason;
  if (!opened->reason.empty()) log_once(LogLevel::Info, "I/O engine: " + opened->reason);
  auto engine = with_test_fault(std::move(opened->engine));
  if (!engine) return engine.take_error();
  MoverOptions options;
  options.io_depth = gds.io_depth;
  options.max_concurrent_ops = gds.max_concurrent_ops;
  options.load_deadline = to_ms(gds.load_deadline_s);
  options.save_deadline = to_ms(gds.save_deadline_s);
  mover = std::make_unique<Mover>(store, std::move(maps), std::move(*staging), std::move(*engine),
                                  std::move(*device), options);
  return {};
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
  auto store = Store::open(store_options(config, maps));
  if (!store) return store.take_error();
  auto impl = std::make_unique<Impl>();
  impl->store = std::move(*store);
  if (!maps.empty()) {
    auto shared = std::make_shared<const std::vector<CopyMap>>(std::move(maps));
    auto started = impl->start_mover(config, std::move(layouts), std::move(shared), device);
    if (!started) return started.take_error();
  }
  return std::unique_ptr<Engine>{new Engine{std::move(impl)}};
}

Result<NamespaceId> Engine::open_namespace(const NamespaceSpec& spec) {
  auto promise = std::make_shared<std::promise<Result<NamespaceId>>>();
  auto answer = promise->get_future();
  const bool queued = impl_->store->open_namespace(
      spec, [promise](Result<NamespaceId> id) { promise->set_value(std::move(id)); });
  if (!queued || answer.wait_for(kNamespaceWait) != std::future_status::ready)
    return Error{Status::Busy, "the index does not answer: is the cache directory's drive hung?"};
  auto id = answer.get();
  if (id) {
    std::scoped_lock lock{impl_->mutex};
    impl_->digests[*id] = spec.digest;
  }
  return id;
}

Lookup Engine::lookup(NamespaceId namespace_id, std::vector<Key> chain,
                      std::vector<GroupNeed> groups) {
  auto state = std::make_shared<Lookup::State>();
  const bool queued = impl_->store->lookup(namespace_id, std::move(chain), std::move(groups),
                                           [state](uint32_t chunks) { state->answer(chunks); });
  if (!queued) state->answer(0);
  return Lookup{std::move(state)};
}

Result<JobId> Engine::submit(JobRequest request) {
  if (!impl_->mover) return Error{Status::Invalid, "this engine was opened without regions"};
  Digest digest;
  {
    std::scoped_lock lock{impl_->mutex};
    const auto found = impl_->digests.find(request.namespace_id);
    if (found == impl_->digests.end())
      return Error{Status::Invalid, "the namespace was not opened by this engine"};
    digest = found->second;
  }
  return impl_->mover->submit(std::move(request), digest);
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
  return penstock::probe_drives(*impl_->store, bytes);
}

std::map<std::string, double> Engine::metrics() const {
  auto all = impl_->store->metrics();
  if (impl_->mover) {
    impl_->mover->metrics().visit(
        [&](const char* name, uint64_t value) { all[name] = static_cast<double>(value); });
  }
  return all;
}

std::map<std::string, std::string> Engine::facts() const {
  auto all = impl_->store->facts();
  all.insert(impl_->facts.begin(), impl_->facts.end());
  return all;
}

uint64_t Engine::block_size() const noexcept {
  return impl_->store->block_size();
}

}  // namespace penstock
