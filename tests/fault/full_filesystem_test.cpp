// A file system that is really full, or really read-only: a small mount of the test's own.
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "store/space.hpp"
#include "support/mount.hpp"
#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kMount = 32 * kMib;
constexpr double kSizeGb = 0.15;  // four times the mount
constexpr uint32_t kChunks = 4, kRowsPerChunk = 4, kRows = kChunks * kRowsPerChunk;

// Runs `function(path)` on a mount of its own and expects `answer`.
template <typename Function>
void expect_on_mount(const MountKind& kind, const std::string& answer, Function function) {
  const std::string came = in_mount(kind, kMount, function);
  if (is_unmountable(came)) {
    GTEST_SKIP() << "this machine lets the test mount no " << kind.name
                 << (std::string{kind.make}.empty() ? "" : " (it takes root and a loop device)");
  }
  EXPECT_EQ(came, answer);
}

class FullFileSystem : public testing::TestWithParam<MountKind> {};

// Takes what is left of the file system, to the last block.
void fill_up(const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  const std::vector<char> zeros(65536);
  for (size_t size = zeros.size(); size >= 512; size /= 2)
    while (::write(fd.get(), zeros.data(), size) > 0) {
    }
  ::fsync(fd.get());
}

// An engine and its pages; chain c's row r holds a pattern of its own.
class ChainUser {
 public:
  explicit ChainUser(const std::string& home) {
    Config config = config_for(home, kSizeGb);
    config.gds_config.block_size = 65536;
    config.gds_config.max_write_gb_per_day = 0;
    auto opened = Engine::open(config, {pages_.layout()});
    if (!opened) return;
    engine = std::move(*opened);
    if (auto id = engine->open_namespace(namespace_spec())) ns_ = *id;
  }
  Status save(uint64_t chain) {
    for (uint32_t row = 0; row < kRows; ++row) pages_.fill(row, seed(chain, row));
    return run_job(*engine, chain_job(JobKind::Save, ns_, 0, kChunks, kRowsPerChunk, 0, chain))
        .status;
  }
  uint32_t found(uint64_t chain) {
    return lookup_now(*engine, ns_, 0, kChunks, {GroupNeed{}}, chain);
  }
  // The whole chain comes back, and it is right.
  bool loads(uint64_t chain) {
    pages_.wipe();
    const auto result =
        run_job(*engine, chain_job(JobKind::Load, ns_, 0, kChunks, kRowsPerChunk, 0, chain));
    if (result.status != Status::Ok) return false;
    for (uint32_t row = 0; row < kRows; ++row)
      if (!pages_.holds(row, seed(chain, row))) return false;
    return pages_.neighbours_intact();
  }
  double metric(const std::string& name) { return engine->metrics()[name]; }

  std::unique_ptr<Engine> engine;

 private:
  static uint64_t seed(uint64_t chain, uint32_t row) { return chain * 131 + row; }

  Pages pages_{4, kRows, 16384, kRowsPerChunk};
  NamespaceId ns_ = 0;
};

StoreOptions options_of(const std::string& home) {
  return options_for(home, static_cast<uint64_t>(kSizeGb * double{kGb}));
}

TEST_P(FullFileSystem, AStoreLargerThanItIsMakesDoWithWhatThereIs) {
  expect_on_mount(GetParam(), "sound", [](const std::string& mount) -> std::string {
    const std::string home = mount + "/cache";
    // Again after a restart: what the index then gives back must not become the pool's.
    for (uint64_t round = 0; round < 2; ++round) {
      ChainUser user{home};
      if (!user.engine) return "not opened";
      uint64_t saved = 0;
      constexpr uint64_t kChains = 48;  // 1 MiB each
      const uint64_t first = 1 + round * kChains;
      for (uint64_t i = 0; i < kChains; ++i) saved += user.save(first + i) == Status::Ok;
      if (saved < kChains) return std::to_string(saved) + " chains saved in a round";
      if (user.metric("growth_failures") == 0) return "never met the end";
      if (user.metric("evictions") == 0) return "evicted nothing";
      if (!user.loads(first + kChains - 1)) return "the last one does not come back";
      if (file_system_space(mount).available > kMount / 4) return "the mount is not full";
    }
    const std::string problems = check_alone(options_of(home));
    return problems.empty() ? "sound" : problems;
  });
}

