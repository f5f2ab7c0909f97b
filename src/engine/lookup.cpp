#include "engine/lookup.hpp"

namespace penstock {

std::optional<uint32_t> Lookup::wait(std::chrono::microseconds timeout) {
  std::unique_lock lock{state_->mutex};
  state_->changed.wait_for(lock, timeout, [this] { return state_->longest().has_value(); });
  return state_->longest();
}

std::vector<TierRun> Lookup::runs() const {
  std::scoped_lock lock{state_->mutex};
  std::vector<TierRun> runs;
  for (const Tier tier : kAllTiers) {
    const uint32_t chunks = state_->chunks[static_cast<size_t>(tier)].value_or(0);
    if (chunks > (runs.empty() ? 0 : runs.back().chunks)) runs.push_back({tier, chunks});
  }
  return runs;
}

uint32_t Lookup::held_by(Tier tier) const {
  std::scoped_lock lock{state_->mutex};
  return state_->chunks[static_cast<size_t>(tier)].value_or(0);
}

}  // namespace penstock
