// LockFile: what two processes may hold at a time, and that death ends it.
#include "store/lock_file.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock::test {
namespace {

constexpr std::chrono::milliseconds kShort{20};

std::unique_ptr<LockFile> open_lock(const std::string& path) {
  auto file = LockFile::open(path);
  EXPECT_TRUE(file) << file.error().message;
  return std::move(*file);
}

TEST(LockFile, UsersShareAndOneOwnsThemOnlyAlone) {
  TempDir directory;
  const std::string path = directory / "lock";
  auto file = open_lock(path);
  ASSERT_EQ(file->share_users(), Status::Ok);
  EXPECT_EQ(in_child([&] {
              auto mine = open_lock(path);
              std::string seen{to_string(mine->share_users(kShort))};
              return seen + " " + std::string{to_string(mine->own_users(kShort))};
            }),
            std::string{to_string(Status::Ok)} + " " + std::string{to_string(Status::Busy)});
  ASSERT_EQ(file->own_users(kShort), Status::Ok);  // the child is gone
  EXPECT_EQ(in_child([&] { return std::string{to_string(open_lock(path)->share_users(kShort))}; }),
            to_string(Status::Busy));
  ASSERT_EQ(file->share_users(), Status::Ok);
  EXPECT_EQ(in_child([&] { return std::string{to_string(open_lock(path)->share_users(kShort))}; }),
            to_string(Status::Ok));
}

TEST(LockFile, OneWriterAtATimeAndTheWaitIsBounded) {
  TempDir directory;
  const std::string path = directory / "lock";
  auto file = open_lock(path);
  const auto try_in_child = [&] {
    return in_child([&] { return std::string{to_string(open_lock(path)->lock_writer(kShort))}; });
  };
  {
    WriterLock writer{*file};
    ASSERT_EQ(writer.status(), Status::Ok);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(try_in_child(), to_string(Status::Busy));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{5});
  }
  EXPECT_EQ(try_in_child(), to_string(Status::Ok));
}

TEST(LockFile, AProcessIsAliveUntilItDiesWhateverItsId) {
  TempDir directory;
  const std::string path = directory / "lock";
  auto file = open_lock(path);
  ASSERT_EQ(*file->claim_process(), 0u);
  EXPECT_TRUE(file->is_alive(0));
  EXPECT_FALSE(file->is_alive(1));

  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto mine = open_lock(path);
    auto place = mine->claim_process();
    const char byte = place ? static_cast<char>('0' + *place) : 'x';
    if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char place = 0;
  ASSERT_EQ(::read(ready[0], &place, 1), 1);
  EXPECT_EQ(place, '1');
  EXPECT_TRUE(file->is_alive(1));
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(file->is_alive(1));
  EXPECT_TRUE(file->is_alive(0));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(LockFile, AForkedChildDoesNotInheritTheLocks) {
  TempDir directory;
  const std::string path = directory / "lock";
  auto file = open_lock(path);
  ASSERT_EQ(file->share_users(), Status::Ok);
  ASSERT_EQ(*file->claim_process(), 0u);
  // The child's copy of the descriptor is closed when it ends; the parent's locks stay.
  EXPECT_EQ(in_child([&] { return std::string{file->is_alive(0) ? "alive" : "dead"}; }), "alive");
  EXPECT_EQ(in_child([&] {
              auto mine = open_lock(path);
              return std::string{to_string(mine->own_users(kShort))} + " " +
                     std::to_string(*mine->claim_process());
            }),
            std::string{to_string(Status::Busy)} + " 1");
}

TEST(LockFile, ADirectoryThatIsNotThereIsAnError) {
  TempDir directory;
  const auto file = LockFile::open(directory / "none/lock");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.status(), Status::Io);
}

TEST(LockFile, AFileSystemWithoutLocksIsNamed) {
  TempDir directory;
  EXPECT_EQ(in_child([&]() -> std::string {
              if (!deny_system_call(SYS_fcntl, ENOLCK)) return "no filter";
              const auto file = LockFile::open(directory / "lock");
              return file ? "opened" : std::string{to_string(file.status())};
            }),
            to_string(Status::Unsupported));
}

}  // namespace
}  // namespace penstock::test
