// The pieces around cuFile that need no cuFile: numbers to sentences, counters, the helper's
// report, what a machine rules out, children with a time limit.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "io/cufile_counters.hpp"
#include "io/cufile_errors.hpp"
#include "io/cufile_host.hpp"
#include "io/cufile_settings.hpp"
#include "io/cufile_verdict.hpp"
#include "io/limited_child.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(CufileErrors, BothNumberSpacesBecomeSentences) {
  EXPECT_EQ(describe_cufile_code(EBADF), "Bad file descriptor");
  EXPECT_TRUE(has(describe_cufile_code(5001), "no nvidia-fs"));
  EXPECT_TRUE(has(describe_cufile_code(5027), "/run/udev"));
  EXPECT_TRUE(has(describe_cufile_code(5030), "overlayfs"));
  EXPECT_TRUE(has(describe_cufile_code(5999), "5999"));
  EXPECT_TRUE(has(describe_cufile({5011, 801}), "RMForceStaticBar1"));
  EXPECT_FALSE(has(describe_cufile({5011, 2}), "RMForceStaticBar1"));
  EXPECT_TRUE(has(describe_cufile({5011, 2}), "CUDA error 2"));
}

TEST(CufileErrors, AnswersOfTheDataPathAreDecodedHoweverTheyCome) {
  EXPECT_EQ(cufile_code(-1, 5008), 5008);
  EXPECT_EQ(cufile_code(-5008, 0), 5008);
  EXPECT_EQ(cufile_code(-5008, ENOENT), 5008);
  EXPECT_EQ(cufile_code(-1, ENOSPC), ENOSPC);
  EXPECT_EQ(cufile_code(-EIO, 0), EIO);
  EXPECT_EQ(cufile_code(-1, 0), EIO) << "a failure without a number is still one";
  EXPECT_EQ(cufile_code(INT64_MIN, 0), EIO);
  EXPECT_EQ(errno_of_cufile(5044), EIO);
  EXPECT_EQ(errno_of_cufile(5022), EINVAL);
  EXPECT_EQ(errno_of_cufile(ENOSPC), ENOSPC);
}

TEST(CufileCounters, AreFoundByTheUuidWhereverTheyLie) {
  cufile::GpuCounters written{};
  std::array<uint8_t, 16> uuid{};
  for (size_t i = 0; i < 16; ++i) written.uuid[i] = uuid[i] = static_cast<uint8_t>(7 * i + 1);
  written.p2p_reads = 3;
  written.registered_bytes = 99;
  const size_t end = cufile::kStatsRoom - sizeof written;
  for (const size_t at : {size_t{0}, size_t{8}, size_t{1288}, end / 8 * 8}) {
    std::vector<std::byte> room(cufile::kStatsRoom);
    std::memcpy(room.data() + at, &written, sizeof written);
    const auto found = find_gpu_counters(room, uuid);
    ASSERT_TRUE(found) << at;
    EXPECT_EQ(found->p2p_reads, 3U);
    EXPECT_EQ(found->registered_bytes, 99U);
    // A record that does not fit is none.
    EXPECT_FALSE(find_gpu_counters(std::span{room}.first(at + sizeof written - 1), uuid)) << at;
  }
  EXPECT_FALSE(find_gpu_counters(std::vector<std::byte>(cufile::kStatsRoom), uuid));
}

TEST(CufileVerdict, OnlyDirectBytesBothWaysAreAProof) {
  const auto verdict = [](const std::string& lines) { return read_report(lines, {}); };
  const std::string good = "version 1190\nusable\n";
  EXPECT_TRUE(verdict(good + "reads 4 0 0\nwrites 4 0 0\ndone\n").proven());
  EXPECT_TRUE(verdict(good + "reads 0 4 0\nwrites 4 0 0\ndone\n").proven());
  EXPECT_FALSE(verdict(good + "reads 4 0 1\nwrites 4 0 0\ndone\n").proven());
  EXPECT_FALSE(verdict(good + "reads 4 0 0\nwrites 0 0 4\ndone\n").proven());
  EXPECT_FALSE(verdict(good + "reads 4 0 0\ndone\n").proven());
  EXPECT_FALSE(verdict(good + "reads 0 0 0\nwrites 0 0 0\ndone\n").proven());
  EXPECT_FALSE(verdict("reads 4 0 0\nwrites 4 0 0\ndone\n").proven()) << "no bytes were compared";
  const auto nvfs = verdict(good + "reads 0 4 0\nwrites 0 4 0\ndone\n");
  EXPECT_EQ(nvfs.reads.path(), CufilePath::Nvfs);
  EXPECT_EQ(nvfs.version, 1190);
  EXPECT_EQ(format_version(nvfs.version), "1.19");
}

