#include "cli/process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"

extern char** environ;

namespace penstock::cli {
namespace {

constexpr size_t kMaxOutput = 16 * 1024 * 1024;

Error failed(const std::string& program, int error) {
  return {Status::Io, fmt::format("{}: {}", program, std::strerror(error))};
}

// Reads until the other end is closed; what is beyond the limit is read and dropped.
void collect(int fd, std::string& output) {
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    const size_t room = kMaxOutput - output.size();
    output.append(buffer.data(), std::min(room, static_cast<size_t>(got)));
  }
}

Result<int> wait_for(const std::string& program, pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return failed(program, errno);
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return Error{Status::Io, fmt::format("{}: ended by signal {}", program, WTERMSIG(status))};
}

}  // namespace

Result<int> run_process(const std::string& program, std::vector<std::string> words,
                        std::string* output) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  UniqueFd reading, writing;
  if (output != nullptr) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return failed(program, errno);
    reading = UniqueFd{ends[0]};
    writing = UniqueFd{ends[1]};
  }
  posix_spawn_file_actions_t actions;
  if (const int error = posix_spawn_file_actions_init(&actions); error != 0)
    return failed(program, error);
  if (output != nullptr) posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return failed(program, error);
  if (output != nullptr) {
    writing = UniqueFd{};
    collect(reading.get(), *output);
  }
  return wait_for(program, child);
}

}  // namespace penstock::cli
