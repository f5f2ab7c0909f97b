#include "mover/saver.hpp"

#include <algorithm>

#include "mover/packed_runs.hpp"

namespace penstock {
namespace {
constexpr size_t kMaxRemembered = 4096;  // names of dropped copies
}  // namespace

Job* Saver::find(JobId id) {
  const auto entry = jobs_.find(id);
  return entry == jobs_.end() ? nullptr : entry->second.get();
}

bool Saver::issue(size_t keep_slots, size_t keep_moves) {
  bool any = launch();  // what the device did not take the last time
  any |= write_packed(keep_slots);
  uint32_t at_work = 0;
  for (auto& [id, job] : jobs_) {
    if (!job->answered || job->chunks_left == 0) continue;
    if (job->needs_drives() && at_work++ >= context_.max_concurrent_ops) continue;
    any |= issue(*job, {keep_slots, keep_moves});
  }
  while (launch()) any = true;
  return any;
}

bool Saver::issue(Job& job, const Keep& keep) {
  bool any = false;
  while (job.cursor < job.chunks.size()) {
    const ChunkWork& chunk = job.chunks[job.cursor];
    if (chunk.phase == ChunkPhase::Waiting) break;
    const bool gathers = chunk.next_block < chunk.blocks.size() && chunk.stored == 0;
    if (chunk.phase != ChunkPhase::Moving || !gathers) {
      ++job.cursor;
      continue;
    }
    if (!issue_run(job, job.cursor, keep)) break;
    any = true;
  }
  return any;
}

bool Saver::issue_run(Job& job, size_t index, const Keep& keep) {
  ChunkWork& chunk = job.chunks[index];
  const uint32_t first = chunk.next_block;
  if (context_.moves.gathers_are_due() && !launch()) return false;  // the device is full
  if (chunk.phase != ChunkPhase::Moving) return true;               // it was fenced meanwhile
  if (chunk.tier == Tier::Gds && context_.packs(chunk)) return issue_gather(job, index, keep);
  const bool staged = chunk.tier == Tier::Gds;
  const Route route = staged ? context_.transfers.drive_route() : Route::Memory;
  const uint32_t pool = chunk.blocks[first].pool;
  if (!context_.transfers.can_start(route, pool, staged ? keep.slots : keep.moves)) return false;
  const auto run = context_.run_at(chunk, first);
  Transfer& transfer = context_.start(route, IoOp::Write, chunk, first, run);
  transfer.job = &job;
  transfer.chunk = index;
  context_.aim_move(transfer, job, index, PageMove::Direction::Gather);
  context_.moves.add_gather(transfer);
  chunk.next_block += run.count;
  return true;
}

// The device starts to read pages inside the fence, so that a row that is released afterwards is
// known to be in its hands.
bool Saver::launch() {
  std::vector<Transfer*> fenced;
  const bool any = context_.moves.submit_gathers([&](std::span<Transfer* const> batch) {
    size_t taken = 0;
    context_.fence.hold([&] {
      std::vector<Transfer*> readable;
      for (Transfer* transfer : batch) {
        const bool is_fenced = transfer->job->chunks[transfer->chunk].fenced;
        if (is_fenced) fenced.push_back(transfer);
        if (is_fenced) break;  // it is dropped below, and the rest comes with the next batch
        readable.push_back(transfer);
      }
      taken = context_.moves.submit_to_device(readable);
      for (Transfer* transfer : std::span{readable}.first(taken)) {
        ChunkWork& chunk = transfer->job->chunks[transfer->chunk];
        const bool last = transfer->first_block + transfer->block_count == chunk.blocks.size();
        if (last) context_.fence.forget_held(chunk);
      }
    });
    return taken;
  });
  for (Transfer* transfer : fenced) {
    context_.metrics.save_chunks_fenced.add();
    drop(*transfer->job, transfer->chunk, Status::Cancelled);
  }
  context_.moves.poll();
  return any || !fenced.empty();
}

void Saver::gathered(Transfer& transfer) {
  Job& job = *transfer.job;
  ChunkWork& chunk = job.chunks[transfer.chunk];
  const PageMove& move = transfer.move;
  if (chunk.phase == ChunkPhase::Moving && move.status != Status::Ok)
    drop(job, transfer.chunk, move.status);
  if (chunk.phase != ChunkPhase::Moving) return context_.transfers.finish(transfer);
  std::copy(move.checksums.begin(), move.checksums.end(),
            chunk.checksums.begin() + transfer.first_block);
  if (transfer.route == Route::Memory) {  // it is where it is to be
    moved(chunk, transfer.block_count);
    return context_.transfers.finish(transfer);
  }
  if (transfer.route == Route::Unpacked) {
    gathered_to_parcel(job, transfer);
    return context_.transfers.finish(transfer);
  }
  context_.transfers.queue(transfer);
  context_.transfers.flush();  // now: the drive should write while the next run is gathered
}

void Saver::written(Transfer& transfer, const IoCompletion& completion) {
  Job& job = *transfer.job;
  ChunkWork& chunk = job.chunks[transfer.chunk];
  if (chunk.phase != ChunkPhase::Moving) return;
  if (completion.status != Status::Ok) return drop(job, transfer.chunk, completion.status);
  context_.store(chunk.tier).mark_written(transfer.pool, transfer.io.size);
  moved(chunk, transfer.block_count);
}

void Saver::moved(ChunkWork& chunk, uint32_t blocks) {
  chunk.moved_blocks += blocks;
  if (chunk.moved_blocks != chunk.blocks.size()) return;
  chunk.phase = ChunkPhase::Settling;
  chunk.pending->copy.checksums = chunk.checksums;
  chunk.pending->copy.stored = chunk.stored;
  chunk.pending->lease = chunk.lease;
  chunk.pending->state = PendingCopy::State::Ready;
}

bool Saver::publish() {
  bool any = false;
  for (Publisher& publisher : publishers_) any |= publisher.publish();
  return any;
}

void Saver::published(JobId id, size_t index, Status status) {
  Job* job = find(id);
  if (job == nullptr) return;
  ChunkWork& chunk = job->chunks[index];
  const bool to_drives = chunk.tier == Tier::Local && context_.has(Tier::Gds);
  if (chunk.phase == ChunkPhase::Done) return;
  if (status == Status::NotFound && to_drives) {
    // Memory has lost its parent meanwhile; the drives have that.
    chunk.tier = Tier::Gds;
    job->count_in_memory(chunk, false);
    in_work_[{job->request.namespace_id, chunk.name}] = Tier::Gds;
    return behind_.add_orphan(chunk, job->space,
                              [this, id, index](Status came) { published(id, index, came); });
  }
  if (status == Status::Ok || status == Status::Present) return finish(*job, index, status);
  drop(*job, index, status);
}

void Saver::finish(Job& job, size_t index, Status status) {
  ChunkWork& chunk = job.chunks[index];
  context_.fence.forget(chunk);
  chunk.phase = ChunkPhase::Done;
  chunk.status = status;
  if (chunk.pending) chunk.pending->drop();
  chunk.pending.reset();
  chunk.lease.reset();
  chunk.blocks = {};
  drop_parcel(chunk);
  job.count_in_memory(chunk, false);
  --job.chunks_left;
  const FullName name{job.request.namespace_id, chunk.name};
  if (chunk.wished) in_work_.erase(name);  // else it is another job's
  if (status == Status::Ok || status == Status::Present) {
    dropped_.erase(name);
  } else {
    if (dropped_.size() >= kMaxRemembered) dropped_.clear();
    dropped_.insert(name);
  }
  MoverMetrics& metrics = context_.metrics;
  if (status == Status::Ok) {
    job.moved_bytes += chunk.bytes;
    metrics.save_chunks_ok.add();
    metrics.saved_bytes.add(chunk.bytes);
    if (chunk.tier == Tier::Local) metrics.local_save_chunks.add();
    if (chunk.tier == Tier::Local) metrics.local_saved_bytes.add(chunk.bytes);
  } else if (status == Status::Present) {
    metrics.save_chunks_present.add();
  } else {
    metrics.save_chunks_dropped.add();
  }
}

// A copy cannot be published without its parent, so the rest of the chain goes too.
void Saver::drop(Job& job, size_t index, Status status) {
  finish(job, index, status);
  const uint32_t group = job.chunks[index].name.group;
  for (size_t i = index + 1; i < job.chunks.size(); ++i) {
    const ChunkWork& chunk = job.chunks[i];
    if (chunk.name.group == group && chunk.phase != ChunkPhase::Done)
      finish(job, i, Status::Cancelled);
  }
}

void Saver::end(JobId id, Status status) {
  Job* job = find(id);
  if (job == nullptr) return;
  for (size_t i = 0; i < job->chunks.size(); ++i)
    if (job->chunks[i].phase != ChunkPhase::Done) finish(*job, i, status);
}

void Saver::end_all(Status status) {
  for (auto& [id, job] : jobs_) end(id, status);
}

void Saver::expire(Clock::time_point now) {
  for (auto& [id, job] : jobs_)
    if (job->chunks_left > 0 && now >= job->deadline) end(id, Status::Timeout);
}

bool Saver::sweep() {
  const size_t gone = std::erase_if(jobs_, [this](auto& entry) {
    if (entry.second->chunks_left > 0 || entry.second->moves > 0) return false;
    report(context_, *entry.second);
    return true;
  });
  return gone > 0;
}

Clock::time_point Saver::next_deadline() const {
  auto next = Clock::time_point::max();
  for (const auto& [id, job] : jobs_) next = std::min(next, job->deadline);
  return next;
}

}  // namespace penstock
