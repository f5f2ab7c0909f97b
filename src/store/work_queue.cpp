#include "store/work_queue.hpp"

namespace penstock {

namespace {
constexpr int kWorkPerUpkeep = 8;
}

bool WorkQueue::post(Work work, bool always) {
  {
    std::scoped_lock lock{mutex_};
    if (stopping_ || (!always && queue_.size() >= kCapacity)) return false;
    queue_.push_back(std::move(work));
  }
  changed_.notify_one();
  return true;
}

bool WorkQueue::take(Work& work) {
  std::unique_lock lock{mutex_};
  changed_.wait_until(lock, upkeep_due_, [&] { return stopping_ || !queue_.empty(); });
  if (queue_.empty()) return false;
  work = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

void WorkQueue::run() {
  int since_upkeep = 0;
  for (;;) {
    Work work;
    const bool got = take(work);
    if (got) work();
    if (got && ++since_upkeep < kWorkPerUpkeep) continue;
    {
      std::scoped_lock lock{mutex_};
      if (stopping_ && queue_.empty()) return;
    }
    since_upkeep = 0;
    const auto now = std::chrono::steady_clock::now();
    if (now >= upkeep_due_) upkeep_due_ = now + upkeep_();
  }
}

void WorkQueue::stop() {
  {
    std::scoped_lock lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_one();
}

}  // namespace penstock
