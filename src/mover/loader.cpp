#include "mover/loader.hpp"

#include "base/sizes.hpp"

namespace penstock {

void Loader::add(std::shared_ptr<Job> job) {
  context_.metrics.load_jobs.add();
  const JobId id = job->id;
  std::vector<CopyName> names;
  for (const ChunkWork& chunk : job->chunks) names.push_back(chunk.name);
  const NamespaceId ns = job->request.namespace_id;
  jobs_.emplace(id, std::move(job));
  const bool queued = context_.store.find(
      ns, std::move(names),
      [this, id, inbox = context_.inbox](std::vector<CopyRecord> records) mutable {
        inbox->post(
            [this, id, records = std::move(records)]() mutable { found(id, std::move(records)); });
      });
  if (!queued) end(id, Status::Busy);
}

// A record comes from disk: it must fit the copy that was asked for in every respect.
bool Loader::accept(ChunkWork& chunk, CopyRecord& record) const {
  if (record.status != Status::Ok) return false;
  const uint64_t bytes = context_.maps[chunk.name.group].copy_bytes();
  const uint64_t blocks = div_up(bytes, context_.store.block_size());
  if (record.length != bytes || record.checksums.size() != blocks) return false;
  uint64_t listed = 0;
  for (const Extent& extent : record.extents) {
    if (context_.store.pool_fd(extent.pool) < 0) return false;
    listed += extent.count;
  }
  if (listed != blocks) return false;
  chunk.blocks = flatten(record.extents);
  chunk.checksums = std::move(record.checksums);
  chunk.record_id = record.id;
  chunk.phase = ChunkPhase::Moving;
  return true;
}

void Loader::found(JobId id, std::vector<CopyRecord> records) {
  const auto entry = jobs_.find(id);
  if (entry == jobs_.end()) return;
  Job& job = *entry->second;
  job.answered = true;
  uint32_t layers = 0;
  for (const CopyMap& map : context_.maps) layers = std::max(layers, map.layer_count());
  job.layer_pending.assign(layers, 0);
  for (size_t i = 0; i < job.chunks.size(); ++i) {
    ChunkWork& chunk = job.chunks[i];
    if (chunk.phase == ChunkPhase::Done) continue;
    if (i >= records.size() || !accept(chunk, records[i])) {
      const Status why = i < records.size() ? records[i].status : Status::NotFound;
      fail(job, i, why == Status::Ok ? Status::NotFound : why);
      continue;
    }
    if (job.layer_pending.empty()) continue;
    for (uint32_t b = 0; b < chunk.blocks.size(); ++b) {
      const auto span = context_.maps[chunk.name.group].layers_of(context_.block_begin(b),
                                                                  context_.block_end(chunk, b));
      for (uint32_t l = span.first; l <= span.last; ++l) ++job.layer_pending[l];
    }
  }
}

bool Loader::issue() {
  bool any = false;
  uint32_t at_work = 0;
  for (auto& [id, job] : jobs_) {
    if (!job->answered || job->chunks_left == 0) continue;
    if (at_work++ == context_.max_concurrent_ops) break;
    any |= issue(*job);
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
    const bool more = chunk.phase == ChunkPhase::Moving && chunk.next_block < chunk.blocks.size();
    if (more && !started) return any;  // no slot: this block stays the next one
    idle = started ? 0 : idle + 1;
    if (!more || job.request.layerwise) job.cursor = (index + 1) % job.chunks.size();
  }
  return any;
}

bool Loader::issue_run(Job& job, size_t index) {
  ChunkWork& chunk = job.chunks[index];
  if (chunk.phase != ChunkPhase::Moving || chunk.next_block == chunk.blocks.size()) return false;
  const uint32_t pool = chunk.blocks[chunk.next_block].pool;
  if (!context_.transfers.can_start(pool, 0)) return false;
  const auto run = context_.run_at(chunk, chunk.next_block);
  Transfer& transfer = context_.transfers.start(pool);
  context_.aim(transfer, IoOp::Read, job, index, chunk.next_block, run);
  chunk.next_block += run.count;
  context_.transfers.queue(transfer);
  return true;
}

bool Loader::read(Transfer& transfer, const IoCompletion& completion) {
  Job& job = *transfer.job;
  if (job.chunks[transfer.chunk].phase != ChunkPhase::Moving) return false;  // it failed meanwhile
  if (completion.status != Status::Ok) {
    fail(job, transfer.chunk, Status::Io);
    return false;
  }
  context_.aim_move(transfer, PageMove::Direction::Scatter);
  context_.moves.add_scatter(transfer);
  return true;
}

void Loader::scattered(const Transfer& transfer) {
  Job& job = *transfer.job;
  ChunkWork& chunk = job.chunks[transfer.chunk];
  if (chunk.phase != ChunkPhase::Moving) return;
  const PageMove& move = transfer.move;
  if (move.status != Status::Ok) return fail(job, transfer.chunk, move.status);
  for (uint32_t i = 0; i < transfer.block_count; ++i) {
    const uint32_t ordinal = transfer.first_block + i;
    if (move.checksums[i] != chunk.checksums[ordinal]) return mismatch(job, transfer.chunk);
    block_ok(job, chunk, ordinal);
  }
  chunk.moved_blocks += transfer.block_count;
  if (chunk.moved_blocks == chunk.blocks.size()) finish(job, transfer.chunk, Status::Ok);
}

void Loader::mismatch(Job& job, size_t index) {
  ChunkWork& chunk = job.chunks[index];
  chunk.phase = ChunkPhase::Settling;
  const bool queued = context_.store.damaged(
      job.request.namespace_id, chunk.name, chunk.record_id,
      [this, id = job.id, index, inbox = context_.inbox](Status status) {
        inbox->post([this, id, index, status] { damaged(id, index, status); });
      });
  if (!queued) fail(job, index, Status::NotFound);
}

void Loader::damaged(JobId id, size_t index, Status status) {
  const auto entry = jobs_.find(id);
  if (entry == jobs_.end() || entry->second->chunks[index].phase == ChunkPhase::Done) return;
  fail(*entry->second, index, status == Status::Ok ? Status::NotFound : status);
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
  context_.outbox.set_layers_ready(job.id, job.layers_ready);
  context_.moves.device().layers_ready(job.id, job.layers_ready);
}

void Loader::finish(Job& job, size_t index, Status status) {
  ChunkWork& chunk = job.chunks[index];
  chunk.phase = ChunkPhase::Done;
  chunk.status = status;
  chunk.blocks = {};
  --job.chunks_left;
  MoverMetrics& metrics = context_.metrics;
  switch (status) {
    case Status::Ok: {
      const uint64_t bytes = context_.maps[chunk.name.group].copy_bytes();
      job.moved_bytes += bytes;
      metrics.load_chunks_ok.add();
      metrics.loaded_bytes.add(bytes);
      break;
    }
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
  const auto entry = jobs_.find(id);
  if (entry == jobs_.end()) return;
  Job& job = *entry->second;
  job.layer_pending.clear();
  for (size_t i = 0; i < job.chunks.size(); ++i)
    if (job.chunks[i].phase != ChunkPhase::Done) finish(job, i, status);
}

void Loader::end_all(Status status) {
  for (auto& [id, job] : jobs_) end(id, status);
}

void Loader::expire(Clock::time_point now) {
  for (auto& [id, job] : jobs_)
    if (job->chunks_left > 0 && now >= job->deadline) end(id, Status::Timeout);
}

void Loader::sweep() {
  std::erase_if(jobs_, [this](auto& entry) {
    if (entry.second->chunks_left > 0 || entry.second->moves > 0) return false;
    report(context_, *entry.second);
    return true;
  });
}

Clock::time_point Loader::next_deadline() const {
  auto next = Clock::time_point::max();
  for (const auto& [id, job] : jobs_) next = std::min(next, job->deadline);
  return next;
}

}  // namespace penstock
