#include "mover/packer_threads.hpp"

#include <utility>

namespace penstock {

std::shared_ptr<Parcel> Packer::Memory::take(size_t keep) {
  std::byte* slot = nullptr;
  {
    std::scoped_lock lock{mutex_};
    if (staging_.free_slots() <= keep) {
      missed_ = true;
      return nullptr;
    }
    slot = staging_.take();
  }
  auto parcel = std::make_unique<Parcel>();
  parcel->raw = {slot, raw_bytes_};
  parcel->packed = {slot + raw_bytes_, staging_.slot_bytes() - raw_bytes_};
  return {parcel.release(), [self = shared_from_this(), slot](Parcel* done) {
            delete done;
            self->give(slot);
          }};
}

void Packer::Memory::give(std::byte* slot) {
  Tell tell;
  {
    std::scoped_lock lock{mutex_};
    staging_.give(slot);
    if (std::exchange(missed_, false)) tell = tell_;
  }
  if (tell) tell();
}

void Packer::Memory::on_free(Tell tell) {
  std::scoped_lock lock{mutex_};
  tell_ = std::move(tell);
}

void Packer::Memory::forget_tell() {
  on_free({});
}

Packer::Threads::~Threads() {
  {
    std::scoped_lock lock{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Packer::Threads::add(Task task, bool first) {
  {
    std::scoped_lock lock{mutex_};
    (first ? first_ : later_).push_back(std::move(task));
    while (threads_.size() < coders_.size())
      threads_.emplace_back([this, &coder = *coders_[threads_.size()]] { run(coder); });
  }
  changed_.notify_one();
}

void Packer::Threads::run(Coder& coder) {
  std::unique_lock lock{mutex_};
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !first_.empty() || !later_.empty(); });
    if (stopping_) return;
    std::deque<Task>& queue = first_.empty() ? later_ : first_;
    Task task = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    task(coder);
    task = {};  // and with it its parcel
    lock.lock();
  }
}

}  // namespace penstock
