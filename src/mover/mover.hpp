// Mover: the one thread that drives all loads and saves of an engine.
//
// It reaps I/O, moves blocks between staging and pages, asks the store and completes jobs; it
// sleeps in the kernel when there is nothing to do. submit(), cancel(), release_rows() and the
// outbox are for any thread. The destructor stops it, and waits for requests that the kernel still
// has, since their memory goes with it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "mover/loader.hpp"
#include "mover/saver.hpp"
#include "mover/staging.hpp"
#include "mover/write_behind.hpp"

namespace penstock {

struct MoverOptions {
  uint32_t io_depth = 32;           // requests in flight on a drive
  uint32_t max_concurrent_ops = 4;  // jobs of a kind that use the drives at a time
  std::chrono::milliseconds load_deadline{10'000};
  std::chrono::milliseconds save_deadline{60'000};
  size_t max_jobs = 1024;  // queued and running; beyond it submit() answers Busy
};

class Mover {
 public:
  // At least one store. `staging` is the memory that `io` was opened with; `device` knows the same
  // maps. `direct` may be null; it wakes `io` for each of its results.
  Mover(TierStores stores, CopyMaps maps, Staging staging, std::unique_ptr<IoEngine> io,
        std::unique_ptr<DirectPath> direct, std::unique_ptr<Device> device,
        std::unique_ptr<Packer> packer, const MoverOptions& options);
  ~Mover();
  // Any thread, once or more. Ends all jobs (Closed) and joins the thread; no page is touched after
  // it. Later jobs are refused (Closed).
  void stop();

  Result<JobId> submit(JobRequest request, const TierNamespace& space);
  void cancel(JobId id);
  void release_rows(uint32_t group, std::span<const int32_t> rows, Stream stream) {
    fence_.release(group, rows);
    device_->order_after_gathers(stream);
  }
  bool wait_layer_on_stream(JobId id, uint32_t layer, Stream stream) {
    return device_->wait_layer(id, layer, stream);
  }
  Outbox& outbox() noexcept { return outbox_; }
  const MoverMetrics& metrics() const noexcept { return metrics_; }

 private:
  Result<std::shared_ptr<Job>> make_job(JobRequest request, const TierNamespace& space) const;
  void pin_memory();
  void run() noexcept;
  bool step();
  void sync_pools(Clock::time_point now);
  std::chrono::nanoseconds idle_time() const;

  TierStores stores_;
  CopyMaps maps_;
  MoverOptions options_;
  MoverMetrics metrics_;
  Staging staging_;
  std::unique_ptr<Packer> packer_;
  TransferPool transfers_;
  // Destroyed before the requests and the memory that they may still use, and the one that is woken
  // last.
  std::unique_ptr<IoEngine> io_;
  std::unique_ptr<DirectPath> direct_;
  std::unique_ptr<Device> device_;  // the first to go: it may be at work in all of the above
  MoveQueue moves_;
  std::shared_ptr<Inbox> inbox_;
  Outbox outbox_;
  RowFence fence_;
  MoverContext context_;
  Loader loader_;
  WriteBehind behind_;
  Saver saver_;
  std::atomic<uint64_t> next_id_{1};
  bool pins_ = false;  // this mover's device pins the memory tier for the process
  // mover thread
  bool stopping_ = false;
  bool wrote_ = false;  // since the last fdatasync
  Clock::time_point next_sync_{};
  std::mutex stop_mutex_;  // guards that there is a thread
  std::thread thread_;
};

}  // namespace penstock
