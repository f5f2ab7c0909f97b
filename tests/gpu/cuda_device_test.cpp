// The GPU's gather and scatter against the host's: same bytes, same checksums, nothing else
// written.
#include "device/cuda/cuda_device.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <semaphore>
#include <thread>

#include "base/sizes.hpp"
#include "device/host_copy.hpp"
#include "gpu/gpu_arena.hpp"

namespace penstock {
namespace {

using Direction = PageMove::Direction;

struct Geometry {
  const char* name;
  uint64_t page_bytes, stride, rows;
  uint32_t layers, planes, rows_per_chunk;
  uint64_t block_size;
  uint64_t shift;  // of the first page from an aligned address
};

const Geometry kGeometries[] = {
    {"llama_8b", 65536, 65536, 96, 4, 1, 16, 1 << 20, 0},
    {"llama_70b_tp8", 8192, 8192, 96, 6, 1, 16, 1 << 20, 0},
    {"mla", 18432, 18432, 96, 5, 1, 16, 1 << 20, 0},
    {"key_and_value_apart", 16384, 32768, 96, 3, 2, 16, 1 << 20, 0},
    {"layers_in_one_block", 4096, 4096 * 8, 96, 8, 1, 16, 65536, 0},
    {"small_pages", 512, 512, 200, 3, 1, 8, 4096, 0},
    {"odd_pages", 1000, 1003, 200, 3, 1, 8, 4096, 3},
    {"short_copy", 48, 48, 64, 1, 1, 2, 4096, 0},
};

class CudaDeviceTest : public testing::TestWithParam<Geometry> {
 protected:
  void SetUp() override {
    if (!gpu_is_there()) GTEST_SKIP() << "no GPU";
    const Geometry& g = GetParam();
    const uint64_t plane = g.stride * g.rows;
    // Interleaved where the stride leaves room for the other layers' or planes' pages.
    const uint64_t parts = g.layers * g.planes;
    const bool interleaved = g.stride >= parts * g.page_bytes || g.planes == 2;
    const uint64_t bytes = plane * parts + g.shift + 4096;
    arena_.emplace(bytes);
    layout_.rows_per_chunk = g.rows_per_chunk;
    for (uint32_t i = 0; i < parts; ++i) {
      const uint64_t at = !interleaved    ? i * plane
                          : g.planes == 2 ? (i / 2) * plane * 2 + (i % 2) * g.page_bytes
                                          : i * g.page_bytes;
      layout_.regions.push_back(
          {arena_->gpu() + g.shift + at, g.rows, g.stride, g.page_bytes, i / g.planes});
    }
    host_layout_ = layout_;
    for (Region& region : host_layout_.regions)
      region.base = region.base - arena_->gpu() + reinterpret_cast<uint64_t>(arena_->mirror());
    auto map = CopyMap::create(host_layout_);
    ASSERT_TRUE(map) << map.error().message;
    map_.emplace(std::move(*map));
    auto device = CudaDevice::open(0, {layout_});
    ASSERT_TRUE(device) << device.error().message;
    device_ = std::move(*device);
    device_->enter_thread([this] { woken_.release(); });
    rows_.resize(g.rows_per_chunk);
  }

  // Distinct rows, one of them no row.
  void draw_rows(bool with_hole) {
    std::vector<int32_t> all(GetParam().rows);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    std::shuffle(all.begin(), all.end(), random_);
    std::copy_n(all.begin(), rows_.size(), rows_.begin());
    if (with_hole) rows_[rows_.size() / 2] = kNoRow;
  }

  // Block after block of the copy, several blocks a move.
  std::vector<PageMove> moves(Direction direction, std::byte* slots, uint64_t run_blocks) {
    std::vector<PageMove> list;
    const uint64_t run = run_blocks * GetParam().block_size;
    for (uint64_t begin = 0; begin < map_->copy_bytes(); begin += run) {
      PageMove move;
      move.direction = direction;
      move.rows = rows_;
      move.begin = begin;
      move.end = std::min(begin + run, map_->copy_bytes());
      move.block_size = GetParam().block_size;
      move.data = slots + round_up(begin, kSector);
      for (uint64_t at = begin; at < move.end; at += move.block_size)
        move.identities.push_back(at + 7);
      list.push_back(std::move(move));
    }
    return list;
  }

