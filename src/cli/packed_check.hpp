// check_packed: whether a packed copy, whose stored blocks were right, gives the bytes that were
// saved. Unpacks it in memory of its own. One thread.
#pragma once

#include <memory>
#include <span>

#include "codec/coder.hpp"
#include "penstock/key.hpp"
#include "store/copy_table.hpp"

namespace penstock::cli {

class PackedCheck {
 public:
  static Result<std::unique_ptr<PackedCheck>> create();
  // Null: all is right; or what is not.
  const char* run(const Digest& name_space, const CopyRow& row, uint64_t block_size,
                  std::span<const std::byte> packed);

 private:
  explicit PackedCheck(std::unique_ptr<Coder> coder) : coder_{std::move(coder)} {}
  std::unique_ptr<Coder> coder_;
};

}  // namespace penstock::cli
