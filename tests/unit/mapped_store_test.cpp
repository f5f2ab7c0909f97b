// A store whose pools are mapped: what differs from one on a drive. Everything else is the same
// code, which store_test and its neighbours cover.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "store/memory_directory.hpp"
#include "store/pool.hpp"
#include "store/space.hpp"
#include "support/child.hpp"
#include "support/mount.hpp"
#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kBlock = 65536;

StoreOptions mapped_options(const std::string& directory, uint64_t max_bytes = 32 * kMib) {
  StoreOptions options = options_for(directory, max_bytes, kBlock);
  options.mapped = true;
  return options;
}

std::span<std::byte> block_of(Store& store, const Extent& extent, uint32_t i = 0) {
  return store.pool_memory(extent.pool).subspan((extent.first + i) * kBlock, kBlock);
}

uint64_t blocks_in(const std::string& directory) {
  return (std::filesystem::file_size(directory + "/pool.data") - kPoolHeader) / kBlock;
}

TEST(MappedStore, ItsMemoryIsTheFileOfItsPool) {
  TempDir directory{in_memory()};
  StoreRig rig{mapped_options(directory.path())};
  ASSERT_EQ(rig.save(1, 0, 3), Status::Ok);
  const CopyRecord record = rig.find({name_of(1)}).front();
  const Extent extent = record.extents.front();
  std::memset(block_of(*rig.store, extent).data(), 0x7d, kBlock);
  std::vector<std::byte> bytes(kBlock);
  const auto offset = static_cast<off_t>(Store::pool_data_offset() + extent.first * kBlock);
  const int fd = ::open((directory / "pool.data").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::pread(fd, bytes.data(), kBlock, offset), static_cast<ssize_t>(kBlock));
  ::close(fd);
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0x7d}), std::ssize(bytes));
}

TEST(MappedStore, AStoreOnADriveHasNoMemory) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 32 * kMib)};
  EXPECT_TRUE(rig.store->pool_memory(0).empty());
  EXPECT_TRUE(rig.store->pool_memory(7).empty());
  EXPECT_FALSE(rig.store->listen({[](auto) { return true; }, {}}));
  EXPECT_EQ(rig.store->range_end(0, 0), 0u);
}

// Every block that is given out may be touched, from the first to the last that there is.
TEST(MappedStore, EveryBlockThatIsGivenOutHasMemory) {
  TempDir directory{in_memory()};
  const uint64_t size = 32 * kMib;
  StoreRig rig{mapped_options(directory.path(), size)};
  uint32_t highest = 0;
  for (uint64_t i = 1; i <= 1000; ++i) {
    auto reservation = std::move(rig.reserve({{name_of(i), kBlock}}).front());
    ASSERT_EQ(reservation.status, Status::Ok) << i;
    const Extent extent = reservation.extents.front();
    highest = std::max(highest, extent.first);
    std::memset(block_of(*rig.store, extent).data(), static_cast<int>(i), kBlock);
    ASSERT_EQ(rig.commit({{name_of(i), Key{}, kBlock, reservation.extents, {i}}}).front(),
              Status::Ok);
  }
  EXPECT_GT(rig.metric("evictions"), 0);
  EXPECT_GT(highest, 300u);  // the pool has grown to nearly all of its size
  EXPECT_LE(disk_usage(directory.path()), size);
}

// Address space at once, and then memory, without anybody asking for it, up to the size.
TEST(MappedStore, MemoryGrowsToItsSizeByItself) {
  TempDir directory{in_memory()};
  const uint64_t size = 256 * kMib;
  StoreRig rig{mapped_options(directory.path(), size)};
  EXPECT_GT(rig.store->pool_memory(0).size(), size * 9 / 10);
  EXPECT_LT(rig.store->pool_memory(0).size(), size);
  const std::byte* const base = rig.store->pool_memory(0).data();
  EXPECT_TRUE(eventually([&] { return disk_usage(directory.path()) > size * 9 / 10; }));
  EXPECT_LE(disk_usage(directory.path()), size);
  EXPECT_EQ(rig.store->pool_memory(0).data(), base);
  EXPECT_EQ(rig.metric("growth_failures"), 0);
}