  void run(std::vector<PageMove>& list) {
    size_t submitted = 0, done = 0;
    std::vector<PageMove*> pointers;
    for (PageMove& move : list) pointers.push_back(&move);
    PageMove* finished[8];
    while (done < list.size()) {
      submitted += device_->submit(std::span{pointers}.subspan(submitted));
      const size_t now = device_->poll(finished);
      done += now;
      if (now == 0) woken_.acquire();  // as the mover sleeps until it is woken
    }
  }

  std::counting_semaphore<> woken_{0};
  std::optional<GpuArena> arena_;
  GroupLayout layout_, host_layout_;
  std::optional<CopyMap> map_;
  std::unique_ptr<Device> device_;
  std::vector<int32_t> rows_;
  std::mt19937_64 random_{1};
};

TEST_P(CudaDeviceTest, GathersWhatTheHostGathers) {
  for (const bool with_hole : {false, true}) {
    arena_->fill_random(random_());
    draw_rows(with_hole);
    const uint64_t room = round_up(map_->copy_bytes(), GetParam().block_size) + kSector;
    PinnedBytes slots{room}, expected{room};
    std::memset(slots.data(), 0xEE, room);
    auto list = moves(Direction::Gather, slots.data(), with_hole ? 1 : 2);
    run(list);
    for (const PageMove& move : list) {
      ASSERT_EQ(move.status, Status::Ok);
      for (size_t b = 0; b < move.identities.size(); ++b) {
        const uint64_t begin = move.begin + b * move.block_size;
        const uint64_t size = std::min(move.block_size, move.end - begin);
        const uint64_t sum =
            gather(*map_, rows_, begin, {expected.data() + begin, size}, move.identities[b]);
        EXPECT_EQ(move.checksums[b], sum) << GetParam().name << " block at " << begin;
      }
    }
    EXPECT_EQ(std::memcmp(slots.data(), expected.data(), map_->copy_bytes()), 0);
    const uint64_t end = map_->copy_bytes();
    for (uint64_t i = end; i < round_up(end, kSector); ++i)
      ASSERT_EQ(slots.data()[i], std::byte{0});
  }
}

// As the pools of the DRAM tier are, that are pinned as they grow.
TEST_P(CudaDeviceTest, MovesAcrossMemoryThatWasPinnedInPieces) {
  arena_->fill_random(random_());
  draw_rows(false);
  const uint64_t room = round_up(map_->copy_bytes() + kSector, 4 * kSector);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kSector, room));
  ASSERT_NE(memory, nullptr);
  for (uint64_t at = 0; at < room; at += room / 4) device_->pin({memory + at, room / 4});
  auto gathers = moves(Direction::Gather, memory, 2);
  run(gathers);
  auto scatters = moves(Direction::Scatter, memory, 2);
  run(scatters);
  for (size_t i = 0; i < gathers.size(); ++i) {
    EXPECT_EQ(gathers[i].status, Status::Ok);
    EXPECT_EQ(scatters[i].status, Status::Ok);
    EXPECT_EQ(scatters[i].checksums, gathers[i].checksums);
  }
  EXPECT_TRUE(arena_->equals_mirror());
  device_->unpin({memory, room});
  std::free(memory);
}

TEST_P(CudaDeviceTest, ScattersWhatTheHostScattersAndNothingElse) {
  for (const bool with_hole : {false, true}) {
    arena_->fill_random(random_());
    draw_rows(with_hole);
    const uint64_t room = round_up(map_->copy_bytes(), GetParam().block_size) + kSector;
    PinnedBytes slots{room};
    std::mt19937_64 bytes{random_()};
    for (uint64_t i = 0; i < room; i += 8) {
      const uint64_t word = bytes();
      std::memcpy(slots.data() + i, &word, 8);
    }
    auto list = moves(Direction::Scatter, slots.data(), with_hole ? 2 : 1);
    run(list);
    for (const PageMove& move : list) {
      ASSERT_EQ(move.status, Status::Ok);
      for (size_t b = 0; b < move.identities.size(); ++b) {
        const uint64_t begin = move.begin + b * move.block_size;
        const uint64_t size = std::min(move.block_size, move.end - begin);
        EXPECT_EQ(move.checksums[b],
                  scatter(*map_, rows_, begin, {slots.data() + begin, size}, move.identities[b]));
      }
    }
    EXPECT_TRUE(arena_->equals_mirror()) << GetParam().name;
  }
}

