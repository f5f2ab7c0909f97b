#include "cli/demo_kv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/sha256.hpp"
#include "cli/command.hpp"
#include "cli/demo_text.hpp"
#include "cli/kv_pattern.hpp"
#include "key/identity.hpp"

namespace penstock::cli {
namespace {

constexpr size_t kMaxText = 64 * 1024 * 1024;

// Words and single marks; an id is a hash of the word, within Llama's vocabulary. Not a model's
// tokens, but ids of a text all the same: they repeat as words do.
std::vector<uint32_t> tokenize(std::string_view text) {
  constexpr uint32_t kVocabulary = 128'256;
  std::vector<uint32_t> tokens;
  uint32_t hash = 0;
  const auto end_word = [&] {
    if (hash != 0) tokens.push_back(hash % kVocabulary);
    hash = 0;
  };
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    const bool in_word = std::isalnum(byte) != 0 || byte >= 0x80;
    if (!in_word) end_word();
    if (std::isspace(byte) != 0) continue;
    hash = ((hash == 0 ? 2166136261u : hash) ^ byte) * 16777619u;  // FNV-1a
    if (!in_word) end_word();
  }
  end_word();
  return tokens;
}

Result<std::string> read_text(const std::string& path) {
  if (path.empty()) return std::string{kDemoText};
  std::ifstream file{path, std::ios::binary};
  if (!file) return Error{Status::Invalid, fmt::format("{}: {}", path, std::strerror(errno))};
  std::string text(kMaxText, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof()))
    return Error{Status::Invalid, fmt::format("{}: cannot be read", path)};
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

// Calls visit(page, key, layer, index) for each page of the chunks.
template <typename Visit>
void for_each_page(const DemoKv& kv, size_t first, size_t count, std::span<const int32_t> rows,
                   const PageMemory& pages, Visit&& visit) {
  for (size_t i = 0; i < count; ++i)
    for (uint32_t layer = 0; layer < kDemoGeometry.layers; ++layer)
      for (uint32_t index = 0; index < kDemoGeometry.rows_per_chunk; ++index)
        visit(pages.page(layer, rows[i * kDemoGeometry.rows_per_chunk + index]),
              kv.chunks[first + i].key, layer, index);
}

}  // namespace

Result<DemoKv> DemoKv::make(const std::string& text_path, uint64_t tokens) {
  const auto text = read_text(text_path);
  if (!text) return text.error();
  const std::vector<uint32_t> ids = tokenize(*text);
  if (ids.empty()) return Error{Status::Invalid, fmt::format("{}: no words in it", text_path)};
  DemoKv kv;
  kv.text_tokens = ids.size();
  Key parent;
  std::vector<uint32_t> chunk(kDemoChunkTokens);
  for (uint64_t begin = 0; begin + kDemoChunkTokens <= tokens; begin += kDemoChunkTokens) {
    for (uint32_t i = 0; i < kDemoChunkTokens; ++i) chunk[i] = ids[(begin + i) % ids.size()];
    const Key key = chain_key(parent, chunk.data(), chunk.size());
    kv.chunks.push_back({.key = key, .parent = parent});
    parent = key;
  }
  return kv;
}

NamespaceSpec demo_namespace() {
  NamespaceSpec spec;
  spec.description = Json{
      {"model", "penstock demo, Llama-3.1-8B geometry"},
      {"dtype", "bfloat16"},
      {"layers", kDemoGeometry.layers},
      {"page_bytes", kDemoGeometry.page_bytes},
      {"chunk_size",
       kDemoChunkTokens}}.dump();
  spec.digest.bytes = sha256({std::as_bytes(std::span{spec.description})});
  return spec;
}

std::vector<std::vector<JobChunk>> demo_jobs(const DemoKv& kv, size_t first, size_t count) {
  std::vector<std::vector<JobChunk>> jobs;
  for (size_t done = 0; done < count; done += kDemoChunksPerJob) {
    const auto begin = kv.chunks.begin() + static_cast<std::ptrdiff_t>(first + done);
    const size_t length = std::min<size_t>(kDemoChunksPerJob, count - done);
    jobs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(length));
  }
  return jobs;
}

void demo_fill(const DemoKv& kv, size_t first, size_t count, std::span<const int32_t> rows,
               const PageMemory& pages) {
  for_each_page(kv, first, count, rows, pages, fill_page);
}

uint64_t demo_wrong_bytes(const DemoKv& kv, size_t first, size_t count,
                          std::span<const int32_t> rows, const PageMemory& pages) {
  uint64_t wrong = 0;
  for_each_page(kv, first, count, rows, pages, [&wrong](auto page, const auto&... name) {
    wrong += count_wrong_bytes(page, name...);
  });
  return wrong;
}

}  // namespace penstock::cli
