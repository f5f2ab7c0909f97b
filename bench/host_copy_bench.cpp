// How fast the host device moves and hashes: memcpy alone, gather and scatter with the checksum, by
// page size. Prints GB/s and CPU core-seconds per GB (the same number inverted: one thread).
#include <chrono>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/sizes.hpp"
#include "device/host_copy.hpp"

using namespace penstock;

namespace {

constexpr uint64_t kBlock = 1 << 20;
constexpr uint64_t kTotal = uint64_t{256} << 20;

template <typename Fn>
double gbs(Fn&& fn) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    fn();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kTotal) / took.count() / double{kGb});
  }
  return best;
}

}  // namespace

int main() {
  std::vector<std::byte> staging(kTotal, std::byte{1}), pages(kTotal, std::byte{2});
  std::printf("%-10s %10s %10s %10s\n", "page", "memcpy", "scatter", "gather");
  for (uint64_t page : {4096u, 8192u, 18432u, 65536u}) {
    const auto rows = static_cast<uint32_t>(kTotal / page);
    GroupLayout layout;
    layout.rows_per_chunk = rows;
    layout.regions.push_back({reinterpret_cast<uint64_t>(pages.data()), rows, page, page, 0});
    auto map = CopyMap::create(layout);
    if (!map) return 2;
    std::vector<int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    for (uint32_t i = 0; i < rows; ++i) std::swap(order[i], order[(i * 7919u) % rows]);
    const uint64_t blocks = map->copy_bytes() / kBlock;
    const double copy = gbs([&] {
      for (uint64_t at = 0; at < kTotal; at += 4096)
        std::memcpy(pages.data() + at, staging.data() + at, 4096);
    });
    uint64_t sum = 0;
    const double out = gbs([&] {
      for (uint64_t b = 0; b < blocks; ++b)
        sum += scatter(*map, order, b * kBlock, {staging.data() + b * kBlock, kBlock}, b);
    });
    const double in = gbs([&] {
      for (uint64_t b = 0; b < blocks; ++b)
        sum += gather(*map, order, b * kBlock, {staging.data() + b * kBlock, kBlock}, b);
    });
    std::printf("%-10llu %10.2f %10.2f %10.2f%s\n", static_cast<unsigned long long>(page), copy,
                out, in, sum == 0 ? "!" : "");
  }
  return 0;
}
