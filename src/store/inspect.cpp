#include "store/inspect.hpp"

#include "store/clock.hpp"
#include "store/pool.hpp"
#include "store/space.hpp"
#include "store/store_files.hpp"

namespace penstock {

namespace {
constexpr uint32_t kRowsAtATime = 500;
}

Result<std::unique_ptr<Inspector>> Inspector::open(const std::string& directory) {
  auto index = Index::open_to_read(StoreFiles{directory}.index);
  if (!index) return index.take_error();
  return std::unique_ptr<Inspector>{new Inspector{std::move(*index), directory}};
}

Error Inspector::index_error() const {
  return Error{index_->is_corrupt() ? Status::Corrupt : Status::Io, index_->last_error()};
}

Result<StoreTotals> Inspector::totals() {
  StoreTotals totals;
  // Before the rest: if nothing is left to remove, the rest does not count it either.
  if (index_->has_buried(totals.is_removing) != Status::Ok) return index_error();
  if (index_->refresh() != Status::Ok) return index_error();
  const MetaRow& meta = index_->meta();
  totals.max_bytes = meta.max_bytes;
  totals.block_size = meta.block_size;
  totals.copies = meta.copies;
  totals.evictions = meta.evictions;
  for (const PoolRow& pool : index_->pools()) {
    totals.blocks_total += pool.blocks;
    totals.blocks_free += pool.free;
  }
  const StoreFiles files{directory_};
  totals.index_bytes = file_size(files.index) + file_size(files.wal);
  totals.written_today = meta.day == day_of(now_ms()) ? meta.written : 0;
  return totals;
}

Result<std::vector<NamespaceInfo>> Inspector::namespaces() {
  const uint64_t errors = index_->counters().errors;
  std::vector<NamespaceInfo> found = index_->namespaces();
  if (index_->counters().errors != errors) return index_error();
  return found;
}

Result<void> Inspector::for_each_copy(NamespaceId name_space,
                                      const std::function<bool(const CopyRow&)>& visit) {
  const uint64_t errors = index_->counters().errors;
  for (int64_t last = 0;;) {
    const std::vector<CopyRow> rows = index_->rows_after(last, kRowsAtATime);
    if (index_->counters().errors != errors) return index_error();
    if (rows.empty()) return {};
    last = rows.back().id;
    for (const CopyRow& row : rows) {
      // A negative namespace: the copy is about to be removed.
      const bool wanted = name_space == 0 ? row.name_space > 0 : row.name_space == name_space;
      if (wanted && !visit(row)) return {};
    }
  }
}

CopyRecord Inspector::look_again(const CopyRow& row) {
  CopyRecord now = index_->find(row.name_space, std::span{&row.name, 1}).front();
  return now.id == row.id ? now : CopyRecord{};
}

uint64_t Inspector::pool_offset(uint64_t block) const noexcept {
  return kPoolHeader + block * index_->meta().block_size;
}

std::string Inspector::pool_path(const PoolRow& pool) {
  return pool.directory + "/" + Pool::kFileName;
}

}  // namespace penstock
