// What `penstock demo` saves: a text, its tokens, the keys of their chunks, and for each chunk the
// KV bytes that a model of Llama-3.1-8B's geometry would have. Both processes of the demo make it
// from the same text. A value; pure but for reading the text file.
#pragma once

#include <string>
#include <vector>

#include "cli/pages.hpp"
#include "penstock/engine.hpp"

namespace penstock::cli {

inline constexpr uint32_t kDemoChunkTokens = 256;
inline constexpr uint32_t kDemoChunksPerJob = 4;   // 128 MiB
inline constexpr uint32_t kDemoWindowChunks = 32;  // held in memory at a time: 1 GiB

// 32 layers, 8 KV heads of 128 bf16 values, pages of 16 tokens with K and V together: 64 KiB.
inline constexpr Geometry kDemoGeometry{
    .layers = 32, .page_bytes = uint64_t{2} * 16 * 8 * 128 * 2, .rows_per_chunk = 16};

struct DemoKv {
  std::vector<JobChunk> chunks;
  uint64_t text_tokens = 0;  // of the text alone; it is repeated as often as needed
  uint64_t tokens() const noexcept { return chunks.size() * kDemoChunkTokens; }
  uint64_t bytes() const noexcept { return chunks.size() * kDemoGeometry.chunk_bytes(); }

  // `text_path` empty: the text that ships. Tokens beyond the last full chunk are left out.
  static Result<DemoKv> make(const std::string& text_path, uint64_t tokens);
};

NamespaceSpec demo_namespace();

// Chunks [first, first + count), as jobs.
std::vector<std::vector<JobChunk>> demo_jobs(const DemoKv& kv, size_t first, size_t count);
// Writes or checks the pages of chunks [first, first + count), which lie in `rows` of `pages` one
// after the other. demo_wrong_bytes returns how many bytes differ.
void demo_fill(const DemoKv& kv, size_t first, size_t count, std::span<const int32_t> rows,
               const PageMemory& pages);
uint64_t demo_wrong_bytes(const DemoKv& kv, size_t first, size_t count,
                          std::span<const int32_t> rows, const PageMemory& pages);

}  // namespace penstock::cli
