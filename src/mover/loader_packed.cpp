// Packed copies: read into a parcel, unpacked by the packer, moved to the pages as the slices come.
#include <algorithm>

#include "base/sizes.hpp"
#include "mover/loader.hpp"
#include "mover/packed_runs.hpp"

namespace penstock {

bool Loader::issue_stored(Job& job, size_t index) {
  ChunkWork& chunk = job.chunks[index];
  if (!take_parcel(context_, chunk, job.space.digest, true)) return false;
  Transfer* const transfer = start_stored(context_, Route::Packed, IoOp::Read, chunk, 0);
  if (transfer == nullptr) return false;
  transfer->job = &job;
  transfer->chunk = index;
  context_.transfers.queue(*transfer);
  return true;
}

void Loader::stored_read(Job& job, const Transfer& transfer) {
  ChunkWork& chunk = job.chunks[transfer.chunk];
  chunk.moved_blocks += transfer.block_count;
  if (chunk.moved_blocks != chunk.blocks.size()) return;
  chunk.parcel->stored = chunk.stored;
  chunk.parcel->stored_checksums = chunk.checksums;
  context_.packer.unpack(chunk.parcel,
                         [this, id = job.id, index = transfer.chunk, inbox = context_.inbox] {
                           inbox->post([this, id, index] { unpacked(id, index); });
                         });
}

// There is news of that chunk; maybe old news.
void Loader::unpacked(JobId id, size_t index) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = *found->second.job;
  ChunkWork& chunk = job.chunks[index];
  if (chunk.phase != ChunkPhase::Moving || !chunk.parcel) return;
  if (chunk.parcel->failed) return mismatch(job, index);
  const bool is_known = std::ranges::find(unpacking_, std::pair{id, index}) != unpacking_.end();
  if (is_known || chunk.moves_begun || !chunk.parcel->opened.load(std::memory_order_acquire))
    return;
  chunk.moves_begun = true;
  chunk.checksums = chunk.parcel->checksums;  // from here on those of the raw blocks
  chunk.next_block = chunk.moved_blocks = 0;
  chunk.blocks = {};
  unpacking_.emplace_back(id, index);
}

bool Loader::issue_moves() {
  bool any = false;
  std::erase_if(unpacking_, [&](const auto& place) {
    const auto found = jobs_.find(place.first);
    if (found == jobs_.end()) return true;
    Job& job = *found->second.job;
    ChunkWork& chunk = job.chunks[place.second];
    if (chunk.phase != ChunkPhase::Moving) return true;
    const uint64_t there = chunk.parcel->unpacked_bytes();
    while (Transfer* const transfer =
               start_move(context_, job, place.second, PageMove::Direction::Scatter,
                          chunk.next_move, there, 0)) {
      chunk.next_move += transfer->block_count;
      context_.moves.add_scatter(*transfer);
      any = true;
    }
    return chunk.next_move == chunk.checksums.size();
  });
  return any;
}

}  // namespace penstock