TEST(MappedStore, AListenerHearsOfEachBlockOnceAndOfItsEnd) {
  TempDir directory{in_memory()};
  std::mutex mutex;
  std::vector<std::span<std::byte>> told;  // guarded by mutex
  std::vector<std::span<std::byte>> gone;
  std::byte* base = nullptr;
  {
    StoreRig rig{mapped_options(directory.path())};
    base = rig.store->pool_memory(0).data();
    ASSERT_EQ(rig.save(1), Status::Ok);
    const MemoryListener listener{[&](std::span<std::byte> bytes) {
                                    std::memset(bytes.data(), 1, bytes.size());
                                    std::scoped_lock lock{mutex};
                                    told.push_back(bytes);
                                    return true;
                                  },
                                  [&](std::span<std::byte> bytes) { gone.push_back(bytes); }};
    ASSERT_TRUE(rig.store->listen(listener));
    EXPECT_FALSE(rig.store->listen(listener));
    for (uint64_t i = 2; i <= 600; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
    const uint64_t blocks = blocks_in(directory.path());
    EXPECT_TRUE(eventually([&] { return rig.store->range_end(0, blocks - 1) == blocks; }));
    // A range says the same end for each of its blocks, and the next begins there.
    uint64_t ranges = 0;
    for (uint64_t block = 0; block < blocks; ++ranges) {
      const uint64_t end = rig.store->range_end(0, block);
      ASSERT_GT(end, block);
      EXPECT_EQ(rig.store->range_end(0, end - 1), end);
      block = end;
    }
    std::scoped_lock lock{mutex};
    EXPECT_EQ(ranges, told.size());
    EXPECT_EQ(rig.store->range_end(0, blocks), 0u);
    EXPECT_TRUE(gone.empty());
  }
  const auto begin_of = [](std::span<std::byte> bytes) { return bytes.data(); };
  EXPECT_TRUE(std::ranges::equal(told, gone, {}, begin_of, begin_of));
  for (const std::span<std::byte> bytes : told) {  // in order, without a gap
    EXPECT_EQ(bytes.data(), base);
    base += bytes.size();
  }
}

TEST(MappedStore, WhatAListenerDoesNotTakeIsNotItsOwn) {
  TempDir directory{in_memory()};
  std::atomic<int> told{0};
  std::atomic<int> gone{0};
  {
    StoreRig rig{mapped_options(directory.path())};
    ASSERT_TRUE(rig.store->listen({[&](auto) {
                                     ++told;
                                     return false;
                                   },
                                   [&](auto) { ++gone; }}));
    ASSERT_EQ(rig.save(1), Status::Ok);
    EXPECT_TRUE(eventually([&] { return told > 0; }));
    EXPECT_EQ(rig.store->range_end(0, 0), 0u);
  }
  EXPECT_EQ(gone, 0);
}

// A slow listener holds up nothing.
TEST(MappedStore, AListenerThatIsStuckHoldsNoSave) {
  TempDir directory{in_memory()};
  std::mutex gate;
  gate.lock();
  StoreRig rig{mapped_options(directory.path())};
  ASSERT_TRUE(rig.store->listen({[&](auto) {
                                   std::scoped_lock wait{gate};
                                   return true;
                                 },
                                 {}}));
  for (uint64_t i = 1; i <= 300; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  EXPECT_EQ(rig.store->range_end(0, 0), 0u);
  gate.unlock();
  EXPECT_TRUE(eventually([&] { return rig.store->range_end(0, 0) > 0; }));
}

TEST(MappedStore, AnotherSizeBeginsAnewAndGivesTheMemoryBack) {
  TempDir directory{in_memory()};
  {
    StoreRig rig{mapped_options(directory.path(), 64 * kMib)};
    for (uint64_t i = 1; i <= 600; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
    EXPECT_GT(disk_usage(directory.path()), 32 * kMib);
  }
  {
    StoreRig rig{mapped_options(directory.path(), 64 * kMib)};  // the same: nothing is lost
    EXPECT_TRUE(rig.has(600));
  }
  StoreRig rig{mapped_options(directory.path(), 16 * kMib)};
  EXPECT_FALSE(rig.has(600));
  EXPECT_LE(disk_usage(directory.path()), 16 * kMib);
  EXPECT_EQ(rig.metric("bytes_capacity"), 16 * kMib);
  for (uint64_t i = 1; i <= 400; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  EXPECT_LE(disk_usage(directory.path()), 16 * kMib);
  EXPECT_TRUE(rig.store->facts().contains("began_anew"));
}

TEST(MappedStore, AnotherBlockSizeBeginsAnewOnlyIfItMatters) {
  TempDir directory{in_memory()};
  StoreOptions options = mapped_options(directory.path());
  {
    StoreRig rig{options};
    ASSERT_EQ(rig.save(1), Status::Ok);
  }
  options.block_size = 2 * kBlock;
  {
    StoreRig rig{options};
    EXPECT_EQ(rig.store->block_size(), kBlock);
    EXPECT_TRUE(rig.has(1));
  }
  options.exact_block_size = true;
  StoreRig rig{options};
  EXPECT_EQ(rig.store->block_size(), 2 * kBlock);
  EXPECT_FALSE(rig.has(1));
}

// A process that has the store open, with a size and a block size of its own.
class OtherProcess {
 public:
  explicit OtherProcess(const StoreOptions& options) {
    EXPECT_EQ(::pipe(ready_) + ::pipe(done_), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(done_[1]);
      StoreRig rig{options};
      char byte = rig.save(77) == Status::Ok ? 'y' : 'n';
      bool told = ::write(ready_[1], &byte, 1) == 1;
      told = ::read(done_[0], &byte, 1) == 0 && told;  // until the parent closes it
      ::_exit(told ? 0 : 1);
    }
    ::close(done_[0]);
    char byte = 0;
    EXPECT_EQ(::read(ready_[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'y');
  }
  ~OtherProcess() {
    ::close(done_[1]);
    int status = 0;
    EXPECT_EQ(::waitpid(child_, &status, 0), child_);
    EXPECT_EQ(status, 0);
    ::close(ready_[0]);
    ::close(ready_[1]);
  }

 private:
  int ready_[2] = {};
  int done_[2] = {};
  pid_t child_ = 0;
};

TEST(MappedStore, ALiveStoresSizeHolds) {
  TempDir directory{in_memory()};
  const uint64_t size = 32 * kMib;
  OtherProcess other{mapped_options(directory.path(), size)};
  for (const uint64_t mine : {size / 2, size * 2}) {
    StoreRig rig{mapped_options(directory.path(), mine)};
    EXPECT_EQ(rig.metric("bytes_capacity"), static_cast<double>(size));
    EXPECT_TRUE(rig.has(77));
  }
}

TEST(MappedStore, ALiveStoresBlockSizeIsRefusedWhereAnotherIsNeeded) {
  TempDir directory{in_memory()};
  StoreOptions options = mapped_options(directory.path());
  OtherProcess other{options};
  options.block_size = 2 * kBlock;
  options.exact_block_size = true;
  auto store = Store::open(options);
  ASSERT_EQ(store.status(), Status::Busy);
  EXPECT_NE(store.error().message.find("with blocks of 65536 bytes; 131072 are needed"),
            std::string::npos)
      << store.error().message;
}

// What one process saves the other finds, also where the pool has grown since it was opened.
TEST(MappedStore, GrowthByAnotherProcessIsSeen) {
  TempDir directory{in_memory()};
  const StoreOptions options = mapped_options(directory.path(), 256 * kMib);
  StoreOptions late = options;
  EXPECT_EQ(in_child([&]() -> std::string {
              int go[2];
              if (::pipe(go) != 0) return "no pipe";
              const pid_t saver = ::fork();
              if (saver == 0) {
                char byte = 0;
                if (::read(go[0], &byte, 1) != 1) ::_exit(1);
                StoreRig rig{options};
                for (uint64_t i = 1; i <= 3000; ++i) {
                  auto reservation = std::move(rig.reserve({{name_of(i), kBlock}}).front());
                  if (reservation.status != Status::Ok) ::_exit(2);
                  std::memset(block_of(*rig.store, reservation.extents.front()).data(),
                              static_cast<int>(i), kBlock);
                  rig.commit({{name_of(i), Key{}, kBlock, reservation.extents, {i}}});
                }
                ::_exit(0);
              }
              StoreRig rig{late};  // before the pool has grown
              if (::write(go[1], "g", 1) != 1) return "no pipe";
              int status = 0;
              ::waitpid(saver, &status, 0);
              if (status != 0) return "the other process failed";
              const CopyRecord record = rig.find({name_of(3000)}).front();
              if (record.status != Status::Ok) return "not found";
              const auto bytes = block_of(*rig.store, record.extents.front());
              const auto expected = static_cast<std::byte>(3000 & 0xff);
              return std::ranges::count(bytes, expected) == std::ssize(bytes) ? "good" : "wrong";
            }),
            "good");
}

// Rows that name blocks which the file does not have: touching them would end the process.
TEST(MappedStore, AnIndexThatPromisesMoreThanThereIsIsAMiss) {
  TempDir directory{in_memory()};
  const StoreOptions options = mapped_options(directory.path());
  StoreRig rig{options};
  for (uint64_t i = 1; i <= 100; ++i) ASSERT_EQ(rig.save(i), Status::Ok);
  {
    const auto db = open_beside(directory / "penstock.db");
    db->exec("UPDATE pool SET blocks = blocks + 100000, keep = keep + 100000");
    const uint32_t extent[] = {0, 90'000, 1};
    Statement{*db, "UPDATE copy SET extents = ? WHERE id = 50"}
        .bind(std::as_bytes(std::span{extent}))
        .run();
    ASSERT_EQ(db->error(), SQLITE_OK) << db->message();
  }
  EXPECT_FALSE(rig.has(50));
  EXPECT_TRUE(rig.has(51));
}

// The size says 64 MiB, the file system has 24, and then somebody else takes the rest of it.
TEST(MappedStore, AFullFileSystemIsNoSpaceAndNoSignal) {
  TempDir directory{in_memory()};
  const std::string said = in_child([&]() -> std::string {
    if (!mount_at(directory.path(), kTmpfs, 24 * kMib)) return "forbidden";
    const int other = ::open((directory / "other").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    StoreRig rig{mapped_options(directory.path(), 64 * kMib)};
    std::vector<uint64_t> saved;
    const auto save = [&](uint64_t i) {
      const auto reservation = rig.reserve({{name_of(i), kBlock}}).front();
      if (reservation.status != Status::Ok) return reservation.status;
      std::memset(block_of(*rig.store, reservation.extents.front()).data(), 1, kBlock);
      const CopyInsert copy{name_of(i), Key{}, kBlock, reservation.extents, {i}};
      const Status status = rig.commit({copy}).front();
      if (status == Status::Ok) saved.push_back(i);
      return status;
    };
    for (uint64_t i = 1; i <= 100; ++i)
      if (save(i) != Status::Ok) return "no save";
    uint64_t taken = 0;
    while (::fallocate(other, 0, static_cast<off_t>(taken), 4096) == 0) taken += 4096;
    // Old ones give way to new ones, or nothing is saved; either way this process lives on.
    for (uint64_t i = 101; i <= 1000; ++i)
      if (const Status status = save(i); status != Status::Ok && status != Status::NoSpace)
        return std::string{to_string(status)};
    if (::ftruncate(other, 0) != 0) return "no room made";
    if (!eventually([&] { return save(saved.back() + 1) == Status::Ok; })) return "never again";
    return rig.has(saved.back()) ? "good" : "lost";
  });
  if (said == "forbidden") GTEST_SKIP() << "this machine has no mount namespaces for us";
  EXPECT_EQ(said, "good");
}

TEST(MappedStore, TwoProcessesSaveLoadAndEvict) {
  TempDir directory{in_memory()};
  StoreOptions options = worker_options(directory.path());
  options.mapped = true;
  const auto work = [&](uint64_t seed) -> std::string {
    StoreWorker worker{options, seed};
    for (int i = 0; i < 1000 && worker.wrong.empty(); ++i) worker.step();
    if (!worker.wrong.empty()) return worker.wrong;
    return worker.saved > 100 && worker.loaded > 100 ? "good" : "it did next to nothing";
  };
  EXPECT_EQ(in_child([&]() -> std::string {
              const pid_t other = ::fork();
              if (other == 0) ::_exit(work(1) == "good" ? 0 : 1);
              const std::string mine = work(2);
              int status = 0;
              ::waitpid(other, &status, 0);
              return status == 0 ? mine : "the other process failed";
            }),
            "good");
  EXPECT_EQ(check_alone(options), "");
}

TEST(MemoryDirectory, OneForEachUserAndCache) {
  const auto of = [](std::vector<std::string> directories) {
    return default_memory_directory(directories);
  };
  EXPECT_EQ(of({"/a", "/b"}), of({"/a"}));
  EXPECT_EQ(of({"/a/"}), of({"/a"}));
  EXPECT_EQ(of({"/b/../a"}), of({"/a"}));
  EXPECT_NE(of({"/b"}), of({"/a"}));
  EXPECT_NE(of({}), of({"/a"}));
  const std::string user = std::to_string(::geteuid());
  EXPECT_EQ(of({}).find("/dev/shm/penstock-" + user + "-"), 0u);
  EXPECT_EQ(of({}).size(), std::string{"/dev/shm/penstock-"}.size() + user.size() + 9);
}

TEST(MemoryDirectory, ADirectoryOnADriveIsRefused) {
  TempDir directory;
  const auto size = memory_size(directory.path(), 0);
  ASSERT_EQ(size.status(), Status::Invalid);
  EXPECT_NE(size.error().message.find("is not in memory"), std::string::npos);
}

TEST(MemoryDirectory, MoreThanThereIsNamesTheFlagToChange) {
  const std::string directory = "/dev/shm/penstock-not-there";
  const auto size = memory_size(directory, uint64_t{1} << 50);
  ASSERT_EQ(size.status(), Status::Invalid);
  for (const char* part : {"local_config.max_cache_size_gb", "--shm-size=1125901g",
                           "medium: Memory", "-o size=1125901g", "/dev/shm has"})
    EXPECT_NE(size.error().message.find(part), std::string::npos) << size.error().message;
}

// 64 MiB: what a container has unless it is told otherwise.
TEST(MemoryDirectory, ASmallOneIsNoticed) {
  TempDir directory{in_memory()};
  const std::string said = in_child([&]() -> std::string {
    if (!mount_at(directory.path(), kTmpfs, 64 * kMib)) return "forbidden";
    const auto size = memory_size(directory / "cache", 0);
    if (!size) return size.error().message;
    if (size->max_bytes != 16 * kMib || size->min_free_bytes != 4 * kMib) return "another size";
    const auto refused = memory_size(directory / "cache", 61 * kMib);
    return size->warning + "; " + (refused ? "accepted" : refused.error().message);
  });
  if (said == "forbidden") GTEST_SKIP() << "this machine has no mount namespaces for us";
  for (const char* part :
       {"gets 0.0168 GB", "--shm-size=16g", "has 0.0671 GB, of which 0.00419 GB"})
    EXPECT_NE(said.find(part), std::string::npos) << said;
}

TEST(MemoryDirectory, MemoryThatMayBeTakenIsWhatIsTaken) {
  constexpr size_t kTaken = 512 * kMib;
  // Once more if it was not seen: other programs take and give back at the same time.
  EXPECT_TRUE(eventually([&] {
    const uint64_t before = available_memory();
    void* const memory = ::mmap(nullptr, kTaken, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return false;
    const uint64_t after = available_memory();
    ::munmap(memory, kTaken);
    return after > 0 && after + kTaken / 2 < before && before - after < kTaken * 2;
  }));
}

TEST(MemoryDirectory, AQuarterIfNoSizeIsGiven) {
  const auto size = memory_size("/dev/shm/penstock-not-there", 0);
  ASSERT_TRUE(size) << size.error().message;
  const uint64_t capacity = file_system_space("/dev/shm").capacity;
  EXPECT_LE(size->max_bytes, capacity / 4);
  EXPECT_EQ(size->warning.empty(), size->max_bytes >= kGb);
  const auto wanted = memory_size("/dev/shm/penstock-not-there", capacity / 2);
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->max_bytes, capacity / 2);
}

}  // namespace
}  // namespace penstock::test
