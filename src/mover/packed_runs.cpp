#include "mover/packed_runs.hpp"

#include "base/sizes.hpp"
#include "store/extents.hpp"

namespace penstock {
namespace {
constexpr uint64_t kMoveBytes = 8 << 20;  // links like long runs (docs/benchmarks/device.md)
}  // namespace

bool take_parcel(MoverContext& context, CopyWork& copy, const Digest& name_space, bool for_load) {
  if (copy.parcel) return true;
  copy.parcel = context.packer.take(for_load);
  if (!copy.parcel) return false;
  Parcel& parcel = *copy.parcel;
  parcel.name_space = name_space;
  parcel.name = copy.name;
  parcel.bytes = copy.bytes;
  parcel.slices = context.maps[copy.name.group].slices();
  parcel.lease = copy.lease;
  for (const BlockAddress& address : copy.memory)
    parcel.memory.push_back(context.memory_of(address));
  return true;
}

void drop_parcel(CopyWork& copy) noexcept {
  if (copy.parcel) copy.parcel->unwanted = true;
  copy.parcel.reset();
}

Transfer* start_stored(MoverContext& context, Route route, IoOp op, CopyWork& copy, size_t keep) {
  const uint32_t first = copy.next_block;
  const BlockAddress& at = copy.blocks[first];
  if (!context.transfers.can_start(route, at.pool, keep)) return nullptr;
  const uint64_t begin = context.block_begin(first);
  const auto end_of = [&](uint32_t i) { return std::min(context.block_begin(i + 1), copy.stored); };
  uint32_t count = 1;
  for (; first + count < copy.blocks.size(); ++count) {
    const BlockAddress& next = copy.blocks[first + count];
    if (next.pool != at.pool || next.block != at.block + count) break;
    if (round_up(end_of(first + count) - begin, kSector) > context.transfers.slot_bytes()) break;
  }
  Transfer& transfer = context.transfers.start(route, at.pool);
  std::byte* const data =
      op == IoOp::Read ? copy.parcel->packed.data() : copy.parcel->stored_data();
  transfer.io.data = data + begin;
  transfer.io.op = op;
  transfer.io.fd = context.store(copy.tier).pool_fd(at.pool);
  transfer.io.offset = Store::pool_data_offset() + at.block * context.block_size;
  transfer.io.size = round_up(end_of(first + count - 1) - begin, kSector);
  transfer.lease = copy.lease;
  transfer.parcel = copy.parcel;
  transfer.first_block = first;
  transfer.block_count = count;
  copy.next_block += count;
  return &transfer;
}

Transfer* start_move(MoverContext& context, Job& job, size_t index, PageMove::Direction direction,
                     uint32_t first, uint64_t end, size_t keep) {
  const ChunkWork& chunk = job.chunks[index];
  const uint64_t begin = context.block_begin(first);
  if (begin >= chunk.bytes || context.block_end(chunk, first) > end) return nullptr;
  if (!context.transfers.can_start(Route::Unpacked, 0, keep)) return nullptr;
  uint32_t count = 1;
  while (context.block_begin(first + count) < chunk.bytes) {
    const uint64_t next_end = context.block_end(chunk, first + count);
    if (next_end > end || next_end - begin > kMoveBytes) break;
    ++count;
  }
  Transfer& transfer = context.transfers.start(Route::Unpacked, 0);
  transfer.io.data = chunk.parcel->raw.data() + begin;
  transfer.parcel = chunk.parcel;
  transfer.first_block = first;
  transfer.block_count = count;
  transfer.job = &job;
  transfer.chunk = index;
  context.aim_move(transfer, job, index, direction);
  return &transfer;
}

void take_packed(MoverContext& context, CopyWork& copy) {
  copy.stored = copy.parcel->stored;
  copy.checksums = copy.parcel->stored_checksums;
  copy.blocks = flatten(trim(copy.lease->extents(), copy.checksums.size()).kept);
  copy.next_block = copy.moved_blocks = 0;
  MoverMetrics& metrics = context.metrics;
  if (!copy.parcel->is_packed()) return metrics.unpackable_chunks.add();
  metrics.packed_chunks.add();
  metrics.packed_raw_bytes.add(copy.bytes);
  metrics.packed_bytes.add(copy.stored);
}

}  // namespace penstock
