#include "engine/drive_probe.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <random>

#include "base/sizes.hpp"
#include "io/raw_speed.hpp"

namespace penstock {
namespace {

constexpr std::chrono::seconds kIndexWait{1};
constexpr uint64_t kMaxBlocks = 4096;

}  // namespace

Result<DriveSpeed> probe_drives(Store& store, uint64_t bytes) {
  const uint64_t block = store.block_size();
  const uint64_t count = std::clamp<uint64_t>(div_up(bytes, block), 1, kMaxBlocks);
  const uint64_t place = uint64_t{std::random_device{}()} << 32 | std::random_device{}();
  auto promise = std::make_shared<std::promise<std::vector<Extent>>>();
  auto answer = promise->get_future();
  const bool queued = store.sample(
      static_cast<uint32_t>(count), place,
      [promise](std::vector<Extent> blocks) { promise->set_value(std::move(blocks)); });
  if (!queued || answer.wait_for(kIndexWait) != std::future_status::ready)
    return Error{Status::Busy, "the index does not answer"};
  std::vector<RawRange> ranges;
  for (const Extent& extent : answer.get()) {
    const int fd = store.pool_fd(extent.pool);
    if (fd >= 0) ranges.push_back({fd, Store::pool_data_offset() + extent.first * block, block});
  }
  if (ranges.empty()) return Error{Status::NotFound, "the store is empty"};
  RawOptions options;
  options.request_size = std::min<uint64_t>(block, options.request_size);
  auto speed = measure_raw_speed(ranges, options);
  if (!speed) return speed.take_error();
  return DriveSpeed{speed->bytes, speed->seconds};
}

}  // namespace penstock
