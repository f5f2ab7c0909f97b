// A mover over stores and an I/O engine of the test's own, so that the moment of what happens is
// chosen.
#include "mover/mover.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>

#include "device/host_device.hpp"
#include "io/memory_engine.hpp"
#include "support/figures.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kBlock = 65536;
constexpr uint32_t kRows = 4, kLayers = 4, kPage = 16384;  // one chunk; four blocks

// Does no I/O. Calls `on_poll` with how often it has been polled, once a step of the mover.
class SteppedEngine final : public IoEngine {
 public:
  SteppedEngine() : IoEngine{1} {}

  std::function<void(int)> on_poll;

  void wake() noexcept override {
    std::scoped_lock lock{mutex_};
    ++wakes_;
    woken_.notify_all();
  }
  // Until that much has been posted to the mover.
  void await_wakes(int count) {
    std::unique_lock lock{mutex_};
    woken_.wait(lock, [&] { return wakes_ >= count; });
  }
  std::string_view name() const noexcept override { return "stepped"; }

 private:
  void submit_impl(std::span<IoRequest* const>) noexcept override {}
  size_t poll_impl(std::span<Attempt>) noexcept override {
    on_poll(++polls_);
    return 0;
  }
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override {
    std::unique_lock lock{mutex_};
    woken_.wait_for(lock, timeout, [&] { return wakes_ > seen_; });
    seen_ = wakes_;
  }

  std::mutex mutex_;
  std::condition_variable woken_;
  int wakes_ = 0, seen_ = 0;
  int polls_ = 0;
};

// The index thread does nothing else until `go` is set.
void hold_index(StoreRig& rig, const std::shared_future<void>& go) {
  ASSERT_TRUE(
      rig.store->find(rig.ns, {name_of(1)}, [go](const std::vector<CopyRecord>&) { go.wait(); }));
}

// Keeps what it has scattered while it is held.
class HoldingDevice final : public Device {
 public:
  HoldingDevice(CopyMaps maps, const IoEngine& io) : host_{std::move(maps)}, io_{io} {}

  std::atomic<bool> held = false;
  std::atomic<size_t> in_flight = 0;  // requests, when the first move was scattered

  void release() {
    held = false;
    wake_();
  }
  size_t batch() const noexcept override { return host_.batch(); }
  size_t submit(std::span<PageMove* const> moves) noexcept override {
    const bool is_first = held && !seen_;
    if (is_first) in_flight = io_.in_flight();
    seen_ |= is_first;
    return host_.submit(moves);
  }
  size_t poll(std::span<PageMove*> done) noexcept override { return held ? 0 : host_.poll(done); }
  std::string_view name() const noexcept override { return "holding"; }
  std::shared_ptr<DeviceTicket> ticket(Stream) noexcept override { return nullptr; }
  void order_after_gathers(Stream) noexcept override {}
  void enter_thread(std::function<void()> wake) noexcept override { wake_ = std::move(wake); }

 private:
  HostDevice host_;
  const IoEngine& io_;
  bool seen_ = false;
  std::function<void()> wake_;
};

class MoverTest : public testing::Test {
 protected:
  static CopyMaps maps_of(const Pages& pages) {
    auto map = CopyMap::create(pages.layout());
    EXPECT_TRUE(map);
    return std::make_shared<const std::vector<CopyMap>>(std::vector<CopyMap>{std::move(*map)});
  }
  std::unique_ptr<Mover> make(TierStores stores, std::unique_ptr<IoEngine> io) {
    const CopyMaps maps = maps_of(pages_);
    return make(std::move(stores), std::move(io), maps, std::make_unique<HostDevice>(maps),
                Staging::create(4, 1 << 20), {});
  }
  static std::unique_ptr<Mover> make(TierStores stores, std::unique_ptr<IoEngine> io,
                                     const CopyMaps& maps, std::unique_ptr<Device> device,
                                     Result<Staging> staging, const MoverOptions& options) {
    PackerOptions packing;
    packing.copy_bytes = kBlock;
    packing.most_bytes = 0;  // it packs nothing
    auto packer = Packer::create(packing);
    EXPECT_TRUE(staging && packer);
    return std::make_unique<Mover>(std::move(stores), maps, std::move(*staging), std::move(io),
                                   nullptr, std::move(device), std::move(*packer), options);
  }
  static JobRequest save(uint64_t chunk = 0) {
    return chain_job(JobKind::Save, 1, chunk, 1, kRows);
  }

  Pages pages_{kLayers, kRows, kPage, kRows};
  TempDir dir_{in_memory()};
};

