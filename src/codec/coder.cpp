#include "codec/coder.hpp"

#define ZSTD_STATIC_LINKING_ONLY  // for ZSTD_c_literalCompressionMode
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/assert.hpp"

namespace penstock {
namespace {

// Exponents have few repetitions to be found and much to gain by shorter codes. So: a hasty search
// for long repetitions, and Huffman codes for the rest, which such levels would leave out.
// Faster than level 1, and no larger.
constexpr int kLevel = -10;
constexpr int kShortestMatch = 7;
constexpr size_t kSampleRun = 512;
constexpr size_t kSampleRuns = 32;
constexpr double kNoiseBits = 7.75;  // of a byte: less than 1.04 could be saved

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

}  // namespace

struct Coder::Impl {
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> compressor{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> decompressor{ZSTD_createDCtx()};
  std::unique_ptr<std::byte[]> lz4_state{new (std::nothrow) std::byte[LZ4_sizeofState()]};
  std::vector<std::byte> scratch;
};

Coder::Coder(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Coder::~Coder() = default;

Result<std::unique_ptr<Coder>> Coder::create(size_t max_slice) {
  auto impl = std::make_unique<Impl>();
  if (!impl->compressor || !impl->decompressor || !impl->lz4_state)
    return Error{Status::NoSpace, "no memory for the compression libraries"};
  for (const auto& [parameter, value] :
       {std::pair{ZSTD_c_compressionLevel, kLevel}, std::pair{ZSTD_c_minMatch, kShortestMatch},
        std::pair{ZSTD_c_literalCompressionMode, static_cast<int>(ZSTD_lcm_huffman)}})
    ZSTD_CCtx_setParameter(impl->compressor.get(), parameter, value);
  impl->scratch.resize(max_slice);
  return std::unique_ptr<Coder>{new Coder{std::move(impl)}};
}

std::span<std::byte> Coder::scratch() noexcept {
  return impl_->scratch;
}

size_t Coder::compress(Method method, std::span<const std::byte> from,
                       std::span<std::byte> to) noexcept {
  if (from.size() < 2 || looks_like_noise(from)) return 0;
  const size_t room = std::min(to.size(), from.size() - 1);
  if (method == Method::Zstd) {
    const size_t size =
        ZSTD_compress2(impl_->compressor.get(), to.data(), room, from.data(), from.size());
    return ZSTD_isError(size) ? 0 : size;
  }
  PENSTOCK_ASSERT(method == Method::Lz4 && from.size() <= LZ4_MAX_INPUT_SIZE);
  const int size = LZ4_compress_fast_extState(
      impl_->lz4_state.get(), reinterpret_cast<const char*>(from.data()),
      reinterpret_cast<char*>(to.data()), static_cast<int>(from.size()), static_cast<int>(room), 1);
  return size > 0 ? static_cast<size_t>(size) : 0;
}

bool Coder::decompress(Method method, std::span<const std::byte> from,
                       std::span<std::byte> to) noexcept {
  if (method == Method::Zstd) {
    return ZSTD_decompressDCtx(impl_->decompressor.get(), to.data(), to.size(), from.data(),
                               from.size()) == to.size();
  }
  if (method == Method::Lz4) {
    if (from.size() > LZ4_MAX_INPUT_SIZE || to.size() > LZ4_MAX_INPUT_SIZE) return false;
    const int size = LZ4_decompress_safe(
        reinterpret_cast<const char*>(from.data()), reinterpret_cast<char*>(to.data()),
        static_cast<int>(from.size()), static_cast<int>(to.size()));
    return size >= 0 && static_cast<size_t>(size) == to.size();
  }
  if (from.size() != to.size()) return false;
  std::memcpy(to.data(), from.data(), from.size());
  return true;
}

bool looks_like_noise(std::span<const std::byte> bytes) noexcept {
  constexpr size_t kSample = kSampleRun * kSampleRuns;
  if (bytes.size() < kSample) return false;  // cheap to try
  std::array<uint32_t, 256> counts{};
  const size_t step = (bytes.size() - kSampleRun) / (kSampleRuns - 1);
  for (size_t run = 0; run < kSampleRuns; ++run)
    for (const std::byte byte : bytes.subspan(run * step, kSampleRun))
      ++counts[static_cast<uint8_t>(byte)];
  double bits = 0;
  for (const uint32_t count : counts)
    if (count > 0) bits -= count * std::log2(double(count) / kSample);
  return bits > kNoiseBits * kSample;
}

}  // namespace penstock
