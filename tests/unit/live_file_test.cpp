// What processes tell each other: whole or not at all, and gone with its process.
#include "metrics/live_file.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/live_report.hpp"
#include "support/files.hpp"

namespace penstock::test {
namespace {

size_t files_in(const TempDir& dir) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator{dir.path()}, {}));
}

TEST(LiveFile, IsReadByOthersUntilItIsClosed) {
  const TempDir dir;
  {
    auto file = LiveFile::create(dir.path());
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_TRUE(read_live_files(dir.path()).empty());  // nothing was written yet
    ASSERT_TRUE((*file)->write("long ago 1\nlonger than what follows 2\n"));
    ASSERT_TRUE((*file)->write("a 1\n"));
    EXPECT_EQ(read_live_files(dir.path()), std::vector<std::string>{"a 1\n"});
  }
  EXPECT_EQ(files_in(dir), 0U);
}

TEST(LiveFile, OfADeadProcessIsNotReadAndIsRemoved) {
  const TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    auto file = LiveFile::create(dir.path());
    if (!file || !(*file)->write("a 1\n")) ::_exit(1);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(files_in(dir), 1U);
  EXPECT_TRUE(read_live_files(dir.path()).empty());
  const auto file = LiveFile::create(dir.path());
  ASSERT_TRUE(file);
  EXPECT_EQ(files_in(dir), 1U);  // the new one
}

TEST(LiveFile, ThereAreSoManyAndNoMore) {
  const TempDir dir;
  std::vector<std::unique_ptr<LiveFile>> files;
  for (size_t i = 0; i < LiveFile::kMaxFiles; ++i) {
    auto file = LiveFile::create(dir.path());
    ASSERT_TRUE(file);
    files.push_back(std::move(*file));
  }
  EXPECT_EQ(LiveFile::create(dir.path()).status(), Status::Busy);
  files.pop_back();
  EXPECT_TRUE(LiveFile::create(dir.path()));
}

TEST(LiveFile, TooMuchIsCutAtALine) {
  const TempDir dir;
  auto file = LiveFile::create(dir.path());
  ASSERT_TRUE(file);
  std::string text;
  while (text.size() < 2 * LiveFile::kMaxBytes)
    text += "name " + std::to_string(text.size()) + "\n";
  ASSERT_TRUE((*file)->write(text));
  const auto read = read_live_files(dir.path());
  ASSERT_EQ(read.size(), 1U);
  EXPECT_GT(read[0].size(), LiveFile::kMaxBytes - 100);
  EXPECT_TRUE(text.starts_with(read[0]));
  EXPECT_TRUE(read[0].ends_with('\n'));
}

TEST(LiveFile, WhatIsNotWholeIsNotRead) {
  const TempDir dir;
  auto file = LiveFile::create(dir.path());
  ASSERT_TRUE(file);
  ASSERT_TRUE((*file)->write("loaded_bytes 123\n"));
  const std::string path = std::filesystem::directory_iterator {
    dir.path()
    } -> path();
  std::fstream{path, std::ios::in | std::ios::out | std::ios::ate}.seekp(-3, std::ios::end) << "9";
  EXPECT_TRUE(read_live_files(dir.path()).empty());
}

TEST(LiveFile, AReaderSeesOneMoment) {
  const TempDir dir;
  auto file = LiveFile::create(dir.path());
  ASSERT_TRUE(file);
  std::atomic<bool> stop{false};
  std::thread writer{[&] {
    for (int i = 0; !stop; ++i) {
      const std::string number = std::to_string(i);
      (*file)->write(std::string(static_cast<size_t>(i % 7), '\n') + "a " + number + "\nb " +
                     number + "\n");
    }
  }};
  for (int seen = 0; seen < 200;) {
    for (const std::string& text : read_live_files(dir.path())) {
      const Figures figures = parse_live_engine(text).figures;
      ASSERT_EQ(figures.at("a"), figures.at("b"));
      ++seen;
    }
  }
  stop = true;
  writer.join();
}

TEST(LiveEngine, SurvivesTheWayThroughText) {
  const LiveEngine engine{{{"pid", "7"}, {"tiers", "local gds"}},
                          {{"loaded_bytes", 1e15}, {"load_seconds_sum", 0.125}, {"copies", 0}}};
  const LiveEngine read = parse_live_engine(to_text(engine));
  EXPECT_EQ(read.facts, engine.facts);
  EXPECT_EQ(read.figures, (Figures{{"load_seconds_sum", 0.125}, {"loaded_bytes", 1e15}}));
  const LiveEngine nonsense = parse_live_engine("\n#\nx\ny z\n= \n");
  EXPECT_TRUE(nonsense.facts.empty());
  EXPECT_TRUE(nonsense.figures.empty());
}

TEST(LiveReport, WritesWhatHasChangedAndEndsWhenItIsStopped) {
  const TempDir dir;
  double loaded = 1;
  int asked = 0;
  {
    LiveReport report{dir.path(), [&] {
                        ++asked;
                        return LiveEngine{{}, {{"loaded_bytes", loaded}}};
                      }};
    EXPECT_TRUE(report.tick());
    const std::string path = std::filesystem::directory_iterator {
      dir.path()
      } -> path();
    const auto first = std::filesystem::last_write_time(path);
    EXPECT_TRUE(report.tick());
    EXPECT_EQ(std::filesystem::last_write_time(path), first);
    loaded = 2;
    EXPECT_TRUE(report.tick());
    EXPECT_EQ(read_live_files(dir.path()), std::vector<std::string>{"loaded_bytes 2\n"});
    report.stop();
    EXPECT_FALSE(report.tick());
  }
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(files_in(dir), 0U);
}

TEST(LiveReport, ADirectoryThatIsGoneIsNoError) {
  LiveReport report{"/no/such/directory", [] { return LiveEngine{}; }};
  EXPECT_TRUE(report.tick());
  EXPECT_TRUE(report.tick());
}

}  // namespace
}  // namespace penstock::test
