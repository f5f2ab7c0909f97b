// The files of the index, as bytes: the database, or the log that belongs to a sound one.
#include "fuzz/index_use.hpp"

namespace penstock::fuzz {

const int kRounds = 500;

namespace {

const IndexFiles& sound() {
  static const IndexFiles files = sound_index();
  return files;
}

Bytes seed(uint8_t which, const std::vector<std::byte>& file) {
  Bytes bytes{which};
  for (const std::byte byte : file) bytes.push_back(static_cast<uint8_t>(byte));
  return bytes;
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(0, sound().database), seed(1, sound().log)};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  static const test::TempDir directory{test::in_memory()};
  Input input{data, size};
  const bool is_log = input.take<uint8_t>() & 1;
  const auto file = std::as_bytes(input.take_bytes(SIZE_MAX));
  clear_index(directory.path());
  test::write_file(directory / "penstock.db", is_log ? std::span{sound().database} : file);
  if (is_log) test::write_file(directory / "penstock.db-wal", file);
  open_and_use(directory.path());
  return 0;
}
