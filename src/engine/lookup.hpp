// The state behind a Lookup: one answer of each tier, given once by its store's thread, waited for
// by the caller's. What came of lookups is counted when the last tier has answered.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "metrics/counter.hpp"
#include "penstock/engine.hpp"

namespace penstock {

struct LookupCounters {
  Counter lookups, chunks, misses;
  std::array<Counter, kTiers> hits;  // chunks, by the fastest tier that has them
};

struct Lookup::State {
  State(std::shared_ptr<LookupCounters> counted, size_t asked)
      : counters{std::move(counted)}, chain{asked} {}

  const std::shared_ptr<LookupCounters> counters;
  const size_t chain;  // chunks that were asked for
  std::mutex mutex;
  std::condition_variable changed;
  std::array<std::optional<uint32_t>, kTiers> chunks;  // guarded by mutex

  void answer(Tier tier, uint32_t count) {
    std::scoped_lock lock{mutex};
    chunks[static_cast<size_t>(tier)] = count;
    changed.notify_all();
    if (longest()) count_answer();
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

 private:
  void count_answer() const {
    uint32_t found = 0;
    for (size_t tier = 0; tier < kTiers; ++tier) {
      if (*chunks[tier] <= found) continue;
      counters->hits[tier].add(*chunks[tier] - found);
      found = *chunks[tier];
    }
    counters->lookups.add();
    counters->chunks.add(chain);
    counters->misses.add(chain - std::min<size_t>(found, chain));
  }
};

}  // namespace penstock
