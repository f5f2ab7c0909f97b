// Byte planes, coders and the head of a packed copy.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "support/kv_memory.hpp"
#include "support/packed_bytes.hpp"

namespace penstock {
namespace {

using test::Content;
using Bytes = std::vector<std::byte>;

constexpr Method kBoth[] = {Method::Zstd, Method::Lz4};

Bytes make(Content content, size_t size, uint64_t seed = 1) {
  Bytes bytes(size);
  test::fill_with(content, seed, bytes);
  return bytes;
}

Bytes pack(Method method, const Bytes& raw, uint32_t element, uint32_t cut) {
  return test::packed_bytes(raw, {1, 2, 3}, method, element, cut);
}

std::optional<Bytes> unpack(const Bytes& packed, uint64_t raw_bytes) {
  return test::unpacked_bytes(packed, raw_bytes, 3);
}

TEST(Planes, AnyBytesComeBack) {
  rc::check([] {
    const auto bytes = *rc::gen::arbitrary<std::vector<uint8_t>>();
    for (const uint32_t element : {1U, 2U, 4U}) {
      Bytes memory(bytes.size() + kMaxElement), back(bytes.size());
      Planes planes{};
      ConstPlanes read{};
      size_t at = 0;
      for (uint32_t i = 0; i < element; ++i) {
        read[i] = planes[i] = memory.data() + at;
        at += plane_bytes(bytes.size(), element, i);
      }
      RC_ASSERT(at == bytes.size());
      split_planes(std::as_bytes(std::span{bytes}), element, planes);
      join_planes(read, element, back);
      RC_ASSERT(std::ranges::equal(back, std::as_bytes(std::span{bytes})));
    }
  });
}

TEST(Planes, AnExponentIsOneByte) {
  const uint16_t one = 0x3f80, minus_one = 0xbf80;  // bf16: equal exponents, other signs
  std::byte low[2], high[2];
  const uint16_t numbers[] = {one, minus_one};
  split_planes(std::as_bytes(std::span{numbers}), 2, {low, high});
  EXPECT_EQ(high[0], std::byte{127});
  EXPECT_EQ(high[1], std::byte{127});
  EXPECT_EQ(low[0], std::byte{0});
  EXPECT_EQ(low[1], std::byte{1});
}

TEST(Codec, AnyBytesComeBack) {
  rc::check([&] {
    auto raw = *rc::gen::nonEmpty(rc::gen::arbitrary<std::vector<uint8_t>>());
    const auto repeats = *rc::gen::inRange(1, 200);  // so that there is something to find
    Bytes bytes;
    for (int i = 0; i < repeats; ++i)
      for (const uint8_t byte : raw) bytes.push_back(static_cast<std::byte>(byte));
    const uint32_t element = *rc::gen::element(1U, 2U, 4U);
    const Method method = *rc::gen::element(Method::Zstd, Method::Lz4);
    const auto cut = *rc::gen::inRange<uint32_t>(1, 5000);
    const Bytes packed = pack(method, bytes, element, cut);
    RC_ASSERT(unpack(packed, bytes.size()) == bytes);
  });
}

TEST(Codec, NumbersGetSmallerAndComeBack) {
  const Bytes raw = make(Content::Bf16, 3 * kMaxSlice + 1234);
  for (const Method method : kBoth) {
    const Bytes apart = pack(method, raw, 2, kMaxSlice);
    const Bytes together = pack(method, raw, 1, kMaxSlice);
    EXPECT_EQ(unpack(apart, raw.size()), raw);
    EXPECT_EQ(unpack(together, raw.size()), raw);
    EXPECT_LT(apart.size(), together.size());
    EXPECT_LT(apart.size(), raw.size() * 10 / 11) << static_cast<int>(method);
  }
}

TEST(Codec, NoiseIsStoredAsItIs) {
  const Bytes raw = make(Content::Noise, 100'000);
  EXPECT_TRUE(looks_like_noise(raw));
  EXPECT_FALSE(looks_like_noise(make(Content::Zeros, 100'000)));
  for (const Method method : kBoth) {
    for (const uint32_t element : {1U, 2U, 4U}) {
      const Bytes packed = pack(method, raw, element, 50'000);
      EXPECT_LT(packed.size(), raw.size() + 200);
      EXPECT_EQ(unpack(packed, raw.size()), raw);
    }
  }
}

TEST(Codec, OtherSizesAreRefused) {
  const Bytes raw = make(Content::Bf16, 40'000);
  const Bytes packed = pack(Method::Zstd, raw, 2, 10'000);
  EXPECT_FALSE(PackedCopy::decode(packed, raw.size() + 1, 3));
  EXPECT_FALSE(PackedCopy::decode(packed, raw.size(), 2));
  for (size_t size = 0; size < packed.size(); size += 7)
    EXPECT_FALSE(PackedCopy::decode(std::span{packed}.first(size), raw.size(), 3)) << size;
}

// The head says something else than what lies there.
TEST(Codec, AWrongMethodDoesNotUnpack) {
  const Bytes raw = make(Content::Bf16, 40'000);
  for (const Method method : kBoth) {
    Bytes packed = pack(method, raw, 2, 40'000);
    auto copy = PackedCopy::decode(packed, raw.size(), 3);
    ASSERT_TRUE(copy);
    ASSERT_EQ(copy->slices[0].planes[1].method, method);
    for (uint32_t other = 0; other < kMethods + 2; ++other) {
      if (other == static_cast<uint32_t>(method)) continue;
      const size_t at = PackedCopy::head_bytes(3, {}) + 8 + 8 + 4;  // of plane 1
      std::memcpy(packed.data() + at, &other, sizeof other);
      const auto back = unpack(packed, raw.size());
      EXPECT_NE(back, raw);
    }
  }
}

// Any byte of the stream may be another: nothing is read or written out of bounds (sanitizers see
// it), and either it is noticed or the copy's checksums have to.
TEST(Codec, DamagedBytesStayInBounds) {
  const Bytes raw = make(Content::Bf16, 9'000);
  for (const Method method : kBoth) {
    const Bytes packed = pack(method, raw, 2, 3'000);
    for (size_t at = 0; at < packed.size(); ++at) {
      Bytes damaged = packed;
      damaged[at] ^= std::byte{0x41};
      (void)unpack(damaged, raw.size());
    }
    EXPECT_EQ(unpack(packed, raw.size()), raw);
  }
}

}  // namespace
}  // namespace penstock
