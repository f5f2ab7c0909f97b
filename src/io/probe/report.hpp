// Report: the helper's answer, line by line as it comes to know things, so that a hang or a crash
// leaves what was known and where it was. See cufile_verdict.hpp for the words. One thread.
#pragma once

#include <string>
#include <string_view>

namespace penstock::probe {

class Report {
 public:
  Report() noexcept;  // to descriptor 3 as the parent gave it, or to the screen if there is none
  void line(std::string_view word, std::string_view value = {}) const;
  // What is being done from now on; completes "the probe crashed while ...".
  void stage(std::string_view doing) const { line("stage", doing); }

 private:
  int fd_;
};

}  // namespace penstock::probe
