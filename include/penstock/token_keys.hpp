// token_keys: the chain of keys of a prompt, made from its token ids, for engines that have no
// block hashes of their own.
//
// Everything that KV depends on besides the model is in the chain: the tokens, a cache salt, a LoRA
// adapter, what stands behind the placeholders of images and sounds. docs/FORMAT.md gives the
// bytes, tests/golden/keys examples. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "penstock/key.hpp"
#include "penstock/status.hpp"

namespace penstock {

// An image, a sound, ...: its placeholder tokens say nothing about what it is.
struct MultimodalItem {
  uint64_t offset = 0;     // of its first placeholder among the tokens
  uint64_t length = 0;     // placeholders
  std::string identifier;  // names its contents, such as a hash of them
};

struct TokenExtras {
  std::string cache_salt;             // prompts with different salts share nothing
  std::string lora;                   // names an adapter and its weights; empty: none
  std::vector<MultimodalItem> items;  // in any order
};

// One key for each whole chunk of `tokens`; what is left behind the last one has none. Invalid: no
// chunk size, an item without length or identifier or beyond all tokens, a text of 4 GiB.
Result<std::vector<Key>> token_keys(std::span<const uint32_t> tokens, uint32_t chunk_size,
                                    const TokenExtras& extras = {});

}  // namespace penstock
