#include "store/memory_watch.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/signals_blocked.hpp"

namespace penstock {

MemoryWatch::MemoryWatch(std::vector<std::span<std::byte>> pools, uint64_t block_size)
    : block_size_{block_size} {
  for (const std::span<std::byte> memory : pools) pools_.push_back({memory, 0, {}});
}

MemoryWatch::~MemoryWatch() {
  unlisten();
}

void MemoryWatch::unlisten() {
  {
    std::scoped_lock lock{mutex_};
    if (!listening_) return;
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  // Nothing may use a range from here on, though it is not let go of yet.
  std::vector<std::vector<Range>> told;
  {
    std::scoped_lock lock{mutex_};
    for (PoolState& pool : pools_) told.push_back(std::exchange(pool.ranges, {}));
  }
  for (size_t i = 0; i < told.size() && listener_.gone; ++i) {
    uint64_t first = 0;
    for (const Range& range : told[i]) {
      if (range.taken) listener_.gone(bytes_of(pools_[i], first, range.end));
      first = range.end;
    }
  }
  std::scoped_lock lock{mutex_};
  listener_ = {};
  stopping_ = listening_ = false;
}

bool MemoryWatch::listen(MemoryListener listener) {
  std::scoped_lock lock{mutex_};
  if (listening_) return false;
  listener_ = std::move(listener);
  try {
    const SignalsBlocked inherited;
    thread_ = std::thread{[this] { run(); }};
  } catch (const std::system_error&) {  // a limit on threads
    listener_ = {};
    return false;
  }
  listening_ = true;
  return true;
}

void MemoryWatch::allocated(uint32_t pool, uint64_t blocks) {
  {
    std::scoped_lock lock{mutex_};
    if (pool >= pools_.size()) return;
    PoolState& state = pools_[pool];
    blocks = std::min(blocks, state.memory.size() / block_size_);
    if (blocks <= state.allocated) return;
    state.allocated = blocks;
  }
  changed_.notify_all();
}

uint64_t MemoryWatch::range_end(uint32_t pool, uint64_t block) const {
  std::scoped_lock lock{mutex_};
  if (pool >= pools_.size()) return 0;
  const auto& ranges = pools_[pool].ranges;
  const auto found =
      std::upper_bound(ranges.begin(), ranges.end(), block,
                       [](uint64_t value, const Range& range) { return value < range.end; });
  return found != ranges.end() && found->taken ? found->end : 0;
}

std::span<std::byte> MemoryWatch::bytes_of(const PoolState& pool, uint64_t first,
                                           uint64_t end) const noexcept {
  return pool.memory.subspan(first * block_size_, (end - first) * block_size_);
}

void MemoryWatch::run() {
  const uint64_t most = std::max<uint64_t>(kMaxRange / block_size_, 1);
  std::unique_lock lock{mutex_};
  for (;;) {
    const auto has_news = [](const PoolState& pool) { return pool.allocated > pool.told(); };
    changed_.wait(lock,
                  [&] { return stopping_ || std::any_of(pools_.begin(), pools_.end(), has_news); });
    if (stopping_) return;
    PoolState& pool = *std::find_if(pools_.begin(), pools_.end(), has_news);
    const uint64_t first = pool.told();
    const uint64_t end = std::min(pool.allocated, first + most);
    const std::span<std::byte> bytes = bytes_of(pool, first, end);
    lock.unlock();
    const bool taken = listener_.grown(bytes);
    lock.lock();
    pool.ranges.push_back({end, taken});
  }
}

}  // namespace penstock
