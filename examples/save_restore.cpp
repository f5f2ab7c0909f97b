// Saves a buffer as one chunk of KV, wipes it, and restores it. Usage: example_save_restore DIR
#include <cstdio>
#include <cstring>
#include <vector>

#include "penstock/engine.hpp"

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIR\n", argv[0]);
    return 2;
  }
  penstock::Config config;
  config.gds_config.cache_dir = {argv[1]};
  config.gds_config.max_cache_size_gb = 1;

  // One layer of 16 pages of 64 KiB; a chunk takes all 16 rows.
  constexpr size_t kPages = 16, kPageBytes = 65536;
  std::vector<char> memory(kPages * kPageBytes, 'k');
  penstock::GroupLayout layout;
  layout.rows_per_chunk = kPages;
  layout.regions.push_back(
      {reinterpret_cast<uint64_t>(memory.data()), kPages, kPageBytes, kPageBytes, 0});

  auto engine = penstock::Engine::open(config, {layout});
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message.c_str());
    return 2;
  }
  penstock::NamespaceSpec spec;
  spec.description = R"({"example": "save_restore"})";
  auto ns = (*engine)->open_namespace(spec);
  if (!ns) return 2;

  penstock::JobRequest request;
  request.namespace_id = *ns;
  penstock::JobChunk chunk;
  chunk.key.bytes[0] = 1;  // in real use: a hash of the prefix
  request.chunks.push_back(chunk);
  for (size_t row = 0; row < kPages; ++row) request.rows.push_back(static_cast<int32_t>(row));

  for (const auto kind : {penstock::JobKind::Save, penstock::JobKind::Load}) {
    request.kind = kind;
    if (!(*engine)->submit(request) || !(*engine)->wait(30s)) return 2;
    const auto result = (*engine)->poll().at(0);
    std::printf("%s: %s, %llu bytes, %.3f ms\n", kind == penstock::JobKind::Save ? "save" : "load",
                penstock::to_string(result.status).data(),
                static_cast<unsigned long long>(result.bytes), result.seconds * 1e3);
    if (kind == penstock::JobKind::Save) std::memset(memory.data(), 0, memory.size());
  }
  for (char byte : memory)
    if (byte != 'k') return 1;
  std::puts("every byte is back");
  return 0;
}
