#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "config/keys.hpp"
#include "config/load.hpp"

namespace penstock {
namespace {

using Variables = std::map<std::string, std::string>;

EnvironmentLookup environment(const Variables& variables) {
  return [&variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

Result<Config> load_text(const std::string& text, const Variables& variables = {}) {
  auto entries = parse_yaml(text);
  if (!entries) return entries.take_error();
  return load_config(*entries, environment(variables));
}

// The message that refuses `text`, or a text that no message equals.
std::string refusal(const std::string& text, const Variables& variables = {}) {
  auto config = load_text(text, variables);
  if (config) return "(accepted)";
  EXPECT_EQ(config.status(), Status::Invalid);
  return config.error().message;
}

// One key beside a good cache_dir.
std::string refusal_of(const std::string& line) {
  return refusal("cache_dir: /d\n" + line);
}

std::string file(const std::string& path) {
  std::ifstream stream{std::string{PENSTOCK_SOURCE_DIR} + "/" + path};
  EXPECT_TRUE(stream) << path;
  return {std::istreambuf_iterator<char>{stream}, {}};
}

TEST(Config, TheDesignsExampleIsAcceptedAsWritten) {
  auto entries = read_yaml(std::string{PENSTOCK_SOURCE_DIR} + "/tests/golden/config/design.yaml");
  ASSERT_TRUE(entries) << entries.error().message;
  auto config = load_config(*entries, environment({}));
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->backend, std::vector<std::string>{"gds"});
  EXPECT_EQ(config->gds_config.cache_dir, std::vector<std::string>{"/mnt/nvme/llm_cache"});
  EXPECT_EQ(config->gds_config.remote_nixl_server, "host:port");
  EXPECT_EQ(config->gds_config.block_size, 1048576u);
  EXPECT_EQ(config->gds_config.max_cache_size_gb, 256);
  EXPECT_EQ(config->chunk_size, 256u);
  EXPECT_TRUE(config->save_decode_cache);
  EXPECT_FALSE(config->use_mla);
}

TEST(Config, EveryKeyReachesItsOwnField) {
  // Setting a key to a value that is not its default changes that key's text and no other's.
  const std::map<std::string, std::string> values = {{"local_config.directory", "/dev/shm/x"},
                                                     {"local_config.max_cache_size_gb", "3.5"},
                                                     {"backend", "gds"},
                                                     {"cache_dir", "/x"},
                                                     {"enable_gds", "false"},
                                                     {"enable_rdma", "false"},
                                                     {"remote_nixl_server", "h"},
                                                     {"max_concurrent_ops", "7"},
                                                     {"block_size", "8192"},
                                                     {"prefetch_factor", "9"},
                                                     {"max_cache_size_gb", "0.5"},
                                                     {"eviction_policy", "lru"},
                                                     {"enable_compression", "false"},
                                                     {"compression_algo", "lz4"},
                                                     {"io_engine", "posix"},
                                                     {"io_depth", "5"},
                                                     {"min_free_gb", "3"},
                                                     {"max_write_gb_per_day", "0"},
                                                     {"load_deadline_s", "1.5"},
                                                     {"save_deadline_s", "2.5"},
                                                     {"max_load_gb_in_flight", "8"},
                                                     {"chunk_size", "17"},
                                                     {"max_age_s", "60"},
                                                     {"enable_layerwise", "false"},
                                                     {"use_async", "false"},
                                                     {"use_mla", "true"},
                                                     {"save_decode_cache", "false"},
                                                     {"enable_metrics", "false"},
                                                     {"log_level", "debug"},
                                                     {"trace_file", "/t/out.json"},
                                                     {"load_policy", "always"},
                                                     {"load_in_step", "never"}};
  ASSERT_EQ(values.size(), config_keys().size());
  Config defaults;
  defaults.gds_config.cache_dir = {"/d"};
  for (const ConfigKey& key : config_keys()) {
    const bool is_local = key.section == Section::Local;
    const std::string name = is_local ? key.path() : std::string{key.name};
    ASSERT_TRUE(values.contains(name)) << name;
    const std::string value = values.at(name);
    const bool is_directory = key.name == "cache_dir";
    for (const std::string& path : {key.path(), name}) {
      std::vector<ConfigEntry> entries = {{path, {value}, false}};
      if (!is_directory) entries.push_back({"cache_dir", {"/d"}, false});
      auto config = load_config(entries, environment({}));
      ASSERT_TRUE(config) << config.error().message;
      for (const ConfigKey& other : config_keys())
        EXPECT_EQ(other.show(*config), &other == &key ? value : other.show(defaults))
            << path << " " << other.name;
    }
    auto config = load_text(is_directory ? "" : "cache_dir: /d", {{key.variable(), value}});
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(key.show(*config), value);
  }
}

TEST(Config, AVariableThatIsNearlyAKeysIsNamed) {
  const char* const set[] = {"PENSTOCK_CHUNKSIZE=512",
                             "PENSTOCK_CHUNK_SIZE=512",
                             "PENSTOCK_CLI=x",
                             "PENSTOCK_PORT=tcp://10.0.0.1:80",
                             "HOME=/",
                             "PENSTOCK_"};
  const std::vector<std::string> said = misspelt_variables(set);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0],
            "PENSTOCK_CHUNKSIZE sets nothing: no key has it; PENSTOCK_CHUNK_SIZE is the nearest");
}

TEST(Config, EnableGdsTakesTrueAndFalseHoweverWrittenAndForce) {
  for (const auto& [written, value] : {std::pair{"yes", "true"},
                                       {"True", "true"},
                                       {"1", "true"},
                                       {"off", "false"},
                                       {"FALSE", "false"},
                                       {"force", "force"}}) {
    auto config = load_text(std::string{"cache_dir: /d\nenable_gds: "} + written);
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->gds_config.enable_gds, value) << written;
    config = load_text("cache_dir: /d", {{"PENSTOCK_ENABLE_GDS", written}});
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->gds_config.enable_gds, value) << written;
  }
}