TEST_P(CudaDeviceTest, PagesAreReadAfterTheTicketAndRewrittenAfterTheGather) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  const Stream handle = reinterpret_cast<uint64_t>(stream);
  draw_rows(false);
  PinnedBytes slots{round_up(map_->copy_bytes(), GetParam().block_size) + kSector};
  for (int round = 0; round < 20; ++round) {
    auto list = moves(Direction::Gather, slots.data(), 1);
    arena_->fill_on(stream, 0x11 + round);  // the engine's compute
    const auto ticket = device_->ticket(handle);
    std::vector<PageMove*> pointers;
    for (PageMove& move : list) {
      move.after = ticket;
      pointers.push_back(&move);
    }
    size_t submitted = 0, done = 0;
    PageMove* finished[8];
    while (submitted < list.size()) {
      submitted += device_->submit(std::span{pointers}.subspan(submitted));
      done += device_->poll(finished);
    }
    device_->order_after_gathers(handle);
    arena_->fill_on(stream, 0xAB);  // the next owner of the rows
    while (done < list.size()) done += device_->poll(finished);
    const std::vector<std::byte> expected(map_->copy_bytes(), static_cast<std::byte>(0x11 + round));
    ASSERT_EQ(std::memcmp(slots.data(), expected.data(), expected.size()), 0) << "round " << round;
  }
  cudaStreamDestroy(stream);
}

TEST_P(CudaDeviceTest, MovesFromAndToMemoryOfTheGpu) {
  arena_->fill_random(random_());
  draw_rows(false);
  const uint64_t room = round_up(map_->copy_bytes(), GetParam().block_size) + kSector;
  auto direct = device_->make_direct_memory(room);
  ASSERT_TRUE(direct) << direct.error().message;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(direct->bytes.data()) % kSector, 0U);
  ASSERT_EQ(cudaMemset(direct->bytes.data(), 0xEE, room), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  auto gathers = moves(Direction::Gather, direct->bytes.data(), 2);
  for (PageMove& move : gathers) move.on_device = true;
  run(gathers);
  std::vector<std::byte> there(room), expected(room);
  ASSERT_EQ(cudaMemcpy(there.data(), direct->bytes.data(), room, cudaMemcpyDeviceToHost),
            cudaSuccess);
  const auto compare = [&](const std::vector<PageMove>& list) {
    for (const PageMove& move : list) {
      ASSERT_EQ(move.status, Status::Ok);
      for (size_t b = 0; b < move.identities.size(); ++b) {
        const uint64_t begin = move.begin + b * move.block_size;
        const uint64_t size = std::min(move.block_size, move.end - begin);
        EXPECT_EQ(move.checksums[b],
                  gather(*map_, rows_, begin, {expected.data() + begin, size}, move.identities[b]));
      }
    }
  };
  compare(gathers);
  EXPECT_EQ(std::memcmp(there.data(), expected.data(), map_->copy_bytes()), 0);
  for (uint64_t i = map_->copy_bytes(); i < round_up(map_->copy_bytes(), kSector); ++i)
    ASSERT_EQ(there[i], std::byte{0}) << "what is written to a drive is ours to its last byte";
  arena_->fill_random(random_());  // and back: the pages of these rows are what they were
  auto scatters = moves(Direction::Scatter, direct->bytes.data(), 2);
  for (PageMove& move : scatters) move.on_device = true;
  run(scatters);
  for (uint64_t begin = 0; begin < map_->copy_bytes(); begin += GetParam().block_size) {
    const uint64_t size = std::min(GetParam().block_size, map_->copy_bytes() - begin);
    (void)scatter(*map_, rows_, begin, {expected.data() + begin, size}, 0);
  }
  EXPECT_TRUE(arena_->equals_mirror()) << GetParam().name;
  compare(scatters);
}

