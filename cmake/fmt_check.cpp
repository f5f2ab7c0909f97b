// Whether fmt.cpp has all that the headers ask for.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

int main() {
  const std::string text =
      fmt::format("{:>8} {:.3f} {} {:x} {:L}", "text", 1.5, 1e300, 7, 1000000) +
      fmt::format("{:.2g} {}", 0.1f, 2.5f) +
      fmt::format("{}", fmt::join(std::vector<int>{1, 2}, ", "));
  return text.empty();
}
