#include "mover/saver.hpp"

#include <algorithm>

#include "base/sizes.hpp"

namespace penstock {
namespace {
constexpr size_t kMaxCommit = 64;        // copies published in one transaction
constexpr size_t kMaxRemembered = 4096;  // names of dropped copies
}  // namespace

Job* Saver::find(JobId id) {
  const auto entry = jobs_.find(id);
  return entry == jobs_.end() ? nullptr : entry->second.get();
}

void Saver::add(std::shared_ptr<Job> owned) {
  context_.metrics.save_jobs.add();
  Job& job = *owned;
  jobs_.emplace(job.id, std::move(owned));
  std::vector<Store::Wish> wishes;
  for (size_t i = 0; i < job.chunks.size(); ++i) {
    ChunkWork& chunk = job.chunks[i];
    if (chunk.phase == ChunkPhase::Done) continue;
    if (parent_was_dropped(job, chunk)) {
      drop(job, i, Status::Cancelled);
      continue;
    }
    // Another job is writing the same copy: once is enough.
    if (!in_work_.emplace(job.request.namespace_id, chunk.name).second) {
      finish(job, i, Status::Present);
      continue;
    }
    dropped_.erase({job.request.namespace_id, chunk.name});  // a new attempt
    chunk.wished = true;
    wishes.push_back({chunk.name, context_.maps[chunk.name.group].copy_bytes()});
    order_.push_back({job.id, i});
  }
  if (wishes.empty()) return;
  const bool queued = context_.store.reserve(
      job.request.namespace_id, std::move(wishes),
      [this, id = job.id, inbox = context_.inbox,
       &store = context_.store](std::vector<Reservation> reservations) mutable {
        auto shared = std::make_shared<std::vector<Reservation>>(std::move(reservations));
        const bool posted = inbox->post([this, id, shared] { reserved(id, std::move(*shared)); });
        if (posted) return;
        for (Reservation& reservation : *shared)
          if (!reservation.extents.empty()) store.release(std::move(reservation.extents));
      });
  if (!queued) end(job.id, Status::Busy);
}

void Saver::reserved(JobId id, std::vector<Reservation> reservations) {
  Job* job = find(id);
  size_t next = 0;
  const auto release = [&store = context_.store](std::vector<Extent> extents) {
    store.release(std::move(extents));
  };
  if (job != nullptr) {
    job->answered = true;
    for (size_t i = 0; i < job->chunks.size(); ++i) {
      ChunkWork& chunk = job->chunks[i];
      if (!chunk.wished) continue;
      if (next == reservations.size()) break;
      Reservation& reservation = reservations[next++];
      auto lease = std::make_shared<ExtentLease>(std::move(reservation.extents), release);
      if (chunk.phase == ChunkPhase::Done) continue;  // dropped meanwhile; the lease gives back
      if (reservation.status == Status::Present) {
        finish(*job, i, Status::Present);
        continue;
      }
      chunk.blocks = flatten(lease->extents());
      const uint64_t bytes = context_.maps[chunk.name.group].copy_bytes();
      if (reservation.status != Status::Ok ||
          chunk.blocks.size() != div_up(bytes, context_.store.block_size())) {
        drop(*job, i, reservation.status == Status::Ok ? Status::NoSpace : reservation.status);
        continue;
      }
      chunk.lease = std::move(lease);
      chunk.checksums.assign(chunk.blocks.size(), 0);
      chunk.phase = ChunkPhase::Moving;
    }
  }
  for (; next < reservations.size(); ++next)
    if (!reservations[next].extents.empty()) release(std::move(reservations[next].extents));
}

bool Saver::issue(size_t keep_slots) {
  bool any = launch();  // what the device did not take the last time
  uint32_t at_work = 0;
  for (auto& [id, job] : jobs_) {
    if (!job->answered || job->chunks_left == 0) continue;
    if (at_work++ == context_.max_concurrent_ops) break;
    any |= issue(*job, keep_slots);
  }
  while (launch()) any = true;
  return any;
}

bool Saver::issue(Job& job, size_t keep_slots) {
  bool any = false;
  while (job.cursor < job.chunks.size()) {
    const ChunkWork& chunk = job.chunks[job.cursor];
    if (chunk.phase != ChunkPhase::Moving || chunk.next_block == chunk.blocks.size()) {
      ++job.cursor;
      continue;
    }
    if (!issue_run(job, job.cursor, keep_slots)) break;
    any = true;
  }
  return any;
}

bool Saver::issue_run(Job& job, size_t index, size_t keep_slots) {
  ChunkWork& chunk = job.chunks[index];
  const uint32_t pool = chunk.blocks[chunk.next_block].pool;
  if (context_.store.pool_fd(pool) < 0) {
    drop(job, index, Status::Io);
    return true;
  }
  if (context_.moves.gathers_are_due() && !launch()) return false;  // the device is full
  if (!context_.transfers.can_start(pool, keep_slots)) return false;
  const auto run = context_.run_at(chunk, chunk.next_block);
  Transfer& transfer = context_.transfers.start(pool);
  context_.aim(transfer, IoOp::Write, job, index, chunk.next_block, run);
  context_.aim_move(transfer, PageMove::Direction::Gather);
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
  transfer.lease = chunk.lease;
  context_.transfers.queue(transfer);
  context_.transfers.flush();  // now: the drive should write while the next run is gathered
}

void Saver::written(Transfer& transfer, const IoCompletion& completion) {
  Job& job = *transfer.job;
  ChunkWork& chunk = job.chunks[transfer.chunk];
  if (chunk.phase != ChunkPhase::Moving) return;
  if (completion.status != Status::Ok) return drop(job, transfer.chunk, completion.status);
  context_.store.mark_written(transfer.pool, transfer.io.size);
  chunk.moved_blocks += transfer.block_count;
  if (chunk.moved_blocks == chunk.blocks.size()) chunk.phase = ChunkPhase::Settling;
}

bool Saver::commit() {
  if (committing_) return false;
  std::vector<CopyInsert> copies;
  std::vector<Place> places;
  NamespaceId ns = 0;
  while (!order_.empty() && copies.size() < kMaxCommit) {
    const Place place = order_.front();
    Job* job = find(place.id);
    if (job != nullptr && job->chunks[place.chunk].phase != ChunkPhase::Done) {
      ChunkWork& chunk = job->chunks[place.chunk];
      if (chunk.phase != ChunkPhase::Settling) break;
      if (!copies.empty() && ns != job->request.namespace_id) break;
      ns = job->request.namespace_id;
      const uint64_t bytes = context_.maps[chunk.name.group].copy_bytes();
      copies.push_back({chunk.name, chunk.parent, bytes, chunk.lease->extents(), chunk.checksums});
      places.push_back(place);
    }
    order_.pop_front();
  }
  if (copies.empty()) return false;
  // From here on the blocks are the store's: it publishes them or gives them back.
  committing_ = context_.store.commit(
      ns, std::move(copies), [this, places, inbox = context_.inbox](std::vector<Status> statuses) {
        inbox->post([this, places, statuses] { committed(places, statuses); });
      });
  for (const Place& place : places) {
    Job& job = *find(place.id);
    if (committing_) {
      job.chunks[place.chunk].lease->hand_over();
    } else {
      drop(job, place.chunk, Status::Busy);
    }
  }
  return committing_;
}

void Saver::committed(const std::vector<Place>& places, const std::vector<Status>& statuses) {
  committing_ = false;
  for (size_t i = 0; i < places.size(); ++i) {
    Job* job = find(places[i].id);
    if (job == nullptr || job->chunks[places[i].chunk].phase == ChunkPhase::Done) continue;
    const Status status = i < statuses.size() ? statuses[i] : Status::Io;
    if (status == Status::Ok || status == Status::Present)
      finish(*job, places[i].chunk, status);
    else
      drop(*job, places[i].chunk, status);
  }
}

void Saver::finish(Job& job, size_t index, Status status) {
  ChunkWork& chunk = job.chunks[index];
  context_.fence.forget(chunk);
  chunk.phase = ChunkPhase::Done;
  chunk.status = status;
  chunk.lease.reset();
  chunk.blocks = {};
  --job.chunks_left;
  const FullName name{job.request.namespace_id, chunk.name};
  if (chunk.wished) in_work_.erase(name);  // else it is another job's
  if (status == Status::Ok || status == Status::Present) {
    dropped_.erase(name);
  } else {
    if (dropped_.size() >= kMaxRemembered) dropped_.clear();
    dropped_.insert(name);
  }
  if (status == Status::Ok) {
    const uint64_t bytes = context_.maps[chunk.name.group].copy_bytes();
    job.moved_bytes += bytes;
    context_.metrics.save_chunks_ok.add();
    context_.metrics.saved_bytes.add(bytes);
  } else if (status == Status::Present) {
    context_.metrics.save_chunks_present.add();
  } else {
    context_.metrics.save_chunks_dropped.add();
  }
}

bool Saver::parent_was_dropped(const Job& job, const ChunkWork& chunk) const {
  if (chunk.parent.is_root()) return false;
  const CopyName parent{chunk.parent, chunk.name.group, chunk.name.shard};
  return dropped_.contains({job.request.namespace_id, parent});
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

void Saver::sweep() {
  std::erase_if(jobs_, [this](auto& entry) {
    if (entry.second->chunks_left > 0 || entry.second->moves > 0) return false;
    report(context_, *entry.second);
    return true;
  });
}

Clock::time_point Saver::next_deadline() const {
  auto next = Clock::time_point::max();
  for (const auto& [id, job] : jobs_) next = std::min(next, job->deadline);
  return next;
}

}  // namespace penstock
