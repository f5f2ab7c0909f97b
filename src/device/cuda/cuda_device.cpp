#include "device/cuda/cuda_device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

using cuda::cuda_error;
using cuda::try_cuda;

// At the link's speed a kernel may wait for its turn on the GPU for 2 ms, as long as a large matrix
// product, and a scatter's for the CPU as well.
constexpr uint64_t kGatherRing = 128 << 20;
constexpr uint64_t kScatterRing = 256 << 20;
// Of one launch. What the engine copies to the host waits for one of them, and with half of it a
// save of small pages is slower than 95 % of the link.
constexpr uint64_t kBatchBytes = 32 << 20;
constexpr size_t kBatchMoves = 32;                    // of a mebibyte, as layerwise loads have them
constexpr uint64_t kMostPinned = uint64_t{64} << 30;  // in one call: 512 GiB were seen to fail

cudaStream_t handle(Stream stream) {
  return reinterpret_cast<cudaStream_t>(*stream);
}

// Makes the GPU current for a scope, as the caller's thread may be working with another.
class Current {
 public:
  explicit Current(int ordinal) noexcept {
    (void)cudaGetDevice(&before_);
    if (before_ != ordinal) (void)cudaSetDevice(ordinal);
    changed_ = before_ != ordinal;
  }
  ~Current() {
    if (changed_) (void)cudaSetDevice(before_);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

Result<void> check_address(uint64_t address, int ordinal, size_t group, size_t region) {
  cudaPointerAttributes attributes{};
  const cudaError_t error = try_cuda([&] {
    return cudaPointerGetAttributes(&attributes, reinterpret_cast<const void*>(address));
  });
  const bool here = error == cudaSuccess && attributes.type == cudaMemoryTypeDevice &&
                    attributes.device == ordinal;
  if (here) return {};
  return Error{Status::Invalid, fmt::format("group {}: region {} is not memory of cuda:{}: address "
                                            "{:#x}",
                                            group, region, ordinal, address)};
}

Result<void> check_layouts(const std::vector<GroupLayout>& layouts, int ordinal) {
  for (size_t g = 0; g < layouts.size(); ++g) {
    for (size_t r = 0; r < layouts[g].regions.size(); ++r) {
      const Region& region = layouts[g].regions[r];
      if (region.page_bytes * layouts[g].rows_per_chunk > UINT32_MAX)
        return Error{Status::Invalid, fmt::format("group {}: region {} has more than 4 GiB in a "
                                                  "chunk",
                                                  g, r)};
      const uint64_t last =
          region.base + (region.rows - 1) * region.row_stride + region.page_bytes - 1;
      for (const uint64_t address : {region.base, last})
        if (auto ok = check_address(address, ordinal, g, r); !ok) return ok;
    }
  }
  return {};
}

void unregister(std::byte* start) {
  (void)try_cuda([&] { return cudaHostUnregister(start); });
}

bool is_aligned(const GroupLayout& layout) {
  return std::all_of(layout.regions.begin(), layout.regions.end(), [](const Region& region) {
    return (region.base | region.row_stride | region.page_bytes) % sizeof(uint4) == 0;
  });
}

// What CUDA calls an insufficient driver may be none at all.
std::string reason_of(cudaError_t error) {
  int version = 0;
  if (error != cudaErrorInsufficientDriver || cudaDriverGetVersion(&version) != cudaSuccess)
    return cudaGetErrorString(error);
  if (version == 0)
    return "there is no NVIDIA driver here; install it, or let the container have it (docker: "
           "--gpus all)";
  return fmt::format("the NVIDIA driver serves CUDA {}.{}, and this build uses {}.{}: update it",
                     version / 1000, version % 1000 / 10, CUDART_VERSION / 1000,
                     CUDART_VERSION % 1000 / 10);
}

}  // namespace

Result<std::unique_ptr<Device>> open_cuda_device(int ordinal,
                                                 const std::vector<GroupLayout>& layouts,
                                                 const CopyMaps&) {
  int count = 0;
  if (const auto error = try_cuda([&] { return cudaGetDeviceCount(&count); }); error != cudaSuccess)
    return Error{Status::Unsupported, fmt::format("cuda:{}: {}", ordinal, reason_of(error))};
  if (ordinal >= count)
    return Error{Status::Unsupported,
                 fmt::format("cuda:{} does not exist: CUDA shows {} GPU(s)", ordinal, count)};
  return CudaDevice::open(ordinal, layouts);
}

Result<std::unique_ptr<Device>> CudaDevice::open(int ordinal,
                                                 const std::vector<GroupLayout>& layouts) {
  const Current current{ordinal};
  if (auto ok = check_layouts(layouts, ordinal); !ok) return ok.take_error();
  auto flags = cuda::LayerFlags::create();
  if (!flags) return flags.take_error();
  std::unique_ptr<CudaDevice> device{new CudaDevice{ordinal, std::move(*flags)}};
  if (auto ok = device->make_tables(layouts); !ok) return ok.take_error();
  if (auto ok = device->make_lanes(layouts); !ok) return ok.take_error();
  return std::unique_ptr<Device>{std::move(device)};
}

CudaDevice::CudaDevice(int ordinal, cuda::LayerFlags flags)
    : ordinal_{ordinal}, name_{fmt::format("cuda:{}", ordinal)}, flags_{std::move(flags)} {}

CudaDevice::~CudaDevice() {
  const Current current{ordinal_};
  gather_.reset();
  scatter_.reset();
  pinned_.remove_all(unregister);
}

// [keys][groups][regions]
Result<void> CudaDevice::make_tables(const std::vector<GroupLayout>& layouts) {
  std::vector<cuda::DeviceGroup> groups;
  std::vector<cuda::DeviceRegion> regions;
  for (const GroupLayout& layout : layouts) {
    groups.push_back(
        {static_cast<uint32_t>(regions.size()), static_cast<uint32_t>(layout.regions.size())});
    uint64_t start = 0;
    for (const Region& region : layout.regions) {
      regions.push_back(
          {region.base, region.row_stride, start, static_cast<uint32_t>(region.page_bytes), 0});
      start += region.page_bytes * layout.rows_per_chunk;
    }
    tables_.aligned.push_back(is_aligned(layout));
  }
  const cuda::HashKeys keys = cuda::hash_keys();
  const size_t groups_at = sizeof(keys);
  const size_t regions_at = round_up(groups_at + groups.size() * sizeof(groups[0]), 16);
  std::vector<std::byte> image(regions_at + regions.size() * sizeof(regions[0]));
  std::memcpy(image.data(), &keys, sizeof(keys));
  std::memcpy(image.data() + groups_at, groups.data(), groups.size() * sizeof(groups[0]));
  std::memcpy(image.data() + regions_at, regions.data(), regions.size() * sizeof(regions[0]));
  cudaError_t error = make_gpu_memory(tables_.memory, image.size());
  if (error == cudaSuccess)
    error = try_cuda([&] {
      return cudaMemcpy(tables_.memory.get(), image.data(), image.size(), cudaMemcpyHostToDevice);
    });
  if (error != cudaSuccess) return cuda_error("tables on the GPU", error);
  std::byte* base = tables_.memory.get();
  tables_.keys = reinterpret_cast<const cuda::HashKeys*>(base);
  tables_.groups = reinterpret_cast<const cuda::DeviceGroup*>(base + groups_at);
  tables_.regions = reinterpret_cast<const cuda::DeviceRegion*>(base + regions_at);
  return {};
}

Result<void> CudaDevice::make_lanes(const std::vector<GroupLayout>& layouts) {
  size_t rows = 0;
  for (const GroupLayout& layout : layouts) rows = std::max<size_t>(rows, layout.rows_per_chunk);
  int lowest = 0, highest = 0;
  (void)cudaDeviceGetStreamPriorityRange(&lowest, &highest);
  cuda::LaneOptions options;
  options.batch_bytes = kBatchBytes;
  options.largest_move = kMaxBlock;
  options.batch_moves = kBatchMoves;
  options.batch_rows = kBatchMoves * rows;
  options.priority = highest;
  for (auto* lane : {&gather_, &scatter_}) {
    const bool gathers = lane == &gather_;
    options.direction = gathers ? PageMove::Direction::Gather : PageMove::Direction::Scatter;
    options.ring_bytes = std::max(gathers ? kGatherRing : kScatterRing, 2 * kMaxBlock);
    auto made = cuda::Lane::create(options, tables_, pinned_);
    if (!made) return made.take_error();
    *lane = std::move(*made);
  }
  return {};
}

size_t CudaDevice::batch() const noexcept {
  return kBatchMoves;
}

void CudaDevice::enter_thread(std::function<void()> wake) noexcept {
  (void)cudaSetDevice(ordinal_);
  gather_->on_done(wake);
  scatter_->on_done(std::move(wake));
}

Result<DirectMemory> CudaDevice::make_direct_memory(size_t bytes) {
  const Current current{ordinal_};
  auto memory = std::make_shared<cuda::GpuMemory>();
  // CUDA aligns small pieces to less than a sector.
  if (const auto error = make_gpu_memory(*memory, bytes + kSector); error != cudaSuccess)
    return cuda_error("memory for GPUDirect Storage", error);
  char bus_id[32] = {};
  if (const auto error =
          try_cuda([&] { return cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, ordinal_); });
      error != cudaSuccess)
    return cuda_error("the GPU's PCI bus id", error);
  const auto address = reinterpret_cast<uintptr_t>(memory->get());
  const std::span<std::byte> span{memory->get() + (round_up(address, kSector) - address), bytes};
  return DirectMemory{span, std::move(memory), bus_id,
                      [ordinal = ordinal_] { (void)cudaSetDevice(ordinal); }};
}

