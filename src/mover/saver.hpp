// Saver: save jobs, from pages to published copies. Mover thread only.
//
// Blocks are reserved for all chunks of a job in one transaction, pages are gathered and hashed
// into them, and copies are published in the order in which they were submitted: a parent is never
// published after its child. With a memory tier copies go there, and from there to the drives
// behind the job's back (WriteBehind); what has no place there goes to the drives through staging,
// as all do without one. A chunk that is dropped ends the chunks behind it. Nobody waits for a
// save: what does not fit is dropped and counted.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "mover/context.hpp"
#include "mover/publisher.hpp"
#include "mover/write_behind.hpp"

namespace penstock {

class Saver {
 public:
  Saver(MoverContext& context, WriteBehind& behind)
      : context_{context},
        behind_{behind},
        publishers_{Publisher{context.stores.get(Tier::Local), context.inbox},
                    Publisher{context.stores.get(Tier::Gds), context.inbox}} {}

  void add(std::shared_ptr<Job> job);
  // Gathers and starts writes; leaves `keep_slots` of the staging and `keep_moves` to loads.
  bool issue(size_t keep_slots, size_t keep_moves);
  void gathered(Transfer& transfer);  // the run is in its place, or is written there next
  void written(Transfer& transfer, const IoCompletion& completion);
  bool publish();
  void end(JobId id, Status status);
  void end_all(Status status);
  void expire(Clock::time_point now);
  bool sweep();  // as the loader's
  bool empty() const noexcept { return jobs_.empty(); }
  size_t size() const noexcept { return jobs_.size(); }
  Clock::time_point next_deadline() const;

 private:
  using FullName = std::pair<NamespaceId, CopyName>;  // the namespace as the engine knows it

  bool parent_was_dropped(const Job& job, const ChunkWork& chunk) const;
  Tier tier_for(const Job& job, const ChunkWork& chunk) const;
  void wish(Job& job, size_t index, Tier tier);
  void reserve(Job& job, Tier tier, std::vector<size_t> chunks);
  void reserved(JobId id, Tier tier, const std::vector<size_t>& chunks,
                std::vector<Reservation>& reservations);
  void fall(Job& job, size_t index, Status why, std::vector<size_t>& fallen);
  void published(JobId id, size_t index, Status status);
  struct Keep {
    size_t slots = 0, moves = 0;
  };
  bool issue(Job& job, const Keep& keep);
  bool issue_run(Job& job, size_t index, const Keep& keep);
  bool issue_gather(Job& job, size_t index, const Keep& keep);
  void gathered_to_parcel(Job& job, const Transfer& transfer);
  void packed(JobId id, size_t index);
  bool write_packed(size_t keep_slots);
  bool launch();
  void moved(ChunkWork& chunk, uint32_t blocks);
  void finish(Job& job, size_t index, Status status);
  void drop(Job& job, size_t index, Status status);
  Job* find(JobId id);

  MoverContext& context_;
  WriteBehind& behind_;
  std::array<Publisher, kTiers> publishers_;
  std::map<JobId, std::shared_ptr<Job>> jobs_;
  std::vector<std::pair<JobId, size_t>> to_write_;  // chunks that are packed
  std::map<FullName, Tier> in_work_;  // copies that a job here is about to write, and where to
  std::set<FullName> dropped_;        // not published lately: what follows them would be in vain
};

}  // namespace penstock
