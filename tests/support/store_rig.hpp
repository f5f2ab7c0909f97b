// A store asked synchronously, and what its directory takes on disk. For tests of the store.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "store/inspect.hpp"
#include "store/statement.hpp"
#include "store/store.hpp"
#include "support/files.hpp"
#include "support/rig.hpp"

namespace penstock::test {

inline CopyName name_of(uint64_t number, uint32_t group = 0, uint32_t shard = 0) {
  return {key_of(number), group, shard};
}

inline StoreOptions options_for(const std::string& directory, uint64_t max_bytes,
                                uint64_t block_size = 65536) {
  StoreOptions options;
  options.directories = {directory};
  options.block_size = block_size;
  options.max_bytes = max_bytes;
  options.max_write_bytes_per_day = 0;
  return options;
}

// Another program at a store's index: it does not know our lock, and waits for SQLite's, which the
// store's own upkeep takes at any time.
inline std::unique_ptr<Database> open_beside(const std::filesystem::path& index) {
  auto opened = Database::open(index, SQLITE_OPEN_READWRITE, "");
  if (!opened || sqlite3_busy_timeout((*opened)->handle(), 30'000) != SQLITE_OK) {
    std::fprintf(stderr, "%s cannot be opened\n", index.c_str());
    std::abort();
  }
  return std::move(*opened);
}

// The answer of a call of Store; ends the test if it is refused or takes more than 30 s.
template <typename T, typename Call>
T ask(Call&& call) {
  auto answer = std::make_shared<std::promise<T>>();
  auto future = answer->get_future();
  const bool queued = call([answer](T value) { answer->set_value(std::move(value)); });
  if (!queued || future.wait_for(std::chrono::seconds{30}) != std::future_status::ready) {
    std::fprintf(stderr, "the store does not answer\n");
    std::abort();
  }
  return future.get();
}

class StoreRig {
 public:
  explicit StoreRig(const StoreOptions& options) {
    auto opened = Store::open(options);
    if (!opened) {
      std::fprintf(stderr, "%s\n", opened.error().message.c_str());
      std::abort();
    }
    store = std::move(*opened);
    ns = *ask<Result<NamespaceId>>(
        [&](auto done) { return store->open_namespace(namespace_spec(), std::move(done)); });
  }

  std::vector<Reservation> reserve(std::vector<Wish> wishes) {
    return ask<std::vector<Reservation>>(
        [&](auto done) { return store->reserve(ns, wishes, std::move(done)); });
  }
  std::vector<Status> commit(std::vector<CopyInsert> copies) {
    return ask<std::vector<Status>>(
        [&](auto done) { return store->commit(ns, copies, std::move(done)); });
  }
  std::vector<CopyRecord> find(std::vector<CopyName> names) {
    return ask<std::vector<CopyRecord>>(
        [&](auto done) { return store->find(ns, names, std::move(done)); });
  }
  uint32_t lookup(std::vector<Key> chain) {
    return ask<uint32_t>(
        [&](auto done) { return store->lookup(ns, chain, {GroupNeed{}}, std::move(done)); });
  }
  bool has(uint64_t number) { return find({name_of(number)}).front().status == Status::Ok; }

  // Reserves and commits `blocks` blocks; nothing is written to them.
  Status save(uint64_t number, uint64_t parent = 0, uint64_t blocks = 1) {
    const uint64_t length = blocks * store->block_size();
    auto reservation = std::move(reserve({{name_of(number), length}}).front());
    if (reservation.status != Status::Ok) return reservation.status;
    return commit({{name_of(number), parent == 0 ? Key{} : key_of(parent), length,
                    std::move(reservation.extents), std::vector<uint64_t>(blocks, number)}})
        .front();
  }
  double metric(const std::string& name) { return store->metrics()[name]; }

  std::shared_ptr<Store> store;
  NamespaceId ns = 0;
};

// What `du` says: allocated bytes of everything in the directory.
inline uint64_t disk_usage(const std::string& directory) {
  uint64_t bytes = 0;
  const auto add = [&](const std::string& path) {
    struct stat about {};
    if (::stat(path.c_str(), &about) == 0) bytes += static_cast<uint64_t>(about.st_blocks) * 512;
  };
  add(directory);
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator{directory, gone})
    add(entry.path().string());
  return bytes;
}

// Contradictions in the index of the store in `directory`; empty: there are none.
inline std::string audit(const std::string& directory) {
  auto inspector = Inspector::open(directory);
  if (!inspector) return inspector.error().message;
  std::string text;
  for (const std::string& problem : (*inspector)->audit()) text += problem + "\n";
  return text;
}

// Waits for what the store does by itself.
inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds limit = std::chrono::seconds{20}) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  return true;
}

// Waits until `count` chunks of the only chain are all found or gone: copies below a damaged one go
// a little later than it, and until then a save takes them for present. A lookup of more chunks may
// look past the gap, so each is asked for as the last of a chain.
inline bool swept(Engine& engine, NamespaceId ns, uint32_t count) {
  return eventually([&] {
    const auto copies = static_cast<uint32_t>(engine.metrics().at("copies"));
    for (uint32_t n = 1; n <= count; ++n)
      if (lookup_now(engine, ns, 0, n) != std::min(n, copies)) return false;
    return true;
  });
}

}  // namespace penstock::test
