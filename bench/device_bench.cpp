// How near the copies between pinned host memory and paged GPU memory come to the PCIe link: a
// plain cudaMemcpy of 1 GiB, then moves of scattered pages through CudaDevice, with checksums, in
// rounds.
//
//   device_bench [rounds=5] [GiB=4] [run MiB=8]
#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "base/sizes.hpp"
#include "device/copy_map.hpp"
#include "device/open.hpp"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kGiB = uint64_t{1} << 30;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "device_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

// Sleeps until the device has something to return, as the mover does.
class Doorbell {
 public:
  void ring() {
    std::scoped_lock lock{mutex_};
    rung_ = true;
    changed_.notify_one();
  }
  void wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return rung_; });
    rung_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

struct Shape {
  const char* name;
  uint64_t page_bytes;
  uint32_t layers;
};

struct Work {
  std::byte* host;
  uint64_t bytes, run;
  Device* device;
  Doorbell* bell;
  uint64_t copy_bytes;
  uint32_t rows_per_chunk;
  std::vector<int32_t> rows;
};

double move_all(const Work& work, PageMove::Direction direction) {
  std::vector<PageMove> moves;
  const uint64_t chunks = work.bytes / work.copy_bytes;
  for (uint64_t c = 0; c < chunks; ++c) {
    for (uint64_t begin = 0; begin < work.copy_bytes; begin += work.run) {
      PageMove move;
      move.direction = direction;
      move.rows = std::span{work.rows}.subspan(c * work.rows_per_chunk, work.rows_per_chunk);
      move.begin = begin;
      move.end = std::min(begin + work.run, work.copy_bytes);
      move.block_size = 1 << 20;
      move.data = work.host + c * work.copy_bytes + begin;
      for (uint64_t at = begin; at < move.end; at += move.block_size) move.identities.push_back(at);
      moves.push_back(std::move(move));
    }
  }
  std::vector<PageMove*> pointers;
  for (PageMove& move : moves) pointers.push_back(&move);
  size_t submitted = 0, done = 0;
  PageMove* finished[64];
  const auto start = Clock::now();
  while (done < moves.size()) {
    const size_t batch = std::min(work.device->batch(), moves.size() - submitted);
    const size_t taken = work.device->submit(std::span{pointers}.subspan(submitted, batch));
    submitted += taken;
    const size_t landed = work.device->poll(finished);
    for (size_t i = 0; i < landed; ++i)
      if (finished[i]->status != Status::Ok) must(cudaErrorUnknown, "a move failed");
    done += landed;
    if (taken == 0 && landed == 0) work.bell->wait();
  }
  return static_cast<double>(chunks * work.copy_bytes) / seconds_since(start) / 1e9;
}

double plain_copy(std::byte* host, std::byte* gpu, cudaMemcpyKind kind) {
  const auto start = Clock::now();
  must(cudaMemcpy(kind == cudaMemcpyHostToDevice ? gpu : host,
                  kind == cudaMemcpyHostToDevice ? host : gpu, kGiB, kind),
       "plain copy");
  return static_cast<double>(kGiB) / seconds_since(start) / 1e9;
}

int run(int rounds, uint64_t bytes, uint64_t run_bytes) {
  std::byte* gpu = nullptr;
  must(cudaMalloc(reinterpret_cast<void**>(&gpu), 2 * bytes), "GPU memory");
  must(cudaMemset(gpu, 1, 2 * bytes), "fill");
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ::madvise(mapped, bytes, MADV_HUGEPAGE);
  auto* host = static_cast<std::byte*>(mapped);
  std::fill_n(host, bytes, std::byte{2});
  std::printf("%-16s %9s %9s %8s %9s %9s %8s %9s\n", "pages", "raw H2D", "scatter", "of raw",
              "raw D2H", "gather", "of raw", "CPU s/GB");
  for (const Shape& shape : {Shape{"64 KiB x 32", 65536, 32}, Shape{"8 KiB x 80", 8192, 80},
                             Shape{"18 KiB x 61", 18432, 61}}) {
    GroupLayout layout;
    layout.rows_per_chunk = 16;
    const uint64_t rows = 2 * bytes / shape.page_bytes / shape.layers;
    for (uint32_t l = 0; l < shape.layers; ++l)
      layout.regions.push_back({reinterpret_cast<uint64_t>(gpu) + l * rows * shape.page_bytes, rows,
                                shape.page_bytes, shape.page_bytes, l});
    Doorbell bell;
    auto device = open_device("cuda:0", {layout}, nullptr);
    if (!device) {
      std::fprintf(stderr, "device_bench: %s\n", device.error().message.c_str());
      return 2;
    }
    (*device)->enter_thread([&bell] { bell.ring(); });
    (*device)->pin({host, bytes});
    Work work{host, bytes, run_bytes, device->get(), &bell, layout.copy_bytes(), 16, {}};
    work.rows.resize(rows);
    std::iota(work.rows.begin(), work.rows.end(), 0);
    std::shuffle(work.rows.begin(), work.rows.end(), std::mt19937_64{1});
    std::vector<double> in, out, raw_in, raw_out, in_share, out_share;
    double cpu = 0;
    for (int r = -1; r < rounds; ++r) {  // the first warms up
      const double h2d = plain_copy(host, gpu, cudaMemcpyHostToDevice);
      const double d2h = plain_copy(host, gpu, cudaMemcpyDeviceToHost);
      const double cpu_before = cpu_seconds();
      const double scatter = move_all(work, PageMove::Direction::Scatter);
      const double gather = move_all(work, PageMove::Direction::Gather);
      if (r < 0) continue;
      cpu += cpu_seconds() - cpu_before;
      in.push_back(scatter), out.push_back(gather), raw_in.push_back(h2d), raw_out.push_back(d2h);
      in_share.push_back(scatter / h2d), out_share.push_back(gather / d2h);
    }
    std::printf("%-16s %9.2f %9.2f %6.1f %% %9.2f %9.2f %6.1f %% %9.4f\n", shape.name,
                median(raw_in), median(in), 100 * median(in_share), median(raw_out), median(out),
                100 * median(out_share), cpu / (2.0 * rounds * static_cast<double>(bytes) / 1e9));
  }
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  const uint64_t gib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 4;
  const uint64_t mib = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 8;
  if (rounds < 1 || gib < 1 || mib < 1) {
    std::fprintf(stderr, "usage: device_bench [rounds] [GiB] [run MiB]\n");
    return 2;
  }
  return penstock::run(rounds, gib << 30, mib << 20);
}
