// Copies that are packed: gathered into a parcel, packed by the packer, written from there.
#include <algorithm>

#include "mover/packed_runs.hpp"
#include "mover/saver.hpp"

namespace penstock {

bool Saver::issue_gather(Job& job, size_t index, const Keep& keep) {
  ChunkWork& chunk = job.chunks[index];
  if (!take_parcel(context_, chunk, job.space.digest, false)) return false;
  Transfer* const transfer = start_move(context_, job, index, PageMove::Direction::Gather,
                                        chunk.next_block, chunk.bytes, keep.moves);
  if (transfer == nullptr) return false;
  chunk.next_block += transfer->block_count;
  context_.moves.add_gather(*transfer);
  return true;
}

void Saver::gathered_to_parcel(Job& job, const Transfer& transfer) {
  ChunkWork& chunk = job.chunks[transfer.chunk];
  chunk.moved_blocks += transfer.block_count;
  if (chunk.moved_blocks != chunk.blocks.size()) return;
  chunk.parcel->checksums = chunk.checksums;
  context_.packer.pack(chunk.parcel,
                       [this, id = job.id, index = transfer.chunk, inbox = context_.inbox] {
                         inbox->post([this, id, index] { packed(id, index); });
                       });
}

void Saver::packed(JobId id, size_t index) {
  Job* const job = find(id);
  if (job == nullptr) return;
  ChunkWork& chunk = job->chunks[index];
  if (chunk.phase != ChunkPhase::Moving || !chunk.parcel) return;
  take_packed(context_, chunk);
  to_write_.emplace_back(id, index);
}

bool Saver::write_packed(size_t keep_slots) {
  bool any = false;
  std::erase_if(to_write_, [&](const auto& place) {
    Job* const job = find(place.first);
    if (job == nullptr) return true;
    ChunkWork& chunk = job->chunks[place.second];
    if (chunk.phase != ChunkPhase::Moving) return true;
    while (chunk.next_block < chunk.blocks.size()) {
      Transfer* const transfer =
          start_stored(context_, Route::Packed, IoOp::Write, chunk, keep_slots);
      if (transfer == nullptr) return false;
      transfer->job = job;
      transfer->chunk = place.second;
      context_.transfers.queue(*transfer);
      any = true;
    }
    return true;
  });
  return any;
}

}  // namespace penstock