TEST_P(FullFileSystem, WhatOthersFillLosesSavesOnlyAndOnlyUntilThereIsRoomAgain) {
  expect_on_mount(GetParam(), "sound", [](const std::string& mount) -> std::string {
    const std::string home = mount + "/cache";
    {
      ChainUser user{home};
      if (!user.engine || user.save(1) != Status::Ok) return "not even one saved";
      // An idle store empties its log, so that the next transaction needs room for it.
      if (!eventually([&] { return user.metric("wal_bytes") == 0; })) return "log not emptied";
      fill_up(mount + "/ballast");
      for (uint64_t chain = 2; chain < 10; ++chain)
        if (user.save(chain) == Status::Ok) return "saved where there is no room";
      if (user.metric("save_chunks_dropped") != 8 * kChunks) return "not counted";
      if (user.metric("failed") != 0) return "gave up for good";
      if (user.found(1) != kChunks || !user.loads(1)) return "what was there does not come back";
    }
    {
      ChainUser user{home};
      if (!user.engine) return "a full file system cannot be opened";
      if (user.found(1) != kChunks || !user.loads(1)) return "lost when it was opened";
      if (user.save(50) == Status::Ok) return "saved where there is no room";
      std::filesystem::remove(mount + "/ballast");
      if (!eventually([&] { return user.save(51) == Status::Ok; })) return "never saves again";
      if (!user.loads(51) || !user.loads(1)) return "does not come back";
    }
    const std::string problems = check_alone(options_of(home));
    return problems.empty() ? "sound" : problems;
  });
}

TEST_P(FullFileSystem, AStoreCannotBeginOnOneAndSaysWhy) {
  expect_on_mount(GetParam(), "opened", [](const std::string& mount) -> std::string {
    const std::string home = mount + "/cache";
    std::filesystem::create_directory(home);
    fill_up(mount + "/ballast");
    const auto refused = Store::open(options_of(home));
    if (refused) return "opened without room";
    if (refused.status() == Status::Corrupt) return "taken for damage: " + refused.error().message;
    if (refused.error().message.find(home) == std::string::npos) return refused.error().message;
    std::filesystem::remove(mount + "/ballast");
    const auto opened = Store::open(options_of(home));
    return opened ? "opened" : opened.error().message;
  });
}

bool make_read_only(const std::string& mount) {
  return ::mount(nullptr, mount.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0;
}

TEST_P(FullFileSystem, AReadOnlyMountIsRefusedByName) {
  expect_on_mount(GetParam(), "refused", [](const std::string& mount) -> std::string {
    const std::string home = mount + "/cache";
    {
      StoreRig rig{options_of(home)};
      if (rig.save(1) != Status::Ok) return "not saved";
    }
    if (!make_read_only(mount)) return "cannot make it read-only";
    for (const std::string& path : {home, mount + "/new"}) {
      const auto opened = Store::open(options_of(path));
      if (opened) return "opened " + path;
      const std::string& why = opened.error().message;
      if (opened.status() != Status::Invalid || why.find(path) == std::string::npos ||
          why.find("Read-only file system") == std::string::npos)
        return why;
    }
    return "refused";
  });
}

TEST_P(FullFileSystem, APoolOnAReadOnlyMountIsOutAndTheOthersWork) {
  TempDir first{in_memory()};
  expect_on_mount(GetParam(), "works", [&](const std::string& mount) -> std::string {
    StoreOptions options = options_of(first.path());
    options.directories.push_back(mount + "/cache");
    {
      StoreRig rig{options};
      for (uint64_t i = 1; i <= 10; ++i)
        if (rig.save(i, i - 1) != Status::Ok) return "not saved";
    }
    if (!make_read_only(mount)) return "cannot make it read-only";
    StoreRig rig{options};
    if (rig.store->pool_fd(1) != -1) return "used all the same";
    const std::string state = rig.store->facts()["pool_1"];
    if (state.find("Read-only file system") == std::string::npos) return state;
    for (uint64_t i = 100; i < 110; ++i)
      if (rig.save(i) != Status::Ok || !rig.has(i)) return "the other pool is out, too";
    return "works";
  });
}

TEST(FileSystem, OneWithSmallBlocksIsRefused) {
  expect_on_mount(kSmallBlocks, "refused", [](const std::string& mount) -> std::string {
    const auto opened = Store::open(options_of(mount + "/cache"));
    if (opened) return "opened";
    if (opened.status() != Status::Unsupported) return opened.error().message;
    const bool named = opened.error().message.find("blocks of 1024 bytes") != std::string::npos;
    return named ? "refused" : opened.error().message;
  });
}

TEST(FileSystem, OnBtrfsFilesAreWrittenInPlace) {
  expect_on_mount(kBtrfs, "in place", [](const std::string& mount) -> std::string {
    const std::string home = mount + "/cache";
    StoreRig{options_of(home)};
    for (const char* name : {"/penstock.db", "/penstock.db-shm", "/pool.data"}) {
      const UniqueFd fd{::open((home + name).c_str(), O_RDONLY | O_CLOEXEC)};
      int flags = 0;
      if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0)
        return std::string{"no flags of "} + name;
      if ((flags & FS_NOCOW_FL) == 0) return std::string{name} + " is copied on write";
    }
    return "in place";
  });
}

INSTANTIATE_TEST_SUITE_P(On, FullFileSystem, testing::ValuesIn(kMountKinds),
                         [](const auto& info) { return std::string{info.param.name}; });

}  // namespace
}  // namespace penstock::test
