// penstock size: what a model's KV takes, and from which rate on restoring it is worth it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/kv_model.hpp"
#include "cli/table.hpp"

namespace penstock::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string model;
  std::string type = "auto";
  uint32_t tp = 1;
  uint32_t chunk = 256;
  double prefill = 0;  // tokens a second; 0: a table
};

const std::map<std::string, KvType> kTypes{
    {"auto", KvType::Auto}, {"bf16", KvType::Bf16}, {"fp8", KvType::Fp8}};
constexpr uint64_t kExampleTokens = 2048;
constexpr double kRates[] = {1'000, 3'000, 10'000, 30'000, 100'000};

double break_even_gbs(const Options& options, const KvModel& model, double tokens_per_s) {
  return tokens_per_s * static_cast<double>(model.total_bytes(options.tp)) / 1e9;
}

Json to_json(const Options& options, const KvModel& model) {
  const uint64_t total = model.total_bytes(options.tp);
  Json json = {{"model", options.model},
               {"model_type", model.type},
               {"kv_dtype", model.element},
               {"layers", model.layers},
               {"full_attention_layers", model.full_layers},
               {"sliding_window_layers", model.sliding_layers},
               {"sliding_window_tokens", model.window},
               {"recurrent_layers", model.recurrent_layers},
               {"latent", model.is_latent},
               {"kv_heads", model.kv_heads},
               {"head_dim", model.head_dim},
               {"tp", options.tp},
               {"bytes_per_token", total},
               {"bytes_per_token_per_rank", model.rank_bytes(options.tp)},
               {"sliding_window_bytes_per_token", model.total_sliding_bytes(options.tp)},
               {"tokens_per_tb", 1'000'000'000'000 / total},
               {"chunk_tokens", options.chunk},
               {"chunk_bytes", total * options.chunk},
               {"chunk_bytes_per_rank", model.rank_bytes(options.tp) * options.chunk},
               {"gb_of_2048_tokens", static_cast<double>(total * kExampleTokens) / 1e9},
               {"break_even", Json::array()},
               {"notes", model.notes}};
  const auto add = [&](double rate) {
    json["break_even"].push_back(
        {{"prefill_tokens_per_s", rate}, {"gbs", break_even_gbs(options, model, rate)}});
  };
  if (options.prefill > 0)
    add(options.prefill);
  else
    for (const double rate : kRates) add(rate);
  return json;
}

std::string describe(const KvModel& model) {
  std::string text =
      model.is_latent
          ? fmt::format("a latent vector of {} {}", model.head_dim, model.element)
          : fmt::format("{} KV heads of {} {}", model.kv_heads, model.head_dim, model.element);
  text += fmt::format(" in {} layers", model.full_layers + model.sliding_layers);
  if (model.sliding_layers > 0)
    text +=
        fmt::format(", {} of them with a window of {} tokens", model.sliding_layers, model.window);
  return text;
}

void print(const Options& options, const KvModel& model, const Json& json) {
  const auto line = [](const char* name, const std::string& value) {
    fmt::print("{:<18} {}\n", name, value);
  };
  const auto whole = [&json](const char* key) { return json.at(key).get<uint64_t>(); };
  line("model",
       fmt::format("{}: {}", model.type.empty() ? options.model : model.type, describe(model)));
  line("bytes a token", fmt::format("{}", whole("bytes_per_token")));
  if (options.tp > 1)
    line("of each rank", fmt::format("{}{}", whole("bytes_per_token_per_rank"),
                                     model.is_latent ? ", the same in all; saved once" : ""));
  if (model.sliding_layers > 0)
    line("of it windows", fmt::format("{}, of which a restore needs the last {} tokens only",
                                      whole("sliding_window_bytes_per_token"), model.window));
  line("tokens a TB", fmt::format("{}", whole("tokens_per_tb")));
  line(fmt::format("chunk of {}", options.chunk).c_str(),
       fmt::format("{} ({})", whole("chunk_bytes"), format_bytes(whole("chunk_bytes"))));
  line("2048 tokens", fmt::format("{:.3f} GB", json.at("gb_of_2048_tokens").get<double>()));
  for (const std::string& note : model.notes) line("note", note);
  fmt::print("\nRestoring is sooner than computing above\n\n");
  Table table{{"prefill, tokens/s", "GB/s"}};
  for (const Json& row : json.at("break_even"))
    table.add({fmt::format("{:.0f}", row.at("prefill_tokens_per_s").get<double>()),
               fmt::format("{:.2f}", row.at("gbs").get<double>())});
  fmt::print("{}", table.text());
}

int run(const Options& options) {
  const auto model = KvModel::read(options.model, kTypes.at(options.type));
  if (!model) return could_not_run(model.error());
  if (!model->can_split(options.tp))
    return could_not_run(fmt::format("--tp {}: the model has {} KV heads, which it does not divide",
                                     options.tp, model->kv_heads));
  const Json json = to_json(options, *model);
  print(options, *model, json);
  return write_json(options.common, json, kGood);
}

}  // namespace

void add_size(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("size", "Say what a model's KV takes");
  command->footer(
      "Reads a model's config.json, as Hugging Face has it; no weights are needed. Bytes a token "
      "are\n"
      "those of all ranks together. The break-even is prefill rate times bytes a token: what the\n"
      "drives must give, all ranks of a replica together, for a hit to be sooner than computing. "
      "Give\n"
      "the rate of your engine, prompt tokens a second of one replica; as a measure, an H100 "
      "computes\n"
      "an 8B model at about 27000 and one of eight that share a 70B model at about 3300 (8k "
      "prompts,\n"
      "half of the bf16 peak).\n"
      "\n"
      "Examples:\n"
      "  penstock size --model Llama-3.1-8B/config.json\n"
      "  penstock size --model config.json --tp 8 --kv-dtype fp8 --prefill-tokens-per-s 26000\n"
      "\n"
      "Exit code: 0 computed, 2 could not run (the config is not understood: it says which key).");
  command->add_option("--model", options->model, "The model's config.json")
      ->required()
      ->type_name("FILE");
  command->add_option("--tp", options->tp, "Tensor parallel ranks")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--kv-dtype", options->type, "auto is the model's own")
      ->check(CLI::IsMember(&kTypes))
      ->capture_default_str()
      ->type_name("TYPE");
  command->add_option("--chunk", options->chunk, "Tokens of a chunk (chunk_size)")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--prefill-tokens-per-s", options->prefill,
                   "What the engine computes; left out: a table")
      ->check(CLI::Range(1e-3, 1e12))
      ->type_name("X");
  options->common.add_json(*command);
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace penstock::cli
