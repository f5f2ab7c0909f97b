// For libFuzzer: writes the target's seeds into the corpus directory that it is given, if it is
// empty.
#include <filesystem>
#include <fstream>

#include "fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  namespace fs = std::filesystem;
  for (int i = 1; i < *argc; ++i) {
    const fs::path directory = (*argv)[i];
    if (!fs::is_directory(directory) || !fs::is_empty(directory)) continue;
    int number = 0;
    for (const auto& seed : penstock::fuzz::seeds()) {
      std::ofstream{directory / ("seed-" + std::to_string(number++)), std::ios::binary}.write(
          reinterpret_cast<const char*>(seed.data()), std::ssize(seed));
    }
  }
  return 0;
}
