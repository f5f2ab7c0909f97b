// LayerFlags: lets a GPU's stream wait for a layer of a load that the mover reports.
//
// One 32-bit word of pinned memory for each job that is waited for; the stream waits until the word
// has reached base + layer + 1 (a stream memory operation), and the mover writes it. Words are
// reused with a higher base, so that a wait that is still queued for an earlier job is satisfied.
// Any thread. job_done() satisfies every wait for the job, also when it failed.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <mutex>
#include <unordered_map>
#include <vector>

#include "device/cuda/handles.hpp"
#include "penstock/engine.hpp"

namespace penstock::cuda {

class LayerFlags {
 public:
  static Result<LayerFlags> create();
  LayerFlags(LayerFlags&&) noexcept;

  void job_started(JobId job) noexcept;
  void layers_ready(JobId job, uint32_t ready) noexcept;
  void job_done(JobId job) noexcept;
  // False: the GPU cannot wait (an old one, or every word is taken); the caller waits itself.
  bool wait(JobId job, uint32_t layer, cudaStream_t stream) noexcept;

 private:
  using WaitValue = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
  struct Progress {
    uint32_t ready = 0;
    int slot = -1;
  };

  LayerFlags() = default;
  void write(int slot, uint32_t ready) noexcept;

  mutable std::mutex mutex_;
  std::unordered_map<JobId, Progress> jobs_;
  PinnedMemory words_;
  std::vector<uint32_t> base_;
  std::vector<int> free_;
  WaitValue wait_value_ = nullptr;
};

}  // namespace penstock::cuda
