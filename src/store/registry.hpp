// StoreRegistry: which directories this process has stores on. Any thread.
//
// It keeps a second LockFile or SQLite connection on the same files from ever coming into being:
// closing one would drop the locks of the other. A store that is being closed is waited for. In a
// child after fork() the stores of the parent are remembered and refused: SQLite would believe in
// locks that the child does not have.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "store/store.hpp"

namespace penstock {

class StoreRegistry {
 public:
  using Opener = std::function<Result<std::shared_ptr<Store>>()>;

  static StoreRegistry& instance();

  // The store that is open on `directory` if its options are the same; else what `open` makes.
  Result<std::shared_ptr<Store>> open(const std::string& directory, const StoreOptions& options,
                                      const Opener& opener);
  // The store's files are closed.
  void closed(const std::string& directory);

 private:
  struct Entry {
    std::weak_ptr<Store> store;
    StoreOptions options;
    pid_t process = 0;
  };
  std::mutex mutex_;
  std::condition_variable closed_;
  std::map<std::string, Entry> entries_;  // guarded by mutex_; by canonical directory
};

}  // namespace penstock
