// Where a save goes: to the fastest tier that takes it.
#include "base/sizes.hpp"
#include "metrics/trace.hpp"
#include "mover/pieces.hpp"
#include "mover/saver.hpp"

namespace penstock {
namespace {

CopyName parent_of(const ChunkWork& chunk) {
  return {chunk.parent, chunk.name.group, chunk.name.shard};
}

}  // namespace

void Saver::add(std::shared_ptr<Job> owned) {
  context_.metrics.save_jobs.add();
  Job& job = *owned;
  jobs_.emplace(job.id, std::move(owned));
  std::array<std::vector<size_t>, kTiers> chunks;
  for (size_t i = 0; i < job.chunks.size(); ++i) {
    ChunkWork& chunk = job.chunks[i];
    if (chunk.phase == ChunkPhase::Done) continue;
    if (parent_was_dropped(job, chunk)) {
      drop(job, i, Status::Cancelled);
      continue;
    }
    // Another job is writing the same copy: once is enough.
    if (in_work_.contains({job.request.namespace_id, chunk.name})) {
      finish(job, i, Status::Present);
      continue;
    }
    const Tier tier = tier_for(job, chunk);
    wish(job, i, tier);
    chunks[static_cast<size_t>(tier)].push_back(i);
  }
  for (const Tier tier : kAllTiers)
    for_each_piece(chunks[static_cast<size_t>(tier)],
                   [&](std::vector<size_t> piece) { reserve(job, tier, std::move(piece)); });
}

bool Saver::parent_was_dropped(const Job& job, const ChunkWork& chunk) const {
  return !chunk.parent.is_root() && dropped_.contains({job.request.namespace_id, parent_of(chunk)});
}

// A copy stands under its parent's, so it goes where that one is going.
Tier Saver::tier_for(const Job& job, const ChunkWork& chunk) const {
  const auto parent = in_work_.find({job.request.namespace_id, parent_of(chunk)});
  return parent != in_work_.end() ? parent->second : context_.stores.fastest();
}

void Saver::wish(Job& job, size_t index, Tier tier) {
  ChunkWork& chunk = job.chunks[index];
  chunk.wished = true;
  chunk.tier = tier;
  job.count_in_memory(chunk, tier == Tier::Local);
  dropped_.erase({job.request.namespace_id, chunk.name});  // a new attempt
  chunk.pending = publishers_[static_cast<size_t>(tier)].announce(
      job.space.in(tier), chunk,
      [this, id = job.id, index, space = job.space, ns = job.request.namespace_id,
       name = chunk.name, parent = chunk.parent, bytes = chunk.bytes,
       to_drives = tier == Tier::Local && context_.has(Tier::Gds)](Status status) {
        // The job may have ended meanwhile; the copy is there all the same.
        if (status == Status::Ok) dropped_.erase({ns, name});
        if (status == Status::Ok && to_drives) behind_.add(name, parent, bytes, space);
        published(id, index, status);
      });
  if (tier == Tier::Local) {
    chunk.pending->copy.keeps_blocks = context_.has(Tier::Gds);
    chunk.pending->copy.held = context_.has(Tier::Gds);  // until it is on the drives
  } else if (context_.has(Tier::Local)) {
    // Its parent may be on its way to the drives behind the jobs, or about to be.
    chunk.pending->waits = [this, space = job.space, ns = job.request.namespace_id,
                            parent = parent_of(chunk)] {
      const auto coming = in_work_.find({ns, parent});
      return behind_.has(space, parent) ||
             (coming != in_work_.end() && coming->second == Tier::Local);
    };
  }
  in_work_[{job.request.namespace_id, chunk.name}] = tier;
}

void Saver::reserve(Job& job, Tier tier, std::vector<size_t> chunks) {
  if (chunks.empty()) return;
  std::vector<Wish> wishes;
  for (const size_t i : chunks) {
    const ChunkWork& chunk = job.chunks[i];
    Wish wish{chunk.name, chunk.bytes};
    // Memory may have evicted what is on a drive; then this copy has its place there too.
    const bool is_coming = in_work_.contains({job.request.namespace_id, parent_of(chunk)});
    if (tier != context_.stores.slowest() && !is_coming) wish.parent = chunk.parent;
    wishes.push_back(std::move(wish));
  }
  Store& store = context_.store(tier);
  const bool queued = store.reserve(
      job.space.in(tier), std::move(wishes),
      [this, id = job.id, tier, chunks, inbox = context_.inbox,
       &store](std::vector<Reservation> reservations) mutable {
        auto shared = std::make_shared<std::vector<Reservation>>(std::move(reservations));
        if (inbox->post([this, id, tier, chunks, shared] { reserved(id, tier, chunks, *shared); }))
          return;
        for (Reservation& reservation : *shared)
          if (!reservation.extents.empty()) store.release(std::move(reservation.extents));
      });
  if (!queued) end(job.id, Status::Busy);
}

void Saver::reserved(JobId id, Tier tier, const std::vector<size_t>& chunks,
                     std::vector<Reservation>& reservations) {
  Job* job = find(id);
  if (job != nullptr && !job->answered)
    trace({"reserve", TraceRow::Job, id, job->started, Clock::now()});
  if (job != nullptr) job->answered = true;
  std::vector<size_t> fallen;
  for (size_t i = 0; i < reservations.size() && i < chunks.size(); ++i) {
    auto lease = context_.lease(tier, std::move(reservations[i].extents));
    const Status status = reservations[i].status;
    if (job == nullptr || job->chunks[chunks[i]].phase == ChunkPhase::Done)
      continue;  // dropped meanwhile; the lease gives back
    ChunkWork& chunk = job->chunks[chunks[i]];
    const auto parent = in_work_.find({job->request.namespace_id, parent_of(chunk)});
    const bool parent_falls = parent != in_work_.end() && parent->second == Tier::Gds;
    if (status == Status::Present) {
      finish(*job, chunks[i], Status::Present);
    } else if (status != Status::Ok || (tier == Tier::Local && parent_falls)) {
      fall(*job, chunks[i], status, fallen);
    } else if (!context_.fits(tier, chunk.bytes, lease->extents())) {
      drop(*job, chunks[i], Status::Io);
    } else {
      chunk.blocks = flatten(lease->extents());
      chunk.lease = std::move(lease);
      chunk.checksums.assign(chunk.blocks.size(), 0);
      chunk.phase = ChunkPhase::Moving;
    }
  }
  if (!fallen.empty()) reserve(*job, Tier::Gds, std::move(fallen));
}

// To the drives instead of memory.
void Saver::fall(Job& job, size_t index, Status why, std::vector<size_t>& fallen) {
  ChunkWork& chunk = job.chunks[index];
  if (chunk.tier == context_.stores.slowest()) return drop(job, index, why);
  chunk.pending->drop();
  wish(job, index, Tier::Gds);
  fallen.push_back(index);
}

}  // namespace penstock
