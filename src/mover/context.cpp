#include "mover/context.hpp"

#include "base/assert.hpp"
#include "base/sizes.hpp"
#include "metrics/trace.hpp"

namespace penstock {
namespace {
constexpr uint64_t kMemoryRun = 8 << 20;
}  // namespace

std::shared_ptr<ExtentLease> MoverContext::lease(Tier tier, std::vector<Extent> extents) const {
  return std::make_shared<ExtentLease>(
      std::move(extents),
      [&store = store(tier)](std::vector<Extent> given) { store.release(std::move(given)); });
}

MoverContext::Run MoverContext::run_at(const CopyWork& copy, uint32_t first,
                                       bool short_runs) const {
  const auto follows = [](const std::vector<BlockAddress>& blocks, uint32_t i) {
    return blocks[i].pool == blocks[i - 1].pool && blocks[i].block == blocks[i - 1].block + 1;
  };
  // What a device moves in one piece must lie in one range of pinned memory.
  const auto one_range = [this](const std::vector<BlockAddress>& blocks, uint32_t i) {
    const Store& memory = store(Tier::Local);
    return memory.range_end(blocks[i].pool, blocks[i].block) ==
           memory.range_end(blocks[i - 1].pool, blocks[i - 1].block);
  };
  // Host memory needs no slot, and a link likes long runs (docs/benchmarks/device.md).
  const uint64_t limit = copy.tier != Tier::Local ? transfers.slot_bytes()
                         : short_runs             ? block_size
                                                  : kMemoryRun;
  Run run{1, block_begin(first), block_end(copy, first)};
  for (uint32_t i = first + 1; i < copy.blocks.size(); ++i) {
    const uint64_t end = block_end(copy, i);
    if (!follows(copy.blocks, i) || round_up(end - run.begin, kSector) > limit) break;
    if (!copy.memory.empty() && !(follows(copy.memory, i) && one_range(copy.memory, i))) break;
    if (copy.tier == Tier::Local && !one_range(copy.blocks, i)) break;
    run.end = end;
    ++run.count;
  }
  return run;
}

std::byte* MoverContext::memory_of(const BlockAddress& address) const noexcept {
  return store(Tier::Local).pool_memory(address.pool).data() + address.block * block_size;
}

Transfer& MoverContext::start(Route route, IoOp op, const CopyWork& copy, uint32_t first,
                              const Run& run) const {
  const BlockAddress& at = copy.blocks[first];
  Transfer& transfer = transfers.start(route, at.pool);
  if (route == Route::Memory)
    transfer.io.data = memory_of(at);
  else if (!has_slot(route))
    transfer.io.data = memory_of(copy.memory[first]);
  transfer.io.op = op;
  transfer.io.fd = store(copy.tier).pool_fd(at.pool);
  transfer.io.offset = Store::pool_data_offset() + at.block * block_size;
  transfer.io.size = round_up(run.end - run.begin, kSector);
  transfer.lease = copy.lease;  // until nothing is written there any more, whatever becomes of it
  transfer.first_block = first;
  transfer.block_count = run.count;
  return transfer;
}

void MoverContext::aim_move(Transfer& transfer, Job& job, size_t index,
                            PageMove::Direction direction) const {
  const ChunkWork& chunk = job.chunks[index];
  const uint32_t first = transfer.first_block, count = transfer.block_count;
  PageMove& move = transfer.move;
  move.direction = direction;
  move.on_device = transfer.route == Route::Direct;
  move.shared = transfer.route == Route::Memory || transfer.route == Route::Promote;
  move.group = chunk.name.group;
  move.rows = chunk.rows;
  move.begin = block_begin(first);
  move.end = block_end(chunk, first + count - 1);
  move.block_size = block_size;
  move.data = transfer.io.data;
  move.after = job.ticket;
  move.identities.clear();
  for (uint32_t i = first; i < first + count; ++i)
    move.identities.push_back(block_identity(job.space.digest, chunk.name, i, chunk.bytes));
}

bool MoverContext::fits(Tier tier, uint64_t bytes, const std::vector<Extent>& extents) const {
  uint64_t listed = 0;
  for (const Extent& extent : extents) {
    if (store(tier).pool_fd(extent.pool) < 0) return false;
    listed += extent.count;
    if (tier == Tier::Gds) continue;
    const uint64_t end = (uint64_t{extent.first} + extent.count) * block_size;
    if (end > store(tier).pool_memory(extent.pool).size()) return false;
  }
  return listed == div_up(bytes, block_size);
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
  const auto now = Clock::now();
  const auto took = now - job.started;
  result.seconds = std::chrono::duration<double>(took).count();
  const bool is_load = result.kind == JobKind::Load;
  MoverMetrics& metrics = context.metrics;
  (is_load ? metrics.load_seconds : metrics.save_seconds).observe(took);
  if (tracing())
    trace({is_load ? "load" : "save",
           TraceRow::Job,
           job.id,
           job.started,
           now,
           {{{"chunks", job.chunks.size()}, {"bytes", job.moved_bytes}}}});
  if (result.kind == JobKind::Load) context.moves.device().job_done(job.id);
  context.outbox.complete(std::move(result));
}

}  // namespace penstock
