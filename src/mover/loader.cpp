#include "mover/loader.hpp"

#include <algorithm>

#include "base/sizes.hpp"
#include "metrics/trace.hpp"
#include "mover/packed_runs.hpp"

namespace penstock {

void Loader::add(std::shared_ptr<Job> job) {
  context_.metrics.load_jobs.add();
  if (jobs_.empty()) counted_until_ = Clock::now();
  count_layers(*job);
  jobs_[job->id].job = std::move(job);
}

// Every block that is to come counts for the layers that it covers, whatever tier it comes from.
void Loader::count_layers(Job& job) const {
  uint32_t layers = 0;
  for (const CopyMap& map : context_.maps) layers = std::max(layers, map.layer_count());
  job.layer_pending.assign(layers, 0);
  for (const ChunkWork& chunk : job.chunks) {
    if (chunk.phase == ChunkPhase::Done) continue;
    const uint64_t blocks = div_up(chunk.bytes, context_.block_size);
    for (uint32_t b = 0; b < blocks; ++b) {
      const auto span = context_.maps[chunk.name.group].layers_of(context_.block_begin(b),
                                                                  context_.block_end(chunk, b));
      for (uint32_t l = span.first; l <= span.last; ++l) ++job.layer_pending[l];
    }
  }
}

bool Loader::issue() {
  bool any = issue_moves();
  uint32_t at_work = 0;
  for (auto& [id, entry] : jobs_) {
    Job& job = *entry.job;
    if (!job.answered || job.chunks_left == 0) continue;
    // What lies in memory waits for no drive.
    if (job.needs_drives() && at_work++ >= context_.max_concurrent_ops) continue;
    any |= issue(job);
  }
  return any;
}

bool Loader::issue(Job& job) {
  bool any = false;
  size_t idle = 0;  // chunks visited in a row with nothing to start
  while (idle < job.chunks.size()) {
    const size_t index = job.cursor;
    const bool started = issue_run(job, index);
    any |= started;
    const ChunkWork& chunk = job.chunks[index];
    const bool more = has_more(job, chunk);
    if (more && !started) return any;  // no slot: this block stays the next one
    idle = started ? 0 : idle + 1;
    // A chunk that has a parcel is read to its end, so that it gives it back.
    if (!more || (job.request.layerwise && !chunk.parcel))
      job.cursor = (index + 1) % job.chunks.size();
  }
  return any;
}

// Layerwise, the first run of each chunk goes before the second of any.
bool Loader::has_more(const Job& job, const ChunkWork& chunk) const noexcept {
  if (chunk.phase != ChunkPhase::Moving || chunk.next_block == chunk.blocks.size()) return false;
  return job.pieces == 0 || !job.request.layerwise || chunk.next_block == 0;
}

bool Loader::issue_run(Job& job, size_t index) {
  ChunkWork& chunk = job.chunks[index];
  if (!has_more(job, chunk)) return false;
  if (chunk.stored < chunk.bytes) return issue_stored(job, index);
  const uint32_t first = chunk.next_block;
  const Route route = chunk.tier == Tier::Local ? Route::Memory
                      : chunk.lease             ? Route::Promote
                                                : context_.transfers.drive_route();
  if (!context_.transfers.can_start(route, chunk.blocks[first].pool, 0)) return false;
  const auto run = context_.run_at(chunk, first, job.request.layerwise);
  Transfer& transfer = context_.start(route, IoOp::Read, chunk, first, run);
  transfer.job = &job;
  transfer.chunk = index;
  transfer.ends_layer = job.request.layerwise && index + 1 == job.chunks.size();
  chunk.next_block += run.count;
  if (route == Route::Memory) {
    context_.aim_move(transfer, job, index, PageMove::Direction::Scatter);
    context_.moves.add_scatter(transfer);
  } else {
    context_.transfers.queue(transfer);
  }
  return true;
}

bool Loader::read(Transfer& transfer, const IoCompletion& completion) {
  Job& job = *transfer.job;
  if (job.chunks[transfer.chunk].phase != ChunkPhase::Moving) return false;  // it failed meanwhile
  if (completion.status != Status::Ok) {
    fail(job, transfer.chunk, Status::Io);
    return false;
  }
  if (transfer.route == Route::Packed) {
    stored_read(job, transfer);
    return false;
  }
  context_.aim_move(transfer, job, transfer.chunk, PageMove::Direction::Scatter);
  context_.moves.add_scatter(transfer);
  return true;
}

void Loader::scattered(const Transfer& transfer) {
  Job& job = *transfer.job;
  ChunkWork& chunk = job.chunks[transfer.chunk];
  if (chunk.phase != ChunkPhase::Moving) return;
  const PageMove& move = transfer.move;
  if (move.status != Status::Ok) return fail(job, transfer.chunk, move.status);
  const auto expected = chunk.checksums.begin() + transfer.first_block;
  if (!std::equal(move.checksums.begin(), move.checksums.end(), expected)) {
    if (transfer.route == Route::Direct) return read_again(transfer);
    return mismatch(job, transfer.chunk);
  }
  for (uint32_t i = 0; i < transfer.block_count; ++i)
    block_ok(job, chunk, transfer.first_block + i);
  chunk.moved_blocks += transfer.block_count;
  if (chunk.moved_blocks == chunk.checksums.size()) finish(job, transfer.chunk, Status::Ok);
}

// The drive or cuFile is at fault; host memory tells which.
void Loader::read_again(const Transfer& wrong) {
  context_.transfers.direct_was_wrong();
  if (!context_.transfers.can_start(Route::Staged, wrong.pool, 0))
    return fail(*wrong.job, wrong.chunk, Status::Io);
  const PageMove& move = wrong.move;
  Transfer& again = context_.start(Route::Staged, IoOp::Read, wrong.job->chunks[wrong.chunk],
                                   wrong.first_block, {wrong.block_count, move.begin, move.end});
  again.job = wrong.job;
  again.chunk = wrong.chunk;
  context_.transfers.queue(again);
}

void Loader::mismatch(Job& job, size_t index) {
  ChunkWork& chunk = job.chunks[index];
  chunk.phase = ChunkPhase::Settling;
  job.count_in_memory(chunk, false);
  const bool queued =
      context_.store(chunk.tier)
          .damaged(job.space.in(chunk.tier), chunk.name, chunk.record_id,
                   [this, id = job.id, index, inbox = context_.inbox](Status status) {
                     inbox->post([this, id, index, status] { damaged(id, index, status); });
                   });
  if (!queued) damaged(job.id, index, Status::NotFound);
}

void Loader::damaged(JobId id, size_t index, Status status) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = *found->second.job;
  ChunkWork& chunk = job.chunks[index];
  if (chunk.phase == ChunkPhase::Done) return;
  if (status == Status::Ok) status = Status::NotFound;
  if (chunk.tier != Tier::Local || !context_.has(Tier::Gds)) return fail(job, index, status);
  chunk.phase = ChunkPhase::Waiting;
  chunk.status = status;  // if the drives do not have it
  chunk.again = job.again = true;
}

