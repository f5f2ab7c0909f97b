// TierStores: the stores of an engine, one a tier, and what a namespace is called in each.
//
// The stores are shared with other engines of the process and outlive the mover. All have the same
// block size, so that a raw copy is the same blocks with the same checksums wherever it lies.
// Values; any thread.
#pragma once

#include <array>
#include <memory>

#include "store/store.hpp"

namespace penstock {

struct TierStores {
  std::array<std::shared_ptr<Store>, kTiers> by_tier;  // null: there is no such tier

  Store* get(Tier tier) const noexcept { return by_tier[static_cast<size_t>(tier)].get(); }
  bool has(Tier tier) const noexcept { return get(tier) != nullptr; }
  Tier fastest() const noexcept { return has(Tier::Local) ? Tier::Local : Tier::Gds; }
  Tier slowest() const noexcept { return has(Tier::Gds) ? Tier::Gds : Tier::Local; }
};

struct TierNamespace {
  Digest digest;
  std::array<NamespaceId, kTiers> ids{};  // 0: nothing is found in that tier, and nothing saved

  NamespaceId in(Tier tier) const noexcept { return ids[static_cast<size_t>(tier)]; }
};

}  // namespace penstock
