// Victim: a forked child that works until kill -9 meets it, and says when its work has begun.
//
// Start it while this process has one thread. A slow machine may take longer to open a store than
// a test wants to wait: wait until the work has begun where a kill is to meet work.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

namespace penstock::test {

class Victim {
 public:
  // `work(begun)` runs in the child, calls begun() once, and returns only if something is wrong.
  template <typename Work>
  explicit Victim(Work work) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ends[0]);
      work([end = ends[1]] { (void)!::write(end, "b", 1); });
      ::_exit(1);
    }
    ::close(ends[1]);
    begun_ = ends[0];
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    kill();
    ::close(begun_);
  }

  // False: the child ended before its work began.
  bool wait_begun() const {
    char byte = 0;
    return ::read(begun_, &byte, 1) == 1;
  }
  // True if it was the signal that ended it.
  bool kill() {
    if (child_ <= 0) return false;
    ::kill(child_, SIGKILL);
    int status = 0;
    const bool reaped = ::waitpid(child_, &status, 0) == child_;
    child_ = 0;
    return reaped && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

 private:
  pid_t child_ = 0;
  int begun_ = -1;
};

}  // namespace penstock::test
