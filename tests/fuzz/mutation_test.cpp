// Runs a fuzz target over its seeds and over mutations of them: the same ones each time, so that a
// failure comes back. An input that ended the program is left in /dev/shm/<program>.input.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "fuzz/fuzz.hpp"
#include "fuzz/mutate.hpp"
#include "support/files.hpp"

namespace penstock::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kLongest{10};  // where a sanitizer makes it slow
constexpr int kFewestRounds = 50;

void run(const Bytes& input, const std::string& what, const std::string& file) {
  std::ofstream{file, std::ios::binary | std::ios::trunc}.write(
      reinterpret_cast<const char*>(input.data()), std::ssize(input));
  try {
    LLVMFuzzerTestOneInput(input.data(), input.size());
  } catch (const std::exception& error) {
    FAIL() << what << ": " << error.what() << "; the input is in " << file;
  }
}

TEST(Fuzz, SeedsAndMutationsOfThem) {
  const std::string file =
      test::in_memory() / (fs::read_symlink("/proc/self/exe").filename().string() + ".input");
  const auto corpus = seeds();
  ASSERT_FALSE(corpus.empty());
  for (size_t i = 0; i < corpus.size(); ++i) {
    run(corpus[i], "seed " + std::to_string(i), file);
    if (HasFatalFailure()) return;
  }
  Mutator mutator{corpus, 1};
  const auto end = std::chrono::steady_clock::now() + kLongest;
  int round = 0;
  for (; round < kRounds && std::chrono::steady_clock::now() < end; ++round) {
    run(mutator.next(), "mutation " + std::to_string(round), file);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(round, std::min(kRounds, kFewestRounds));
  fs::remove(file);
}

}  // namespace
}  // namespace penstock::fuzz
