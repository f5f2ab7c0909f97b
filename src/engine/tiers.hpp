// Tiers: the stores of an engine, opened as the configuration says, and what is asked of all of
// them at once. Any thread.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/copy_map.hpp"
#include "engine/lookup.hpp"
#include "metrics/catalog.hpp"
#include "mover/tiers.hpp"

namespace penstock {

// As the configuration and the figures call it.
constexpr std::string_view name_of(Tier tier) noexcept {
  return tier == Tier::Local ? "local" : "gds";
}

class Tiers {
 public:
  // Opens (or shares) the stores of config.backend. A new store's block size is no larger than the
  // smallest copy of `maps`. A tier that cannot start is left out, with a warning, where another
  // one can; what is wrong with the memory tier's settings is an error all the same.
  static Result<std::unique_ptr<Tiers>> open(const Config& config,
                                             const std::vector<CopyMap>& maps);

  const TierStores& stores() const noexcept { return stores_; }
  Store& slowest() const noexcept { return *stores_.get(stores_.slowest()); }

  // Interns the namespace in every store. Waits for each index, at most 5 s.
  Result<NamespaceId> open_namespace(const NamespaceSpec& spec);
  std::optional<TierNamespace> find_namespace(NamespaceId id) const;
  Lookup lookup(NamespaceId id, std::vector<Key> chain, std::vector<GroupNeed> groups) const;

  // The memory tier's figures begin with "local_" where it is not the only one.
  Figures metrics() const;
  std::vector<TierFigures> figures_by_tier() const;  // how they are told apart
  std::map<std::string, std::string> facts() const;

 private:
  explicit Tiers(TierStores stores) : stores_{std::move(stores)} {}
  std::string_view prefix(Tier tier) const;

  TierStores stores_;
  std::map<std::string, std::string> left_out_;  // by backend: why it could not start
  std::shared_ptr<LookupCounters> lookups_ = std::make_shared<LookupCounters>();
  mutable std::mutex mutex_;
  std::unordered_map<NamespaceId, TierNamespace> spaces_;  // guarded by mutex_; by the engine's ids
};

}  // namespace penstock
