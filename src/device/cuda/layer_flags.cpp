#include "device/cuda/layer_flags.hpp"

#include <atomic>
#include <cstring>

#include "device/device.hpp"

namespace penstock::cuda {
namespace {

constexpr int kWords = 1024;
constexpr uint32_t kMaxLayers = Device::kAllLayers + 1;

}  // namespace

Result<LayerFlags> LayerFlags::create() {
  LayerFlags flags;
  if (const auto error = make_pinned_memory(flags.words_, kWords * sizeof(uint32_t));
      error != cudaSuccess)
    return cuda_error("pinned memory", error);
  std::memset(flags.words_.get(), 0, kWords * sizeof(uint32_t));
  flags.base_.assign(kWords, 0);
  for (int i = kWords; i > 0; --i) flags.free_.push_back(i - 1);
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error = try_cuda([&] {
    return cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &entry, 12000, cudaEnableDefault,
                                            &found);
  });
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess)
    flags.wait_value_ = reinterpret_cast<WaitValue>(entry);
  return flags;
}

LayerFlags::LayerFlags(LayerFlags&& other) noexcept
    : words_{std::move(other.words_)},
      base_{std::move(other.base_)},
      free_{std::move(other.free_)},
      wait_value_{other.wait_value_} {}

void LayerFlags::write(int slot, uint32_t ready) noexcept {
  auto* word = reinterpret_cast<uint32_t*>(words_.get()) + slot;
  std::atomic_ref{*word}.store(base_[static_cast<size_t>(slot)] + ready, std::memory_order_release);
}

void LayerFlags::job_started(JobId job) noexcept {
  std::scoped_lock lock{mutex_};
  jobs_[job] = {};
}

void LayerFlags::layers_ready(JobId job, uint32_t ready) noexcept {
  std::scoped_lock lock{mutex_};
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  found->second.ready = ready;
  if (found->second.slot >= 0) write(found->second.slot, ready);
}

void LayerFlags::job_done(JobId job) noexcept {
  std::scoped_lock lock{mutex_};
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  if (const int slot = found->second.slot; slot >= 0) {
    base_[static_cast<size_t>(slot)] += kMaxLayers;
    write(slot, 0);
    free_.push_back(slot);
  }
  jobs_.erase(found);
}

bool LayerFlags::wait(JobId job, uint32_t layer, cudaStream_t stream) noexcept {
  std::scoped_lock lock{mutex_};
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return true;  // it has ended
  Progress& progress = found->second;
  if (progress.ready > layer) return true;
  if (wait_value_ == nullptr || layer >= kMaxLayers - 1) return false;
  if (progress.slot < 0) {
    if (free_.empty()) return false;
    progress.slot = free_.back();
    free_.pop_back();
    write(progress.slot, progress.ready);
  }
  const auto slot = static_cast<size_t>(progress.slot);
  const auto address = reinterpret_cast<CUdeviceptr>(words_.get() + slot * sizeof(uint32_t));
  return wait_value_(stream, address, base_[slot] + layer + 1, CU_STREAM_WAIT_VALUE_GEQ) ==
         CUDA_SUCCESS;
}

}  // namespace penstock::cuda
