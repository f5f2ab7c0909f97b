// Two processes on one store, and one beside somebody who holds its index.
#include <gtest/gtest.h>

#include "support/child.hpp"
#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

// Runs `function` in two children at once; what each returns.
template <typename Function>
std::array<std::string, 2> in_two_children(Function function) {
  std::array<int, 2> ends[2];
  pid_t children[2];
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(::pipe(ends[i].data()), 0);
    children[i] = ::fork();
    if (children[i] != 0) continue;
    const std::string text = function(i);
    ::_exit(::write(ends[i][1], text.data(), text.size()) == std::ssize(text) ? 0 : 1);
  }
  std::array<std::string, 2> texts;
  for (int i = 0; i < 2; ++i) {
    ::close(ends[i][1]);
    std::array<char, 4096> part{};
    for (ssize_t n; (n = ::read(ends[i][0], part.data(), part.size())) > 0;)
      texts[i].append(part.data(), static_cast<size_t>(n));
    ::close(ends[i][0]);
    int status = 0;
    EXPECT_EQ(::waitpid(children[i], &status, 0), children[i]);
    if (status != 0) texts[i] += " died";
  }
  return texts;
}

TEST(StoreProcesses, SaveLoadAndEvictTogether) {
  TempDir directory;
  const StoreOptions options = worker_options(directory.path());
  const auto texts = in_two_children([&](int child) -> std::string {
    StoreWorker worker{options, static_cast<uint64_t>(child)};
    for (int i = 0; i < 1500 && worker.wrong.empty(); ++i) worker.step();
    if (!worker.wrong.empty()) return worker.wrong;
    if (worker.saved < 100 || worker.loaded < 100) return "it did next to nothing";
    if (worker.rig().metric("evictions") == 0) return "it evicted nothing";
    if (disk_usage(directory.path()) > options.max_bytes) return "larger than its size";
    return "good";
  });
  EXPECT_EQ(texts[0], "good");
  EXPECT_EQ(texts[1], "good");
  EXPECT_EQ(check_alone(options), "");
}

// Both begin the same new store: one makes it, the other finds it made.
TEST(StoreProcesses, BeginAStoreTogether) {
  for (int round = 0; round < 10; ++round) {
    TempDir directory;
    StoreOptions options = worker_options(directory.path());
    const auto texts = in_two_children([&](int child) -> std::string {
      auto store = Store::open(options);
      if (!store) return store.error().message;
      StoreWorker worker{options, static_cast<uint64_t>(child)};
      for (int i = 0; i < 20; ++i) worker.step();
      return worker.wrong + ((*store)->metrics()["failed"] == 0 ? "" : "failed");
    });
    ASSERT_EQ(texts[0] + texts[1], "");
    ASSERT_EQ(check_alone(options), "");
  }
}

TEST(StoreProcesses, TheSizeOfALiveStoreWins) {
  TempDir directory;
  StoreOptions options = worker_options(directory.path());
  // A fork must not see an open store, so the one that is there first is a child.
  int ready[2];
  int done[2];
  ASSERT_EQ(::pipe(ready) + ::pipe(done), 0);
  const pid_t first = ::fork();
  if (first == 0) {
    ::close(done[1]);
    auto store = Store::open(options);
    char byte = store ? 'y' : 'n';
    bool told = ::write(ready[1], &byte, 1) == 1;
    told = ::read(done[0], &byte, 1) == 0 && told;  // until the parent closes it
    ::_exit(told ? 0 : 1);
  }
  ::close(done[0]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  options.max_bytes *= 2;
  {
    StoreRig rig{options};
    EXPECT_EQ(rig.metric("bytes_capacity"), static_cast<double>(options.max_bytes / 2));
  }
  ::close(done[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(first, &status, 0), first);
  EXPECT_EQ(status, 0);
  StoreRig rig{options};  // alone, it has its own
  EXPECT_EQ(rig.metric("bytes_capacity"), static_cast<double>(options.max_bytes));
  ::close(ready[0]);
  ::close(ready[1]);
}

// The ranks of an engine, after its configuration was changed.
TEST(StoreProcesses, ANewSizeHoldsThoughAllOpenItTogether) {
  for (int round = 0; round < 20; ++round) {
    TempDir directory{in_memory()};
    StoreOptions options = worker_options(directory.path());
    { StoreRig rig{options}; }
    options.max_bytes *= 2;
    const auto texts = in_two_children([&](int) -> std::string {
      auto store = Store::open(options);
      if (!store) return store.error().message;
      return std::to_string((*store)->metrics()["bytes_capacity"]);
    });
    ASSERT_EQ(texts[0], std::to_string(static_cast<double>(options.max_bytes))) << round;
    ASSERT_EQ(texts[1], texts[0]) << round;
  }
}

TEST(StoreProcesses, OneThatIsStoppedWhileItOpensKeepsNobodyOut) {
  TempDir directory;
  auto stopped = LockFile::open(directory / "penstock.lock");
  ASSERT_TRUE(stopped);
  ASSERT_EQ((*stopped)->lock_opening(LockFile::kPatience), Status::Ok);
  EXPECT_EQ(in_child([&]() -> std::string {
              StoreRig rig{worker_options(directory.path())};
              return std::string{to_string(rig.save(1))};
            }),
            to_string(Status::Ok));
}

TEST(StoreProcesses, ACopyThatIsFoundDamagedWhileTheIndexIsBusyGoesLater) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 << 20)};
  ASSERT_EQ(rig.save(1, 0), Status::Ok);
  const int64_t id = rig.find({name_of(1)}).front().id;
  {
    const auto other = open_beside(directory / "penstock.db");
    ASSERT_TRUE(other->exec("BEGIN IMMEDIATE")) << other->message();
    EXPECT_EQ(ask<Status>([&](auto done) {
                return rig.store->damaged(rig.ns, name_of(1), id, std::move(done));
              }),
              Status::Corrupt);
  }
  EXPECT_TRUE(eventually([&] { return !rig.has(1); }));
  EXPECT_EQ(audit(directory.path()), "");
}

TEST(StoreProcesses, BlocksOfADeadProcessComeBack) {
  TempDir directory;
  const StoreOptions options = worker_options(directory.path());
  EXPECT_EQ(in_child([&]() -> std::string {
              StoreRig rig{options};
              const auto reservations = rig.reserve({{name_of(1), 50 * 4096}});
              return std::string{to_string(reservations.front().status)};
            }),
            to_string(Status::Ok));  // it ended without giving them back
  EXPECT_EQ(check_alone(options), "");
}

}  // namespace
}  // namespace penstock::test
