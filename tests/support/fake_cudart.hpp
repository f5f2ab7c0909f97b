// A CUDA runtime of our own for machines without a GPU: two GPUs whose memory is the host's. A
// program that links it runs the CUDA device as it is, with kernels as fake_kernels.hpp says.
//
// Streams are threads and run what they are given in order, so that whatever is not ordered by an
// event or a wait really happens at once. Copies are checked as CUDA checks them (memory of the
// stream's GPU, one pinned piece), and those of one GPU and direction go in the order in which they
// were given, over all streams: a copy behind a stream that waits holds up all later ones, as on a
// GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <span>

namespace penstock::test {

// Makes memory of a test count as memory of a GPU while the result is kept.
std::shared_ptr<void> adopt_as_gpu_memory(std::span<std::byte> memory, int gpu);
// A kernel is launched on a stream of the GPU that the calling thread has made current.
bool may_launch_on(cudaStream_t stream);
// What cudaMemcpyBatchAsync() was given so far: calls, and copies in them.
struct BatchCopies {
  size_t calls = 0, copies = 0;
};
BatchCopies batch_copies();
size_t pinned_bytes();  // of the host, now

}  // namespace penstock::test
