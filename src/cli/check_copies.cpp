#include "cli/check_copies.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "base/checksum.hpp"
#include "base/sizes.hpp"
#include "cli/block_reader.hpp"
#include "cli/interrupt.hpp"
#include "cli/packed_check.hpp"
#include "cli/progress.hpp"
#include "key/identity.hpp"

namespace penstock::cli {
namespace {

class CopyChecker {
 public:
  CopyChecker(StoreView& view, uint64_t total_bytes)
      : view_{view}, progress_{"verify", total_bytes} {}

  Result<CheckResult> run(const std::vector<NamespaceInfo>& namespaces) {
    for (const NamespaceInfo& info : namespaces) digests_[info.id] = info.digest;
    auto reader = BlockReader::create(
        view_.block_size(), [this](uint64_t tag, Status status, std::span<const std::byte> bytes) {
          check_block(tag, status, bytes);
        });
    if (!reader) return reader.take_error();
    reader_ = std::move(*reader);
    auto packed = PackedCheck::create();
    if (!packed) return packed.take_error();
    packed_ = std::move(*packed);
    const auto started = std::chrono::steady_clock::now();
    const auto read = view_.inspector().for_each_copy(0, [this](const CopyRow& row) {
      read_copy(row);
      return !interrupted();
    });
    reader_->finish();
    if (!read) return read.error();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    result_.seconds = elapsed.count();
    return std::move(result_);
  }

 private:
  struct Copy {
    CopyRow row;
    bool judged = false;              // damaged or evicted: its further blocks do not matter
    std::vector<std::byte> packed{};  // what has been read of it, if it is
    uint64_t bytes_left = 0;          // of that
    bool is_packed() const { return row.record.stored < row.record.length; }
  };
  struct Block {
    std::shared_ptr<Copy> copy;
    uint32_t ordinal = 0;
    uint32_t pool = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  void read_copy(const CopyRow& row) {
    ++result_.copies;
    auto copy = std::make_shared<Copy>(Copy{.row = row});
    Block block{.copy = copy};
    if (!row.is_valid || !digests_.contains(row.name_space))
      return judge(block, "its row in the index makes no sense");
    for (const Extent& extent : row.record.extents) {
      if (view_.pools()[extent.pool].fd) continue;
      ++result_.unreachable;
      return;
    }
    copy->bytes_left = row.record.stored;
    if (copy->is_packed()) copy->packed.resize(row.record.stored);
    for (const Extent& extent : row.record.extents) {
      for (uint32_t i = 0; i < extent.count; ++i, ++block.ordinal) {
        const uint64_t begin = block.ordinal * view_.block_size();
        block.pool = extent.pool;
        block.offset = view_.offset_of(uint64_t{extent.first} + i);
        block.size = std::min(view_.block_size(), row.record.stored - begin);
        blocks_[next_tag_] = block;
        reader_->read(next_tag_++, view_.pools()[extent.pool].fd.get(), block.offset,
                      round_up(block.size, kSector));
      }
    }
  }

  void check_block(uint64_t tag, Status status, std::span<const std::byte> bytes) {
    const auto found = blocks_.find(tag);
    const Block block = found->second;
    blocks_.erase(found);
    if (block.copy->judged) return;
    const CopyRow& row = block.copy->row;
    if (status != Status::Ok) return judge(block, "cannot be read");
    const uint64_t identity =
        block_identity(digests_.at(row.name_space), row.name, block.ordinal, row.record.length,
                       block.copy->is_packed() ? CopyForm::Packed : CopyForm::Raw);
    if (block_checksum(bytes.first(block.size), identity) != row.record.checksums[block.ordinal])
      return judge(block, "its bytes are not the ones that were saved");
    if (const char* const wrong = collect(block, bytes)) return judge(block, wrong);
    result_.bytes += block.size;
    progress_.add(block.size);
  }

  // A packed copy is unpacked once all of its blocks are there. Null: nothing is wrong so far.
  const char* collect(const Block& block, std::span<const std::byte> bytes) {
    Copy& copy = *block.copy;
    copy.bytes_left -= block.size;
    if (!copy.is_packed()) return nullptr;
    std::memcpy(copy.packed.data() + block.ordinal * view_.block_size(), bytes.data(), block.size);
    if (copy.bytes_left > 0) return nullptr;
    return packed_->run(digests_.at(copy.row.name_space), copy.row, view_.block_size(),
                        copy.packed);
  }

  void judge(const Block& block, const char* reason) {
    block.copy->judged = true;
    const CopyRow& row = block.copy->row;
    if (row.is_valid && view_.inspector().look_again(row).status == Status::NotFound) {
      ++result_.evicted;
      return;
    }
    DamagedCopy damaged{.row = row, .block = block.ordinal, .path = {}, .reason = reason};
    if (block.size != 0) {
      damaged.path = view_.pools()[block.pool].path;
      damaged.offset = block.offset;
    }
    result_.damaged.push_back(std::move(damaged));
  }

  StoreView& view_;
  Progress progress_;
  std::unordered_map<NamespaceId, Digest> digests_;
  std::unique_ptr<PackedCheck> packed_;
  std::unique_ptr<BlockReader> reader_;
  std::unordered_map<uint64_t, Block> blocks_;  // in flight, by tag
  uint64_t next_tag_ = 0;
  CheckResult result_;
};

}  // namespace

Result<CheckResult> check_copies(StoreView& view) {
  const auto namespaces = view.inspector().namespaces();
  if (!namespaces) return namespaces.error();
  uint64_t total = 0;
  for (const NamespaceInfo& info : *namespaces) total += info.stored;
  return CopyChecker{view, total}.run(*namespaces);
}

}  // namespace penstock::cli
