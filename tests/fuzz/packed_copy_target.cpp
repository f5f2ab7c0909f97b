// A packed copy as a drive may give it: its head, and slices that the libraries unpack.
#include "fuzz/fuzz.hpp"
#include "support/kv_memory.hpp"
#include "support/packed_bytes.hpp"

namespace penstock::fuzz {

const int kRounds = 20'000;

namespace {

constexpr uint64_t kRaw = 6'000;
constexpr size_t kBlocks = 2;

Bytes seed(Method method, uint32_t element, uint32_t cut, test::Content content) {
  std::vector<std::byte> raw(kRaw);
  test::fill_with(content, 1, raw);
  const auto packed = test::packed_bytes(raw, {7, 8}, method, element, cut);
  const auto* first = reinterpret_cast<const uint8_t*>(packed.data());
  return Bytes(first, first + packed.size());
}

// Whatever a head may say of one slice, with the rest of the input as its planes.
void unpack_anything(Input input) {
  PackedSlice slice;
  slice.bytes = static_cast<uint32_t>(1 + input.below(4'000));
  slice.element = 1U << input.below(3);
  std::vector<std::byte> packed, raw(slice.bytes);
  for (uint32_t i = 0; i < slice.element; ++i) {
    const size_t whole = plane_bytes(slice.bytes, slice.element, i);
    const auto method = static_cast<Method>(input.below(kMethods));
    const size_t size = method == Method::Plain ? whole : input.below(whole + 1);
    const auto part = std::as_bytes(input.take_bytes(size));
    packed.insert(packed.end(), part.begin(), part.end());
    packed.resize(packed.size() + size - part.size());
    slice.planes[i] = {static_cast<uint32_t>(size), method};
  }
  (void)unpack_slice(test::shared_coder(), slice, packed, raw);
}

}  // namespace

std::vector<Bytes> seeds() {
  using test::Content;
  return {seed(Method::Zstd, 2, 6'000, Content::Bf16), seed(Method::Lz4, 2, 2'500, Content::Bf16),
          seed(Method::Zstd, 1, 3'000, Content::Zeros), seed(Method::Lz4, 4, 1'999, Content::Zeros),
          seed(Method::Zstd, 4, 6'000, Content::Noise)};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  unpack_anything(Input{data, size});
  const auto packed = std::as_bytes(std::span{data, size});
  const auto copy = PackedCopy::decode(packed, kRaw, kBlocks);
  if (!copy) return 0;
  require(copy->checksums.size() == kBlocks, "one checksum a block");
  // The end of the memory is guarded, so that a sanitizer sees a byte too many.
  std::vector<std::byte> raw(kRaw);
  uint64_t begin = 0, packed_begin = PackedCopy::head_bytes(kBlocks, {});
  for (const PackedSlice& slice : copy->slices) packed_begin += 8 + 8 * slice.element;
  for (const PackedSlice& slice : copy->slices) {
    require(slice.begin == begin && slice.bytes > 0, "slices follow each other");
    require(slice.packed_begin == packed_begin, "on the drive too");
    begin += slice.bytes;
    packed_begin += slice.packed_bytes();
    require(begin <= kRaw && packed_begin <= size, "and stay inside");
    (void)unpack_slice(test::shared_coder(), slice,
                       packed.subspan(slice.packed_begin, slice.packed_bytes()),
                       std::span{raw}.subspan(slice.begin, slice.bytes));
  }
  require(begin == kRaw && packed_begin == size, "nothing is left over");
  std::vector<std::byte> head(
      packed.begin(),
      packed.begin() + static_cast<std::ptrdiff_t>(copy->slices.front().packed_begin));
  copy->encode(head);
  require(std::ranges::equal(head, packed.first(head.size())), "what was read is what was written");
  return 0;
}
