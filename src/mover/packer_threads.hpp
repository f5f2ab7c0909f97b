// Packer's parts: the memory that its parcels share, and its threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "mover/packer.hpp"
#include "mover/staging.hpp"

namespace penstock {

// One slot of memory a parcel. Outlives the Packer while somebody holds a parcel.
class Packer::Memory : public std::enable_shared_from_this<Memory> {
 public:
  Memory(Staging staging, size_t raw_bytes) : staging_{std::move(staging)}, raw_bytes_{raw_bytes} {}

  size_t raw_bytes() const noexcept { return raw_bytes_; }
  const Staging& staging() const noexcept { return staging_; }
  std::shared_ptr<Parcel> take(size_t keep);
  void on_free(Tell tell);
  void forget_tell();  // nobody is told any more

 private:
  void give(std::byte* slot);

  std::mutex mutex_;
  Staging staging_;
  size_t raw_bytes_;
  bool missed_ = false;  // somebody found none free
  Tell tell_;
};

// Started with the first task: an engine that never packs has none.
class Packer::Threads {
 public:
  explicit Threads(std::vector<std::unique_ptr<Coder>> coders) : coders_{std::move(coders)} {}
  ~Threads();
  // Any thread. `first`: before those that are not.
  void add(Task task, bool first);

 private:
  void run(Coder& coder);

  std::vector<std::unique_ptr<Coder>> coders_;  // one a thread
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> first_, later_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace penstock
