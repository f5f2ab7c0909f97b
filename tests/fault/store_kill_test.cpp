// kill -9 at random moments, while two processes save, load and evict.
#include <gtest/gtest.h>
#include <time.h>

#include "support/store_worker.hpp"
#include "support/victim.hpp"

namespace penstock::test {
namespace {

void work(const StoreOptions& options, uint64_t seed, const std::function<void()>& begun) {
  StoreWorker worker{options, seed};
  for (int step = 0; worker.wrong.empty(); ++step) {
    if (step == 10) begun();  // enough to evict what others have saved
    worker.step();
  }
  std::fprintf(stderr, "worker: %s\n", worker.wrong.c_str());
}

// The moment is the point of it.
void pass(std::mt19937_64& random) {
  const timespec time{0, static_cast<long>(random() % 60'000'000)};
  ::nanosleep(&time, nullptr);
}

// `rounds`: two kills each; the second worker lives on after the first.
void kill_workers(const StoreOptions& options, int rounds) {
  std::mt19937_64 random{11};
  for (int round = 0; round < rounds; ++round) {
    const auto worker = [&](uint64_t seed) {
      return [&options, seed](const auto& begun) { work(options, seed, begun); };
    };
    Victim first{worker(random())}, second{worker(random())};
    if (round % 2 == 0) {  // in the others a kill may meet the opening
      ASSERT_TRUE(first.wait_begun() && second.wait_begun()) << "in round " << round;
    }
    pass(random);
    const bool one = first.kill();
    pass(random);
    const bool two = second.kill();
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
