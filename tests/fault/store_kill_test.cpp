// kill -9 at random moments, while two processes save, load and evict.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

pid_t start_worker(const StoreOptions& options, uint64_t seed) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  StoreWorker worker{options, seed};
  while (worker.wrong.empty()) worker.step();
  std::fprintf(stderr, "worker: %s\n", worker.wrong.c_str());
  ::_exit(1);
}

// True if it was the signal that ended it.
bool kill_worker(pid_t child) {
  ::kill(child, SIGKILL);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
         WTERMSIG(status) == SIGKILL;
}

// The moment is the point of it: from before the open to many saves later.
void pass(std::mt19937_64& random) {
  const timespec time{0, static_cast<long>(random() % 60'000'000)};
  ::nanosleep(&time, nullptr);
}

// `rounds`: two kills each; the second worker lives on after the first.
void kill_workers(const StoreOptions& options, int rounds) {
  std::mt19937_64 random{11};
  for (int round = 0; round < rounds; ++round) {
    const pid_t first = start_worker(options, random());
    const pid_t second = start_worker(options, random());
    pass(random);
    const bool one = kill_worker(first);
    pass(random);
    const bool two = kill_worker(second);
    ASSERT_TRUE(one && two) << "a worker ended by itself in round " << round;
    ASSERT_EQ(check_alone(options), "") << "round " << round;
  }
  // Ids count what was saved: a multiple of what is there, so much was evicted under the kills.
  auto inspector = Inspector::open(options.directories.front());
  ASSERT_TRUE(inspector);
  int64_t last = 0;
  ASSERT_TRUE((*inspector)->for_each_copy(0, [&](const CopyRow& row) {
    last = row.id;
    return true;
  }));
  const uint64_t copies = (*inspector)->totals()->copies;
  EXPECT_GT(copies, 50u);
  EXPECT_GT(static_cast<uint64_t>(last), 3 * copies);
}

TEST(StoreKill, NothingIsWrongAndNothingLeaksAfter200Kills) {
  TempDir directory;
  kill_workers(worker_options(directory.path()), 100);
}

TEST(StoreKill, NorInMappedMemory) {
  TempDir directory{in_memory()};
  StoreOptions options = worker_options(directory.path());
  options.mapped = true;
  kill_workers(options, 50);
}

}  // namespace
}  // namespace penstock::test
