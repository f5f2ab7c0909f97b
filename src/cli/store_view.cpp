#include "cli/store_view.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "store/pool.hpp"

namespace penstock::cli {
namespace {

PoolFile find_pool(const PoolRow& row, std::vector<std::string> directories, int flags) {
  // The first pool lies beside the index; of a copied store the index names the old place.
  const std::string expected = row.id == 0 ? directories.front() : row.directory;
  directories.push_back(expected);
  const auto path = [](const std::string& directory) { return directory + "/" + Pool::kFileName; };
  for (const std::string& directory : directories) {
    const auto header = Pool::inspect(directory);
    if (!header || header->uuid != row.uuid || header->generation != row.generation) continue;
    auto file = open_direct(path(directory), flags);
    if (!file) return {.path = path(directory), .fd = {}, .problem = file.error().message};
    return {.path = path(directory), .fd = std::move(file->fd), .problem = {}};
  }
  const auto header = Pool::inspect(expected);
  return {.path = path(expected),
          .fd = {},
          .problem = header ? path(expected) + " is not the pool that the index knows"
                            : header.error().message};
}

}  // namespace

Result<std::unique_ptr<Inspector>> open_inspector(const std::string& directory) {
  auto inspector = Inspector::open(directory);
  if (inspector.status() == Status::NotFound)
    return Error{Status::NotFound,
                 fmt::format("no store in {}: {}", directory, inspector.error().message)};
  return inspector;
}

Result<StoreView> StoreView::open(const std::vector<std::string>& directories, int flags) {
  auto inspector = open_inspector(directories.front());
  if (!inspector) return inspector.take_error();
  StoreView view;
  view.inspector_ = std::move(*inspector);
  const auto totals = view.inspector_->totals();
  if (!totals) return totals.error();
  view.block_size_ = totals->block_size;
  for (const PoolRow& row : view.inspector_->pools())
    view.pools_.push_back(find_pool(row, directories, flags));
  return view;
}

Result<std::vector<RawRange>> StoreView::places() {
  std::vector<Extent> extents;
  const auto read = inspector_->for_each_copy(0, [&](const CopyRow& row) {
    extents.insert(extents.end(), row.record.extents.begin(), row.record.extents.end());
    return true;
  });
  if (!read) return read.error();
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::pair{a.pool, a.first} < std::pair{b.pool, b.first};
  });
  std::vector<RawRange> ranges;
  for (const Extent& extent : extents) {
    if (extent.pool >= pools_.size() || !pools_[extent.pool].fd) continue;
    const RawRange range{.fd = pools_[extent.pool].fd.get(),
                         .offset = offset_of(extent.first),
                         .size = extent.count * block_size_};
    if (!ranges.empty() && ranges.back().fd == range.fd &&
        ranges.back().offset + ranges.back().size == range.offset) {
      ranges.back().size += range.size;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

}  // namespace penstock::cli