size_t CudaDevice::submit(std::span<PageMove* const> moves) noexcept {
  if (moves.empty()) return 0;
  const bool scatters = moves.front()->direction == PageMove::Direction::Scatter;
  return (scatters ? scatter_ : gather_)->submit(moves);
}

size_t CudaDevice::poll(std::span<PageMove*> done) noexcept {
  const size_t count = scatter_->poll(done);
  return count + gather_->poll(done.subspan(count));
}

std::shared_ptr<DeviceTicket> CudaDevice::ticket(Stream stream) noexcept {
  if (!stream) return nullptr;
  const Current current{ordinal_};
  cuda::CudaEvent event;
  cudaError_t error = make_event(event);
  if (error == cudaSuccess)
    error = try_cuda([&] { return cudaEventRecord(event.get(), handle(stream)); });
  if (error == cudaSuccess) return std::make_shared<cuda::Ticket>(std::move(event));
  // Without the event nobody could know when the pages are ready.
  (void)try_cuda([&] { return cudaStreamSynchronize(handle(stream)); });
  return nullptr;
}

void CudaDevice::order_after_gathers(Stream stream) noexcept {
  gather_->order_after_kernels(stream ? std::optional{handle(stream)} : std::nullopt);
}

bool CudaDevice::wait_layer(JobId job, uint32_t layer, Stream stream) noexcept {
  return stream && flags_.wait(job, layer, handle(stream));
}

void CudaDevice::pin(std::span<std::byte> memory) noexcept {
  const Current current{ordinal_};
  for (size_t at = 0; at < memory.size(); at += kMostPinned) {
    const auto piece = memory.subspan(at, std::min(kMostPinned, memory.size() - at));
    const auto error = try_cuda(
        [&] { return cudaHostRegister(piece.data(), piece.size(), cudaHostRegisterPortable); });
    if (error != cudaSuccess) {
      log_once(LogLevel::Warning,
               fmt::format("cannot pin {} bytes ({}): copies will be slower; raise the limit on "
                           "locked memory (ulimit -l)",
                           piece.size(), cudaGetErrorString(error)));
      return;
    }
    pinned_.add(piece);
  }
}

void CudaDevice::unpin(std::span<std::byte> memory) noexcept {
  const Current current{ordinal_};
  pinned_.remove(memory, unregister);
}

}  // namespace penstock