// Between the mover's last look into its inbox and its end.
TEST_F(MoverTest, BlocksThatAreReservedAtTheVeryEndAreGivenBack) {
  StoreRig drives{options_for(dir_.path(), 8 << 20, kBlock)};
  std::promise<void> begun, go;
  hold_index(drives, go.get_future().share());
  auto io = std::make_unique<SteppedEngine>();
  io->on_poll = [&, &engine = *io](int step) {
    if (step == 1) begun.set_value();
    if (step == 1) engine.await_wakes(2);  // the job, and the end
    if (step != 3) return;                 // what the mover thinks is its last
    go.set_value();
    engine.await_wakes(3);  // the reservation
  };
  auto mover = make({{nullptr, drives.store}}, std::move(io));
  begun.get_future().wait();
  ASSERT_TRUE(mover->submit(save(), {namespace_spec().digest, {0, drives.ns}}));
  mover.reset();
  EXPECT_FALSE(drives.has(1));  // an answer: the figures have seen the reservation
  EXPECT_TRUE(eventually([&] { return blocks_in_use(drives.store->metrics()) == 0; }));
}

// The job has ended meanwhile, but memory has the copy.
TEST_F(MoverTest, ACopyWhoseSaveEndsWhileItIsPublishedGoesToTheDrives) {
  TempDir drive{in_memory()};
  StoreOptions in_memory_options = options_for(dir_.path(), 8 << 20, kBlock);
  in_memory_options.mapped = true;
  StoreRig memory{in_memory_options}, drives{options_for(drive.path(), 8 << 20, kBlock)};
  auto io = std::make_unique<MemoryEngine>(4);
  io->file(drives.store->pool_fd(0));
  auto mover = make({{memory.store, drives.store}}, std::move(io));
  const MoverMetrics& metrics = mover->metrics();

  std::promise<void> reserve, commit;
  hold_index(memory, reserve.get_future().share());
  const auto job = mover->submit(save(), {namespace_spec().digest, {memory.ns, drives.ns}});
  ASSERT_TRUE(job);
  ASSERT_TRUE(eventually([&] { return metrics.save_jobs_open.value() == 1; }));
  hold_index(memory, commit.get_future().share());
  reserve.set_value();
  // Its only run has been moved, and in the same step the commit is asked for.
  ASSERT_TRUE(eventually([&] { return metrics.memory_write.bytes.value() > 0; }));
  mover->cancel(*job);
  ASSERT_TRUE(mover->outbox().wait_result(std::chrono::seconds{20}));
  EXPECT_EQ(mover->outbox().take().front().status, Status::Cancelled);
  commit.set_value();
  EXPECT_TRUE(eventually([&] { return metrics.write_behind_chunks.value() == 1; }));
  EXPECT_TRUE(memory.has(0) && drives.has(0));
  // And what follows it is not in vain.
  ASSERT_TRUE(mover->submit(save(1), {namespace_spec().digest, {memory.ns, drives.ns}}));
  ASSERT_TRUE(mover->outbox().wait_result(std::chrono::seconds{20}));
  EXPECT_EQ(mover->outbox().take().front().status, Status::Ok);
}

TEST_F(MoverTest, ADriveReadsOnWhileTheDeviceHasWhatItBrought) {
  constexpr size_t kChunks = 4, kDepth = 2, kSlots = 6;
  Pages pages{kLayers, kChunks * kRows, kPage, kRows};
  for (uint32_t row = 0; row < kChunks * kRows; ++row) pages.fill(row, row);
  const CopyMaps maps = maps_of(pages);
  StoreRig drives{options_for(dir_.path(), 8 << 20, kBlock)};
  auto io = std::make_unique<MemoryEngine>(kSlots);
  io->file(drives.store->pool_fd(0));
  auto made = std::make_unique<HoldingDevice>(maps, *io);
  HoldingDevice& device = *made;
  MoverOptions options;
  options.io_depth = kDepth;
  auto mover = make({{nullptr, drives.store}}, std::move(io), maps, std::move(made),
                    Staging::create(kSlots, kBlock), options);
  const TierNamespace space{namespace_spec().digest, {0, drives.ns}};
  const auto run = [&](JobKind kind) {
    return mover->submit(chain_job(kind, 1, 0, kChunks, kRows), space);
  };
  ASSERT_TRUE(run(JobKind::Save));
  ASSERT_TRUE(mover->outbox().wait_result(std::chrono::seconds{20}));
  ASSERT_EQ(mover->outbox().take().front().status, Status::Ok);

  pages.wipe();
  device.held = true;
  ASSERT_TRUE(run(JobKind::Load));
  const Counter& read = mover->metrics().io_read.bytes;
  EXPECT_TRUE(eventually([&] { return read.value() >= kSlots * kBlock; })) << read.value();
  EXPECT_EQ(device.in_flight, kDepth) << "the next reads come before the copies of the last";
  device.release();
  ASSERT_TRUE(mover->outbox().wait_result(std::chrono::seconds{20}));
  EXPECT_EQ(mover->outbox().take().front().status, Status::Ok);
  for (uint32_t row = 0; row < kChunks * kRows; ++row) EXPECT_TRUE(pages.holds(row, row)) << row;
}

}  // namespace
}  // namespace penstock::test
