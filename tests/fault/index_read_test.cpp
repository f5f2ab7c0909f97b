// Every read that SQLite does of the index is made to fail in turn, as by a drive. It is a miss or
// a dropped save that passes; only bytes that are wrong are damage.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/log.hpp"
#include "store/keeper.hpp"
#include "support/index_rig.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

// SQLite's own door for it: its file layer calls these instead of the system's.
std::atomic<int> reads_until_failure{-1};  // < 0: none fails
std::atomic<bool> goes_on{false};          // all later ones fail, too

ssize_t failing_pread(int fd, void* data, size_t size, off_t offset) {
  if (reads_until_failure >= 0 && reads_until_failure-- == 0) {
    if (goes_on) reads_until_failure = 0;
    errno = EIO;
    return -1;
  }
  return ::pread(fd, data, size, offset);
}

class IndexRead : public testing::Test {
 protected:
  IndexRead() {
    set_log_level("error");
    sqlite3_initialize();
    sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
    for (const char* name : {"pread", "pread64"})
      vfs->xSetSystemCall(vfs, name, reinterpret_cast<sqlite3_syscall_ptr>(failing_pread));
  }
  ~IndexRead() override {
    all_well();
    sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
    vfs->xSetSystemCall(vfs, nullptr, nullptr);
  }
  static void fail_read(int number, bool and_all_after = false) {
    goes_on = and_all_after;
    reads_until_failure = number;
  }
  static bool all_well() { return reads_until_failure.exchange(-1) < 0; }
};

// Some pages of everything: tables, their indexes, free runs. The first half is younger.
void fill(IndexRig& rig) {
  for (uint64_t i = 1; i <= 400; ++i)
    ASSERT_EQ(rig.save(name_of(i), i % 10 == 1 ? Key{} : key_of(i - 1), 1, i <= 200 ? 2 : 1),
              Status::Ok);
  ASSERT_EQ(rig.index->checkpoint(true), Status::Ok);
}

TEST_F(IndexRead, AFailedOneIsAMissThatPasses) {
  IndexRig rig{{1000}};
  fill(rig);
  std::vector<Key> chain;
  for (uint64_t i = 1; i <= 10; ++i) chain.push_back(key_of(i));
  const std::vector<GroupNeed> needs{{0, 1, 0}};
  uint64_t number = 1000;
  int met = 0;
  for (int n = 0;; ++n, ++met) {
    ASSERT_LT(n, 500);
    rig.reopen();  // with an empty cache
    fail_read(n);
    const uint32_t found = rig.index->lookup(rig.ns, chain, needs);
    const bool has = rig.has(name_of(200));
    const Status saved = rig.save(name_of(++number), Key{});
    uint32_t removed = 0;
    const Status evicted = rig.index->evict(1000, 1, removed);
    if (!all_well()) break;  // there were fewer than n reads
    EXPECT_FALSE(rig.index->is_corrupt()) << n << ": " << rig.index->last_error();
    EXPECT_TRUE(saved == Status::Ok || saved == Status::Io) << n << ": " << to_string(saved);
    EXPECT_TRUE(evicted == Status::Ok || evicted == Status::Io) << n;
    const int failed = (found != 10) + !has + (saved != Status::Ok) + (evicted != Status::Ok);
    EXPECT_EQ(failed, 1) << n;
    EXPECT_EQ(rig.index->counters().errors, 1u) << n;
    // The next time it is all there.
    EXPECT_EQ(rig.index->lookup(rig.ns, chain, needs), 10u) << n;
    EXPECT_TRUE(rig.has(name_of(200))) << n;
  }
  EXPECT_GT(met, 10);
  rig.reopen();
  // What was reserved and could not be published is still under this process's name.
  EXPECT_EQ(rig.index->reclaim([](uint32_t) { return true; }), Status::Ok);
  EXPECT_EQ(rig.audit(), "");
}

TEST_F(IndexRead, AFailedOneWhileOpeningSetsNothingAside) {
  TempDir directory{in_memory()};
  const StoreOptions options = options_for(directory.path(), 32 << 20);
  {
    StoreRig rig{options};
    for (uint64_t i = 1; i <= 100; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  }
  int met = 0;
  for (int n = 0;; ++n, ++met) {
    ASSERT_LT(n, 200);
    fail_read(n, true);
    auto store = Store::open(options);
    const bool well = all_well();
    if (!store) {
      EXPECT_EQ(store.status(), Status::Io) << n << ": " << store.error().message;
      EXPECT_NE(store.error().message.find(directory.path()), std::string::npos);
    } else {
      EXPECT_FALSE((*store)->facts().contains("began_anew")) << n;
      EXPECT_EQ((*store)->metrics()["failed"], 0) << n;
    }
    if (store && !well) break;
  }
  EXPECT_GT(met, 3);
  StoreRig rig{options};
  EXPECT_EQ(rig.metric("copies"), 100);
  EXPECT_FALSE(std::filesystem::exists(directory / "penstock.db.damaged"));
}

TEST_F(IndexRead, AFailedOneWhileShrinkingCutsNoCopyThatIsKept) {
  TempDir pristine{in_memory()};
  {
    StoreRig rig{options_for(pristine.path(), 12 << 20, 4096)};
    for (uint64_t i = 1; i <= 1200; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  }
  int met = 0;
  for (int n = 0;; n += 2, ++met) {
    ASSERT_LT(n, 2000);
    TempDir directory{in_memory()};
    std::filesystem::copy(pristine.path(), directory.path());
    auto parts = open_store(options_for(directory.path(), 7 << 20, 4096), {directory.path()});
    ASSERT_TRUE(parts) << parts.error().message;
    ASSERT_GT(parts->index->pools()[0].blocks, 2 * parts->plan.blocks);
    Keeper keeper{*parts, 0, StoreClock::machine()};
    fail_read(n);
    for (int i = 0; i < 500 && parts->index->pools()[0].blocks > parts->plan.blocks; ++i)
      keeper.step();
    const bool well = all_well();
    EXPECT_EQ(parts->index->pools()[0].blocks, parts->plan.blocks) << n;
    EXPECT_EQ(parts->index->audit(), std::vector<std::string>{}) << n;
    EXPECT_GT(parts->index->meta().copies, 100u) << n;
    EXPECT_FALSE(parts->index->is_corrupt()) << n << ": " << parts->index->last_error();
    if (!well || HasFailure()) break;
  }
  EXPECT_GT(met, 10);
}

TEST_F(IndexRead, DamageAfterAFailedOneIsStillDamage) {
  IndexRig rig{{1000}};
  fill(rig);
  rig.reopen();
  fail_read(0);
  EXPECT_FALSE(rig.has(name_of(200)));
  ASSERT_TRUE(all_well());
  EXPECT_FALSE(rig.index->is_corrupt());
  // All but the first page, through a descriptor that stays open: closing it would drop locks.
  const uint64_t size = std::filesystem::file_size(rig.directory / "penstock.db");
  const int fd = ::open((rig.directory / "penstock.db").c_str(), O_WRONLY | O_CLOEXEC);
  const auto noise = random_bytes(size - 4096, 9);
  ASSERT_EQ(::pwrite(fd, noise.data(), noise.size(), 4096), std::ssize(noise));
  rig.index->find(rig.ns, std::vector<CopyName>{name_of(200)});
  EXPECT_TRUE(rig.index->is_corrupt());
  rig.index.reset();
  ::close(fd);
}

}  // namespace
}  // namespace penstock::test
