// A process that gets no more threads, as under a container's pids.max.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include "support/child.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

bool deny_threads() {
  return deny_system_call(SYS_clone3, EAGAIN) && deny_system_call(SYS_clone, EAGAIN);
}

bool no_signal_is_blocked() {
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return sigisemptyset(&now) == 1;
}

TEST(ThreadLimit, AStoreWithoutAThreadIsAnErrorAndLeavesNothingBehind) {
  TempDir directory;
  const StoreOptions options = options_for(directory.path(), 64 << 20);
  EXPECT_EQ(in_child([&]() -> std::string {
              if (!deny_threads()) return "no filter";
              for (int attempt = 0; attempt < 2; ++attempt) {
                const auto store = Store::open(options);
                if (store.status() != Status::Io) return std::string{to_string(store.status())};
                if (store.error().message.find(directory.path()) == std::string::npos)
                  return store.error().message;
              }
              return no_signal_is_blocked() ? "good" : "signals are blocked";
            }),
            "good");
  StoreRig rig{options};
  EXPECT_EQ(rig.save(1), Status::Ok);
}

TEST(ThreadLimit, MemoryThatNobodyCanListenToServesAllTheSame) {
  TempDir directory{in_memory()};
  StoreOptions options = options_for(directory.path(), 32 << 20);
  options.mapped = true;
  EXPECT_EQ(in_child([&]() -> std::string {
              StoreRig rig{options};
              if (!deny_threads()) return "no filter";
              for (int attempt = 0; attempt < 2; ++attempt)
                if (rig.store->listen({[](auto) { return true; }, {}})) return "it listens";
              rig.store->unlisten();
              if (!no_signal_is_blocked()) return "signals are blocked";
              return rig.save(1) == Status::Ok && rig.has(1) ? "good" : "it does not work";
            }),
            "good");
}

}  // namespace
}  // namespace penstock::test
