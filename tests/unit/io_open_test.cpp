// The choice of an engine and of O_DIRECT, with real refusals: seccomp filters, limits, file
// systems without the feature. Children first: they must be forked from one thread.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>

#include "io/open.hpp"
#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

std::string open_and_describe(const IoOptions& options) {
  auto opened = open_io_engine(options);
  if (!opened) return std::string{to_string(opened.status())} + "|" + opened.error().message;
  return std::string{opened->engine->name()} + "|" + opened->reason;
}

std::string open_denied(unsigned error, const std::string& kind) {
  return test::in_child([&] {
    if (!test::deny_system_call(SYS_io_uring_setup, error)) return std::string{"no filter"};
    return open_and_describe({kind, 8, {}});
  });
}

TEST(OpenIoEngine, SeccompMakesAutoFallBackAndSaysSo) {
  const std::string text = open_denied(EPERM, "auto");
  EXPECT_TRUE(text.starts_with("posix|")) << text;
  EXPECT_NE(text.find("seccomp"), std::string::npos) << text;
}

TEST(OpenIoEngine, SeccompMakesUringByNameAnError) {
  const std::string text = open_denied(EPERM, "uring");
  EXPECT_TRUE(text.starts_with(std::string{to_string(Status::Unsupported)} + "|")) << text;
  EXPECT_NE(text.find("seccomp"), std::string::npos) << text;
}

TEST(OpenIoEngine, KernelWithoutIoUringIsNamed) {
  const std::string text = open_denied(ENOSYS, "auto");
  EXPECT_TRUE(text.starts_with("posix|")) << text;
  EXPECT_NE(text.find("kernel has no io_uring"), std::string::npos) << text;
}

TEST(OpenIoEngine, MemoryLockLimitLeavesMemoryUnregistered) {
  if (auto opened = open_io_engine({"uring", 1, {}}); !opened) {
    GTEST_SKIP() << opened.error().message;
  }
  const test::AlignedBuffer memory{16 << 20};
  const std::string text = test::in_child([&] {
    const rlimit limit{64 << 10, 64 << 10};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return std::string{"no limit"};
    // Root is exempt from the limit.
    if (::getuid() == 0 && ::setuid(65534) != 0) return std::string{"still root"};
    return open_and_describe({"uring", 8, memory.span()});
  });
  EXPECT_TRUE(text.starts_with("uring|")) << text;
  EXPECT_NE(text.find("ulimit -l"), std::string::npos) << text;
  EXPECT_NE(text.find("64 KiB"), std::string::npos) << text;
}

TEST(OpenIoEngine, BestChoiceHasNoReason) {
  if (auto opened = open_io_engine({"uring", 1, {}}); !opened) {
    GTEST_SKIP() << opened.error().message;
  }
  const test::AlignedBuffer memory{1 << 16};
  EXPECT_EQ(open_and_describe({"auto", 8, memory.span()}), "uring|");
}

TEST(OpenIoEngine, WrongOptionsAreInvalid) {
  for (const IoOptions& options :
       {IoOptions{"mmap", 8, {}}, IoOptions{"memory", 8, {}}, IoOptions{"auto", 0, {}},
        IoOptions{"auto", kMaxIoDepth + 1, {}}}) {
    EXPECT_EQ(open_io_engine(options).status(), Status::Invalid) << options.kind << options.depth;
  }
  EXPECT_NE(open_and_describe({"mmap", 8, {}}).find("mmap"), std::string::npos);
}

TEST(OpenIoEngine, DeepestEngineOpens) {
  for (const std::string kind : {"auto", "posix"}) {
    auto opened = open_io_engine({kind, kMaxIoDepth, {}});
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*opened).engine->depth(), kMaxIoDepth);
  }
}

TEST(OpenDirect, RealFileSystemIsDirect) {
  const test::TempDir dir;
  auto created = open_direct(dir / "file", O_RDWR | O_CREAT | O_EXCL);
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_TRUE(created->direct) << created->reason;
  EXPECT_EQ(created->reason, "");
  const int fd = created->fd.get();
  EXPECT_NE(::fcntl(fd, F_GETFL) & O_DIRECT, 0);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(std::filesystem::status(dir / "file").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);

  test::write_file(dir / "file", test::random_bytes(10'000, 1));
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
    auto file = open_direct(dir / "file", flags);
    ASSERT_TRUE(file);
    EXPECT_TRUE(file->direct) << flags << file->reason;
  }
  EXPECT_EQ(test::read_file(dir / "file").size(), 10'000U) << "probing changes nothing";
}

TEST(OpenDirect, FileSystemWithoutODirectGoesThroughThePageCache) {
  auto file = open_direct("/proc/self/status", O_RDONLY);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_FALSE(file->direct);
  EXPECT_NE(file->reason.find("no O_DIRECT"), std::string::npos) << file->reason;
  EXPECT_EQ(::fcntl(file->fd.get(), F_GETFL) & O_DIRECT, 0);
  char byte = 0;
  EXPECT_EQ(::pread(file->fd.get(), &byte, 1, 0), 1);
}

TEST(OpenDirect, ErrorsNameThePathAndTheCause) {
  const test::TempDir dir;
  auto missing = open_direct(dir / "none", O_RDONLY);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.status(), Status::NotFound);
  EXPECT_NE(missing.error().message.find("/none"), std::string::npos);
  ASSERT_TRUE(open_direct(dir / "file", O_RDWR | O_CREAT));
  auto twice = open_direct(dir / "file", O_RDWR | O_CREAT | O_EXCL);
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().message.find("exists"), std::string::npos) << twice.error().message;
}

}  // namespace
}  // namespace penstock