// Everything else is over. These chunks begin anew, and so does what they are to the layers.
void Loader::begin_second_round(Entry& entry) {
  Job& job = *entry.job;
  std::vector<size_t> chunks;
  for (size_t i = 0; i < job.chunks.size(); ++i) {
    ChunkWork& chunk = job.chunks[i];
    if (chunk.phase == ChunkPhase::Done) continue;
    if (chunk.phase != ChunkPhase::Waiting || !chunk.again) return;
    chunks.push_back(i);
  }
  job.again = false;
  if (chunks.empty()) return;
  for (const size_t i : chunks) job.chunks[i].next_block = job.chunks[i].moved_blocks = 0;
  if (!job.layer_pending.empty()) count_layers(job);
  ask(job, context_.stores.slowest(), std::move(chunks));
}

void Loader::block_ok(Job& job, const ChunkWork& chunk, uint32_t ordinal) {
  if (job.layer_pending.empty()) return;
  const auto span = context_.maps[chunk.name.group].layers_of(context_.block_begin(ordinal),
                                                              context_.block_end(chunk, ordinal));
  for (uint32_t l = span.first; l <= span.last; ++l) --job.layer_pending[l];
  const uint32_t before = job.layers_ready;
  while (job.layers_ready < job.layer_pending.size() && job.layer_pending[job.layers_ready] == 0)
    ++job.layers_ready;
  if (job.layers_ready == before) return;
  if (tracing()) {
    const auto now = Clock::now();
    trace({"layers ready", TraceRow::Job, job.id, now, now, {{{"layers", job.layers_ready}}}});
  }
  context_.outbox.set_layers_ready(job.id, job.layers_ready);
  context_.moves.device().layers_ready(job.id, job.layers_ready);
}

