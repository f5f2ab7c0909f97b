// A store whose files are damaged: never a crash, never a stop; what is left is misses, and the
// next process that has the store alone begins anew.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/log.hpp"
#include "store/pool.hpp"
#include "store/store_files.hpp"
#include "support/child.hpp"
#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

// A healthy store of some hundred copies, to be copied and damaged.
class StoreDamage : public testing::Test {
 protected:
  StoreDamage() {
    StoreWorker worker{worker_options(pristine_.path()), 1};
    for (int i = 0; i < 250; ++i) worker.step();
    EXPECT_EQ(worker.wrong, "");
  }

  // A fresh copy of it.
  void restore() {
    std::filesystem::remove_all(home_);
    std::filesystem::copy(pristine_.path(), home_);
  }
  void write_at(const std::string& path, uint64_t offset, std::span<const std::byte> bytes) {
    const UniqueFd fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
    ASSERT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              std::ssize(bytes));
  }
  void sql(const std::string& text) {
    auto db = Database::open(files().index, SQLITE_OPEN_READWRITE, "");
    ASSERT_TRUE(db);
    ASSERT_TRUE((*db)->exec(text.c_str())) << (*db)->message();
  }
  StoreFiles files() const { return StoreFiles{home_}; }
  StoreOptions options() const { return worker_options(home_); }

  // Everything that a process does with a store, in a child, for a crash must not end the test.
  // "good"; what came of it is in the words after it: "failed", "anew".
  std::string use() {
    return in_child([&]() -> std::string {
      set_log_level("error");
      ::fclose(stderr);
      auto opened = Store::open(options());
      if (!opened) return opened.error().message;
      StoreRig rig{options()};
      std::vector<CopyName> names;
      for (uint64_t i = 0; i < 4000; ++i) names.push_back(name_of(i));
      const auto records = rig.find(names);
      for (size_t i = 0; i < names.size(); ++i) {
        if (records[i].status != Status::Ok) continue;
        const Status read = read_copy(rig.store->pool_fd(0), 4096, names[i], records[i]);
        if (read != Status::Ok) {
          ask<Status>([&](auto done) {
            return rig.store->damaged(rig.ns, names[i], records[i].id, std::move(done));
          });
        }
      }
      // More than it holds, so that it evicts.
      for (uint64_t i = 10'000; i < 10'300; ++i) rig.save(i, i % 8 == 0 ? 0 : i - 1, 4);
      rig.lookup({key_of(10'296), key_of(10'297), key_of(10'298)});
      const bool has_failed = rig.metric("failed") != 0;
      const Status saved = rig.save(20'000);
      const bool works = saved == Status::Ok && rig.has(20'000);
      if (works == (rig.metric("failed") != 0))
        return "neither works nor says that it does not: " + std::string{to_string(saved)};
      return std::string{"good"} + (has_failed ? " failed" : "") +
             (rig.store->facts().contains("began_anew") ? " anew" : "");
    });
  }
  // The store is used in whatever state it is in, and again, until it is in order.
  void use_until_sound(const std::string& what) {
    for (int round = 0; round < 4; ++round) {
      const std::string came = use();
      ASSERT_TRUE(came.starts_with("good")) << what << ": " << came;
      failed_ += came.find("failed") != std::string::npos;
      anew_ += came.find("anew") != std::string::npos;
      if (came == "good" && audit(home_).empty()) return;
      // Damage that nothing ran into yet may stay; what was run into must not.
      if (came == "good" && round > 0) ++unnoticed_;
      if (came == "good" && round > 0) return;
    }
    ADD_FAILURE() << what << ": still not in order";
  }

  TempDir parent_{in_memory()};
  TempDir pristine_{in_memory()};
  std::string home_ = parent_ / "cache";
  int failed_ = 0;
  int anew_ = 0;
  int unnoticed_ = 0;
};

TEST_F(StoreDamage, AnIndexThatIsCutAnywhere) {
  const uint64_t size = std::filesystem::file_size(pristine_ / "penstock.db");
  for (const uint64_t left : {uint64_t{0}, uint64_t{1}, uint64_t{99}, uint64_t{512}, uint64_t{4095},
                              uint64_t{4096}, size / 3, size / 2, size - 4096, size - 1}) {
    restore();
    std::filesystem::resize_file(files().index, left);
    use_until_sound("cut to " + std::to_string(left));
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(anew_, 8);  // a page that only lost its last byte may do
  EXPECT_EQ(unnoticed_, 0);
}

TEST_F(StoreDamage, AnIndexOfZerosAndEachOfItsPagesZeroed) {
  const uint64_t size = std::filesystem::file_size(pristine_ / "penstock.db");
  restore();
  write_file(files().index, std::vector<std::byte>(size));
  use_until_sound("zeros");
  EXPECT_EQ(anew_, 1);
  for (uint64_t page = 0; page * 4096 < size; ++page) {
    restore();
    write_at(files().index, page * 4096, std::vector<std::byte>(4096));
    use_until_sound("page " + std::to_string(page));
    if (HasFatalFailure()) return;
  }
  // Found while it was in use, and while it was opened.
  EXPECT_GT(failed_, 3);
  EXPECT_GT(anew_, failed_);
}

TEST_F(StoreDamage, RandomBytesAtManyPlacesOfTheIndex) {
  const uint64_t size = std::filesystem::file_size(pristine_ / "penstock.db");
  std::mt19937_64 random{3};
  for (int round = 0; round < 50; ++round) {
    restore();
    const uint64_t offset = random() % size;
    const uint64_t count = std::min<uint64_t>(1 + random() % 200, size - offset);
    write_at(files().index, offset, random_bytes(count, random()));
    use_until_sound(std::to_string(count) + " at " + std::to_string(offset));
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(anew_, 10);
}

TEST_F(StoreDamage, ALogFullOfRandomBytes) {
  std::mt19937_64 random{4};
  for (int round = 0; round < 10; ++round) {
    restore();
    write_file(files().wal, random_bytes(1 + random() % 100'000, random()));
    write_file(files().shared, random_bytes(32768, random()));
    EXPECT_EQ(use(), "good");
    EXPECT_EQ(audit(home_), "");
  }
}

TEST_F(StoreDamage, AnotherFormatVersionIsSetAside) {
  restore();
  sql("PRAGMA user_version = 1");
  EXPECT_EQ(use(), "good anew");
  EXPECT_TRUE(std::filesystem::exists(files().set_aside));
  EXPECT_EQ(use(), "good");
  restore();
  sql("PRAGMA application_id = 1");
  EXPECT_EQ(use(), "good anew");
  restore();
  sql("DROP TABLE free_extent");
  EXPECT_EQ(use(), "good anew");
  EXPECT_EQ(check_alone(options()).find("blocks"), std::string::npos);
}

TEST_F(StoreDamage, RowsThatContradictThePools) {
  for (const char* change :
       {"UPDATE copy SET extents = x'00000000ffffffff01000000'",
        "UPDATE copy SET extents = x'07000000000000000100000000'",
        "UPDATE copy SET extents = x'000000000000000000000000'", "UPDATE copy SET extents = ''",
        "UPDATE copy SET extents = zeroblob(120)", "UPDATE copy SET extents = 'text'",
        "UPDATE copy SET length = -1", "UPDATE copy SET length = 0",
        "UPDATE copy SET length = 9223372036854775807", "UPDATE copy SET stored = -1",
        "UPDATE copy SET stored = 0", "UPDATE copy SET stored = 9223372036854775807",
        "UPDATE copy SET checksums = x'00'"}) {
    restore();
    sql(change);
    const std::string seen = in_child([&]() -> std::string {
      StoreRig rig{options()};
      std::vector<CopyName> names;
      for (uint64_t i = 0; i < 4000; ++i) names.push_back(name_of(i));
      int found = 0;
      for (const CopyRecord& record : rig.find(names)) found += record.status == Status::Ok;
      // Upkeep may have met such a row first, which ends it for good.
      if (rig.metric("corrupt_copies") < 50 && rig.metric("failed") == 0) return "not counted";
      return std::to_string(found);
    });
    EXPECT_EQ(seen, "0") << change;
    EXPECT_EQ(use(), "good anew") << change;
  }
}

TEST_F(StoreDamage, HeadRowsThatMakeNoSense) {
  for (const char* change :
       {"UPDATE pool SET blocks = -5", "UPDATE pool SET blocks = 99999999999",
        "UPDATE pool SET keep = blocks + 1", "UPDATE pool SET free = keep + 1",
        "UPDATE pool SET uuid = x'01'", "UPDATE pool SET id = 5", "UPDATE meta SET block_size = 0",
        "UPDATE meta SET block_size = 4097", "UPDATE meta SET store = x''",
        "UPDATE meta SET copies = -1", "UPDATE meta SET evictions = -1", "DELETE FROM meta",
        "DELETE FROM pool"}) {
    restore();
    sql(change);
    const std::string came = use();
    // Without its pool's row the index simply gets a new pool; all else begins anew.
    EXPECT_TRUE(came == "good anew" || std::string{change} == "DELETE FROM pool")
        << change << ": " << came;
    EXPECT_TRUE(came.starts_with("good")) << change << ": " << came;
  }
}

// The tables contradict each other; it shows when a block is about to be used twice.
TEST_F(StoreDamage, FreeRunsThatOverlapCopies) {
  for (const char* change :
       {"UPDATE free_extent SET first = 0 WHERE first = (SELECT max(first) FROM free_extent)",
        "UPDATE free_extent SET count = count + 100000", "UPDATE free_extent SET count = 0",
        "DELETE FROM free_extent", "UPDATE copy SET children = 0",
        "UPDATE copy SET parent = 99999 WHERE parent > 0", "UPDATE copy SET parent = id",
        "UPDATE meta SET copies = 0"}) {
    restore();
    sql(change);
    EXPECT_TRUE(use().starts_with("good")) << change;
    EXPECT_TRUE(use().starts_with("good")) << change;
  }
}

TEST_F(StoreDamage, APoolWhoseHeaderIsDamagedOrForeign) {
  const auto pool = [&] { return home_ + "/pool.data"; };
  const auto expect_anew = [&](const char* what) {
    EXPECT_EQ(use(), "good anew") << what;
    EXPECT_EQ(use(), "good") << what;
  };
  restore();
  std::filesystem::remove(pool());
  expect_anew("deleted");
  for (const uint64_t left : {0, 100, 4095}) {
    restore();
    std::filesystem::resize_file(pool(), left);
    expect_anew("cut");
  }
  restore();
  write_at(pool(), 0, std::vector<std::byte>(4096));
  expect_anew("zeroed");
  restore();
  write_at(pool(), 20, random_bytes(16, 1));
  expect_anew("random bytes");
  restore();
  const auto header = Pool::inspect(home_);
  ASSERT_TRUE(header);
  PoolIdentity other = *header;
  ++other.generation;
  ASSERT_TRUE(Pool::format(home_, other));
  expect_anew("another generation");
}

TEST_F(StoreDamage, APoolThatIsCutOrFullOfRandomBytesIsMisses) {
  restore();
  const std::string pool = home_ + "/pool.data";
  const uint64_t size = std::filesystem::file_size(pool);
  std::filesystem::resize_file(pool, 4096 + 4096 * 3);
  EXPECT_EQ(use(), "good");
  EXPECT_EQ(std::filesystem::file_size(pool), size);
  EXPECT_EQ(audit(home_), "");
  restore();
  write_at(pool, 4096, random_bytes(size - 4096, 5));
  EXPECT_EQ(use(), "good");
  EXPECT_EQ(audit(home_), "");
}

TEST_F(StoreDamage, AnIndexThatIsGoneLeavesItsPoolsToTheNextOne) {
  restore();
  std::filesystem::create_directory(parent_ / "second");
  StoreOptions both = options();
  both.directories.push_back(parent_ / "second");
  { StoreRig{both}; }
  std::filesystem::remove(files().index);
  StoreRig rig{both};
  EXPECT_GE(rig.store->pool_fd(0), 0);
  EXPECT_GE(rig.store->pool_fd(1), 0);
  EXPECT_EQ(rig.metric("copies"), 0);
  EXPECT_EQ(rig.save(1), Status::Ok);
}

TEST_F(StoreDamage, ADamagedIndexThatAnotherProcessUsesIsLeftAlone) {
  restore();
  int ready[2];
  int done[2];
  ASSERT_EQ(::pipe(ready) + ::pipe(done), 0);
  const pid_t first = ::fork();
  if (first == 0) {
    ::close(done[1]);
    auto store = Store::open(options());
    files().note_damage("a test");  // as a process does that runs into damage
    char byte = store ? 'y' : 'n';
    bool told = ::write(ready[1], &byte, 1) == 1;
    told = ::read(done[0], &byte, 1) == 0 && told;
    ::_exit(told ? 0 : 1);
  }
  ::close(done[0]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_EQ(use(), "good failed");
  EXPECT_FALSE(std::filesystem::exists(files().set_aside));
  ::close(done[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(first, &status, 0), first);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(use(), "good anew");
  EXPECT_EQ(use(), "good");
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(StoreDamage, DirectoriesThatCannotBeUsedAreNamed) {
  const auto refusal = [](const std::string& directory) {
    const auto store = Store::open(worker_options(directory));
    return store ? "opened" : store.error().message;
  };
  EXPECT_NE(refusal(parent_ / "no/cache").find("its parent"), std::string::npos);
  write_file(parent_ / "file", {});
  EXPECT_NE(refusal(parent_ / "file").find("not a directory"), std::string::npos);
  restore();
  ASSERT_EQ(::chmod(home_.c_str(), 0777), 0);
  EXPECT_NE(refusal(home_).find("chmod o-w"), std::string::npos);
  ASSERT_EQ(::chmod(home_.c_str(), 0700), 0);
  EXPECT_EQ(refusal(home_), "opened");
}

// The kernel's answers are those of a full or failing drive; the filter cannot be lifted, so each
// is a process of its own.
std::string under_filter(const StoreOptions& options, unsigned call, unsigned error,
                         const std::function<std::string(StoreRig&)>& work) {
  return in_child([&]() -> std::string {
    set_log_level("error");
    StoreRig rig{options};
    // For all threads: the index thread is the one that it is meant for.
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "no filter";
    std::array<sock_filter, 4> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    }};
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0)
      return "no filter";
    std::string text = work(rig);
    rig.store.reset();
    // Pipes are written with write(2), which none of the filters touches.
    return text;
  });
}

TEST_F(StoreDamage, WhereAPoolCannotGrowTheStoreMakesDoWithWhatItHas) {
  restore();
  StoreOptions larger = options();
  larger.max_bytes *= 4;
  const std::string pool = home_ + "/pool.data";
  EXPECT_EQ(under_filter(larger, SYS_fallocate, ENOSPC,
                         [&](StoreRig& rig) -> std::string {
                           rig.lookup({key_of(1)});  // a step of growth under way has ended
                           const uint64_t size = std::filesystem::file_size(pool);
                           for (uint64_t i = 30'000; i < 31'000; ++i)
                             if (rig.save(i) != Status::Ok) return "refused " + std::to_string(i);
                           if (std::filesystem::file_size(pool) != size) return "grew";
                           if (rig.metric("growth_failures") == 0) return "not counted";
                           return rig.metric("evictions") > 300 ? "evicted" : "did not evict";
                         }),
            "evicted");
  EXPECT_EQ(audit(home_), "");
}

TEST_F(StoreDamage, AFullFileSystemUnderTheIndexLosesSavesOnly) {
  restore();
  EXPECT_EQ(under_filter(options(), SYS_pwrite64, ENOSPC,
                         [](StoreRig& rig) -> std::string {
                           for (uint64_t i = 30'000; i < 30'050; ++i)
                             if (rig.save(i) == Status::Ok) return "saved";
                           if (rig.metric("failed") != 0) return "gave up";
                           return rig.metric("index_errors") > 0 ? "counted" : "not counted";
                         }),
            "counted");
  EXPECT_EQ(check_alone(options()), "");
}

TEST_F(StoreDamage, ADriveThatFailsReadsIsMisses) {
  const auto read_all = [](StoreRig& rig) -> std::string {
    std::vector<CopyName> names;
    for (uint64_t i = 0; i < 4000; ++i) names.push_back(name_of(i));
    for (const CopyRecord& record : rig.find(names))
      if (record.status != Status::NotFound) return "found";
    return rig.metric("failed") != 0 ? "misses for good" : "misses";
  };
  restore();
  EXPECT_EQ(under_filter(options(), SYS_pread64, ENOBUFS, read_all), "misses");
  EXPECT_EQ(check_alone(options()), "");
  // SQLite takes this one for damage, but it was the drive's moment as well.
  EXPECT_EQ(under_filter(options(), SYS_pread64, EIO, read_all), "misses");
  EXPECT_EQ(check_alone(options()), "");
}

TEST_F(StoreDamage, AnIndexLargerThanTheNewSizeBeginsAnew) {
  restore();
  sql("CREATE TABLE ballast AS SELECT zeroblob(20000000)");
  EXPECT_EQ(use(), "good anew");
  EXPECT_FALSE(std::filesystem::exists(files().set_aside));  // there is no room to keep it
  EXPECT_EQ(audit(home_), "");
  EXPECT_LE(disk_usage(home_), options().max_bytes);
}

}  // namespace
}  // namespace penstock::test
