// Loader: load jobs, from the store's records to verified pages. Mover thread only.
//
// One query finds the records of all chunks; blocks are then read chunk after chunk (or, layerwise,
// one run of each chunk in turn), verified while they are copied into the pages, and a chunk is Ok
// when all of its blocks were. A chunk that fails ends the chunks behind it in its group.
#pragma once

#include <map>
#include <memory>

#include "mover/context.hpp"

namespace penstock {

class Loader {
 public:
  explicit Loader(MoverContext& context) : context_{context} {}

  void add(std::shared_ptr<Job> job);
  bool issue();  // starts reads; true if it started any
  // A read is done: true if the run now goes to the pages, and the transfer is still needed.
  bool read(Transfer& transfer, const IoCompletion& completion);
  void scattered(const Transfer& transfer);  // the run is in the pages; its checksums tell
  void end(JobId id, Status status);         // the unfinished chunks get `status`
  void end_all(Status status);
  void expire(Clock::time_point now);
  void sweep();  // reports and forgets jobs that are complete
  bool empty() const noexcept { return jobs_.empty(); }
  Clock::time_point next_deadline() const;

 private:
  void found(JobId id, std::vector<CopyRecord> records);
  void mismatch(Job& job, size_t index);
  void damaged(JobId id, size_t chunk, Status status);
  bool accept(ChunkWork& chunk, CopyRecord& record) const;
  bool issue(Job& job);
  bool issue_run(Job& job, size_t index);
  void block_ok(Job& job, const ChunkWork& chunk, uint32_t ordinal);
  void finish(Job& job, size_t index, Status status);
  void fail(Job& job, size_t index, Status status);

  MoverContext& context_;
  std::map<JobId, std::shared_ptr<Job>> jobs_;
};

}  // namespace penstock
