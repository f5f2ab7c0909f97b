// The few functions of the CUDA driver that the probe needs, found with dlopen and declared here:
// the helper runs where there is none.
//
// CudaGpu owns the primary context of one GPU, current in the thread that made it; GpuMemory owns
// memory there. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "penstock/status.hpp"

namespace penstock::probe {

// The variable that names another library than libcuda.so.1; for tests.
inline constexpr const char* kCudaLibraryVariable = "PENSTOCK_CUDA_DRIVER_LIBRARY";

using GpuUuid = std::array<uint8_t, 16>;
std::string format_uuid(const GpuUuid& uuid);  // "GPU-0123abcd-..."

struct CudaFunctions;

class CudaGpu {
 public:
  // `name`: number, "GPU-<uuid>" or PCI bus id.
  static Result<CudaGpu> open(const std::string& name);
  CudaGpu(CudaGpu&& other) noexcept;
  CudaGpu& operator=(CudaGpu&&) = delete;
  ~CudaGpu();

  const GpuUuid& uuid() const { return uuid_; }
  // Device memory. The address is one of the GPU's; only copies go through it.
  class Memory;
  Result<Memory> allocate(size_t size) const;

 private:
  CudaGpu() = default;
  std::shared_ptr<const CudaFunctions> cuda_;
  int device_ = 0;
  GpuUuid uuid_{};
};

class CudaGpu::Memory {
 public:
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&&) = delete;
  ~Memory();
  std::byte* address() const { return reinterpret_cast<std::byte*>(address_); }
  // Waits; what it copied has arrived.
  Result<void> copy_in(uint64_t offset, const void* source, size_t size) const;
  Result<void> copy_out(void* target, uint64_t offset, size_t size) const;

 private:
  friend class CudaGpu;
  Memory(std::shared_ptr<const CudaFunctions> cuda, uint64_t address)
      : cuda_{std::move(cuda)}, address_{address} {}
  std::shared_ptr<const CudaFunctions> cuda_;
  uint64_t address_;
};

}  // namespace penstock::probe
