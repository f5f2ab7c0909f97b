#include "cli/kv_model.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

namespace penstock::cli {
namespace {

using Config = nlohmann::json;

constexpr uint64_t kMost = 1 << 24;      // of any count or length
constexpr uint64_t kIndexScaleOf = 128;  // values of an index key that share a scale of 4 bytes

// Keys that say that the cache has another shape than is computed here.
constexpr const char* kRefused[] = {
    "compress_ratios", "hybrid_override_pattern", "layers_block_type", "attn_layer_period",
    "mamba_d_state",   "ssm_state_size",          "state_size",        "global_head_dim"};

bool has(const Config& config, const char* key) {
  return config.contains(key) && !config[key].is_null();
}

class Reader {
 public:
  Reader(const Config& config, KvType type, std::string where)
      : config_{config}, type_{type}, where_{std::move(where)} {}

  Result<KvModel> read();

 private:
  Error error(const std::string& what) const {
    return Error{Status::Invalid, fmt::format("{}: {}", where_, what)};
  }
  // A whole number from 1 on, or `otherwise`; the first failure is kept.
  uint64_t number(const char* key, std::optional<uint64_t> otherwise = std::nullopt) {
    if (!has(config_, key)) {
      if (!otherwise) fail(fmt::format("{} is missing", key));
      return otherwise.value_or(1);
    }
    const Config& value = config_[key];
    if (!value.is_number_integer() || value < 1 || value > kMost) {
      fail(fmt::format("{} is {}, not a whole number from 1 on", key, value.dump()));
      return 1;
    }
    return value.get<uint64_t>();
  }
  uint32_t count(const char* key, std::optional<uint64_t> otherwise = std::nullopt) {
    return static_cast<uint32_t>(number(key, otherwise));
  }
  bool flag(const char* key, bool otherwise) const {
    return has(config_, key) && config_[key].is_boolean() ? config_[key].get<bool>() : otherwise;
  }
  void fail(const std::string& what) {
    if (!failure_) failure_ = error(what);
  }

  void read_element();
  void read_layers();
  void read_layer_types();
  void read_patterns();
  void read_heads();
  void read_latent();

