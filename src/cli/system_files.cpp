#include "cli/system_files.hpp"

#include <cctype>
#include <fstream>
#include <sstream>

namespace penstock::cli {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file{path};
  std::string line;
  std::getline(file, line);
  line.erase(line.find_last_not_of(" \t") + 1);
  return line;
}

// "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build ...".
std::string nvidia_driver_version(const std::string& line) {
  std::istringstream words{line};
  for (std::string word; words >> word;)
    if (std::isdigit(static_cast<unsigned char>(word[0])) != 0 && word.find('.') != word.npos)
      return word;
  return {};
}

}  // namespace penstock::cli