void Loader::finish(Job& job, size_t index, Status status) {
  ChunkWork& chunk = job.chunks[index];
  chunk.phase = ChunkPhase::Done;
  chunk.status = status;
  chunk.blocks = {};
  chunk.memory = {};
  if (chunk.parcel && status == Status::Ok) context_.metrics.unpacked_chunks.add();
  if (chunk.again && status == Status::Ok) context_.metrics.load_chunks_reread.add();
  drop_parcel(chunk);
  job.count_in_memory(chunk, false);
  --job.chunks_left;
  if (chunk.pending) {
    const bool good = status == Status::Ok;
    if (good) chunk.pending->lease = chunk.lease;
    if (good) chunk.pending->copy.checksums = std::move(chunk.checksums);
    chunk.pending->state = good ? PendingCopy::State::Ready : PendingCopy::State::Dropped;
    chunk.pending.reset();
  }
  chunk.lease.reset();
  MoverMetrics& metrics = context_.metrics;
  switch (status) {
    case Status::Ok:
      job.moved_bytes += chunk.bytes;
      metrics.load_chunks_ok.add();
      metrics.loaded_bytes.add(chunk.bytes);
      if (chunk.tier != Tier::Local) break;
      metrics.local_load_chunks.add();
      metrics.local_loaded_bytes.add(chunk.bytes);
      break;
    case Status::Corrupt:
      metrics.load_chunks_corrupt.add();
      break;
    case Status::Io:
      metrics.load_chunks_failed.add();
      break;
    case Status::Timeout:
      metrics.load_chunks_timeout.add();
      break;
    case Status::Cancelled:
      metrics.load_chunks_cancelled.add();
      break;
    default:
      metrics.load_chunks_missed.add();
      break;
  }
}

// What follows in the chain is of no use without this chunk.
void Loader::fail(Job& job, size_t index, Status status) {
  job.layer_pending.clear();  // the remaining layers become ready with the job's completion
  finish(job, index, status);
  const uint32_t group = job.chunks[index].name.group;
  for (size_t i = index + 1; i < job.chunks.size(); ++i) {
    const ChunkWork& chunk = job.chunks[i];
    if (chunk.name.group == group && chunk.phase != ChunkPhase::Done)
      finish(job, i, Status::Cancelled);
  }
}

void Loader::end(JobId id, Status status) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = *found->second.job;
  job.layer_pending.clear();
  // What is in flight may be stuck behind a stream that waits for this job: let it go.
  context_.moves.device().layers_ready(job.id, Device::kAllLayers);
  for (size_t i = 0; i < job.chunks.size(); ++i)
    if (job.chunks[i].phase != ChunkPhase::Done) finish(job, i, status);
}

void Loader::end_all(Status status) {
  for (auto& [id, entry] : jobs_) end(id, status);
}

void Loader::expire(Clock::time_point now) {
  for (auto& [id, entry] : jobs_) {
    if (entry.job->chunks_left > 0 && now >= entry.job->deadline) end(id, Status::Timeout);
    if (entry.rest.records && now >= entry.rest.patience) go_on(entry);
  }
}

// The time during which there is at least one load.
void Loader::count_busy(Clock::time_point now) {
  if (jobs_.empty()) return;
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now - counted_until_);
  context_.metrics.load_busy_micros.add(
      static_cast<uint64_t>(std::max<int64_t>(micros.count(), 0)));
  counted_until_ += micros;
}

bool Loader::sweep(Clock::time_point now) {
  count_busy(now);
  for (auto& [id, entry] : jobs_)
    if (entry.job->again && entry.job->moves == 0) begin_second_round(entry);
  const size_t gone = std::erase_if(jobs_, [this](auto& found) {
    Job& job = *found.second.job;
    if (job.chunks_left > 0 || job.moves > 0) return false;
    report(context_, job);
    return true;
  });
  return gone > 0;
}

Clock::time_point Loader::next_deadline() const {
  auto next = Clock::time_point::max();
  for (const auto& [id, entry] : jobs_) {
    next = std::min(next, entry.job->deadline);
    if (entry.rest.records) next = std::min(next, entry.rest.patience);
  }
  return next;
}

}  // namespace penstock