  const Config& config_;
  KvType type_;
  std::string where_;
  KvModel model_;
  std::optional<Error> failure_;
};

Result<KvModel> Reader::read() {
  for (const char* key : kRefused)
    if (has(config_, key)) return error(fmt::format("{} is not understood", key));
  if (flag("is_encoder_decoder", false)) return error("is_encoder_decoder is not understood");
  if (has(config_, "model_type") && config_["model_type"].is_string())
    model_.type = config_["model_type"].get<std::string>();
  read_element();
  read_layers();
  if (has(config_, "kv_lora_rank"))
    read_latent();
  else
    read_heads();
  if (failure_) return *failure_;
  if (model_.full_layers + model_.sliding_layers == 0)
    return error("no layer keeps keys and values");
  return std::move(model_);
}

void Reader::read_element() {
  std::string own = "bfloat16";
  bool is_said = false;
  for (const char* key : {"dtype", "torch_dtype"})
    if (!is_said && has(config_, key)) {
      if (!config_[key].is_string()) return fail(fmt::format("{} is not a name", key));
      own = config_[key].get<std::string>();
      is_said = true;
    }
  model_.element_bytes = 2;
  if (type_ == KvType::Fp8) {
    model_.element = "fp8";
    model_.element_bytes = 1;
  } else if (type_ == KvType::Bf16 || own == "bfloat16") {
    model_.element = "bf16";
  } else if (own == "float16") {
    model_.element = "fp16";
  } else if (own == "float32") {
    model_.element = "bf16";
    model_.notes.push_back("float32 weights: engines run them, and their cache, in 16 bits");
  } else {
    fail(fmt::format("dtype {} is not understood; give --kv-dtype", own));
  }
  if (type_ == KvType::Auto && !is_said)
    model_.notes.push_back("dtype is not said: 16 bits are assumed");
}

void Reader::read_layers() {
  model_.layers = count("num_hidden_layers");
  const Config* shared =
      config_.contains("num_kv_shared_layers") ? &config_["num_kv_shared_layers"] : nullptr;
  if (shared && *shared != 0 && !shared->is_null()) fail("num_kv_shared_layers is not understood");
  if (has(config_, "layer_types"))
    read_layer_types();
  else
    read_patterns();
  if (model_.sliding_layers > 0) {
    model_.window = number("sliding_window", has(config_, "attention_chunk_size")
                                                 ? std::optional{number("attention_chunk_size")}
                                                 : std::nullopt);
  }
  if (model_.recurrent_layers > 0)
    model_.notes.push_back(
        fmt::format("{} layers keep a recurrent state, which is not counted, and which Penstock "
                    "does not save yet",
                    model_.recurrent_layers));
}

void Reader::read_layer_types() {
  const Config& types = config_["layer_types"];
  if (!types.is_array() || types.size() != model_.layers)
    return fail(fmt::format("layer_types is not a list of {} names", model_.layers));
  for (const Config& type : types) {
    if (type == "full_attention" || type == "attention")
      ++model_.full_layers;
    else if (type == "sliding_attention" || type == "chunked_attention")
      ++model_.sliding_layers;
    else if (type == "linear_attention")
      ++model_.recurrent_layers;
    else
      return fail(fmt::format("layer_types: {} is not understood", type.dump()));
  }
}

// Configs that were written before layer_types.
void Reader::read_patterns() {
  const uint32_t layers = model_.layers;
  const bool slides = has(config_, "sliding_window") && flag("use_sliding_window", true);
  if (has(config_, "full_attention_interval")) {
    model_.full_layers = layers / count("full_attention_interval");
    model_.recurrent_layers = layers - model_.full_layers;
  } else if (!slides) {
    model_.full_layers = layers;
  } else if (has(config_, "sliding_window_pattern")) {
    model_.full_layers = layers / count("sliding_window_pattern");
  } else if (model_.type == "gemma2") {
    model_.full_layers = layers / 2;
  } else if (model_.type == "gemma3" || model_.type == "gemma3_text") {
    model_.full_layers = layers / 6;
  } else if (flag("use_sliding_window", false)) {  // Qwen: the layers after these
    model_.full_layers = std::min(layers, count("max_window_layers"));
  }
  model_.sliding_layers = layers - model_.full_layers - model_.recurrent_layers;
}

void Reader::read_heads() {
  const uint32_t heads = count("num_attention_heads");
  model_.kv_heads = count("num_key_value_heads", heads);
  if (has(config_, "head_dim")) {
    model_.head_dim = count("head_dim");
  } else {
    if (!has(config_, "hidden_size")) return fail("head_dim and hidden_size are missing");
    const uint32_t hidden = count("hidden_size");
    if (hidden % heads != 0)
      return fail(
          fmt::format("head_dim is missing, and hidden_size {} is not a multiple of "
                      "num_attention_heads {}",
                      hidden, heads));
    model_.head_dim = hidden / heads;
  }
  if (has(config_, "v_head_dim") && count("v_head_dim") != model_.head_dim)
    fail("v_head_dim other than head_dim is not understood");
}

void Reader::read_latent() {
  model_.is_latent = true;
  model_.kv_heads = 1;
  model_.head_dim = count("kv_lora_rank") + count("qk_rope_head_dim");
  if (has(config_, "index_head_dim")) {
    const uint64_t values = number("index_head_dim");
    model_.index_bytes = static_cast<uint32_t>(values + values / kIndexScaleOf * 4);
    model_.notes.push_back(
        fmt::format("the index of the sparse attention takes {} of it a layer, in fp8 as vLLM has "
                    "it",
                    model_.index_bytes));
  }
}

}  // namespace

uint64_t KvModel::layer_bytes(uint32_t tp) const noexcept {
  if (is_latent) return uint64_t{head_dim} * element_bytes + index_bytes;
  return uint64_t{2} * std::max(kv_heads / tp, 1u) * head_dim * element_bytes;
}

uint64_t KvModel::rank_bytes(uint32_t tp) const noexcept {
  return layer_bytes(tp) * (full_layers + sliding_layers);
}

uint64_t KvModel::total_bytes(uint32_t tp) const noexcept {
  return rank_bytes(tp) * (is_latent ? 1 : tp);
}

uint64_t KvModel::total_sliding_bytes(uint32_t tp) const noexcept {
  return layer_bytes(tp) * sliding_layers * (is_latent ? 1 : tp);
}

bool KvModel::can_split(uint32_t tp) const noexcept {
  return tp > 0 && (is_latent || kv_heads % tp == 0 || tp % kv_heads == 0);
}

Result<KvModel> KvModel::parse(const Config& config, KvType type, const std::string& where) {
  if (!config.is_object())
    return Error{Status::Invalid, fmt::format("{}: it is not a JSON object", where)};
  if (!has(config, "text_config")) return Reader{config, type, where}.read();
  if (!config["text_config"].is_object())
    return Error{Status::Invalid, fmt::format("{}: text_config is not an object", where)};
  Config text = config["text_config"];
  for (const char* key : {"dtype", "torch_dtype"})  // often said once, outside
    if (has(config, key) && !has(text, key)) text[key] = config[key];
  return Reader{text, type, where + ": text_config"}.read();
}

Result<KvModel> KvModel::read(const std::string& path, KvType type) {
  if (std::filesystem::is_directory(path))
    return Error{Status::Invalid,
                 fmt::format("{0}: a directory; name a file, such as {0}/config.json", path)};
  std::ifstream file{path, std::ios::binary};
  if (!file) return Error{Status::NotFound, fmt::format("{}: {}", path, std::strerror(errno))};
  const Config config = Config::parse(file, nullptr, false);
  if (config.is_discarded()) return Error{Status::Invalid, fmt::format("{}: it is not JSON", path)};
  return parse(config, type, path);
}

}  // namespace penstock::cli