TEST(CufileVerdict, TornAndStrangeReportsProveNothing) {
  const std::string whole = "stage cuFileRead\nusable\nreads 4 0 0\nwrites 4 0 0\ndone\n";
  for (size_t length = 0; length < whole.size(); ++length) {
    const auto verdict = read_report(std::string_view{whole}.substr(0, length), {.signal = 11});
    if (length <= whole.find("writes 4 0 0")) {
      EXPECT_FALSE(verdict.proven()) << length;
      EXPECT_TRUE(has(verdict.sentence, "crashed (signal 11)")) << length;
    }
  }
  for (const char* counts : {"reads 4 0", "reads 4 0 x", "reads -4 0 0", "reads 4 0 0 0", "reads",
                             "reads 99999999999999999999 0 0"}) {
    const auto verdict = read_report("usable\nwrites 4 0 0\n" + std::string{counts} + "\n", {});
    EXPECT_FALSE(verdict.proven()) << counts;
  }
}

TEST(CufileVerdict, SentencesSayWhereItEnded) {
  EXPECT_TRUE(
      has(read_report("stage cuFileDriverOpen\n", {.timed_out = true, .limit_s = 20}).sentence,
          "within 20 s from cuFileDriverOpen"));
  EXPECT_EQ(read_report("error no such GPU\ndone\n", {}).sentence, "no such GPU");
  EXPECT_TRUE(has(read_report("version 1140\nusable\ndone\n", {}).sentence, "version 1.14"));
  EXPECT_TRUE(has(read_report("version 1190\nusable\ndone\n", {}).sentence, "counters"));
  EXPECT_TRUE(
      has(read_report("version 1190\nusable\nreads 0 0 4\nwrites 0 0 4\ndone\n", {}).sentence,
          "host memory"));
}

TEST(CufileHost, NamesTheFirstThingThatRulesItOut) {
  const test::TempDir dir;
  const test::TempDir root;
  namespace fs = std::filesystem;
  const auto write = [&](const std::string& path, const std::string& text) {
    fs::create_directories(fs::path{root / path}.parent_path());
    std::ofstream{root / path} << text;
  };
  const auto obstacle = [&] { return examine_cufile_host(dir.path(), root.path()).obstacle(); };
  write("proc/sys/kernel/osrelease", "5.15.0-microsoft-standard-WSL2\n");
  EXPECT_TRUE(has(obstacle(), "WSL"));
  write("proc/sys/kernel/osrelease", "6.8.0-generic\n");
  EXPECT_TRUE(has(obstacle(), "no NVIDIA driver"));
  write("proc/driver/nvidia/version", "NVRM version: ...\n");
  struct stat status {};
  ASSERT_EQ(::stat(dir.path().c_str(), &status), 0);
  const auto host = examine_cufile_host(dir.path(), root.path());
  if (!host.file_system.empty() || major(status.st_dev) == 0)
    GTEST_SKIP() << "the tests run on a file system without a block device";
  EXPECT_TRUE(has(obstacle(), "/run/udev/data/b" + host.block_device)) << obstacle();
  write("run/udev/data/b" + host.block_device, "E:ID_FS_TYPE=ext4\n");
  EXPECT_EQ(obstacle(), "");
}

TEST(CufileHost, FileSystemsWithoutADriveAreNamed) {
  const test::TempDir root;
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no tmpfs here";
  std::filesystem::create_directories(root / "dev");
  std::ofstream{root / "dev/nvidiactl"};
  const auto host = examine_cufile_host("/dev/shm", root.path());
  EXPECT_EQ(host.file_system, "tmpfs");
  EXPECT_EQ(host.block_device, "");
  EXPECT_TRUE(has(host.obstacle(), "tmpfs")) << host.obstacle();
}

