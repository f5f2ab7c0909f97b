#include "io/limited_child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "base/fd.hpp"

extern char** environ;

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kReport = 3;                 // the child's end of the pipe
constexpr milliseconds kReapLimit{2'000};  // after a kill; a process stuck in a driver may stay

// This process's environment with `more` in it.
std::vector<std::string> environment_with(const Environment& more) {
  std::vector<std::string> all;
  for (const auto& [name, value] : more) all.push_back(name + "=" + value);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text{*entry};
    const bool replaced = std::ranges::any_of(more, [text](const auto& each) {
      return text.starts_with(each.first) && text.substr(each.first.size()).starts_with('=');
    });
    if (!replaced) all.emplace_back(text);
  }
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> all;
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

// 0 or an errno.
int spawn(std::vector<std::string>& words, std::vector<std::string>& environment, int report,
          pid_t& child) {
  posix_spawn_file_actions_t actions;
  if (const int error = ::posix_spawn_file_actions_init(&actions); error != 0) return error;
  posix_spawnattr_t attributes;
  if (const int error = ::posix_spawnattr_init(&attributes); error != 0) {
    ::posix_spawn_file_actions_destroy(&actions);
    return error;
  }
  // First: the pipe may lie where a standard stream belongs.
  ::posix_spawn_file_actions_adddup2(&actions, report, kReport);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_RDWR, 0);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawn(&child, words[0].c_str(), &actions, &attributes,
                                  pointers(words).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

// Until the child has closed its end (true) or the time is over (false).
bool collect(int fd, std::string& output, Clock::time_point deadline) {
  std::array<char, 4096> part;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd file{fd, POLLIN, 0};
    if (::poll(&file, 1, static_cast<int>(left.count())) <= 0) continue;
    const ssize_t got = ::read(fd, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    output.append(part.data(), std::min(static_cast<size_t>(got), kMaxChildOutput - output.size()));
  }
}

// True once the child is gone and `status` is set, or somebody else has reaped it.
bool reap(pid_t child, int& status, Clock::time_point deadline) {
  for (;;) {
    const pid_t reaped = ::waitpid(child, &status, WNOHANG);
    if (reaped == child || (reaped < 0 && errno != EINTR)) return true;
    if (Clock::now() >= deadline) return false;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

Result<ChildEnd> run_limited(std::vector<std::string> words, const Environment& more,
                             milliseconds limit) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return Error{Status::Io, "cannot make a pipe: " + std::system_category().message(errno)};
  const UniqueFd reading{ends[0]};
  UniqueFd writing{ends[1]};
  auto environment = environment_with(more);
  pid_t child = 0;
  if (const int error = spawn(words, environment, writing.get(), child); error != 0)
    return Error{Status::Io, words[0] + ": " + std::system_category().message(error)};
  writing = UniqueFd{};

  ChildEnd end;
  const auto deadline = Clock::now() + limit;
  int status = 0;
  // A child may close its end and live on: the limit holds for its life.
  const bool ended = collect(reading.get(), end.output, deadline) && reap(child, status, deadline);
  if (!ended) {
    end.timed_out = true;
    ::kill(child, SIGKILL);
    reap(child, status, Clock::now() + kReapLimit);
    return end;
  }
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  return end;
}

}  // namespace penstock
