#include "cli/screen.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "cli/interrupt.hpp"

namespace penstock::cli {
namespace {

void put(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool Screen::is_possible() noexcept {
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}

Screen::Screen() noexcept {
  tcgetattr(STDIN_FILENO, &before_);
  termios keys = before_;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // Ctrl-C stays a signal
  tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  put("\033[?1049h\033[?25l");
}

Screen::~Screen() {
  put("\033[?25h\033[?1049l");
  tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

// Over what is there, so that nothing flickers; lines that are too long or too many are cut.
void Screen::draw(std::string_view text) noexcept {
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
  const size_t columns = known ? size.ws_col : 200;
  size_t rows = known ? size.ws_row : 50;
  std::string frame = "\033[H";
  while (!text.empty() && rows-- > 0) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    frame += line.substr(0, columns);
    frame += "\033[K";
    if (rows > 0) frame += "\r\n";
  }
  put(frame + "\033[J");
}

bool Screen::pause(std::chrono::milliseconds time) noexcept {
  pollfd keys{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (poll(&keys, 1, static_cast<int>(time.count())) > 0) {
    char key = 0;
    if (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q') return false;
  }
  return !interrupted();
}

}  // namespace penstock::cli
