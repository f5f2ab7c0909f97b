#include "cli/interrupt.hpp"

#include <csignal>

namespace penstock::cli {
namespace {

volatile std::sig_atomic_t asked = 0;

void ask(int) {
  asked = 1;
}

}  // namespace

void watch_interrupts() noexcept {
  struct sigaction action {};
  action.sa_handler = ask;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept {
  return asked != 0;
}

}  // namespace penstock::cli
