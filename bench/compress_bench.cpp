// How much smaller packing makes KV, and what it costs: ratio, GB/s of raw bytes each way on one
// thread, CPU seconds a GB. Reads a file of KV (bench/dump_kv.py makes one), slice after slice.
//
//   compress_bench FILE [ELEMENT_BYTES [SLICE_BYTES]]
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "codec/slices.hpp"

namespace penstock {
namespace {

constexpr int kRounds = 5;

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file{path, std::ios::binary | std::ios::ate};
  if (!file) return {};
  std::vector<std::byte> bytes(static_cast<size_t>(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// The least CPU time of some rounds, which the scheduler does not add to.
template <typename Work>
double best_of(Work&& work) {
  double best = 1e9;
  for (int i = 0; i < kRounds; ++i) {
    const double begin = thread_seconds();
    work();
    best = std::min(best, thread_seconds() - begin);
  }
  return best;
}

bool measure(Coder& coder, const std::vector<std::byte>& raw, Method method, uint32_t element,
             uint32_t slice_bytes) {
  std::vector<PackedSlice> slices;
  for (uint64_t at = 0; at < raw.size(); at += slice_bytes) {
    PackedSlice slice;
    slice.begin = at;
    slice.bytes = static_cast<uint32_t>(std::min<uint64_t>(slice_bytes, raw.size() - at));
    slice.element = element;
    slices.push_back(slice);
  }
  std::vector<std::byte> packed(raw.size()), back(raw.size());
  const double pack = best_of([&] {
    for (PackedSlice& slice : slices)
      pack_slice(coder, method, std::span{raw}.subspan(slice.begin, slice.bytes), slice,
                 std::span{packed}.subspan(slice.begin, slice.bytes));
  });
  bool good = true;
  const double unpack = best_of([&] {
    for (const PackedSlice& slice : slices)
      good &=
          unpack_slice(coder, slice, std::span{packed}.subspan(slice.begin, slice.packed_bytes()),
                       std::span{back}.subspan(slice.begin, slice.bytes));
  });
  uint64_t size = PackedCopy::head_bytes(0, {});
  for (const PackedSlice& slice : slices) size += slice.packed_bytes() + 8 + 8 * element;
  const double gb = static_cast<double>(raw.size()) / 1e9;
  fmt::print("{:<6} {:>7}  {:>6.3f}  {:>9.2f}  {:>11.2f}  {:>11.2f}  {:>13.2f}\n",
             method == Method::Zstd ? "zstd" : "lz4", element > 1 ? "planes" : "as is",
             static_cast<double>(raw.size()) / static_cast<double>(size), gb / pack, gb / unpack,
             pack / gb, unpack / gb);
  return good && back == raw;
}

int run(int count, char** arguments) {
  const std::vector<std::byte> raw = count > 1 ? read_file(arguments[1]) : std::vector<std::byte>{};
  const auto element = static_cast<uint32_t>(count > 2 ? std::atoi(arguments[2]) : 2);
  const auto slice = static_cast<uint32_t>(count > 3 ? std::atoi(arguments[3]) : kMaxSlice);
  if (raw.empty() || !is_element(element) || slice == 0 || slice > kMaxSlice) {
    fmt::print(stderr, "usage: compress_bench FILE [ELEMENT_BYTES 1|2|4 [SLICE_BYTES]]\n");
    return 2;
  }
  auto coder = Coder::create(kMaxSlice);
  if (!coder) return 2;
  fmt::print("{:.1f} MB in slices of {} bytes, one thread\n", static_cast<double>(raw.size()) / 1e6,
             slice);
  fmt::print("{:<6} {:>7}  {:>6}  {:>9}  {:>11}  {:>11}  {:>13}\n", "", "numbers", "ratio",
             "pack GB/s", "unpack GB/s", "pack CPU/GB", "unpack CPU/GB");
  bool good = true;
  for (const Method method : {Method::Zstd, Method::Lz4}) {
    good &= measure(**coder, raw, method, 1, slice);
    if (element > 1) good &= measure(**coder, raw, method, element, slice);
  }
  if (!good) fmt::print(stderr, "WRONG BYTES\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace penstock

int main(int count, char** arguments) {
  return penstock::run(count, arguments);
}
