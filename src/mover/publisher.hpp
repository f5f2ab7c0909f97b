// Publisher: commits copies to one store, in groups and in the order in which they were announced,
// so that a parent is never published after its child. Mover thread only.
//
// Whoever makes a copy announces it before its children, and says later that it is Ready or
// Dropped; those behind it wait for that. A Ready one may still be dropped while it waits.
// Published copies' blocks are the store's from the moment that the commit is queued: it publishes
// them or gives them back (or, for keeps_blocks, returns them to the lease before `published` is
// called with NotFound).
#pragma once

#include <deque>
#include <memory>

#include "mover/inbox.hpp"
#include "mover/job.hpp"

namespace penstock {

class Publisher {
 public:
  // `store` may be null: then nothing is announced.
  Publisher(Store* store, const std::shared_ptr<Inbox>& inbox) : store_{store}, inbox_{inbox} {}

  std::shared_ptr<PendingCopy> announce(NamespaceId ns, const CopyWork& copy,
                                        std::function<void(Status)> published);
  // Commits what is ready at the head, if no commit is under way. True if it did.
  bool publish();

 private:
  using Batch = std::vector<std::shared_ptr<PendingCopy>>;
  void published(const Batch& batch, const std::vector<Status>& statuses);

  Store* store_;
  const std::shared_ptr<Inbox>& inbox_;
  std::deque<std::shared_ptr<PendingCopy>> order_;
  bool committing_ = false;
};

}  // namespace penstock