TEST(CufileSettings, AreAPrivateFileThatGoesAgain) {
  std::string directory;
  {
    const auto settings = CufileSettings::create();
    ASSERT_TRUE(settings) << settings.error().message;
    directory = settings->directory();
    struct stat status {};
    ASSERT_EQ(::stat(directory.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    std::ifstream file{settings->path()};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    EXPECT_TRUE(has(text, "\"dir\": \"" + directory + "\"")) << text;
    EXPECT_TRUE(has(text, "\"max_direct_io_size_kb\": 16384")) << text;
    EXPECT_TRUE(has(text, "\n  \"block\": {")) << "not at the top level:\n" << text;
    EXPECT_EQ(settings->last_log_line(), "");
    std::ofstream{directory + "/cufile.log"} << "first\nlast words\n\n";
    EXPECT_EQ(settings->last_log_line(), "last words");
  }
  EXPECT_FALSE(std::filesystem::exists(directory));
}

TEST(CufileSettings, TheUsersOwnFileWins) {
  const ScopedVariable users{kCufileConfigVariable, "/etc/somewhere/cufile.json"};
  const auto settings = CufileSettings::create();
  ASSERT_TRUE(settings);
  EXPECT_TRUE(settings->is_the_users());
  EXPECT_EQ(settings->path(), "");
}

TEST(ScopedVariable, PutsBackWhatWasThere) {
  ::setenv("PENSTOCK_TEST_VARIABLE", "old", 1);
  {
    const ScopedVariable variable{"PENSTOCK_TEST_VARIABLE", "new"};
    EXPECT_STREQ(std::getenv("PENSTOCK_TEST_VARIABLE"), "new");
  }
  EXPECT_STREQ(std::getenv("PENSTOCK_TEST_VARIABLE"), "old");
  ::unsetenv("PENSTOCK_TEST_VARIABLE");
  { const ScopedVariable variable{"PENSTOCK_TEST_VARIABLE", "new"}; }
  EXPECT_EQ(std::getenv("PENSTOCK_TEST_VARIABLE"), nullptr);
}

Result<ChildEnd> shell(const std::string& script, std::chrono::milliseconds limit = 60s) {
  return run_limited({"/bin/sh", "-c", script}, {{"PENSTOCK_TEST_WORD", "hello"}}, limit);
}

TEST(LimitedChild, OutputEnvironmentAndExitCodeComeBack) {
  const auto end = shell("echo $PENSTOCK_TEST_WORD >&3; echo lost; exit 7");
  ASSERT_TRUE(end) << end.error().message;
  EXPECT_EQ(end->output, "hello\n");
  EXPECT_EQ(end->exit_code, 7);
  EXPECT_EQ(end->signal, 0);
  EXPECT_FALSE(end->timed_out);
}

TEST(LimitedChild, AMissingProgramIsAnError) {
  const auto end = run_limited({"/no/such/program"}, {}, 1s);
  ASSERT_FALSE(end);
  EXPECT_TRUE(has(end.error().message, "/no/such/program: No such file")) << end.error().message;
}

TEST(LimitedChild, ACrashIsTold) {
  const auto end = shell("echo before >&3; kill -SEGV $$");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->signal, SIGSEGV);
  EXPECT_EQ(end->output, "before\n");
}

// Whether it ignores signals, or has closed the pipe and lives on.
TEST(LimitedChild, TheLimitEndsAnything) {
  for (const char* script : {"trap '' TERM INT HUP; echo $$ >&3; while :; do :; done",
                             "echo $$ >&3; exec 3>&-; while :; do :; done"}) {
    const auto start = std::chrono::steady_clock::now();
    const auto end = shell(script, 300ms);
    ASSERT_TRUE(end);
    EXPECT_TRUE(end->timed_out);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
    const pid_t child = std::atoi(end->output.c_str());
    ASSERT_GT(child, 1) << end->output;
    EXPECT_EQ(::kill(child, 0), -1) << "it is still there, or not reaped";
  }
}

TEST(LimitedChild, OutputIsBounded) {
  const auto end = shell("head -c 1000000 /dev/zero >&3");
  ASSERT_TRUE(end);
  EXPECT_EQ(end->output.size(), kMaxChildOutput);
  EXPECT_EQ(end->exit_code, 0) << "what is beyond is read and dropped";
}

}  // namespace
}  // namespace penstock
