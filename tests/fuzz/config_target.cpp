// Configuration: YAML text, and variables of the environment.
#include "config/load.hpp"
#include "fuzz/fuzz.hpp"

namespace penstock::fuzz {

const int kRounds = 10'000;

std::vector<Bytes> seeds() {
  return {
      bytes_of("ycache_dir: /mnt/nvme\nmax_cache_size_gb: 256\n"),
      bytes_of("ybackend: [gds]\ngds_config:\n  cache_dir: ['/a', \"/b\"]\n  block_size: 1048576\n"
               "  min_free_gb: 1.5e0\nchunk_size: 256\nuse_async: true\nlog_level: info\n"),
      bytes_of("yx: &a {cache_dir: /a}\ngds_config: *a\n# comment\n"),
      bytes_of("y--- !!map\n? cache_dir\n: |\n  /a\n...\n"),
      bytes_of("eCACHE_DIR=/a,/b\nCHUNK_SIZE=512\nUSE_ASYNC=off\nMAX_CACHE_SIZE_GB=1e3\n"),
  };
}

namespace {

// The first byte says which: a file, or lines of PENSTOCK_<KEY>.
Result<Config> load(Input& input) {
  const bool yaml = input.take<char>() == 'y';
  const std::string text = input.take_text(SIZE_MAX);
  if (yaml) {
    auto entries = parse_yaml(text);
    if (!entries) return entries.take_error();
    return load_config(*entries, [](const char*) -> const char* { return nullptr; });
  }
  std::vector<std::pair<std::string, std::string>> variables;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const size_t equals = std::min(line.find('='), line.size());
    variables.emplace_back("PENSTOCK_" + line.substr(0, equals),
                           line.substr(std::min(equals + 1, line.size())));
    begin = end + 1;
  }
  return load_config({}, [&](const char* name) -> const char* {
    for (const auto& [key, value] : variables)
      if (key == name) return value.c_str();
    return nullptr;
  });
}

}  // namespace
}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::fuzz;
  Input input{data, size};
  const auto config = load(input);
  if (config) {
    require(bool(config->validate()), "what was accepted is valid");
    require(!config->gds_config.cache_dir.empty(), "what was accepted has a directory");
  } else {
    require(!config.error().message.empty(), "a refusal says why");
  }
  return 0;
}
