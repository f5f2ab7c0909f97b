// The header of a pool's file, of any length; with a checksum that fits, so that what comes after
// it is reached, or as it is.
#include <cstddef>

#include "base/checksum.hpp"
#include "fuzz/fuzz.hpp"
#include "store/pool.hpp"
#include "support/files.hpp"

namespace penstock::fuzz {

const int kRounds = 20'000;

namespace {

constexpr size_t kChecksumAt = 4088;

const test::TempDir& directory() {
  static const test::TempDir made{test::in_memory()};
  return made;
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const uint64_t block : {uint64_t{4096}, uint64_t{1} << 20}) {
    PoolIdentity identity;
    identity.store[0] = 7;
    identity.uuid[15] = 9;
    identity.generation = 3;
    identity.block_size = block;
    require(bool(Pool::format(directory().path(), identity)), "a pool can be made");
    const auto file = test::read_file(directory() / Pool::kFileName);
    for (const uint8_t fitting : {0, 1}) {
      Bytes seed{fitting};
      for (const std::byte byte : file) seed.push_back(static_cast<uint8_t>(byte));
      all.push_back(std::move(seed));
    }
  }
  return all;
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  Input input{data, size};
  const bool fitting = input.take<uint8_t>() & 1;
  const auto rest = input.take_bytes(2 * kPoolHeader);
  const auto part = std::as_bytes(rest);
  std::vector<std::byte> file{part.begin(), part.end()};
  if (fitting && file.size() >= kPoolHeader) {
    const uint64_t sum = block_checksum(std::span{file}.first(kChecksumAt), 0);
    std::memcpy(file.data() + kChecksumAt, &sum, sizeof sum);
  }
  test::write_file(directory() / Pool::kFileName, file);
  const auto seen = Pool::inspect(directory().path());
  if (!seen) {
    require(seen.status() == Status::Corrupt, "a header that is refused is damaged");
    require(file.size() < kPoolHeader || !seen.error().message.empty(), "a refusal says why");
    return 0;
  }
  // What was believed comes back from a header that says the same.
  require(bool(Pool::format(directory().path(), *seen)), "it can be written");
  const auto again = Pool::inspect(directory().path());
  require(again && *again == *seen, "and read again");
  return 0;
}
