#include "mover/context.hpp"

#include "base/assert.hpp"
#include "base/sizes.hpp"

namespace penstock {

MoverContext::Run MoverContext::run_at(const ChunkWork& chunk, uint32_t first) const {
  Run run{1, block_begin(first), block_end(chunk, first)};
  while (first + run.count < chunk.blocks.size()) {
    const BlockAddress& last = chunk.blocks[first + run.count - 1];
    const BlockAddress& next = chunk.blocks[first + run.count];
    const uint64_t end = block_end(chunk, first + run.count);
    const bool adjacent = next.pool == last.pool && next.block == last.block + 1;
    if (!adjacent || round_up(end - run.begin, kSector) > transfers.slot_bytes()) break;
    run.end = end;
    ++run.count;
  }
  return run;
}

void MoverContext::aim(Transfer& transfer, IoOp op, Job& job, size_t chunk, uint32_t first,
                       const Run& run) const {
  const BlockAddress& at = job.chunks[chunk].blocks[first];
  transfer.io.op = op;
  transfer.io.fd = store.pool_fd(at.pool);
  transfer.io.offset = Store::pool_data_offset() + at.block * store.block_size();
  transfer.io.size = round_up(run.end - run.begin, kSector);
  transfer.job = &job;
  transfer.chunk = chunk;
  transfer.first_block = first;
  transfer.block_count = run.count;
}

void MoverContext::aim_move(Transfer& transfer, PageMove::Direction direction) const {
  const Job& job = *transfer.job;
  const ChunkWork& chunk = job.chunks[transfer.chunk];
  const uint32_t first = transfer.first_block, count = transfer.block_count;
  PageMove& move = transfer.move;
  move.direction = direction;
  move.group = chunk.name.group;
  move.rows = chunk.rows;
  move.begin = block_begin(first);
  move.end = block_end(chunk, first + count - 1);
  move.block_size = store.block_size();
  move.data = transfer.io.data;
  move.after = job.ticket;
  move.identities.clear();
  for (uint32_t i = first; i < first + count; ++i)
    move.identities.push_back(
        block_identity(job.digest, chunk.name, i, maps[chunk.name.group].copy_bytes()));
}

std::vector<BlockAddress> flatten(const std::vector<Extent>& extents) {
  std::vector<BlockAddress> blocks;
  for (const Extent& extent : extents)
    for (uint32_t i = 0; i < extent.count; ++i) blocks.push_back({extent.pool, extent.first + i});
  return blocks;
}

void report(MoverContext& context, Job& job) {
  PENSTOCK_ASSERT(job.chunks_left == 0);
  context.transfers.orphan(job);
  JobResult result;
  result.id = job.id;
  result.kind = job.request.kind;
  for (const ChunkWork& chunk : job.chunks) {
    result.chunk_status.push_back(chunk.status);
    if (result.status == Status::Ok) result.status = chunk.status;
  }
  result.bytes = job.moved_bytes;
  result.seconds = std::chrono::duration<double>(Clock::now() - job.started).count();
  const auto micros = static_cast<uint64_t>(result.seconds * 1e6);
  (job.request.kind == JobKind::Load ? context.metrics.load_micros : context.metrics.save_micros)
      .add(micros);
  if (result.kind == JobKind::Load) context.moves.device().job_done(job.id);
  context.outbox.complete(std::move(result));
}

}  // namespace penstock
