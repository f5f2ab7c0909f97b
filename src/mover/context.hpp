// MoverContext: what the loading and the saving half of one mover share. Mover thread only.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "device/copy_map.hpp"
#include "mover/inbox.hpp"
#include "mover/job.hpp"
#include "mover/metrics.hpp"
#include "mover/move_queue.hpp"
#include "mover/outbox.hpp"
#include "mover/row_fence.hpp"
#include "mover/transfer_pool.hpp"
#include "store/store.hpp"

namespace penstock {

struct MoverContext {
  Store& store;
  const std::vector<CopyMap>& maps;  // by group
  TransferPool& transfers;
  MoveQueue& moves;
  const std::shared_ptr<Inbox>& inbox;
  Outbox& outbox;
  RowFence& fence;
  MoverMetrics& metrics;
  uint32_t max_concurrent_ops;

  // Adjacent blocks of one copy, from `first` on, that fit one slot.
  struct Run {
    uint32_t count = 0;
    uint64_t begin = 0, end = 0;  // bytes of the copy
  };
  Run run_at(const ChunkWork& chunk, uint32_t first) const;
  // Aims a transfer at the run's place on disk.
  void aim(Transfer& transfer, IoOp op, Job& job, size_t chunk, uint32_t first,
           const Run& run) const;
  // Makes the transfer's run a move between its slot and the chunk's pages.
  void aim_move(Transfer& transfer, PageMove::Direction direction) const;
  // The bytes of block `ordinal` of the chunk's copy.
  uint64_t block_begin(uint32_t ordinal) const { return ordinal * store.block_size(); }
  uint64_t block_end(const ChunkWork& chunk, uint32_t ordinal) const {
    return std::min(block_begin(ordinal + 1), maps[chunk.name.group].copy_bytes());
  }
};

// Block after block of a list of extents.
std::vector<BlockAddress> flatten(const std::vector<Extent>& extents);

// Reports a job whose chunks are all done and forgets its transfers.
void report(MoverContext& context, Job& job);

}  // namespace penstock
