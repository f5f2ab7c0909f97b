// WriteBehind: copies that were saved to host memory, on their way to the drives. Mover thread
// only.
//
// Nobody waits for it: it writes a few requests at a time, fewer while there are loads, from the
// memory in which the copies lie. There they are held, but only for a minute, since a process that
// holds them may die; so a copy may be evicted while it is written, and is published on the drive
// only if memory still has the same record afterwards. A copy that is packed on the way is
// copied out of memory and verified first, and then needs memory no more. Copies go in the order of
// their saving, so parents come first; what cannot go is dropped with what follows it, counted, and
// stays in memory as long as it stays. So does what stands still for as long as a save may take: a
// write may never return. What waits is bounded by the memory that it lies in: when that is full of
// it, saves go to the drives directly.
//
// An orphan is a copy that could not be published in memory, because memory had lost its parent:
// its blocks there are still reserved, and go back when it is on the drive.
#pragma once

#include <deque>
#include <memory>
#include <set>

#include "mover/context.hpp"
#include "mover/publisher.hpp"

namespace penstock {

struct BehindCopy : CopyWork {
  enum class Phase : uint8_t {
    Waiting,  // for the stores: where it lies, and where it may go
    Packing,
    Writing,
    Written,   // not yet known to be what was written
    Checking,  // whether memory still has it
    Checked,   // it is to be published
    Ended,
  };
  TierNamespace space;
  Phase phase = Phase::Waiting;
  Clock::time_point moved_on;           // once it has begun
  std::shared_ptr<ExtentLease> orphan;  // its blocks in memory
  std::function<void(Status)> done;     // may be empty
};

class WriteBehind {
 public:
  // `deadline`: how long a copy may stand still.
  WriteBehind(MoverContext& context, std::chrono::milliseconds deadline)
      : context_{context},
        deadline_{deadline},
        publisher_{context.stores.get(Tier::Gds), context.inbox} {}

  // A copy that has just been published in memory.
  void add(const CopyName& name, const Key& parent, uint64_t bytes, const TierNamespace& space);
  // Its `lease` has its blocks in memory; `done` is called with what came of it.
  void add_orphan(const CopyWork& copy, const TierNamespace& space,
                  std::function<void(Status)> done);
  // Whether that copy is on its way.
  bool has(const TierNamespace& space, const CopyName& name) const;
  // Starts what can be started; true if there was anything.
  bool issue(bool loads_wait, Clock::time_point now);
  void written(Transfer& transfer, const IoCompletion& completion);
  bool publish() { return publisher_.publish(); }
  bool empty() const noexcept { return queue_.empty() && active_.empty(); }
  Clock::time_point next_deadline() const;
  void drop_all();  // what is written already completes without it

 private:
  using Copy = std::shared_ptr<BehindCopy>;
  using Batch = std::vector<Copy>;
  using FullName = std::pair<NamespaceId, CopyName>;  // the namespace as the drives know it

  Clock::time_point deadline_of(const BehindCopy& copy) const;
  bool expire(Clock::time_point now);
  Copy push(const CopyName& name, const Key& parent, uint64_t bytes, const TierNamespace& space);
  bool start_batch();
  void located(const Batch& batch, std::vector<CopyRecord> records);
  void reserve(const Batch& batch);
  void reserved(const Batch& batch, std::vector<Reservation>& reservations);
  bool start_packing();
  void packed(const Copy& copy);
  bool issue_writes(size_t most);
  bool check();
  void checked(const Batch& batch, std::vector<CopyRecord> records);
  void ready(BehindCopy& copy);
  void published(const Copy& copy, Status status);
  void end(const Copy& copy, Status status);
  void drop(const Copy& copy, Status status);
  void forget_ended();
  void settle();
  template <typename Answer>
  bool find(const Batch& batch, Answer&& answer);

  MoverContext& context_;
  const std::chrono::milliseconds deadline_;
  Publisher publisher_;
  std::deque<Copy> queue_;   // not begun
  std::deque<Copy> active_;  // begun, in order
  std::set<FullName> names_;
  std::vector<int64_t> settled_;  // records in memory that need not be held any more
};

}  // namespace penstock
