#include <gtest/gtest.h>

#include "cli/kv_model.hpp"

namespace penstock::cli {
namespace {

using Config = nlohmann::json;

// The keys that matter of what the models' makers published.
const Config kLlama8B = {{"model_type", "llama"},    {"hidden_size", 4096},
                         {"num_hidden_layers", 32},  {"num_attention_heads", 32},
                         {"num_key_value_heads", 8}, {"torch_dtype", "bfloat16"}};
const Config kLlama70B = {{"model_type", "llama"},    {"hidden_size", 8192},
                          {"num_hidden_layers", 80},  {"num_attention_heads", 64},
                          {"num_key_value_heads", 8}, {"torch_dtype", "bfloat16"}};
const Config kQwen3_30B = {
    {"model_type", "qwen3_moe"}, {"hidden_size", 2048},         {"num_hidden_layers", 48},
    {"num_attention_heads", 32}, {"num_key_value_heads", 4},    {"head_dim", 128},
    {"sliding_window", nullptr}, {"use_sliding_window", false}, {"torch_dtype", "bfloat16"}};
const Config kDeepSeekV3 = {
    {"model_type", "deepseek_v3"}, {"hidden_size", 7168},        {"num_hidden_layers", 61},
    {"num_attention_heads", 128},  {"num_key_value_heads", 128}, {"kv_lora_rank", 512},
    {"qk_rope_head_dim", 64},      {"v_head_dim", 128},          {"torch_dtype", "bfloat16"}};

KvModel model_of(const Config& config, KvType type = KvType::Auto) {
  const auto model = KvModel::parse(config, type, "config.json");
  EXPECT_TRUE(model) << (model ? "" : model.error().message);
  return model ? *model : KvModel{};
}

Config with(Config config, const char* key, Config value) {
  config[key] = std::move(value);
  return config;
}

Config without(Config config, const char* key) {
  config.erase(key);
  return config;
}

std::string error_of(const Config& config) {
  const auto model = KvModel::parse(config, KvType::Auto, "config.json");
  return model ? "" : model.error().message;
}

TEST(KvModel, BytesATokenOfModelsThatAreInUse) {
  EXPECT_EQ(model_of(kLlama8B).total_bytes(1), 131'072u);
  EXPECT_EQ(model_of(kLlama8B, KvType::Fp8).total_bytes(1), 65'536u);
  EXPECT_EQ(model_of(kLlama70B).total_bytes(1), 327'680u);
  EXPECT_EQ(model_of(kLlama70B).total_bytes(1) * 2048, 671'088'640u);
  EXPECT_EQ(model_of(kQwen3_30B).total_bytes(1), 98'304u);
  EXPECT_EQ(model_of(without(kLlama8B, "num_key_value_heads")).total_bytes(1), 524'288u);
  EXPECT_EQ(model_of(kDeepSeekV3).total_bytes(1), 576u * 2 * 61);
  EXPECT_EQ(model_of(with(kDeepSeekV3, "index_head_dim", 128)).total_bytes(1),
            (576u * 2 + 132) * 61);
}

TEST(KvModel, RanksShareTheHeadsOrHoldThemTwice) {
  const KvModel llama = model_of(kLlama70B);
  EXPECT_EQ(llama.rank_bytes(8), 40'960u);
  EXPECT_EQ(llama.total_bytes(8), 327'680u);
  EXPECT_EQ(llama.rank_bytes(16), 40'960u);
  EXPECT_EQ(llama.total_bytes(16), 655'360u);
  EXPECT_TRUE(llama.can_split(2) && llama.can_split(16));
  EXPECT_FALSE(llama.can_split(3) || llama.can_split(12));
  const KvModel deepseek = model_of(kDeepSeekV3);
  EXPECT_EQ(deepseek.rank_bytes(8), deepseek.total_bytes(8)) << "saved once";
  EXPECT_TRUE(deepseek.can_split(3));
}

TEST(KvModel, SlidingWindowsAreToldApart) {
  Config types = Config::array();
  for (int i = 0; i < 36; ++i) types.push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
  const KvModel oss = model_of({{"model_type", "gpt_oss"},
                                {"num_hidden_layers", 36},
                                {"num_attention_heads", 64},
                                {"num_key_value_heads", 8},
                                {"head_dim", 64},
                                {"sliding_window", 128},
                                {"layer_types", types}});
  EXPECT_EQ(oss.total_bytes(1), 73'728u);
  EXPECT_EQ(oss.total_sliding_bytes(1), 36'864u);
  EXPECT_EQ(oss.window, 128u);

  const Config windowed = with(kLlama8B, "sliding_window", 4096);
  EXPECT_EQ(model_of(windowed).sliding_layers, 32u) << "Mistral 7B v0.1: all of them";
  EXPECT_EQ(model_of(with(windowed, "use_sliding_window", false)).sliding_layers, 0u);
  EXPECT_EQ(model_of(with(windowed, "model_type", "gemma2")).sliding_layers, 16u);
  EXPECT_EQ(model_of(with(windowed, "sliding_window_pattern", 4)).full_layers, 8u);
  const Config qwen = with(with(windowed, "use_sliding_window", true), "max_window_layers", 28);
  EXPECT_EQ(model_of(qwen).full_layers, 28u);
  EXPECT_EQ(model_of(qwen).sliding_layers, 4u);
}

TEST(KvModel, RecurrentLayersAreLeftOutAndSaid) {
  const KvModel model = model_of(with(kQwen3_30B, "full_attention_interval", 4));
  EXPECT_EQ(model.full_layers, 12u);
  EXPECT_EQ(model.recurrent_layers, 36u);
  EXPECT_EQ(model.total_bytes(1), 98'304u / 4);
  EXPECT_EQ(model.notes.size(), 1u);
}

TEST(KvModel, ALanguageModelInsideALargerOne) {
  Config outer = {{"model_type", "gemma3"}, {"torch_dtype", "float16"}};
  outer["text_config"] = without(kLlama8B, "torch_dtype");
  const KvModel model = model_of(outer);
  EXPECT_EQ(model.total_bytes(1), 131'072u);
  EXPECT_EQ(model.element, "fp16");
}

TEST(KvModel, WhatIsMissingOrNotUnderstoodIsNamed) {
  const auto says = [](const Config& config, const std::string& words) {
    const std::string message = error_of(config);
    EXPECT_NE(message.find(words), std::string::npos) << message << " | " << words;
  };
  says(without(kLlama8B, "num_hidden_layers"), "config.json: num_hidden_layers is missing");
  says(without(kLlama8B, "num_attention_heads"), "num_attention_heads is missing");
  says(without(kLlama8B, "hidden_size"), "head_dim and hidden_size are missing");
  says(without(kDeepSeekV3, "qk_rope_head_dim"), "qk_rope_head_dim is missing");
  says(with(kLlama8B, "num_key_value_heads", "8"), "num_key_value_heads is \"8\"");
  says(with(kLlama8B, "num_hidden_layers", -3), "num_hidden_layers is -3");
  says(with(kLlama8B, "num_hidden_layers", 0), "num_hidden_layers is 0");
  says(with(kLlama8B, "hidden_size", 4097), "hidden_size 4097");
  says(with(kLlama8B, "torch_dtype", "int3"), "int3");
  says(with(kLlama8B, "layer_types", Config::array({"full_attention"})), "list of 32 names");
  says(with(kLlama8B, "layer_types", Config(std::vector<std::string>(32, "mamba"))), "\"mamba\"");
  says(with(kLlama8B, "layer_types", Config(std::vector<std::string>(32, "sliding_attention"))),
       "sliding_window is missing");
  says(with(kLlama8B, "compress_ratios", Config::array({4})), "compress_ratios");
  says(with(kLlama8B, "num_kv_shared_layers", 4), "num_kv_shared_layers");
  says(with(kLlama8B, "is_encoder_decoder", true), "is_encoder_decoder");
  says(Config::array(), "not a JSON object");
  says({{"text_config", Config::object()}}, "text_config: num_hidden_layers is missing");
}

}  // namespace
}  // namespace penstock::cli
