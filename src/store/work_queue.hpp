// WorkQueue: one thread that runs what it is given, in order, and upkeep in between.
//
// post() may be called from any thread, the work itself included. Bounded: a full queue refuses.
// Work that was accepted runs, also after stop(). Upkeep is a function that does one small piece
// and says how long it can wait for the next; it runs when there is no work, and after every few
// pieces of work, so that neither starves the other.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace penstock {

class WorkQueue {
 public:
  using Work = std::function<void()>;
  using Upkeep = std::function<std::chrono::milliseconds()>;
  static constexpr size_t kCapacity = 4096;

  explicit WorkQueue(Upkeep upkeep) : upkeep_{std::move(upkeep)} {}

  // `always`: also beyond the capacity, for work whose amount is bounded otherwise.
  bool post(Work work, bool always = false);
  // Runs on the thread that is to do the work, until stop() and the queue is empty.
  void run();
  void stop();
  void upkeep_soon() noexcept { upkeep_due_ = {}; }  // from the work only

 private:
  bool take(Work& work);  // waits until work is there or upkeep is due; false: no work

  Upkeep upkeep_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;                              // guarded by mutex_
  bool stopping_ = false;                               // guarded by mutex_
  std::chrono::steady_clock::time_point upkeep_due_{};  // of the thread in run()
};

}  // namespace penstock
