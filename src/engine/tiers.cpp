#include "engine/tiers.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <future>

#include "base/log.hpp"
#include "base/sizes.hpp"
#include "store/memory_directory.hpp"
#include "store/space.hpp"

namespace penstock {
namespace {

constexpr std::chrono::seconds kNamespaceWait{5};
constexpr uint64_t kPackedParts = 32;

uint64_t gb_to_bytes(double gb) {
  return static_cast<uint64_t>(gb * double{kGb});
}

bool wants(const Config& config, const char* tier) {
  return std::find(config.backend.begin(), config.backend.end(), tier) != config.backend.end();
}

uint64_t block_size_for(const Config& config, const std::vector<CopyMap>& maps) {
  uint64_t size = config.gds_config.block_size;
  // Packing saves whole blocks, so a copy should have many.
  const uint64_t parts = config.gds_config.enable_compression ? kPackedParts : 1;
  for (const CopyMap& map : maps)
    size = std::min(size, round_up(div_up(map.copy_bytes(), parts), kSector));
  return size;
}

StoreOptions drive_options(const Config& config, const std::vector<CopyMap>& maps) {
  const GdsConfig& gds = config.gds_config;
  StoreOptions options;
  options.directories = gds.cache_dir;
  options.block_size = block_size_for(config, maps);
  options.max_bytes = gb_to_bytes(gds.max_cache_size_gb);
  options.min_free_bytes = gb_to_bytes(gds.min_free_gb);
  options.max_write_bytes_per_day =
      gds.max_write_gb_per_day < 0 ? -1
                                   : static_cast<int64_t>(gds.max_write_gb_per_day * double{kGb});
  return options;
}

Result<StoreOptions> memory_options(const Config& config) {
  const LocalConfig& local = config.local_config;
  const std::string directory = local.directory.empty()
                                    ? default_memory_directory(config.gds_config.cache_dir)
                                    : local.directory;
  auto size = memory_size(directory, gb_to_bytes(local.max_cache_size_gb));
  if (!size) return size.take_error();
  if (!size->warning.empty()) log_once(LogLevel::Warning, size->warning);
  StoreOptions options;
  options.directories = {directory};
  options.max_bytes = size->max_bytes;
  options.min_free_bytes = size->min_free_bytes;
  options.max_write_bytes_per_day = 0;  // memory does not wear out
  options.mapped = true;
  return options;
}

// No error: the store grows as far as there is room.
void warn_of_size(const GdsConfig& gds) {
  const uint64_t room = space_of(gds.cache_dir).capacity;
  if (gb_to_bytes(gds.max_cache_size_gb) <= room) return;
  log_once(
      LogLevel::Warning,
      fmt::format("gds_config.max_cache_size_gb: {} GB are more than the drive of {} has, {:.3g} "
                  "GB: the store takes what is there, but for min_free_gb",
                  gds.max_cache_size_gb, fmt::join(gds.cache_dir, ", "),
                  static_cast<double>(room) / double{kGb}));
}

}  // namespace

Result<std::unique_ptr<Tiers>> Tiers::open(const Config& config, const std::vector<CopyMap>& maps) {
  TierStores stores;
  auto& [local, gds] = stores.by_tier;
  std::map<std::string, std::string> left_out;
  if (wants(config, "gds")) {
    auto store = Store::open(drive_options(config, maps));
    if (!store && !wants(config, "local")) return store.take_error();
    if (store) {
      gds = std::move(*store);
      warn_of_size(config.gds_config);
    } else {
      left_out["gds"] = store.error().message;
    }
  }
  if (wants(config, "local")) {
    auto options = memory_options(config);
    if (!options) return options.take_error();
    options->exact_block_size = gds != nullptr;  // copies go from one to the other block by block
    options->block_size = gds ? gds->block_size() : block_size_for(config, maps);
    auto store = Store::open(*options);
    if (!store && (!gds || store.status() == Status::Invalid)) {
      Error error = store.take_error();
      if (left_out.contains("gds")) error.message += "; gds: " + left_out["gds"];
      return error;
    }
    if (store && gds && (*store)->block_size() != gds->block_size())
      store = Error{Status::Busy, "this process has it open with another block size"};
    if (store)
      local = std::move(*store);
    else
      left_out["local"] = options->directories.front() + ": " + store.error().message;
  }
  if (wants(config, "remote")) left_out["remote"] = "it is not built into this version";
  std::unique_ptr<Tiers> tiers{new Tiers{std::move(stores)}};
  for (const auto& [name, why] : left_out)
    log_once(LogLevel::Warning, "the backend " + name + " cannot start, " +
                                    (gds ? "gds" : "local") + " goes on without it: " + why);
  tiers->left_out_ = std::move(left_out);
  return tiers;
}

Result<NamespaceId> Tiers::open_namespace(const NamespaceSpec& spec) {
  TierNamespace space;
  space.digest = spec.digest;
  for (const Tier tier : kAllTiers) {
    if (!stores_.has(tier)) continue;
    auto promise = std::make_shared<std::promise<Result<NamespaceId>>>();
    auto answer = promise->get_future();
    const bool queued = stores_.get(tier)->open_namespace(
        spec, [promise](Result<NamespaceId> id) { promise->set_value(std::move(id)); });
    if (!queued || answer.wait_for(kNamespaceWait) != std::future_status::ready)
      return Error{Status::Busy, "the index does not answer: is the cache directory's drive hung?"};
    auto id = answer.get();
    if (!id) return id.take_error();
    space.ids[static_cast<size_t>(tier)] = *id;
  }
  std::scoped_lock lock{mutex_};
  for (auto& [id, known] : spaces_) {
    if (known.digest != spec.digest) continue;
    known = space;
    return id;
  }
  const auto id = static_cast<NamespaceId>(spaces_.size() + 1);
  spaces_[id] = space;
  return id;
}

std::optional<TierNamespace> Tiers::find_namespace(NamespaceId id) const {
  std::scoped_lock lock{mutex_};
  const auto found = spaces_.find(id);
  if (found == spaces_.end()) return std::nullopt;
  return found->second;
}

Lookup Tiers::lookup(NamespaceId id, std::vector<Key> chain, std::vector<GroupNeed> groups) const {
  auto state = std::make_shared<Lookup::State>(lookups_, chain.size());
  const auto space = find_namespace(id);
  for (const Tier tier : kAllTiers) {
    const bool asked =
        space && stores_.has(tier) &&
        stores_.get(tier)->lookup(space->in(tier), chain, groups,
                                  [state, tier](uint32_t chunks) { state->answer(tier, chunks); });
    if (!asked) state->answer(tier, 0);
  }
  return Lookup{std::move(state)};
}

std::string_view Tiers::prefix(Tier tier) const {
  return tier == stores_.slowest() ? "" : "local_";
}

std::vector<TierFigures> Tiers::figures_by_tier() const {
  std::vector<TierFigures> tiers;
  for (const Tier tier : kAllTiers)
    if (stores_.has(tier)) tiers.push_back({name_of(tier), prefix(tier)});
  return tiers;
}

Figures Tiers::metrics() const {
  Figures all;
  for (const Tier tier : kAllTiers) {
    if (!stores_.has(tier)) continue;
    for (const auto& [name, value] : stores_.get(tier)->metrics())
      all[std::string{prefix(tier)} + name] = value;
    all["lookup_hits_" + std::string{name_of(tier)}] =
        static_cast<double>(lookups_->hits[static_cast<size_t>(tier)].value());
  }
  all["backends_left_out"] = static_cast<double>(left_out_.size());
  all["lookups"] = static_cast<double>(lookups_->lookups.value());
  all["lookup_chunks"] = static_cast<double>(lookups_->chunks.value());
  all["lookup_misses"] = static_cast<double>(lookups_->misses.value());
  all["fallback_memory_tier"] = left_out_.contains("local") ? 1 : 0;
  return all;
}

std::map<std::string, std::string> Tiers::facts() const {
  std::map<std::string, std::string> all;
  for (const Tier tier : kAllTiers) {
    if (!stores_.has(tier)) continue;
    for (const auto& [name, text] : stores_.get(tier)->facts())
      all[std::string{prefix(tier)} + name] = text;
  }
  for (const auto& [name, why] : left_out_) all[name + "_left_out"] = why;
  return all;
}

}  // namespace penstock
