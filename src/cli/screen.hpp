// Screen: a terminal that is drawn anew again and again, as `top` does, until q or Ctrl-C.
//
// Owns the terminal's state from the constructor to the destructor: the alternate screen, no
// cursor, keys as they are typed. Requires: stdin and stdout are terminals. One at a time; one
// thread.
#pragma once

#include <termios.h>

#include <chrono>
#include <string_view>

namespace penstock::cli {

class Screen {
 public:
  Screen() noexcept;
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  static bool is_possible() noexcept;  // stdin and stdout are terminals
  void draw(std::string_view text) noexcept;
  // Waits for as long; false once q was typed or interrupted().
  bool pause(std::chrono::milliseconds time) noexcept;

 private:
  termios before_{};
};

}  // namespace penstock::cli
