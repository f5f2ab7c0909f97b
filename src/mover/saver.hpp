// Saver: save jobs, from pages to published copies. Mover thread only.
//
// Blocks are reserved for all chunks of a job in one transaction, pages are gathered and hashed
// into staging and written, and copies are published strictly in the order in which they were
// submitted, in groups: a parent is never published after its child. A chunk that is dropped ends
// the chunks behind it. Nobody waits for a save: what does not fit is dropped and counted.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "mover/context.hpp"

namespace penstock {

class Saver {
 public:
  explicit Saver(MoverContext& context) : context_{context} {}

  void add(std::shared_ptr<Job> job);
  bool issue(size_t keep_slots);      // gathers and starts writes; leaves `keep_slots` to loads
  void gathered(Transfer& transfer);  // the run is in its slot: it is written next
  void written(Transfer& transfer, const IoCompletion& completion);
  bool commit();  // publishes what is ready, if no commit is under way
  void end(JobId id, Status status);
  void end_all(Status status);
  void expire(Clock::time_point now);
  void sweep();
  bool empty() const noexcept { return jobs_.empty(); }
  Clock::time_point next_deadline() const;

 private:
  struct Place {
    JobId id = 0;
    size_t chunk = 0;
  };
  using FullName = std::pair<NamespaceId, CopyName>;

  void reserved(JobId id, std::vector<Reservation> reservations);
  void committed(const std::vector<Place>& places, const std::vector<Status>& statuses);
  bool issue(Job& job, size_t keep_slots);
  bool issue_run(Job& job, size_t index, size_t keep_slots);
  bool launch();
  void finish(Job& job, size_t index, Status status);
  void drop(Job& job, size_t index, Status status);
  bool parent_was_dropped(const Job& job, const ChunkWork& chunk) const;
  Job* find(JobId id);

  MoverContext& context_;
  std::map<JobId, std::shared_ptr<Job>> jobs_;
  std::deque<Place> order_;  // all chunks, in the order of submission, until published or dropped
  std::set<FullName> in_work_;  // copies that a job here is about to write
  std::set<FullName> dropped_;  // not published lately: what follows them would be in vain
  bool committing_ = false;
};

}  // namespace penstock
