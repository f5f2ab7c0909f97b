// SimulatedStore: the production store under a trace, without the KV.
//
// A StoreCore (index, keeper, eviction, reservations, limits) over a scratch directory. A store of
// the simulated size is planned as the real one is, and made with as many blocks, but of 4096 bytes
// and in a file that is one hole: copies take as many blocks as they would, and nothing of them is
// written. The store's clock is the trace's. What an engine's threads do at their own pace happens
// here one after the other, in no time: requests are looked up, loaded and saved whole, in order.
//
// Owns the store; the directory is the caller's. One thread.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "store/store_core.hpp"

namespace penstock::cli {

struct SimulatedSize {
  uint64_t capacity_bytes = 0;  // 0: `copies` of them are to have room
  uint64_t copies = 0;
  uint64_t chunk_bytes = 0;
  uint64_t block_bytes = 0;              // of the real store
  uint64_t max_write_bytes_per_day = 0;  // 0: none
};

struct SimulatedFigures {
  uint64_t written_bytes = 0;    // whole sectors
  uint64_t rejected_chunks = 0;  // over the write limit
  uint64_t dropped_chunks = 0;   // not saved for another reason
  uint64_t evicted_chunks = 0;
  uint64_t peak_bytes = 0;  // of the blocks in use, after any request
  uint64_t pool_bytes = 0;  // of all blocks: what the capacity leaves beside the index
};

class SimulatedStore {
 public:
  // Invalid: too small, or too large for one pool.
  static Result<std::unique_ptr<SimulatedStore>> open(const std::string& directory,
                                                      const SimulatedSize& size);

  // A prompt's chunks at `time_ms` (never before the last one): restores those of the first
  // `usable` that are there, saves the others. How many were restored; Io: the scratch directory
  // fails.
  Result<uint32_t> serve(int64_t time_ms, std::span<const Key> chain, uint32_t usable);
  SimulatedFigures figures() const;

 private:
  class TraceClock final : public StoreClock {
   public:
    void set(int64_t ms) noexcept { ms_ = kOrigin + ms; }
    Stamp now_ms() const noexcept override { return ms_; }
    std::chrono::steady_clock::time_point steady() const noexcept override {
      return std::chrono::steady_clock::time_point{std::chrono::milliseconds{ms_}};
    }

   private:
    static constexpr Stamp kOrigin = 24 * 3600 * 1000;  // a day's begin; 0 would read as "never"
    Stamp ms_ = kOrigin;
  };

  SimulatedStore() = default;
  void keep_up();
  void save(std::span<const Key> chain, size_t first);

  TraceClock clock_;
  std::optional<StoreCore> core_;
  NamespaceId ns_ = 0;
  uint64_t copy_blocks_ = 0;
  uint64_t block_stands_for_ = 0;  // bytes of the real store
  uint64_t written_a_chunk_ = 0;
  SimulatedFigures figures_;
};

}  // namespace penstock::cli