TEST(Config, VariablesWinAndListsSplitAtCommas) {
  const Variables variables = {{"PENSTOCK_CACHE_DIR", "/a,/b"},
                               {"PENSTOCK_MAX_CACHE_SIZE_GB", "2"},
                               {"PENSTOCK_CHUNK_SIZE", ""}};
  auto config = load_text("cache_dir: /d\nmax_cache_size_gb: 1\nchunk_size: 64", variables);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->gds_config.cache_dir, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(config->gds_config.max_cache_size_gb, 2);
  EXPECT_EQ(config->chunk_size, 64u) << "an empty variable is not set";
  EXPECT_EQ(refusal("cache_dir: /d", {{"PENSTOCK_CHUNK_SIZE", "many"}}),
            "PENSTOCK_CHUNK_SIZE (chunk_size): \"many\" is not accepted; expected a whole number "
            "from 1 to 1048576 (tokens)");
}

TEST(Config, UnknownKeysAreRefusedWithTheNearestKnownOne) {
  EXPECT_EQ(refusal_of("chunk_sizes: 1"),
            "chunk_sizes: unknown key; the nearest known key is chunk_size");
  EXPECT_EQ(refusal("gds_config:\n  cachedir: /d"),
            "gds_config.cachedir: unknown key; the nearest known key is gds_config.cache_dir");
  EXPECT_EQ(refusal("gds_config:\n  chunk_size: 3"),
            "gds_config.chunk_size: unknown key; the nearest known key is chunk_size");
  EXPECT_EQ(refusal("gds_config: yes"),
            "gds_config: expected a section with keys, such as cache_dir");
  EXPECT_EQ(refusal("local_config: yes"),
            "local_config: expected a section with keys, such as directory");
  // Of two keys with one name the one in the section that was meant.
  EXPECT_EQ(refusal_of("local_config:\n  max_cache_size: 3"),
            "local_config.max_cache_size: unknown key; the nearest known key is "
            "local_config.max_cache_size_gb");
  EXPECT_EQ(refusal_of("gds_config:\n  max_cache_size: 3"),
            "gds_config.max_cache_size: unknown key; the nearest known key is "
            "gds_config.max_cache_size_gb");
  EXPECT_EQ(refusal_of("directory: /dev/shm/x"),
            "directory: unknown key; the nearest known key is local_config.directory");
}

