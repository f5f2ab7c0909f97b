// The state behind a Lookup: one answer, given once by the store's thread, waited for by the
// caller's.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "penstock/engine.hpp"

namespace penstock {

struct Lookup::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<uint32_t> chunks;

  void answer(uint32_t count) {
    std::scoped_lock lock{mutex};
    chunks = count;
    changed.notify_all();
  }
};

}  // namespace penstock
