// How a load learns where its chunks are, tier after tier, and whether they are promoted.
#include <numeric>
#include <set>

#include "base/sizes.hpp"
#include "metrics/trace.hpp"
#include "mover/loader.hpp"
#include "mover/pieces.hpp"

namespace penstock {

namespace {
// A promotion is worth a short wait for room; if the index is busy for longer, the load goes on
// without.
constexpr std::chrono::milliseconds kPatience{20};
}  // namespace

// In pieces, but for a drive, which takes longer than the index. The mover has the job before any
// answer: both come through the inbox.
void Loader::submit(std::shared_ptr<Job> job) {
  const Tier tier = context_.stores.fastest();
  std::vector<size_t> all(job->chunks.size());
  std::iota(all.begin(), all.end(), size_t{0});
  std::vector<std::vector<size_t>> pieces;
  if (tier == Tier::Local)
    for_each_piece(all, [&](std::vector<size_t> piece) { pieces.push_back(std::move(piece)); });
  else
    pieces.push_back(std::move(all));
  job->pieces = pieces.size();
  context_.inbox->post([this, job] { add(job); });
  for (std::vector<size_t>& piece : pieces) ask(*job, tier, std::move(piece));
}

// Of the job, only what never changes: another thread may be at the rest.
void Loader::ask(const Job& job, Tier tier, std::vector<size_t> chunks) {
  std::vector<CopyName> names;
  for (const size_t i : chunks) names.push_back(job.chunks[i].name);
  const bool queued =
      context_.store(tier).find(job.space.in(tier), std::move(names),
                                [this, id = job.id, tier, chunks = std::move(chunks),
                                 inbox = context_.inbox](std::vector<CopyRecord> records) mutable {
                                  inbox->post([this, id, tier, chunks = std::move(chunks),
                                               records = std::move(records)]() mutable {
                                    found(id, tier, chunks, std::move(records));
                                  });
                                });
  if (!queued) context_.inbox->post([this, id = job.id] { end(id, Status::Busy); });
}

// A record comes from disk: it must fit the copy that was asked for in every respect.
bool Loader::accept(Job& job, size_t index, Tier tier, CopyRecord& record) const {
  ChunkWork& chunk = job.chunks[index];
  if (record.status != Status::Ok || record.length != chunk.bytes) return false;
  if (record.stored > record.length) return false;
  if (record.checksums.size() != div_up(record.stored, context_.block_size)) return false;
  if (!context_.fits(tier, record.stored, record.extents)) return false;
  const bool packed = record.stored < record.length;
  if (packed && (tier == Tier::Local || !context_.packer.holds(chunk.bytes))) return false;
  chunk.tier = tier;
  chunk.blocks = flatten(record.extents);
  chunk.checksums = std::move(record.checksums);
  chunk.record_id = record.id;
  chunk.stored = record.stored;
  chunk.phase = ChunkPhase::Moving;
  job.count_in_memory(chunk, tier == Tier::Local);
  return true;
}

void Loader::found(JobId id, Tier tier, const std::vector<size_t>& chunks,
                   std::vector<CopyRecord> records) {
  const auto known = jobs_.find(id);
  if (known == jobs_.end()) return;
  Entry& entry = known->second;
  Job& job = *entry.job;
  if (!job.answered) trace({"find", TraceRow::Job, id, job.started, Clock::now()});
  job.answered = true;
  if (tier == context_.stores.fastest()) --job.pieces;
  if (tier == context_.stores.slowest()) {
    entry.rest.chunks = chunks;
    entry.rest.records = std::move(records);
    if (!entry.rest.wants_room || !entry.rest.room.empty()) go_on(entry);
    return;
  }
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (job.chunks[chunks[i]].phase == ChunkPhase::Done) continue;
    if (i >= records.size() || !accept(job, chunks[i], tier, records[i]))
      entry.missing.push_back(chunks[i]);
  }
  if (job.pieces > 0) return;
  std::vector<size_t> missing = std::exchange(entry.missing, {});
  if (missing.empty()) return touch(job);
  entry.rest.chunks = missing;
  ask_for_room(entry);
  ask(job, context_.stores.slowest(), std::move(missing));
}

