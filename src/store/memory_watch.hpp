// MemoryWatch: tells a listener which blocks of mapped pools have memory behind them, on a thread
// of its own, since what the listener does with it (pinning) takes a tenth of a second a GB.
//
// A range begins and ends at a block, is told once, and never changes: what goes from or to a
// device in one piece must not cross the end of a range. Owns the thread; does not own the memory,
// which must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace penstock {

struct MemoryListener {
  // Blocks that may be touched from now on. False: they are of no use to the listener (it could not
  // pin them, say).
  std::function<bool(std::span<std::byte>)> grown;
  // Before the memory is unmapped or unlisten() returns: each range for which `grown` said true.
  // May be empty.
  std::function<void(std::span<std::byte>)> gone;
};

class MemoryWatch {
 public:
  static constexpr uint64_t kMaxRange = 256 * 1024 * 1024;  // bytes told at a time

  MemoryWatch(std::vector<std::span<std::byte>> pools, uint64_t block_size);
  ~MemoryWatch();  // as unlisten()
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

  // Any thread. One listener a store: false if there is one already, or no thread for it.
  bool listen(MemoryListener listener);
  // Waits for a call of the listener that is under way, says what is gone, and forgets the
  // listener. For whoever listens.
  void unlisten();
  // The first `blocks` blocks of the pool have memory. Never waits for the listener; any thread.
  void allocated(uint32_t pool, uint64_t blocks);
  // The end of the range that `block` lies in; 0 if the listener has not taken it. Any thread.
  uint64_t range_end(uint32_t pool, uint64_t block) const;

 private:
  struct Range {
    uint64_t end = 0;  // begins where the one before it ends
    bool taken = false;
  };
  struct PoolState {
    std::span<std::byte> memory;
    uint64_t allocated = 0;     // blocks
    std::vector<Range> ranges;  // told, in order
    uint64_t told() const noexcept { return ranges.empty() ? 0 : ranges.back().end; }
  };

  void run();
  std::span<std::byte> bytes_of(const PoolState& pool, uint64_t first, uint64_t end) const noexcept;

  const uint64_t block_size_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PoolState> pools_;  // guarded by mutex_
  bool stopping_ = false;         // guarded by mutex_
  bool listening_ = false;        // guarded by mutex_
  MemoryListener listener_;       // set before the thread begins
  std::thread thread_;
};

}  // namespace penstock
