// KvModel: what one token of a model takes in the KV cache, read from its Hugging Face config.json.
//
// Understood: multi-head, grouped and multi-query attention (num_key_value_heads), with sliding
// window layers among them; multi-head latent attention (kv_lora_rank), with DeepSeek-V3.2's index;
// a language model inside a larger one (text_config). Whatever else is in the config may not change
// the size; keys that are known to change it in another way are refused by name, as is a key that
// is missing. A value; pure but for reading the file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "penstock/status.hpp"

namespace penstock::cli {

enum class KvType : uint8_t { Auto, Bf16, Fp8 };  // Auto: the model's own

struct KvModel {
  std::string type;  // model_type
  uint32_t layers = 0;
  uint32_t full_layers = 0;       // keep every token
  uint32_t sliding_layers = 0;    // need the last `window` tokens
  uint32_t recurrent_layers = 0;  // keep a state of fixed size, which is not counted
  uint64_t window = 0;
  bool is_latent = false;    // one vector a layer, the same in every rank
  uint32_t kv_heads = 0;     // 1 if latent
  uint32_t head_dim = 0;     // of keys; the latent vector's length
  uint32_t index_bytes = 0;  // a layer and token, beside the latent vector
  uint32_t element_bytes = 0;
  std::string element;  // "bf16"
  std::vector<std::string> notes;

  // Of one token. `tp` divides the heads or is a multiple of them (see can_split).
  uint64_t layer_bytes(uint32_t tp) const noexcept;  // in one rank
  uint64_t rank_bytes(uint32_t tp) const noexcept;
  uint64_t total_bytes(uint32_t tp) const noexcept;          // what all ranks together save
  uint64_t total_sliding_bytes(uint32_t tp) const noexcept;  // of these, sliding window layers
  bool can_split(uint32_t tp) const noexcept;

  // Invalid: says which key is missing or not understood. `where` begins the sentence.
  static Result<KvModel> parse(const nlohmann::json& config, KvType type, const std::string& where);
  static Result<KvModel> read(const std::string& path, KvType type);
};

}  // namespace penstock::cli
