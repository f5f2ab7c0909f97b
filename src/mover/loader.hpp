// Loader: load jobs, from the stores' records to verified pages. submit() is for any thread, which
// asks the fastest tier itself, so that its answer need not wait until the mover has been woken;
// all else is the mover thread's.
//
// Each chunk comes from the fastest tier that has it. Host memory is asked first, for the first
// chunks before the others; what it has goes from there to the pages without I/O, while the drives
// are asked for the rest. What comes from a drive is promoted where there is room: it is read into
// blocks of the memory tier instead of a slot, goes to the pages from there, and is published there
// once it has been verified. Blocks are moved chunk after chunk (or, layerwise, one run of each
// chunk in turn, of a block where that costs no I/O), and a chunk is Ok when the checksums of all
// of its blocks were right. A chunk that fails ends the chunks behind it in its group. A run that
// cuFile brought with wrong bytes is read again through host memory before the drive's copy is
// blamed. A chunk that was bad in host memory comes from the drives, in a second round, when
// nothing of the first is under way any more: no late run can write over it.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "mover/context.hpp"
#include "mover/publisher.hpp"

namespace penstock {

class Loader {
 public:
  explicit Loader(MoverContext& context)
      : context_{context}, promoted_{context.stores.get(Tier::Local), context.inbox} {}

  void submit(std::shared_ptr<Job> job);
  bool issue();  // starts reads; true if it started any
  // A read is done: true if the run now goes to the pages, and the transfer is still needed.
  bool read(Transfer& transfer, const IoCompletion& completion);
  void scattered(const Transfer& transfer);  // the run is in the pages; its checksums tell
  bool publish() { return promoted_.publish(); }
  void end(JobId id, Status status);  // the unfinished chunks get `status`
  void end_all(Status status);
  void expire(Clock::time_point now);
  // Reports and forgets jobs that are complete; true if there were any.
  bool sweep(Clock::time_point now);
  bool empty() const noexcept { return jobs_.empty(); }
  size_t size() const noexcept { return jobs_.size(); }
  Clock::time_point next_deadline() const;

 private:
  struct Room {
    Status status = Status::Ok;
    std::shared_ptr<ExtentLease> lease;
  };
  // What the drives were asked for, and the memory tier room for.
  struct Rest {
    std::vector<size_t> chunks;  // indices; the other lists have one entry for each
    std::optional<std::vector<CopyRecord>> records;
    bool wants_room = false;
    std::vector<Room> room;      // empty: not answered yet
    Clock::time_point patience;  // until then it is waited for
  };
  struct Entry {
    std::shared_ptr<Job> job;
    std::vector<size_t> missing;  // there, so far
    Rest rest;
  };

  void add(std::shared_ptr<Job> job);
  void ask(const Job& job, Tier tier, std::vector<size_t> chunks);
  void found(JobId id, Tier tier, const std::vector<size_t>& chunks,
             std::vector<CopyRecord> records);
  void go_on(Entry& entry);
  void ask_for_room(Entry& entry);
  void touch(const Job& job);
  void promote(Job& job, const Rest& rest);
  bool accept(Job& job, size_t index, Tier tier, CopyRecord& record) const;
  void count_layers(Job& job) const;
  void read_again(const Transfer& wrong);
  void mismatch(Job& job, size_t index);
  void damaged(JobId id, size_t chunk, Status status);
  void begin_second_round(Entry& entry);
  bool issue(Job& job);
  bool has_more(const Job& job, const ChunkWork& chunk) const noexcept;
  bool issue_run(Job& job, size_t index);
  bool issue_stored(Job& job, size_t index);
  void stored_read(Job& job, const Transfer& transfer);
  void unpacked(JobId id, size_t index);
  bool issue_moves();
  void block_ok(Job& job, const ChunkWork& chunk, uint32_t ordinal);
  void finish(Job& job, size_t index, Status status);
  void fail(Job& job, size_t index, Status status);
  void count_busy(Clock::time_point now);

  MoverContext& context_;
  Publisher promoted_;
  std::map<JobId, Entry> jobs_;
  Clock::time_point counted_until_{};                // while there are jobs
  std::vector<std::pair<JobId, size_t>> unpacking_;  // chunks whose slices go to the pages
};

}  // namespace penstock
