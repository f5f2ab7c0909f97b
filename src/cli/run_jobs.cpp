#include "cli/run_jobs.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <deque>
#include <unordered_map>

#include "base/assert.hpp"
#include "cli/interrupt.hpp"

namespace penstock::cli {
namespace {

using Clock = std::chrono::steady_clock;

double cpu_seconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Runner {
 public:
  Runner(Engine& engine, const JobPlan& plan, Progress& progress)
      : engine_{engine}, plan_{plan}, progress_{progress} {
    const size_t chunks = plan.jobs.empty() ? 0 : plan.jobs.front().size();
    slot_rows_ = chunks * plan.rows_per_chunk;
    for (size_t slot = 0; slot_rows_ > 0 && (slot + 1) * slot_rows_ <= plan.rows.size(); ++slot)
      free_slots_.push_back(slot);
    PENSTOCK_ASSERT(plan.jobs.empty() || !free_slots_.empty());
  }

  RunTotals run() {
    const auto started = Clock::now();
    const double cpu = cpu_seconds();
    while (start_more() || !slot_of_.empty()) {
      engine_.wait(std::chrono::milliseconds{100});
      for (const JobResult& result : engine_.poll()) collect(result);
      if (interrupted()) cancel_all();
    }
    totals_.seconds = std::chrono::duration<double>(Clock::now() - started).count();
    totals_.cpu_seconds = cpu_seconds() - cpu;
    return totals_;
  }

 private:
  // False once every job has been submitted.
  bool start_more() {
    for (; next_ < plan_.jobs.size() && !free_slots_.empty(); ++next_) {
      const size_t slot = free_slots_.front();
      JobRequest request{.kind = plan_.kind,
                         .namespace_id = plan_.namespace_id,
                         .chunks = plan_.jobs[next_],
                         .rows = {}};
      const auto rows =
          plan_.rows.subspan(slot * slot_rows_, request.chunks.size() * plan_.rows_per_chunk);
      request.rows.assign(rows.begin(), rows.end());
      const auto id = interrupted() ? Result<JobId>{Error{Status::Cancelled, "interrupted"}}
                                    : engine_.submit(std::move(request));
      if (id.status() == Status::Busy) return true;
      if (!id) {
        fail(plan_.jobs[next_].size(), id.error().message);
        continue;
      }
      free_slots_.pop_front();
      slot_of_[*id] = slot;
    }
    return next_ < plan_.jobs.size();
  }

  void collect(const JobResult& result) {
    const auto found = slot_of_.find(result.id);
    if (found == slot_of_.end()) return;
    free_slots_.push_back(found->second);
    slot_of_.erase(found);
    totals_.bytes += result.bytes;
    progress_.add(result.bytes);
    for (const Status status : result.chunk_status) {
      if (status == Status::Ok) {
        ++totals_.chunks_ok;
      } else {
        fail(1, to_string(status));
      }
    }
  }

  void fail(uint64_t chunks, std::string_view why) {
    totals_.chunks_failed += chunks;
    if (totals_.failure.empty()) totals_.failure = why;
  }

  void cancel_all() {
    for (const auto& [id, slot] : slot_of_) engine_.cancel(id);
  }

  Engine& engine_;
  const JobPlan& plan_;
  Progress& progress_;
  size_t slot_rows_ = 0;
  size_t next_ = 0;
  std::deque<size_t> free_slots_;
  std::unordered_map<JobId, size_t> slot_of_;
  RunTotals totals_;
};

}  // namespace

RunTotals& RunTotals::operator+=(const RunTotals& other) {
  seconds += other.seconds;
  cpu_seconds += other.cpu_seconds;
  bytes += other.bytes;
  chunks_ok += other.chunks_ok;
  chunks_failed += other.chunks_failed;
  if (failure.empty()) failure = other.failure;
  return *this;
}

RunTotals run_jobs(Engine& engine, const JobPlan& plan, Progress& progress) {
  return Runner{engine, plan, progress}.run();
}

}  // namespace penstock::cli
