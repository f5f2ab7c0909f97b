// penstock-probe: proves, or fails to, that cuFile goes straight between a drive and a GPU. Run by
// the library (cufile_probe.hpp), which explains why it is a process; by hand it prints its report.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "io/probe/proof.hpp"

namespace penstock::probe {

Report::Report() noexcept : fd_{::fcntl(3, F_GETFD) >= 0 ? 3 : STDOUT_FILENO} {}

void Report::line(std::string_view word, std::string_view value) const {
  std::string text = fmt::format("{}{}{}", word, value.empty() ? "" : " ", value);
  std::ranges::replace(text, '\n', ' ');
  text += '\n';
  // Nobody to tell if the parent is gone.
  if (::write(fd_, text.data(), text.size()) < 0) ::_exit(2);
}

}  // namespace penstock::probe

int main(int argc, char** argv) {
  using namespace penstock;
  const std::vector<std::string> words{argv + 1, argv + argc};
  if (words.size() < 4) {
    fmt::print(stderr,
               "usage: penstock-probe FILE GPU BYTES SECONDS [DIRECTORY...]\n"
               "Moves 4 MiB between FILE (which is overwritten) and GPU (number, GPU-<uuid> or PCI "
               "bus id)\nby cuFile, with BYTES of GPU memory registered, for at most SECONDS. "
               "libcufile may lie in\na DIRECTORY.\n");
    return 2;
  }
  // The parent ends this process at the limit; this is for when the parent is gone.
  ::alarm(static_cast<unsigned>(std::strtoul(words[3].c_str(), nullptr, 10)) + 1);
  const probe::Report report;
  const auto proven =
      probe::prove({.file = words[0],
                    .gpu = words[1],
                    .registered_bytes = std::strtoull(words[2].c_str(), nullptr, 10),
                    .library_directories = std::span{words}.subspan(4)},
                   report);
  if (!proven) report.line("error", proven.error().message);
  report.line("done");
  // Not through the exit handlers of the vendor's libraries, which are known to crash.
  ::_exit(proven ? 0 : 1);
}