// The drives have answered for the rest, and there is room in memory, or no time to wait for it.
void Loader::go_on(Entry& entry) {
  Job& job = *entry.job;
  const Rest rest = std::exchange(entry.rest, {});
  const Tier tier = context_.stores.slowest();
  std::vector<CopyRecord> records = std::move(*rest.records);
  for (size_t i = 0; i < rest.chunks.size(); ++i) {
    const size_t index = rest.chunks[i];
    const ChunkWork& chunk = job.chunks[index];
    if (chunk.phase == ChunkPhase::Done) continue;
    if (i < records.size() && accept(job, index, tier, records[i])) continue;
    Status why = i < records.size() ? records[i].status : Status::NotFound;
    if (chunk.again) why = chunk.status;
    fail(job, index, why == Status::Ok ? Status::NotFound : why);
  }
  promote(job, rest);
}

// The drives' copies count as used too, or those that are always found in memory would be the first
// to go there.
void Loader::touch(const Job& job) {
  if (!context_.has(Tier::Gds)) return;
  std::map<uint32_t, CopyName> deepest;
  for (const ChunkWork& chunk : job.chunks) deepest[chunk.name.group] = chunk.name;
  std::vector<CopyName> names;
  for (const auto& [group, name] : deepest) names.push_back(name);
  // Nobody waits for it: if the queue is full, they were not used.
  context_.store(Tier::Gds).find(job.space.in(Tier::Gds), std::move(names),
                                 [](const std::vector<CopyRecord>&) {});
}

// Room for what is not in memory, asked for at once with the question to the drives.
void Loader::ask_for_room(Entry& entry) {
  const Job& job = *entry.job;
  std::vector<Wish> wishes;
  std::map<uint32_t, Key> above;  // by group
  for (const ChunkWork& chunk : job.chunks) {
    // What is loaded before it is in memory, or comes there if this does.
    const auto last = above.find(chunk.name.group);
    const bool follows = last != above.end() && last->second == chunk.parent;
    above[chunk.name.group] = chunk.name.key;
    if (chunk.phase != ChunkPhase::Waiting) continue;
    Wish wish{chunk.name, chunk.bytes};
    if (!follows) wish.parent = chunk.parent;
    wishes.push_back(std::move(wish));
  }
  entry.rest.patience = Clock::now() + kPatience;
  entry.rest.wants_room =
      context_.store(Tier::Local)
          .reserve(job.space.in(Tier::Local), std::move(wishes),
                   [this, id = job.id, inbox = context_.inbox,
                    &store = context_.store(Tier::Local)](std::vector<Reservation> reservations) {
                     // Leases, so that whatever comes in between gives them back.
                     auto room = std::make_shared<std::vector<Room>>();
                     for (Reservation& reservation : reservations)
                       room->push_back(
                           {reservation.status,
                            std::make_shared<ExtentLease>(std::move(reservation.extents),
                                                          [&store](std::vector<Extent> extents) {
                                                            store.release(std::move(extents));
                                                          })});
                     inbox->post([this, id, room] {
                       const auto found = jobs_.find(id);
                       if (found == jobs_.end() || !found->second.rest.wants_room) return;
                       Entry& known = found->second;
                       known.rest.room = std::move(*room);
                       if (known.rest.records) go_on(known);
                     });
                   });
}

// Down each chain as far as there is room: below a copy that is not there none can be published.
void Loader::promote(Job& job, const Rest& rest) {
  std::set<uint32_t> ended;  // groups
  for (size_t i = 0; i < rest.chunks.size() && i < rest.room.size(); ++i) {
    ChunkWork& chunk = job.chunks[rest.chunks[i]];
    const auto& [status, lease] = rest.room[i];
    const uint32_t group = chunk.name.group;
    if (status == Status::Present) continue;  // another process has brought it there meanwhile
    if (status != Status::Ok || chunk.phase != ChunkPhase::Moving || ended.contains(group) ||
        !context_.fits(Tier::Local, chunk.bytes, lease->extents())) {
      ended.insert(group);
      continue;
    }
    chunk.lease = lease;
    chunk.memory = flatten(lease->extents());
    chunk.pending =
        promoted_.announce(job.space.in(Tier::Local), chunk,
                           [&metrics = context_.metrics, bytes = chunk.bytes](Status published) {
                             if (published != Status::Ok) return;
                             metrics.promoted_chunks.add();
                             metrics.promoted_bytes.add(bytes);
                           });
  }
}

}  // namespace penstock
