// Pool: one file on one drive, cut into blocks. Its header says whose it is.
//
//   offset 0      header, kPoolHeader bytes
//   offset 4096   block 0, block 1, ...
//
// A Pool owns its descriptor, which any thread may read and write blocks through, and its mapping;
// the methods here belong to the store's index thread, and those that move the file's end run
// inside a transaction of the index, which alone says how many blocks there are. A failed call
// leaves the file as it was or with room that the index does not count; fit() takes that back.
//
// A mapped pool lies in memory (tmpfs). Touching a page that has no memory behind it ends the
// process, so memory is allocated before a block counts, and the file never shrinks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/mapping.hpp"
#include "io/open.hpp"
#include "store/head_rows.hpp"

namespace penstock {

inline constexpr uint64_t kPoolHeader = 4096;

struct PoolIdentity {
  Uuid store{};  // of the store that it belongs to
  Uuid uuid{};
  uint64_t generation = 0;  // counts formattings
  uint64_t block_size = 0;
  friend bool operator==(const PoolIdentity&, const PoolIdentity&) = default;
};

class Pool {
 public:
  static constexpr char kFileName[] = "pool.data";

  // What a pool file's header says. NotFound: no file; Corrupt: no header of ours.
  static Result<PoolIdentity> inspect(const std::string& directory);
  // Makes the file, or empties the one that is there, and writes the header.
  static Result<Pool> format(const std::string& directory, const PoolIdentity& identity);
  static Result<Pool> open(const std::string& directory, const PoolIdentity& identity);

  int fd() const noexcept { return file_.fd.get(); }
  bool is_direct() const noexcept { return file_.direct; }
  const std::string& direct_reason() const noexcept { return file_.reason; }

  // Makes room for `count` blocks after the first `blocks`. NoSpace: the file system has not.
  Status grow(uint64_t blocks, uint64_t count) noexcept;
  // Cuts the file to `blocks` blocks if it is longer, and allocates what is missing if shorter.
  Status fit(uint64_t blocks) noexcept;
  bool cut(uint64_t blocks) noexcept;

  // Reserves address space for `blocks` blocks, which need not be there yet. Once.
  Result<void> map(uint64_t blocks);
  // From block 0 on; empty if it is not mapped. Only the first allocated() blocks may be touched.
  std::span<std::byte> memory() const noexcept;
  uint64_t allocated() const noexcept;  // whole blocks that the file has room for

 private:
  Pool(OpenedFile file, uint64_t block_size) : file_{std::move(file)}, block_size_{block_size} {}
  uint64_t end_of(uint64_t blocks) const noexcept { return kPoolHeader + blocks * block_size_; }

  OpenedFile file_;
  uint64_t block_size_ = 0;
  Mapping mapping_;
};

Uuid random_uuid();

}  // namespace penstock
