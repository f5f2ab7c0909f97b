// Outbox: results of completed jobs, and how far the layers of running loads have come, for any
// thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "penstock/engine.hpp"

namespace penstock {

class Outbox {
 public:
  // Called at submit, before the job can make progress. False if `max_open` jobs are open.
  bool open_job(JobId id, size_t max_open) {
    std::scoped_lock lock{mutex_};
    if (layers_ready_.size() >= max_open) return false;
    layers_ready_[id] = 0;
    return true;
  }
  void set_layers_ready(JobId id, uint32_t ready) {
    std::scoped_lock lock{mutex_};
    if (auto found = layers_ready_.find(id); found != layers_ready_.end()) found->second = ready;
    changed_.notify_all();
  }
  void complete(JobResult result) {
    std::scoped_lock lock{mutex_};
    layers_ready_.erase(result.id);
    results_.push_back(std::move(result));
    changed_.notify_all();
  }
  std::vector<JobResult> take() {
    std::scoped_lock lock{mutex_};
    return std::exchange(results_, {});
  }
  bool wait_result(std::chrono::milliseconds timeout) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, timeout, [this] { return !results_.empty(); });
  }
  // A job that is not open has completed: all of its layers count as ready.
  uint32_t layers_ready(JobId id) const {
    std::scoped_lock lock{mutex_};
    return ready_locked(id);
  }
  bool wait_layer(JobId id, uint32_t layer, std::chrono::milliseconds timeout) const {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, timeout, [&] { return ready_locked(id) > layer; });
  }

 private:
  uint32_t ready_locked(JobId id) const {
    const auto found = layers_ready_.find(id);
    return found == layers_ready_.end() ? UINT32_MAX : found->second;
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<JobResult> results_;
  std::unordered_map<JobId, uint32_t> layers_ready_;  // of the jobs that are open
};

}  // namespace penstock
