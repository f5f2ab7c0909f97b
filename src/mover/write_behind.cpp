#include "mover/write_behind.hpp"

#include <utility>

#include "base/sizes.hpp"
#include "mover/packed_runs.hpp"

namespace penstock {
namespace {

constexpr size_t kMaxCopies = 256 * 1024;  // that wait
constexpr size_t kBatch = 16;              // copies that the stores are asked about together
// Begun and not yet on the drive: enough for the drive to be busy, few enough to be there still
// when their turn comes.
constexpr uint64_t kMaxActiveBytes = 64 * 1024 * 1024;
constexpr size_t kMaxActive = 64;

}  // namespace

WriteBehind::Copy WriteBehind::push(const CopyName& name, const Key& parent, uint64_t bytes,
                                    const TierNamespace& space) {
  if (names_.size() >= kMaxCopies || !names_.emplace(space.in(Tier::Gds), name).second) {
    context_.metrics.write_behind_dropped.add();
    return nullptr;
  }
  auto copy = std::make_shared<BehindCopy>();
  copy->name = name;
  copy->parent = parent;
  copy->bytes = bytes;
  copy->space = space;
  context_.metrics.write_behind_taken_bytes.add(copy->bytes);
  queue_.push_back(copy);
  return copy;
}

void WriteBehind::add(const CopyName& name, const Key& parent, uint64_t bytes,
                      const TierNamespace& space) {
  push(name, parent, bytes, space);
}

void WriteBehind::add_orphan(const CopyWork& work, const TierNamespace& space,
                             std::function<void(Status)> done) {
  const Copy copy = push(work.name, work.parent, work.bytes, space);
  if (!copy) return done(Status::NoSpace);
  copy->memory = work.blocks;
  copy->checksums = work.checksums;
  copy->orphan = work.lease;
  copy->done = std::move(done);
}

bool WriteBehind::has(const TierNamespace& space, const CopyName& name) const {
  return names_.contains({space.in(Tier::Gds), name});
}

bool WriteBehind::issue(bool loads_wait, Clock::time_point now) {
  const size_t depth = context_.transfers.limit(Route::Behind);
  bool any = expire(now);
  any |= start_batch();
  any |= start_packing();
  any |= issue_writes(loads_wait ? 1 : std::max<size_t>(depth / 4, 1));
  any |= check();
  forget_ended();
  settle();
  return any;
}

// What stands still holds up all that follows it. A copy that is to be published waits for those
// before it, which have this deadline, or for the index.
Clock::time_point WriteBehind::deadline_of(const BehindCopy& copy) const {
  const bool has_one = copy.phase < BehindCopy::Phase::Checked;
  return has_one ? copy.moved_on + deadline_ : Clock::time_point::max();
}

bool WriteBehind::expire(Clock::time_point now) {
  bool any = false;
  for (const Copy& copy : active_) {
    if (now < deadline_of(*copy)) continue;
    drop(copy, Status::Timeout);
    any = true;
  }
  return any;
}

Clock::time_point WriteBehind::next_deadline() const {
  auto next = Clock::time_point::max();
  for (const Copy& copy : active_) next = std::min(next, deadline_of(*copy));
  return next;
}

template <typename Answer>
bool WriteBehind::find(const Batch& batch, Answer&& answer) {
  std::vector<CopyName> names;
  for (const Copy& copy : batch) names.push_back(copy->name);
  return context_.store(Tier::Local)
      .find(batch.front()->space.in(Tier::Local), std::move(names),
            [this, batch, answer, inbox = context_.inbox](std::vector<CopyRecord> records) mutable {
              inbox->post([this, batch, answer, records = std::move(records)]() mutable {
                (this->*answer)(batch, std::move(records));
              });
            });
}

bool WriteBehind::start_batch() {
  uint64_t active_bytes = 0;
  for (const Copy& copy : active_) {
    if (copy->phase == BehindCopy::Phase::Waiting) return false;  // one question at a time
    active_bytes += copy->bytes;
  }
  Batch batch;
  while (!queue_.empty() && batch.size() < kBatch && active_.size() + batch.size() < kMaxActive) {
    const Copy& next = queue_.front();
    const bool first = active_.empty() && batch.empty();  // however large it is
    if (!first && active_bytes + next->bytes > kMaxActiveBytes) break;
    if (!batch.empty() && batch.front()->space.ids != next->space.ids) break;
    active_bytes += next->bytes;
    next->moved_on = Clock::now();
    batch.push_back(next);
    queue_.pop_front();
  }
  if (batch.empty()) return false;
  active_.insert(active_.end(), batch.begin(), batch.end());
  if (!find(batch, &WriteBehind::located))
    for (const Copy& copy : batch) drop(copy, Status::Busy);
  return true;
}

void WriteBehind::located(const Batch& batch, std::vector<CopyRecord> records) {
  Batch there;
  for (size_t i = 0; i < batch.size(); ++i) {
    BehindCopy& copy = *batch[i];
    if (copy.phase != BehindCopy::Phase::Waiting) continue;
    if (copy.orphan) {
      there.push_back(batch[i]);
      continue;
    }
    const bool good = i < records.size() && records[i].status == Status::Ok &&
                      records[i].length == copy.bytes &&
                      context_.fits(Tier::Local, copy.bytes, records[i].extents);
    if (!good) {  // evicted meanwhile
      drop(batch[i], Status::NotFound);
      continue;
    }
    copy.memory = flatten(records[i].extents);
    copy.checksums = std::move(records[i].checksums);
    copy.record_id = records[i].id;
    there.push_back(batch[i]);
  }
  if (!there.empty()) reserve(there);
}

void WriteBehind::reserve(const Batch& batch) {
  std::vector<Wish> wishes;
  for (const Copy& copy : batch) {
    Wish wish{copy->name, copy->bytes};
    const CopyName parent{copy->parent, copy->name.group, copy->name.shard};
    if (!has(copy->space, parent)) wish.parent = copy->parent;
    wishes.push_back(std::move(wish));
  }
  const bool queued = context_.store(Tier::Gds).reserve(
      batch.front()->space.in(Tier::Gds), std::move(wishes),
      [this, batch, inbox = context_.inbox,
       &store = context_.store(Tier::Gds)](std::vector<Reservation> reservations) mutable {
        auto shared = std::make_shared<std::vector<Reservation>>(std::move(reservations));
        if (inbox->post([this, batch, shared] { reserved(batch, *shared); })) return;
        for (Reservation& reservation : *shared)
          if (!reservation.extents.empty()) store.release(std::move(reservation.extents));
      });
  if (queued) return;
  for (const Copy& copy : batch) drop(copy, Status::Busy);
}

void WriteBehind::reserved(const Batch& batch, std::vector<Reservation>& reservations) {
  for (size_t i = 0; i < batch.size(); ++i) {
    const Copy& copy = batch[i];
    Reservation answer =
        i < reservations.size() ? std::move(reservations[i]) : Reservation{Status::Io, {}};
    auto lease = context_.lease(Tier::Gds, std::move(answer.extents));
    if (copy->phase != BehindCopy::Phase::Waiting) continue;
    if (answer.status == Status::Present) {
      context_.metrics.write_behind_present.add();
      end(copy, Status::Present);
    } else if (answer.status != Status::Ok ||
               !context_.fits(Tier::Gds, copy->bytes, lease->extents())) {
      drop(copy, answer.status == Status::Ok ? Status::Io : answer.status);
    } else {
      copy->tier = Tier::Gds;
      copy->blocks = flatten(lease->extents());
      copy->lease = std::move(lease);
      copy->pending = publisher_.announce(copy->space.in(Tier::Gds), *copy,
                                          [this, copy](Status status) { published(copy, status); });
      copy->phase = context_.packs(*copy) ? BehindCopy::Phase::Packing : BehindCopy::Phase::Writing;
      copy->moved_on = Clock::now();
    }
  }
}

bool WriteBehind::start_packing() {
  bool any = false;
  for (const Copy& copy : active_) {
    if (copy->phase != BehindCopy::Phase::Packing || copy->parcel) continue;
    if (!take_parcel(context_, *copy, copy->space.digest, false)) break;
    copy->parcel->checksums = copy->checksums;
    copy->parcel->lease = copy->orphan;  // others' memory may go while it is copied
    context_.packer.pack(copy->parcel, [this, copy, inbox = context_.inbox] {
      inbox->post([this, copy] { packed(copy); });
    });
    any = true;
  }
  return any;
}

void WriteBehind::packed(const Copy& copy) {
  if (copy->phase != BehindCopy::Phase::Packing) return;
  if (copy->parcel->failed) return drop(copy, Status::NotFound);
  take_packed(context_, *copy);
  copy->phase = BehindCopy::Phase::Writing;
  copy->moved_on = Clock::now();
}

bool WriteBehind::issue_writes(size_t most) {
  bool any = false;
  for (const Copy& copy : active_) {
    while (copy->phase == BehindCopy::Phase::Writing && copy->next_block < copy->blocks.size()) {
      const uint32_t first = copy->next_block;
      const bool free = context_.transfers.in_flight(Route::Behind) < most &&
                        context_.transfers.can_start(Route::Behind, copy->blocks[first].pool, 0);
      if (!free) return any;
      any = true;
      if (copy->parcel) {
        Transfer* const transfer = start_stored(context_, Route::Behind, IoOp::Write, *copy, 0);
        transfer->behind = copy;
        context_.transfers.queue(*transfer);
        continue;
      }
      const auto run = context_.run_at(*copy, first);
      Transfer& transfer = context_.start(Route::Behind, IoOp::Write, *copy, first, run);
      transfer.behind = copy;
      copy->next_block += run.count;
      context_.transfers.queue(transfer);
    }
  }
  return any;
}

void WriteBehind::written(Transfer& transfer, const IoCompletion& completion) {
  const Copy copy = transfer.behind;
  if (copy->phase != BehindCopy::Phase::Writing) return;
  if (completion.status != Status::Ok) return drop(copy, completion.status);
  context_.store(Tier::Gds).mark_written(transfer.pool, transfer.io.size);
  copy->moved_blocks += transfer.block_count;
  copy->moved_on = Clock::now();
  if (copy->moved_blocks != copy->blocks.size()) return;
  copy->phase = BehindCopy::Phase::Written;
  if (copy->orphan || copy->parcel) ready(*copy);  // nobody else could write there
}

void WriteBehind::ready(BehindCopy& copy) {
  copy.phase = BehindCopy::Phase::Checked;
  copy.pending->copy.checksums = copy.checksums;
  copy.pending->copy.stored = copy.stored;
  copy.pending->lease = std::move(copy.lease);
  copy.pending->state = PendingCopy::State::Ready;
}

// The memory may have been given to another copy while it was written. Ids are never used again, so
// the same record afterwards means that it was there all the time.
bool WriteBehind::check() {
  Batch batch;
  for (const Copy& copy : active_) {
    if (copy->phase != BehindCopy::Phase::Written) continue;
    if (!batch.empty() && batch.front()->space.ids != copy->space.ids) break;
    batch.push_back(copy);
  }
  if (batch.empty()) return false;
  for (const Copy& copy : batch) copy->phase = BehindCopy::Phase::Checking;
  if (!find(batch, &WriteBehind::checked))
    for (const Copy& copy : batch) drop(copy, Status::Busy);
  return true;
}

void WriteBehind::checked(const Batch& batch, std::vector<CopyRecord> records) {
  for (size_t i = 0; i < batch.size(); ++i) {
    BehindCopy& copy = *batch[i];
    if (copy.phase != BehindCopy::Phase::Checking) continue;
    if (i >= records.size() || records[i].id != copy.record_id) {
      drop(batch[i], Status::NotFound);
      continue;
    }
    ready(copy);
  }
}

void WriteBehind::published(const Copy& copy, Status status) {
  if (copy->phase == BehindCopy::Phase::Ended) return;
  if (status != Status::Ok) return drop(copy, status);
  context_.metrics.write_behind_chunks.add();
  context_.metrics.write_behind_bytes.add(copy->bytes);
  end(copy, Status::Ok);
}

void WriteBehind::end(const Copy& copy, Status status) {
  if (copy->phase == BehindCopy::Phase::Ended) return;
  copy->phase = BehindCopy::Phase::Ended;
  if (copy->pending) copy->pending->drop();
  copy->pending.reset();
  copy->lease.reset();
  copy->orphan.reset();
  drop_parcel(*copy);
  names_.erase({copy->space.in(Tier::Gds), copy->name});
  context_.metrics.write_behind_ended_bytes.add(copy->bytes);
  if (copy->record_id != 0) settled_.push_back(copy->record_id);
  if (const auto done = std::exchange(copy->done, {})) done(status);
}

void WriteBehind::settle() {
  if (!settled_.empty()) context_.store(Tier::Local).settle(std::exchange(settled_, {}));
}

void WriteBehind::drop(const Copy& copy, Status status) {
  context_.metrics.write_behind_dropped.add();
  end(copy, status);
}

void WriteBehind::forget_ended() {
  std::erase_if(active_, [](const Copy& copy) { return copy->phase == BehindCopy::Phase::Ended; });
}

void WriteBehind::drop_all() {
  for (std::deque<Copy>* list : {&queue_, &active_}) {
    for (const Copy& copy : *list)
      if (copy->phase != BehindCopy::Phase::Ended) drop(copy, Status::Closed);
    list->clear();
  }
}

}  // namespace penstock
