#include "cli/drop_copies.hpp"

#include <fcntl.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <thread>

#include "cli/store_view.hpp"
#include "store/store.hpp"

namespace penstock::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{60};

// With every pool that can be found: the store does not see copies in the others.
Result<std::shared_ptr<Store>> open_store(const std::vector<std::string>& directories) {
  auto view = StoreView::open(directories, O_RDONLY);
  if (!view) return view.take_error();
  const auto totals = view->inspector().totals();
  if (!totals) return totals.error();
  StoreOptions options;
  options.directories = {directories.front()};
  for (const PoolFile& pool : view->pools()) {
    const std::string directory = std::filesystem::path{pool.path}.parent_path().string();
    std::error_code error;
    if (pool.fd && !std::filesystem::equivalent(directory, directories.front(), error))
      options.directories.push_back(directory);
  }
  options.block_size = totals->block_size;
  options.max_bytes = totals->max_bytes;  // as it is: another size would evict or shrink
  return Store::open(options);
}

// The store hides a copy at once and removes its descendants little by little. Whoever reads for
// long or all the time keeps the store's log from starting over: this asks little, and seldom.
Result<StoreTotals> wait_until_removed(Inspector& inspector) {
  const auto deadline = Clock::now() + kPatience;
  for (;;) {
    const auto totals = inspector.totals();
    if (!totals) return totals.error();
    if (!totals->is_removing) return *totals;
    if (Clock::now() > deadline)
      return Error{Status::Timeout, "the store is still removing copies; run this again later"};
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
}

Status drop(Store& store, const CopyRow& row) {
  auto promise = std::make_shared<std::promise<Status>>();
  auto answer = promise->get_future();
  const auto done = [promise](Status status) { promise->set_value(status); };
  if (!store.damaged(row.name_space, row.name, row.id, done)) return Status::Busy;
  if (answer.wait_for(kPatience) != std::future_status::ready) return Status::Timeout;
  return answer.get();
}

}  // namespace

Result<Dropped> drop_copies(const std::vector<std::string>& directories,
                            const std::vector<CopyRow>& rows) {
  auto inspector = Inspector::open(directories.front());
  if (!inspector) return inspector.take_error();
  const auto before = (*inspector)->totals();
  if (!before) return before.error();
  const auto store = open_store(directories);
  if (!store) return store.error();
  for (const CopyRow& row : rows) {
    const Status status = drop(**store, row);
    if (status == Status::Busy || status == Status::Timeout)
      return Error{status, "the index does not answer"};
  }
  const auto after = wait_until_removed(**inspector);
  if (!after) return after.error();
  Dropped dropped;
  dropped.copies = before->copies > after->copies ? before->copies - after->copies : 0;
  for (const CopyRow& row : rows)
    if (!row.is_valid || (*inspector)->look_again(row).status != Status::NotFound)
      ++dropped.remaining;
  return dropped;
}

Result<Dropped> drop_all_copies(const std::string& directory) {
  std::vector<CopyRow> roots;
  {
    auto inspector = Inspector::open(directory);
    if (!inspector) return inspector.take_error();
    const auto read = (*inspector)->for_each_copy(0, [&roots](const CopyRow& row) {
      if (row.parent == 0) roots.push_back(row);
      return true;
    });
    if (!read) return read.error();
  }
  return drop_copies({directory}, roots);
}

}  // namespace penstock::cli
