// CudaDevice: pages in GPU memory.
//
// Two lanes (gather, scatter), each with its own ring and streams of high priority. Linked against
// the static CUDA runtime, which loads the driver when the first device is opened: the same binary
// runs where there is none. See device.hpp for threads and failures.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/copy_map.hpp"
#include "device/cuda/lane.hpp"
#include "device/cuda/layer_flags.hpp"
#include "device/device.hpp"

namespace penstock {

class CudaDevice final : public Device {
 public:
  static Result<std::unique_ptr<Device>> open(int ordinal, const std::vector<GroupLayout>& layouts);
  ~CudaDevice() override;

  size_t batch() const noexcept override;
  size_t submit(std::span<PageMove* const> moves) noexcept override;
  size_t poll(std::span<PageMove*> done) noexcept override;
  std::string_view name() const noexcept override { return name_; }
  std::shared_ptr<DeviceTicket> ticket(Stream stream) noexcept override;
  void order_after_gathers(Stream stream) noexcept override;
  void job_started(JobId job) noexcept override { flags_.job_started(job); }
  void layers_ready(JobId job, uint32_t ready) noexcept override {
    flags_.layers_ready(job, ready);
  }
  void job_done(JobId job) noexcept override { flags_.job_done(job); }
  bool wait_layer(JobId job, uint32_t layer, Stream stream) noexcept override;
  void pin(std::span<std::byte> memory) noexcept override;
  void unpin(std::span<std::byte> memory) noexcept override;
  Result<DirectMemory> make_direct_memory(size_t bytes) override;
  void enter_thread(std::function<void()> wake) noexcept override;

 private:
  CudaDevice(int ordinal, cuda::LayerFlags flags);
  Result<void> make_tables(const std::vector<GroupLayout>& layouts);
  Result<void> make_lanes(const std::vector<GroupLayout>& layouts);

  int ordinal_;
  std::string name_;
  cuda::Tables tables_;
  cuda::LayerFlags flags_;
  cuda::PinnedPieces pinned_;
  std::unique_ptr<cuda::Lane> gather_, scatter_;
};

// Checks driver and layouts, then opens; see device/open.hpp for the errors.
Result<std::unique_ptr<Device>> open_cuda_device(int ordinal,
                                                 const std::vector<GroupLayout>& layouts,
                                                 const CopyMaps& maps);

}  // namespace penstock