TEST_P(CudaDeviceTest, AFailedCallIsAStatusAndTheNextMoveWorks) {
  arena_->fill_random(3);
  draw_rows(false);
  PinnedBytes slots{round_up(map_->copy_bytes(), GetParam().block_size) + kSector};
  for (const Direction direction : {Direction::Gather, Direction::Scatter}) {
    bool failed = true;
    for (uint64_t n = 1; failed; ++n) {
      ASSERT_LT(n, 1000U) << "the calls never end";
      auto list = moves(direction, slots.data(), 1);
      cuda::fail_call_for_test = n;
      run(list);
      failed = cuda::fail_call_for_test == 0;
      cuda::fail_call_for_test = 0;
      bool any = false;
      for (const PageMove& move : list) any |= move.status == Status::Io;
      EXPECT_TRUE(!failed || any) << "call " << n << " failed and nobody was told";
      auto again = moves(direction, slots.data(), 1);
      run(again);
      for (const PageMove& move : again) EXPECT_EQ(move.status, Status::Ok) << "after call " << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Geometries, CudaDeviceTest, testing::ValuesIn(kGeometries),
                         [](const auto& info) { return std::string{info.param.name}; });

class CudaOpenTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!gpu_is_there()) GTEST_SKIP() << "no GPU";
  }
};

TEST_F(CudaOpenTest, RefusesMemoryThatIsNotTheGpus) {
  std::vector<std::byte> host(1 << 20);
  const GroupLayout layout{4, {{reinterpret_cast<uint64_t>(host.data()), 16, 4096, 4096, 0}}};
  const auto device = CudaDevice::open(0, {layout});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.status(), Status::Invalid);
  EXPECT_NE(device.error().message.find("region 0 is not memory of cuda:0"), std::string::npos);
}

TEST_F(CudaOpenTest, RefusesRowsBeyondTheAllocation) {
  GpuArena arena{1 << 20};
  const GroupLayout layout{4, {{arena.gpu(), 1 << 16, 65536, 65536, 0}}};
  EXPECT_EQ(CudaDevice::open(0, {layout}).status(), Status::Invalid);
}

TEST_F(CudaOpenTest, AFullGpuIsAnErrorThatSaysSo) {
  GpuArena arena{1 << 20};
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  std::byte* hog = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&hog), free - (64 << 20)), cudaSuccess);
  const GroupLayout layout{4, {{arena.gpu(), 16, 4096, 4096, 0}}};
  const auto device = CudaDevice::open(0, {layout});
  EXPECT_EQ(device.status(), Status::NoSpace);
  cudaFree(hog);
}

TEST_F(CudaOpenTest, DirectMemoryOutlivesTheDeviceAndNamesItsGpu) {
  GpuArena arena{1 << 20};
  const GroupLayout layout{4, {{arena.gpu(), 16, 4096, 4096, 0}}};
  auto device = CudaDevice::open(0, {layout});
  ASSERT_TRUE(device) << device.error().message;
  auto direct = (*device)->make_direct_memory(1 << 20);
  ASSERT_TRUE(direct) << direct.error().message;
  device->reset();
  EXPECT_EQ(cudaMemset(direct->bytes.data(), 1, direct->bytes.size()), cudaSuccess);
  int ordinal = -1;
  EXPECT_EQ(cudaDeviceGetByPCIBusId(&ordinal, direct->gpu.c_str()), cudaSuccess);
  EXPECT_EQ(ordinal, 0);
  std::thread{[&] {
    direct->enter_thread();
    EXPECT_EQ(cudaGetDevice(&ordinal), cudaSuccess);
    EXPECT_EQ(ordinal, 0);
  }}.join();
}

TEST_F(CudaOpenTest, AStreamWaitsForALayerAndIsFreedWhenTheJobEnds) {
  GpuArena arena{1 << 20};
  const GroupLayout layout{4, {{arena.gpu(), 16, 4096, 4096, 0}}};
  auto device = CudaDevice::open(0, {layout});
  ASSERT_TRUE(device) << device.error().message;
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  const Stream handle = reinterpret_cast<uint64_t>(stream);
  for (JobId job = 1; job < 5; ++job) {
    (*device)->job_started(job);
    ASSERT_TRUE((*device)->wait_layer(job, 2, handle));
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    (*device)->layers_ready(job, 2);
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    if (job % 2 == 0) (*device)->layers_ready(job, 3);
    if (job % 2 == 1) (*device)->job_done(job);  // it failed
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    (*device)->job_done(job);
    EXPECT_TRUE((*device)->wait_layer(job, 0, handle)) << "a job that has ended holds up nobody";
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace penstock
