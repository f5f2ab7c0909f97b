#include "penstock/token_keys.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "key/copy_checksum.hpp"

namespace penstock {
namespace {

using Json = nlohmann::json;

std::vector<std::string> hex_of(const std::vector<Key>& keys) {
  std::vector<std::string> texts;
  for (const Key& key : keys) texts.push_back(key.hex());
  return texts;
}

// The same file as tests/python/test_token_keys.py reads.
TEST(TokenKeys, TheVectors) {
  std::ifstream file{std::string{PENSTOCK_SOURCE_DIR} + "/tests/golden/keys/vectors.json"};
  const Json vectors = Json::parse(file);
  EXPECT_GE(vectors.size(), 12u);
  for (const Json& vector : vectors) {
    TokenExtras extras{vector.value("cache_salt", ""), vector.value("lora", ""), {}};
    for (const Json& item : vector.value("items", Json::array()))
      extras.items.push_back({item[0], item[1], item[2]});
    const auto tokens = vector.at("tokens").get<std::vector<uint32_t>>();
    const auto keys = token_keys(tokens, vector.at("chunk_size").get<uint32_t>(), extras);
    ASSERT_TRUE(keys) << keys.error().message;
    EXPECT_EQ(hex_of(*keys), vector.at("keys").get<std::vector<std::string>>())
        << vector.at("about");
  }
}

TEST(TokenKeys, WithoutExtrasTheyAreTheChainOfChainKey) {
  const std::vector<uint32_t> tokens{1, 2, 3, 4, 5};
  const auto keys = token_keys(tokens, 2);
  ASSERT_TRUE(keys);
  const Key first = chain_key(Key{}, tokens.data(), 2);
  EXPECT_EQ(*keys, (std::vector<Key>{first, chain_key(first, tokens.data() + 2, 2)}));
}

TEST(TokenKeys, WhatMakesNoSenseIsRefused) {
  const std::vector<uint32_t> tokens{1, 2, 3};
  EXPECT_EQ(token_keys(tokens, 0).status(), Status::Invalid);
  for (const MultimodalItem& item :
       {MultimodalItem{0, 0, "x"}, MultimodalItem{0, 1, ""}, MultimodalItem{3, 1, "x"},
        MultimodalItem{2, 2, "x"}, MultimodalItem{1, UINT64_MAX, "x"}})
    EXPECT_EQ(token_keys(tokens, 1, {"", "", {item}}).status(), Status::Invalid);
}

// Copies that a user's backend keeps depend on this value.
TEST(CopyChecksum, GoldenValueAndEveryBit) {
  std::vector<std::byte> copy(2 * 1024 * 1024 + 1000);
  for (size_t i = 0; i < copy.size(); ++i) copy[i] = static_cast<std::byte>(i * 131 + i / 251);
  const Digest name_space{{1}};
  const CopyName name{Key{{2}}, 0, 3};
  const uint64_t right = copy_checksum(name_space, name, copy);
  EXPECT_EQ(right, 0xf8e6c0c2f7d63fd3u);
  for (size_t at = 0; at < copy.size(); at += 99'991) {
    copy[at] ^= std::byte{4};
    EXPECT_NE(copy_checksum(name_space, name, copy), right) << at;
    copy[at] ^= std::byte{4};
  }
  EXPECT_NE(copy_checksum(Digest{}, name, copy), right);
  EXPECT_NE(copy_checksum(name_space, {name.key, 0, 4}, copy), right);
  std::swap_ranges(copy.begin(), copy.begin() + 1024 * 1024, copy.begin() + 1024 * 1024);
  EXPECT_NE(copy_checksum(name_space, name, copy), right) << "pieces have places";
}

}  // namespace
}  // namespace penstock
