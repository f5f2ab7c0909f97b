#include "mover/publisher.hpp"

namespace penstock {

namespace {
constexpr size_t kMaxCommit = 64;  // copies published in one transaction
}

std::shared_ptr<PendingCopy> Publisher::announce(NamespaceId ns, const CopyWork& copy,
                                                 std::function<void(Status)> published) {
  auto pending = std::make_shared<PendingCopy>();
  pending->ns = ns;
  pending->copy.name = copy.name;
  pending->copy.parent = copy.parent;
  pending->copy.length = copy.bytes;
  pending->published = std::move(published);
  order_.push_back(pending);
  return pending;
}

bool Publisher::publish() {
  if (committing_) return false;
  Batch batch;
  std::vector<CopyInsert> copies;
  while (!order_.empty() && batch.size() < kMaxCommit) {
    const auto& next = order_.front();
    if (next->state == PendingCopy::State::Making) break;
    if (next->state == PendingCopy::State::Ready) {
      if (next->waits && next->waits()) break;
      if (!batch.empty() && batch.front()->ns != next->ns) break;
      next->state = PendingCopy::State::Committing;
      next->copy.extents = next->lease->extents();
      copies.push_back(next->copy);
      batch.push_back(next);
    }
    order_.pop_front();
  }
  if (batch.empty()) return false;
  committing_ =
      store_->commit(batch.front()->ns, std::move(copies),
                     [this, batch, inbox = inbox_, store = store_](std::vector<Status> statuses) {
                       if (inbox->post([this, batch, statuses] { published(batch, statuses); }))
                         return;
                       for (size_t i = 0; i < batch.size() && i < statuses.size(); ++i)
                         if (statuses[i] == Status::NotFound && batch[i]->copy.keeps_blocks)
                           store->release(batch[i]->copy.extents);
                     });
  for (const auto& pending : batch) {
    if (committing_) {
      pending->lease->hand_over();
    } else {
      if (pending->published) pending->published(Status::Busy);
      pending->lease.reset();
    }
  }
  return committing_;
}

void Publisher::published(const Batch& batch, const std::vector<Status>& statuses) {
  committing_ = false;
  for (size_t i = 0; i < batch.size(); ++i) {
    const Status status = i < statuses.size() ? statuses[i] : Status::Io;
    const CopyInsert& copy = batch[i]->copy;
    if (status == Status::NotFound && copy.keeps_blocks) batch[i]->lease->take_back(copy.extents);
    if (batch[i]->published) batch[i]->published(status);
    batch[i]->lease.reset();
  }
}

}  // namespace penstock