TEST(Config, WrongTypesNameKeyValueAndExpectation) {
  EXPECT_EQ(refusal_of("use_async: maybe"),
            "use_async: \"maybe\" is not accepted; expected true or false");
  EXPECT_EQ(refusal_of("block_size: 1MiB"),
            "block_size: \"1MiB\" is not accepted; expected a multiple of 4096 from 4096 to "
            "67108864 (bytes)");
  EXPECT_EQ(refusal_of("chunk_size: [1, 2]"),
            "chunk_size: [1, 2] is not accepted; expected a whole number from 1 to 1048576 "
            "(tokens)");
  EXPECT_EQ(refusal_of("chunk_size: 1.5").find("chunk_size: \"1.5\" is not accepted"), 0u);
  EXPECT_EQ(refusal_of("max_cache_size_gb: nan").find("max_cache_size_gb: \"nan\""), 0u);
  EXPECT_EQ(refusal_of("enable_gds: maybe"),
            "gds_config.enable_gds: \"maybe\" is not accepted; expected one of true, false, force");
  EXPECT_EQ(refusal_of("chunk_size:"), "line 2, column 1: chunk_size: has no value");
}

TEST(Config, SizesOutOfRangeAreRefused) {
  for (const char* line :
       {"block_size: -4096", "block_size: 0", "block_size: 4097", "block_size: 67112960",
        "block_size: 18446744073709551616", "chunk_size: 0", "chunk_size: -1",
        "chunk_size: 4294967296", "max_cache_size_gb: 0", "max_cache_size_gb: -1",
        "max_cache_size_gb: inf", "min_free_gb: -1", "max_write_gb_per_day: -2",
        "max_write_gb_per_day: -0.5", "io_depth: 0", "max_concurrent_ops: 0", "load_deadline_s: 0",
        "save_deadline_s: -1", "max_load_gb_in_flight: 0"}) {
    const std::string key{line, std::string_view{line}.find(':')};
    const std::string message = refusal_of(line);
    EXPECT_NE(message.find(key + ": "), std::string::npos) << line << " -> " << message;
    EXPECT_NE(message.find(" is not accepted; expected "), std::string::npos)
        << line << " -> " << message;
  }
}

TEST(Config, WhatIsNotBuiltIsRefusedWithWhatToUse) {
  EXPECT_EQ(refusal_of("backend: remote"),
            "backend: remote is not built yet; use gds, or a list that has gds or local");
}

TEST(Config, UnknownChoicesNameTheKnownOnes) {
  EXPECT_EQ(refusal_of("backend: disk"),
            "backend: \"disk\" is not accepted; expected one of gds, local, remote, or "
            "package.module:Class");
  EXPECT_EQ(refusal_of("io_engine: aio"),
            "gds_config.io_engine: \"aio\" is not accepted; expected one of auto, uring, posix");
  EXPECT_EQ(refusal_of("eviction_policy: fifo"),
            "gds_config.eviction_policy: \"fifo\" is not accepted; expected lru");
  EXPECT_EQ(refusal_of("log_level: loud").find("log_level: \"loud\""), 0u);
}

TEST(Config, TiersStandFromFastToSlow) {
  const auto tiers = [](const std::string& text, const Variables& variables = {}) {
    auto config = load_text(text, variables);
    EXPECT_TRUE(config) << config.error().message;
    return config ? config->backend : std::vector<std::string>{};
  };
  const std::vector<std::string> both{"local", "gds"};
  EXPECT_EQ(tiers("cache_dir: /d\nbackend: [local, gds]"), both);
  EXPECT_EQ(tiers("cache_dir: /d", {{"PENSTOCK_BACKEND", "local,gds"}}), both);
  EXPECT_EQ(tiers("backend: local"), std::vector<std::string>{"local"});  // needs no drive
  const std::vector<std::string> all{"local", "gds", "remote", "my.module:Mine", "my.module:Other"};
  EXPECT_EQ(tiers("cache_dir: /d\nbackend: [local, gds, remote, my.module:Mine, my.module:Other]"),
            all);
  for (const char* wrong : {"[gds, local]", "[gds, gds]", "[local, local]", "[]", "[remote, gds]",
                            "[m:C, gds]", "[gds, m:C, m:C]"})
    EXPECT_EQ(refusal_of(std::string{"backend: "} + wrong),
              std::string{"backend: "} + wrong +
                  " is not accepted; expected some of local, gds and remote in this order, each "
                  "once, and then any package.module:Class");
  EXPECT_EQ(refusal_of("backend: m:C"),
            "backend: m:C needs a store in front of it, such as [gds, m:C]");
  for (const char* no_class : {":C", "m:", ":"})
    EXPECT_NE(refusal_of(std::string{"backend: [gds, '"} + no_class + "']").find("expected one of"),
              std::string::npos);
}

