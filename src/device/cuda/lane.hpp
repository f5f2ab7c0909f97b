// Lane: the moves of one direction, batch after batch, through a ring of staging memory on the GPU.
//
//   scatter   host --copy engine--> ring --kernel: hash, pages--> leaf hashes --> host
//   gather    pages --kernel: hash--> ring --copy engine--> host, leaf hashes --> host
//
// The copies of all batches follow each other, on two streams in turn: while one waits for the
// other, what the engine copies itself gets the link (docs/decisions/0013). Kernels take turns on
// several streams. So copies overlap with kernels, and all batches that wait for a gap between the
// engine's own kernels run in the same one. A scatter's kernel is launched by poll(), once the
// copies are seen to be there: one that waited for them on the GPU would hold up the copies behind
// them (docs/decisions/0014). Owned and driven by one thread (the mover's), with the GPU current;
// what says so is for any thread. All memory is allocated at open. After an error of CUDA the
// batch's moves are returned as Io, and those of batches behind it whose kernels were not launched;
// if the streams cannot be drained after it, so is everything from then on.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "device/cuda/copy_kernels.hpp"
#include "device/cuda/copy_list.hpp"
#include "device/cuda/handles.hpp"
#include "device/cuda/pinned_pieces.hpp"
#include "device/cuda/ring.hpp"
#include "device/page_move.hpp"

namespace penstock::cuda {

// Reached when the work that a stream had been given has been done.
class Ticket final : public DeviceTicket {
 public:
  explicit Ticket(CudaEvent event) : event_{std::move(event)} {}
  cudaEvent_t event() const noexcept { return event_.get(); }

 private:
  CudaEvent event_;
};

// The layouts, in GPU memory.
struct Tables {
  GpuMemory memory;
  const DeviceRegion* regions = nullptr;
  const DeviceGroup* groups = nullptr;
  const HashKeys* keys = nullptr;
  std::vector<bool> aligned;  // by group
};

struct LaneOptions {
  PageMove::Direction direction = PageMove::Direction::Scatter;
  uint64_t ring_bytes = 0;   // at least twice the larger of the next two
  uint64_t batch_bytes = 0;  // of one launch; a larger move goes alone
  uint64_t largest_move = 0;
  size_t batch_moves = 0;
  size_t batch_rows = 0;  // at least the rows of batch_moves chunks
  int priority = 0;
};

class Lane {
 public:
  static Result<std::unique_ptr<Lane>> create(const LaneOptions& options, const Tables& tables,
                                              const PinnedPieces& pinned);
  ~Lane();  // waits for the GPU

  // See Device. `wake` is called by a thread of CUDA's after each batch.
  void on_done(std::function<void()> wake) { wake_ = std::move(wake); }
  size_t submit(std::span<PageMove* const> moves) noexcept;
  size_t poll(std::span<PageMove*> done) noexcept;
  // Any thread: `stream` goes on after the kernels launched so far; without one, or where CUDA
  // refuses that, the caller does.
  void order_after_kernels(std::optional<cudaStream_t> stream) noexcept;

 private:
  struct Flight {
    std::vector<PageMove*> moves;
    std::vector<std::byte*> staging;  // of each move
    size_t leaves = 0;
    uint64_t mark = 0;               // of the ring
    PinnedMemory host;               // descriptors, then leaf hashes
    GpuMemory gpu;                   // the same
    cudaStream_t kernels = nullptr;  // one of the lane's
    Batch batch;
    bool aligned = true;
    size_t steps = 0;     // started
    CudaEvent reached;    // when the last of them has ended
    bool landed = false;  // all have
    CudaEvent kernel_done;
    bool kernel_ran = false;  // since it was last filled; guarded by kernel_mutex_
  };

  Lane(const LaneOptions& options, const Tables& tables, const PinnedPieces& pinned);
  cudaError_t allocate() noexcept;
  size_t fill(Flight& flight, std::span<PageMove* const> moves) noexcept;
  void describe(Flight& flight) noexcept;
  // A scatter: copies, kernel. A gather: both at once, so that it has its place before whatever the
  // engine does next to the pages (Device::order_after_gathers()).
  size_t steps() const noexcept { return scatters() ? 2 : 1; }
  void start_step(Flight& flight) noexcept;
  cudaError_t scatter_step(Flight& flight, cudaStream_t& stream) noexcept;
  cudaError_t gather_step(Flight& flight, cudaStream_t& stream) noexcept;
  cudaError_t launch(Flight& flight) noexcept;
  cudaError_t take_turn() noexcept;
  cudaError_t copy_staging(const Flight& flight, uint64_t offset, uint64_t bytes) noexcept;
  cudaError_t copy_all() noexcept;
  cudaError_t copy_batch() noexcept;
  cudaError_t copy_one_by_one() noexcept;
  cudaError_t wait_tickets(const Flight& flight) noexcept;
  void start_next_steps() noexcept;
  void finish(Flight& flight, Status status) noexcept;
  void fail(Flight& flight, cudaError_t error) noexcept;
  void drain() noexcept;
  uint64_t descriptor_bytes() const noexcept;
  uint64_t hash_offset() const noexcept;
  bool scatters() const noexcept { return options_.direction == PageMove::Direction::Scatter; }

  LaneOptions options_;
  const Tables& tables_;
  Ring ring_;
  GpuMemory ring_memory_;
  std::array<CudaStream, 2> copy_streams_;
  cudaStream_t copy_ = nullptr;  // of these, the one whose turn it is
  CudaEvent turn_;               // the other's copies
  // The batches that fill the ring. More would share the driver's queues (8), and wait in them.
  std::array<CudaStream, 4> kernel_streams_;
  size_t next_kernel_stream_ = 0;
  CopyList copies_;
  bool takes_batches_ = true;  // CUDA, of the memory that it has been given so far
  std::function<void()> wake_;
  std::vector<std::unique_ptr<Flight>> flights_;  // all; fixed after open
  std::vector<Flight*> free_;
  std::deque<Flight*> in_flight_;  // oldest first
  std::deque<PageMove*> done_;
  bool broken_ = false;

  std::mutex kernel_mutex_;  // guards the recording of a flight's kernel_done against its use
};

}  // namespace penstock::cuda
