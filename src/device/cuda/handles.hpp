// Stream, Event, GpuMemory, PinnedMemory: CUDA's things, owned. The destructors ignore errors: a
// context that has failed takes everything with it.
//
// Calls go through try_cuda(), which a test can make fail. Any thread.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <string>
#include <utility>

#include "penstock/status.hpp"

namespace penstock::cuda {

// Makes the n-th call of try_cuda() from now on fail (without having had an effect); 0: none.
inline std::atomic<uint64_t> fail_call_for_test{0};

// `call()` returns a cudaError_t; a failed one leaves no error behind in CUDA's own state.
template <typename Call>
cudaError_t try_cuda(Call&& call) noexcept {
  if (fail_call_for_test.load(std::memory_order_relaxed) > 0 && --fail_call_for_test == 0)
    return cudaErrorUnknown;
  const cudaError_t error = call();
  if (error != cudaSuccess && error != cudaErrorNotReady) (void)cudaGetLastError();
  return error;
}

inline Error cuda_error(const char* what, cudaError_t error) {
  const Status status = error == cudaErrorMemoryAllocation ? Status::NoSpace : Status::Unsupported;
  return Error{status, std::string{what} + ": " + cudaGetErrorString(error)};
}

template <typename Handle, cudaError_t (*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(Owned&& other) noexcept : handle_{std::exchange(other.handle_, nullptr)} {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) (void)destroy(handle_);
  }
  Handle get() const noexcept { return handle_; }
  Handle* out() noexcept { return &handle_; }

 private:
  Handle handle_ = nullptr;
};

inline cudaError_t free_gpu(std::byte* memory) noexcept {
  return cudaFree(memory);
}
inline cudaError_t free_pinned(std::byte* memory) noexcept {
  return cudaFreeHost(memory);
}

using CudaStream = Owned<cudaStream_t, cudaStreamDestroy>;
using CudaEvent = Owned<cudaEvent_t, cudaEventDestroy>;
using GpuMemory = Owned<std::byte*, free_gpu>;
using PinnedMemory = Owned<std::byte*, free_pinned>;

inline cudaError_t make_stream(CudaStream& stream, int priority) noexcept {
  return try_cuda(
      [&] { return cudaStreamCreateWithPriority(stream.out(), cudaStreamNonBlocking, priority); });
}
inline cudaError_t make_event(CudaEvent& event) noexcept {
  return try_cuda([&] { return cudaEventCreateWithFlags(event.out(), cudaEventDisableTiming); });
}
inline cudaError_t make_gpu_memory(GpuMemory& memory, size_t bytes) noexcept {
  return try_cuda([&] { return cudaMalloc(reinterpret_cast<void**>(memory.out()), bytes); });
}
inline cudaError_t make_pinned_memory(PinnedMemory& memory, size_t bytes) noexcept {
  return try_cuda([&] { return cudaMallocHost(reinterpret_cast<void**>(memory.out()), bytes); });
}

}  // namespace penstock::cuda