TEST(Config, TheMemoryTierHasItsOwnKeys) {
  auto config = load_text("cache_dir: /d\nlocal_config:\n  max_cache_size_gb: 2",
                          {{"PENSTOCK_LOCAL_DIRECTORY", "/dev/shm/mine"}});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->local_config.directory, "/dev/shm/mine");
  EXPECT_EQ(config->local_config.max_cache_size_gb, 2);
  EXPECT_EQ(config->gds_config.max_cache_size_gb, GdsConfig{}.max_cache_size_gb);
  EXPECT_EQ(refusal_of("local_config:\n  max_cache_size_gb: -1")
                .find("local_config.max_cache_size_gb: -1 is not accepted; expected a number"),
            0u);
}

TEST(Config, CacheDirIsNeededAndNamed) {
  const std::string missing =
      "gds_config.cache_dir: missing; name the directory where the cache is kept";
  EXPECT_EQ(refusal(""), missing);
  EXPECT_EQ(refusal("cache_dir: []"), missing);
  EXPECT_EQ(refusal("cache_dir: ''"), "gds_config.cache_dir: an empty path; expected a directory");
  EXPECT_EQ(refusal("cache_dir: [/a, /a]"), "gds_config.cache_dir: /a is given twice");
}

TEST(Config, BadYamlNamesLineAndColumn) {
  EXPECT_EQ(refusal("cache_dir: /d\nchunk_size: [1, 2").find("line 2, column "), 0u);
  EXPECT_EQ(refusal("cache_dir: /d\n\tchunk_size: 1").find("line 2, column "), 0u);
  EXPECT_EQ(refusal("just text"), "line 1, column 1: expected keys and values");
  EXPECT_EQ(refusal("cache_dir: [[/d]]").find("line 1, column 13: cache_dir"), 0u);
  EXPECT_EQ(refusal("cache_dir: /d\n---\ncache_dir: /d"), "more than one YAML document");
}

TEST(Config, DuplicateKeysAreRefused) {
  EXPECT_EQ(refusal("cache_dir: /a\ncache_dir: /b"), "line 2, column 1: cache_dir: given twice");
  EXPECT_EQ(refusal("cache_dir: /a\ngds_config:\n  cache_dir: /b"),
            "gds_config.cache_dir: given twice");
}

// Found by the property test below: yaml-cpp's LoadAll never came back from this.
TEST(Config, ATextWithoutEndIsRefused) {
  EXPECT_FALSE(refusal("!!int -1gds_config  - \t\t\xff[&a |]>[\xff"
                       "1e999cache_dircache_dir1e999-1[-1{"
                       "\"\n? 1e9991e999%")
                   .empty());
  EXPECT_FALSE(refusal("{  }-1*a/dcache_dir---\n? : \"|>&a {>\x01}\x01"
                       "cache_dir&a ]  ")
                   .empty());
}

TEST(Config, AliasesCannotBlowUp) {
  std::string text = "a0: &a0 {x: 1, y: 2}\n";
  for (int i = 1; i < 40; ++i) {
    const auto before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " {x: " + before +
            ", y: " + before + "}\n";
  }
  EXPECT_NE(refusal(text).find("too many keys or sections"), std::string::npos);
}

TEST(Config, FilesThatCannotBeReadAreNamed) {
  EXPECT_EQ(read_yaml("/no/such/file.yaml").error().message,
            "/no/such/file.yaml: No such file or directory");
  auto directory = read_yaml("/");
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().message.find("/: "), 0u);
}

TEST(Config, AnyTextIsAcceptedOrRefusedAndNeverThrows) {
  const bool held = rc::check("parse_yaml and load_config end in a value", [] {
    const auto words = *rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
        "cache_dir", "gds_config", ": ", "\n", "  ", "[", "]", "{", "}", "&a ", "*a", "- ", "/d",
        "\"", "1e999", "-1", "!!int ", "---\n", "\t", "? ", "\x01", "\xff", "|", ">", "%"));
    std::string text;
    for (const auto& word : words) text += word;
    auto config = load_text(text);
    if (!config) RC_ASSERT(!config.error().message.empty());
  });
  EXPECT_TRUE(held);
}

TEST(Config, TheDocumentIsTheGeneratedOne) {
  EXPECT_EQ(file("docs/CONFIGURATION.md"), configuration_document())
      << "run: penstock --help-config > docs/CONFIGURATION.md";
}

}  // namespace
}  // namespace penstock
