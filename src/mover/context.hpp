// MoverContext: what the parts of one mover share. Mover thread only, but for the stores and the
// inbox, which are for any thread.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "device/copy_map.hpp"
#include "mover/inbox.hpp"
#include "mover/job.hpp"
#include "mover/metrics.hpp"
#include "mover/move_queue.hpp"
#include "mover/outbox.hpp"
#include "mover/packer.hpp"
#include "mover/row_fence.hpp"
#include "mover/transfer_pool.hpp"

namespace penstock {

struct MoverContext {
  const TierStores& stores;
  const std::vector<CopyMap>& maps;  // by group
  TransferPool& transfers;
  MoveQueue& moves;
  const std::shared_ptr<Inbox>& inbox;
  Outbox& outbox;
  RowFence& fence;
  MoverMetrics& metrics;
  uint32_t max_concurrent_ops;
  uint64_t block_size;
  Packer& packer;

  bool has(Tier tier) const noexcept { return stores.has(tier); }
  // Requires: has(tier).
  Store& store(Tier tier) const noexcept { return *stores.get(tier); }
  // A copy's blocks, given back when nothing needs them any more.
  std::shared_ptr<ExtentLease> lease(Tier tier, std::vector<Extent> extents) const;

  // Adjacent blocks of one copy, from `first` on, that fit one slot. `short_runs`: of host memory
  // one alone, so that what lies behind it in the copy need not be moved with it.
  struct Run {
    uint32_t count = 0;
    uint64_t begin = 0, end = 0;  // bytes of the copy
  };
  Run run_at(const CopyWork& copy, uint32_t first, bool short_runs = false) const;
  // A transfer for the run, from or to its place; its move and job are not set. Requires:
  // transfers.can_start().
  Transfer& start(Route route, IoOp op, const CopyWork& copy, uint32_t first, const Run& run) const;
  // Makes the run a move between its memory and the chunk's pages.
  void aim_move(Transfer& transfer, Job& job, size_t chunk, PageMove::Direction direction) const;
  // Whether extents that a store names hold `bytes`, and can be reached.
  bool fits(Tier tier, uint64_t bytes, const std::vector<Extent>& extents) const;
  // Whether a copy that goes to a drive is packed on the way.
  bool packs(const CopyWork& copy) const noexcept {
    return packer.packs() && packer.holds(copy.bytes);
  }
  // The bytes of block `ordinal` of a copy.
  uint64_t block_begin(uint32_t ordinal) const { return ordinal * block_size; }
  uint64_t block_end(const CopyWork& copy, uint32_t ordinal) const {
    return std::min(block_begin(ordinal + 1), copy.bytes);
  }
  // Of the memory tier.
  std::byte* memory_of(const BlockAddress& address) const noexcept;
};

// Block after block of a list of extents.
std::vector<BlockAddress> flatten(const std::vector<Extent>& extents);

// Reports a job whose chunks are all done and forgets its transfers.
void report(MoverContext& context, Job& job);

}  // namespace penstock
