#include "store/registry.hpp"

#include <unistd.h>

namespace penstock {

StoreRegistry& StoreRegistry::instance() {
  static auto* registry = new StoreRegistry;  // never destroyed: stores may outlive static objects
  return *registry;
}

Result<std::shared_ptr<Store>> StoreRegistry::open(const std::string& directory,
                                                   const StoreOptions& options,
                                                   const Opener& opener) {
  constexpr std::chrono::seconds kClosing{10};
  std::unique_lock lock{mutex_};
  for (;;) {
    const auto found = entries_.find(directory);
    if (found == entries_.end()) break;
    if (found->second.process != ::getpid()) {
      return Error{Status::Unsupported, "this process was forked from one that has the store in " +
                                            directory + " open; start it anew (spawn) instead"};
    }
    if (auto store = found->second.store.lock()) {
      if (found->second.options == options) return store;
      return Error{Status::Invalid,
                   "the store in " + directory + " is open in this process with other options"};
    }
    if (closed_.wait_for(lock, kClosing) == std::cv_status::timeout)
      return Error{Status::Busy, "the store in " + directory + " is still being closed"};
  }
  auto opened = opener();
  if (opened) entries_[directory] = Entry{*opened, options, ::getpid()};
  return opened;
}

void StoreRegistry::closed(const std::string& directory) {
  std::scoped_lock lock{mutex_};
  entries_.erase(directory);
  closed_.notify_all();
}

}  // namespace penstock
