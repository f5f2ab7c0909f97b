// The state behind a Lookup: one answer of each tier, given once by its store's thread, waited for
// by the caller's.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "penstock/engine.hpp"

namespace penstock {

struct Lookup::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::array<std::optional<uint32_t>, kTiers> chunks;  // guarded by mutex

  void answer(Tier tier, uint32_t count) {
    std::scoped_lock lock{mutex};
    chunks[static_cast<size_t>(tier)] = count;
    changed.notify_all();
  }
  // With the mutex held. Each tier holds a prefix, so the longest of them can be loaded.
  std::optional<uint32_t> longest() const {
    uint32_t most = 0;
    for (const auto& count : chunks) {
      if (!count) return std::nullopt;
      most = std::max(most, *count);
    }
    return most;
  }
};

}  // namespace penstock
