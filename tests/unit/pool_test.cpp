// Pool: header, growth, and what an open does with a file of the wrong length.
#include "store/pool.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/sizes.hpp"
#include "store/directory.hpp"
#include "store/space.hpp"
#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock::test {
namespace {

PoolIdentity identity_for_test() {
  PoolIdentity identity;
  identity.store[0] = 1;
  identity.uuid[15] = 2;
  identity.generation = 3;
  identity.block_size = 65536;
  return identity;
}

uint64_t allocated(const std::string& path) {
  struct stat about {};
  EXPECT_EQ(::stat(path.c_str(), &about), 0);
  return static_cast<uint64_t>(about.st_blocks) * 512;
}

TEST(Pool, SaysWhoseItIs) {
  TempDir directory;
  EXPECT_EQ(Pool::inspect(directory.path()).status(), Status::NotFound);
  ASSERT_TRUE(Pool::format(directory.path(), identity_for_test()));
  const auto seen = Pool::inspect(directory.path());
  ASSERT_TRUE(seen) << seen.error().message;
  EXPECT_EQ(*seen, identity_for_test());
}

TEST(Pool, GrowsByAllocatedSpaceAndShrinks) {
  TempDir directory;
  auto pool = Pool::format(directory.path(), identity_for_test());
  ASSERT_TRUE(pool);
  const std::string path = directory / Pool::kFileName;
  ASSERT_EQ(pool->grow(0, 16), Status::Ok);
  ASSERT_EQ(pool->grow(16, 16), Status::Ok);
  EXPECT_EQ(file_size(path), kPoolHeader + 32 * 65536);
  EXPECT_GE(allocated(path), kPoolHeader + 32 * 65536);
  ASSERT_TRUE(pool->cut(8));
  EXPECT_EQ(file_size(path), kPoolHeader + 8 * 65536);
  EXPECT_EQ(*Pool::inspect(directory.path()), identity_for_test());
}

TEST(Pool, AnOpenGivesTheFileTheLengthThatTheIndexKnows) {
  TempDir directory;
  auto pool = Pool::format(directory.path(), identity_for_test());
  ASSERT_TRUE(pool);
  const std::string path = directory / Pool::kFileName;
  ASSERT_EQ(pool->grow(0, 16), Status::Ok);
  ASSERT_EQ(pool->fit(10), Status::Ok);  // a crash before the index knew of the growth
  EXPECT_EQ(file_size(path), kPoolHeader + 10 * 65536);
  ASSERT_EQ(::truncate(path.c_str(), kPoolHeader + 100), 0);
  ASSERT_EQ(pool->fit(10), Status::Ok);
  EXPECT_EQ(file_size(path), kPoolHeader + 10 * 65536);
  EXPECT_GE(allocated(path), kPoolHeader + 10 * 65536);
}

TEST(Pool, FormattingEmptiesTheFile) {
  TempDir directory;
  {
    auto pool = Pool::format(directory.path(), identity_for_test());
    ASSERT_TRUE(pool);
    ASSERT_EQ(pool->grow(0, 16), Status::Ok);
  }
  PoolIdentity next = identity_for_test();
  next.generation = 4;
  ASSERT_TRUE(Pool::format(directory.path(), next));
  EXPECT_EQ(file_size(directory / Pool::kFileName), kPoolHeader);
  EXPECT_EQ(Pool::inspect(directory.path())->generation, 4u);
}

TEST(Pool, EveryDamagedByteOfTheHeaderIsNoticed) {
  TempDir directory;
  ASSERT_TRUE(Pool::format(directory.path(), identity_for_test()));
  const std::string path = directory / Pool::kFileName;
  const std::vector<std::byte> good = read_file(path);
  ASSERT_EQ(good.size(), kPoolHeader);
  for (size_t at = 0; at < good.size(); at += at < 80 ? 1 : 61) {
    std::vector<std::byte> bad = good;
    bad[at] ^= std::byte{0x10};
    write_file(path, bad);
    ASSERT_EQ(Pool::inspect(directory.path()).status(), Status::Corrupt) << at;
  }
  for (size_t size : {size_t{0}, size_t{8}, size_t{4095}}) {
    write_file(path, std::span{good}.first(size));
    ASSERT_EQ(Pool::inspect(directory.path()).status(), Status::Corrupt) << size;
  }
  write_file(path, good);
  EXPECT_TRUE(Pool::inspect(directory.path()));
}

TEST(Pool, AHeaderThatCannotBeReadIsNotADamagedOne) {
  TempDir directory;
  ASSERT_TRUE(Pool::format(directory.path(), identity_for_test()));
  EXPECT_EQ(in_child([&]() -> std::string {
              if (!deny_system_call(SYS_pread64, EIO)) return "no filter";
              return std::string{to_string(Pool::inspect(directory.path()).status())};
            }),
            to_string(Status::Io));
}

// A file system that is full, as the kernel says it; the file stays as it was.
TEST(Pool, AFullFileSystemIsNoSpace) {
  TempDir directory;
  EXPECT_EQ(in_child([&]() -> std::string {
              auto pool = Pool::format(directory.path(), identity_for_test());
              if (!pool) return "no pool";
              if (!deny_system_call(SYS_fallocate, ENOSPC)) return "no filter";
              return std::string{to_string(pool->grow(0, 4))};
            }),
            to_string(Status::NoSpace));
  EXPECT_EQ(file_size(directory / Pool::kFileName), kPoolHeader);
}

TEST(Pool, WithoutFallocateTheFileGetsItsLength) {
  TempDir directory;
  EXPECT_EQ(in_child([&]() -> std::string {
              auto pool = Pool::format(directory.path(), identity_for_test());
              if (!pool) return "no pool";
              if (!deny_system_call(SYS_fallocate, EOPNOTSUPP)) return "no filter";
              return std::string{to_string(pool->grow(0, 4))};
            }),
            to_string(Status::Ok));
  EXPECT_EQ(file_size(directory / Pool::kFileName), kPoolHeader + 4 * 65536);
}

TEST(Directory, ItsLastPartIsMadeForThisUserOnly) {
  TempDir parent;
  const auto made = prepare_directory((parent / "cache") + "/");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(*made, parent / "cache");
  struct stat about {};
  ASSERT_EQ(::stat(made->c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0700u);
  EXPECT_EQ(*prepare_directory(*made), *made);
}

TEST(Directory, WhatIsWrongWithItIsSaid) {
  TempDir parent;
  const auto refusal = [](const std::string& path) {
    const auto made = prepare_directory(path);
    EXPECT_EQ(made.status(), Status::Invalid) << path;
    return made ? "" : made.error().message;
  };
  EXPECT_NE(refusal(parent / "a/b").find("its parent " + (parent / "a")), std::string::npos);
  EXPECT_NE(refusal("").find("empty"), std::string::npos);

  write_file(parent / "file", {});
  EXPECT_NE(refusal(parent / "file").find("is not a directory"), std::string::npos);
  EXPECT_NE(refusal(parent / "file/below").find("cannot be used"), std::string::npos);

  ASSERT_TRUE(prepare_directory(parent / "open"));
  ASSERT_EQ(::chmod((parent / "open").c_str(), 0707), 0);
  EXPECT_NE(refusal(parent / "open").find("chmod o-w"), std::string::npos);

  // Where everybody may make directories, as on /dev/shm, it must be this user's own.
  ASSERT_TRUE(prepare_directory(parent / "shared"));
  ASSERT_EQ(::chmod((parent / "shared").c_str(), 01777), 0);
  EXPECT_NE(refusal(parent / "shared").find("use a directory inside it"), std::string::npos);
  EXPECT_EQ(refusal(parent / "shared").find("chmod"), std::string::npos) << "it is meant to be so";
  ASSERT_EQ(::mkdir((parent / "shared/cache").c_str(), 0700), 0);
  EXPECT_TRUE(prepare_directory(parent / "shared/cache"));
  if (::chown((parent / "shared/cache").c_str(), 12345, 12345) == 0) {  // only root may
    EXPECT_NE(refusal(parent / "shared/cache").find("belongs to user 12345"), std::string::npos);
  }

  ASSERT_TRUE(prepare_directory(parent / "closed"));
  ASSERT_EQ(::chmod((parent / "closed").c_str(), 0500), 0);
  ASSERT_EQ(::chmod(parent.path().c_str(), 0755), 0);
  const std::string said = in_child([&]() -> std::string {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return "cannot give up root";
    const auto made = prepare_directory(parent / "closed");
    return made ? "usable" : made.error().message;
  });
  // Another user may not even reach it; either way it is refused with the reason.
  EXPECT_TRUE(said.find("is not writable for this user") != std::string::npos ||
              said.find("Permission denied") != std::string::npos)
      << said;
}

}  // namespace
}  // namespace penstock::test
