// What packing does to a prompt's load: KV from a file (bench/dump_kv.py), tiled to chunks of an 8B
// model's size, is saved and loaded through an engine, raw and packed. Prints what the wait for the
// KV of a prompt becomes, which is what it adds to the time to the first token.
//
//   packed_load_bench FILE DIRECTORY [CHUNKS]
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/sizes.hpp"
#include "io/open.hpp"
#include "io/raw_speed.hpp"
#include "penstock/engine.hpp"

namespace penstock {
namespace {

constexpr uint64_t kPage = 512 * 1024;  // 256 tokens of 8 heads of 128 numbers of bf16
constexpr uint32_t kRegions = 64;       // 32 layers, K and V
constexpr int kRounds = 5;

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Kv {
  std::vector<std::byte> memory;
  GroupLayout layout;

  Kv(const std::string& path, uint32_t chunks) : memory(kRegions * chunks * kPage) {
    std::ifstream file{path, std::ios::binary};
    std::vector<char> tile{std::istreambuf_iterator<char>{file}, {}};
    for (size_t at = 0; !tile.empty() && at < memory.size(); at += tile.size())
      std::memcpy(memory.data() + at, tile.data(), std::min(tile.size(), memory.size() - at));
    if (tile.empty()) memory.clear();
    layout.rows_per_chunk = 1;
    for (uint32_t i = 0; i < kRegions; ++i)
      layout.regions.push_back({reinterpret_cast<uint64_t>(memory.data() + i * chunks * kPage),
                                chunks, kPage, kPage, i / 2, 2});
  }
};

double run_job(Engine& engine, JobKind kind, NamespaceId ns, uint32_t chunks) {
  JobRequest request;
  request.kind = kind;
  request.namespace_id = ns;
  request.deadline = std::chrono::minutes{5};
  for (uint32_t i = 0; i < chunks; ++i) {
    JobChunk chunk;
    chunk.key.bytes[0] = static_cast<uint8_t>(i + 1);
    chunk.parent.bytes[0] = static_cast<uint8_t>(i);
    request.chunks.push_back(chunk);
    request.rows.push_back(static_cast<int32_t>(i));
  }
  if (!engine.submit(std::move(request)) || !engine.wait(std::chrono::minutes{6})) return -1;
  const JobResult result = engine.poll().front();
  return result.status == Status::Ok ? result.seconds : -1;
}

// What the drive gives of the same file, with nothing of Penstock in between; 0: it failed.
double raw_read_gbs(const std::string& path, uint64_t bytes) {
  const auto file = open_direct(path, O_RDONLY);
  if (!file) return 0;
  const RawRange range{file->fd.get(), 0, bytes / kSector * kSector};
  const auto speed = measure_raw_speed({&range, 1}, {});
  return speed ? speed->gb_per_s() : 0;
}

bool measure(Kv& kv, const std::string& directory, const char* algorithm, uint32_t chunks) {
  Config config;
  config.gds_config.cache_dir = {directory};
  config.gds_config.max_cache_size_gb = 8;
  config.gds_config.max_write_gb_per_day = 0;
  config.gds_config.min_free_gb = 0;
  config.gds_config.enable_compression = algorithm != nullptr;
  if (algorithm != nullptr) config.gds_config.compression_algo = algorithm;
  auto engine = Engine::open(config, {kv.layout});
  if (!engine) return false;
  const auto ns = (*engine)->open_namespace({});
  if (!ns) return false;
  const std::vector<std::byte> saved = kv.memory;
  const double gb = static_cast<double>(saved.size()) / 1e9;
  double cpu = cpu_seconds();
  const double save = run_job(**engine, JobKind::Save, *ns, chunks);
  const double save_cpu = cpu_seconds() - cpu;
  auto metrics = (*engine)->metrics();
  const double stored = (metrics["blocks_total"] - metrics["blocks_free"]) *
                        static_cast<double>((*engine)->block_size()) / 1e9;
  std::vector<double> loads;
  std::ranges::fill(kv.memory, std::byte{});
  cpu = cpu_seconds();
  for (int i = 0; i < kRounds; ++i) loads.push_back(run_job(**engine, JobKind::Load, *ns, chunks));
  const double load_cpu = (cpu_seconds() - cpu) / kRounds;
  std::ranges::sort(loads);
  const double load = loads[kRounds / 2];
  const double drive = raw_read_gbs(directory + "/pool.data", static_cast<uint64_t>(stored * 1e9));
  fmt::print("{:<6} {:>8.3f} {:>8.2f} {:>10.3f} {:>8.0f} {:>10.2f} {:>10.3f} {:>10.2f}\n",
             algorithm == nullptr ? "raw" : algorithm, stored, gb / save, save_cpu / gb,
             load * 1000, gb / load, load_cpu / gb, drive);
  return save > 0 && loads.front() > 0 && kv.memory == saved;
}

int run(int count, char** arguments) {
  if (count < 3) {
    fmt::print(stderr, "usage: packed_load_bench FILE DIRECTORY [CHUNKS]\n");
    return 2;
  }
  const auto chunks = static_cast<uint32_t>(count > 3 ? std::atoi(arguments[3]) : 32);
  Kv kv{arguments[1], chunks};
  if (kv.memory.empty() || chunks == 0 || chunks > 255) return 2;
  fmt::print("{:.2f} GB of KV in {} chunks\n", static_cast<double>(kv.memory.size()) / 1e9, chunks);
  fmt::print("{:<6} {:>8} {:>8} {:>10} {:>8} {:>10} {:>10} {:>10}\n", "", "GB kept", "save GB/s",
             "CPU s/GB", "load ms", "load GB/s", "CPU s/GB", "drive GB/s");
  bool good = true;
  for (const char* algorithm : {static_cast<const char*>(nullptr), "zstd", "lz4"}) {
    const std::string directory =
        std::string{arguments[2]} + "/packed_load_bench_" + (algorithm ? algorithm : "raw");
    good &= measure(kv, directory, algorithm, chunks);
    std::filesystem::remove_all(directory);
  }
  if (!good) fmt::print(stderr, "FAILED\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace penstock

int main(int count, char** arguments) {
  return penstock::run(count, arguments);
}
