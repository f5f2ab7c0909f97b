#include "device/cuda/lane.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/sizes.hpp"

namespace penstock::cuda {
namespace {

constexpr size_t kFlights = 16;  // batches in flight

size_t leaves_of(const PageMove& move) noexcept {
  return div_up(move.bytes(), kLeaf);
}

void CUDART_CB call_wake(void* wake) {
  (*static_cast<std::function<void()>*>(wake))();
}

}  // namespace

Lane::Lane(const LaneOptions& options, const Tables& tables, const PinnedPieces& pinned)
    : options_{options}, tables_{tables}, ring_{options.ring_bytes}, copies_{pinned} {}

Result<std::unique_ptr<Lane>> Lane::create(const LaneOptions& options, const Tables& tables,
                                           const PinnedPieces& pinned) {
  std::unique_ptr<Lane> lane{new Lane{options, tables, pinned}};
  if (const cudaError_t error = lane->allocate(); error != cudaSuccess)
    return cuda_error("staging memory on the GPU", error);
  return lane;
}

// [moves][rows][leaf hashes]
uint64_t Lane::descriptor_bytes() const noexcept {
  return options_.batch_moves * sizeof(DeviceMove) + options_.batch_rows * sizeof(int32_t);
}

uint64_t Lane::hash_offset() const noexcept {
  return round_up(descriptor_bytes(), 256);
}

cudaError_t Lane::allocate() noexcept {
  const uint64_t most = std::max(options_.batch_bytes, options_.largest_move);
  const size_t leaves = most / kLeaf + options_.batch_moves;
  const size_t bytes = hash_offset() + leaves * sizeof(uint64_t);
  cudaError_t error = make_gpu_memory(ring_memory_, options_.ring_bytes);
  const auto also = [&](auto&& make) {
    if (error == cudaSuccess) error = make();
  };
  for (CudaStream& stream : copy_streams_)
    also([&] { return make_stream(stream, options_.priority); });
  for (CudaStream& stream : kernel_streams_)
    also([&] { return make_stream(stream, options_.priority); });
  also([&] { return make_event(turn_); });
  for (size_t i = 0; i < kFlights; ++i) {
    auto flight = std::make_unique<Flight>();
    flight->moves.reserve(options_.batch_moves);
    flight->staging.reserve(options_.batch_moves);
    also([&] { return make_pinned_memory(flight->host, bytes); });
    also([&] { return make_gpu_memory(flight->gpu, bytes); });
    also([&] { return make_event(flight->reached); });
    also([&] { return make_event(flight->kernel_done); });
    free_.push_back(flight.get());
    flights_.push_back(std::move(flight));
  }
  copy_ = copy_streams_[0].get();
  return error;
}

Lane::~Lane() {
  drain();
}

void Lane::drain() noexcept {
  const auto wait = [this](const CudaStream& stream) {
    if (stream.get() == nullptr || cudaStreamSynchronize(stream.get()) == cudaSuccess) return;
    (void)cudaGetLastError();
    broken_ = true;
  };
  for (const CudaStream& stream : copy_streams_) wait(stream);
  for (const CudaStream& stream : kernel_streams_) wait(stream);
}

size_t Lane::submit(std::span<PageMove* const> moves) noexcept {
  size_t accepted = 0;
  while (accepted < moves.size()) {
    if (broken_) {
      for (PageMove* move : moves.subspan(accepted)) {
        move->status = Status::Io;
        done_.push_back(move);
      }
      return moves.size();
    }
    if (free_.empty()) break;
    Flight& flight = *free_.back();
    const size_t count = fill(flight, moves.subspan(accepted));
    if (count == 0) break;
    accepted += count;
    describe(flight);
    in_flight_.push_back(&flight);
    free_.pop_back();
    start_step(flight);
  }
  return accepted;
}

// As many of `moves` as fit a batch and the ring.
size_t Lane::fill(Flight& flight, std::span<PageMove* const> moves) noexcept {
  flight.moves.clear();
  flight.staging.clear();
  flight.leaves = 0;
  uint64_t bytes = 0, rows = 0;
  for (PageMove* move : moves.first(std::min(moves.size(), options_.batch_moves))) {
    const uint64_t size = round_up(move->bytes(), kSector);
    bytes += size;
    rows += move->rows.size();
    const bool is_first = flight.moves.empty();
    if ((!is_first && bytes > options_.batch_bytes) || rows > options_.batch_rows) break;
    std::byte* staging = move->data;
    if (!move->on_device) {
      const auto offset = ring_.take(size);
      if (!offset) break;
      staging = ring_memory_.get() + *offset;
    }
    flight.moves.push_back(move);
    flight.staging.push_back(staging);
    flight.leaves += leaves_of(*move);
  }
  flight.mark = ring_.mark();
  return flight.moves.size();
}

void Lane::describe(Flight& flight) noexcept {
  flight.kernels = kernel_streams_[next_kernel_stream_++ % kernel_streams_.size()].get();
  flight.steps = 0;
  flight.landed = false;
  flight.aligned = true;
  auto* descriptors = reinterpret_cast<DeviceMove*>(flight.host.get());
  auto* rows = reinterpret_cast<int32_t*>(descriptors + options_.batch_moves);
  uint32_t leaf = 0, row = 0;
  for (size_t i = 0; i < flight.moves.size(); ++i) {
    const PageMove& move = *flight.moves[i];
    descriptors[i] = {reinterpret_cast<uint64_t>(flight.staging[i]),
                      move.begin,
                      move.end,
                      move.group,
                      row,
                      leaf,
                      0};
    std::copy(move.rows.begin(), move.rows.end(), rows + row);
    row += static_cast<uint32_t>(move.rows.size());
    leaf += static_cast<uint32_t>(leaves_of(move));
    flight.aligned = flight.aligned && tables_.aligned[move.group];
  }
  Batch& batch = flight.batch;
  batch.regions = tables_.regions;
  batch.groups = tables_.groups;
  batch.keys = tables_.keys;
  batch.moves = reinterpret_cast<const DeviceMove*>(flight.gpu.get());
  batch.rows = reinterpret_cast<const int32_t*>(batch.moves + options_.batch_moves);
  batch.leaf_hashes = reinterpret_cast<uint64_t*>(flight.gpu.get() + hash_offset());
  batch.move_count = static_cast<uint32_t>(flight.moves.size());
  batch.leaf_count = leaf;
}

// The host function holds up the stream that it is in. That does no harm: what comes next there is
// a copy that waits for the other stream's, or another batch's kernel.
void Lane::start_step(Flight& flight) noexcept {
  cudaStream_t stream = nullptr;
  cudaError_t error = scatters() ? scatter_step(flight, stream) : gather_step(flight, stream);
  const auto also = [&](auto&& call) {
    if (error == cudaSuccess) error = try_cuda(call);
  };
  also([&] { return cudaEventRecord(flight.reached.get(), stream); });
  also([&] { return cudaLaunchHostFunc(stream, call_wake, &wake_); });
  if (error == cudaSuccess) {
    ++flight.steps;
  } else {
    fail(flight, error);
  }
}

cudaError_t Lane::scatter_step(Flight& flight, cudaStream_t& stream) noexcept {
  if (flight.steps == 0) {
    const cudaError_t error = take_turn();
    stream = copy_;
    return error == cudaSuccess ? copy_staging(flight, 0, descriptor_bytes()) : error;
  }
  stream = flight.kernels;
  const cudaError_t error = launch(flight);
  if (error != cudaSuccess) return error;
  return try_cuda([&] {
    return cudaMemcpyAsync(flight.host.get() + hash_offset(), flight.gpu.get() + hash_offset(),
                           flight.leaves * sizeof(uint64_t), cudaMemcpyDeviceToHost, stream);
  });
}

cudaError_t Lane::gather_step(Flight& flight, cudaStream_t& stream) noexcept {
  cudaError_t error = try_cuda([&] {
    return cudaMemcpyAsync(flight.gpu.get(), flight.host.get(), descriptor_bytes(),
                           cudaMemcpyHostToDevice, flight.kernels);
  });
  if (error == cudaSuccess) error = launch(flight);
  if (error == cudaSuccess) error = take_turn();
  stream = copy_;
  const cudaEvent_t gathered = flight.kernel_done.get();
  if (error == cudaSuccess)
    error = try_cuda([&] { return cudaStreamWaitEvent(copy_, gathered, 0); });
  return error == cudaSuccess
             ? copy_staging(flight, hash_offset(), flight.leaves * sizeof(uint64_t))
             : error;
}

cudaError_t Lane::wait_tickets(const Flight& flight) noexcept {
  const DeviceTicket* last = nullptr;
  for (const PageMove* move : flight.moves) {
    if (move->after == nullptr || move->after.get() == last) continue;
    last = move->after.get();
    const cudaEvent_t event = static_cast<const Ticket*>(last)->event();
    const cudaError_t error =
        try_cuda([&] { return cudaStreamWaitEvent(flight.kernels, event, 0); });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t Lane::launch(Flight& flight) noexcept {
  const cudaStream_t stream = flight.kernels;
  if (const cudaError_t error = wait_tickets(flight); error != cudaSuccess) return error;
  std::scoped_lock lock{kernel_mutex_};
  cudaError_t error = try_cuda([&] {
    return scatters() ? launch_scatter(flight.batch, flight.aligned, stream)
                      : launch_gather(flight.batch, flight.aligned, stream);
  });
  if (error == cudaSuccess)
    error = try_cuda([&] { return cudaEventRecord(flight.kernel_done.get(), stream); });
  flight.kernel_ran = error == cudaSuccess;
  return error;
}

// What is given to copy_ next follows what was copied by the other.
cudaError_t Lane::take_turn() noexcept {
  copy_ = copy_streams_[copy_ == copy_streams_[0].get() ? 1 : 0].get();
  return try_cuda([&] { return cudaStreamWaitEvent(copy_, turn_.get(), 0); });
}

// Between host and ring, and what the kernels are told or have found with it: each call of its own
// costs the link time.
cudaError_t Lane::copy_staging(const Flight& flight, uint64_t offset, uint64_t bytes) noexcept {
  copies_.clear();
  copies_.add(flight.host.get() + offset, flight.gpu.get() + offset, bytes);
  copies_.flush();
  for (size_t i = 0; i < flight.moves.size(); ++i) {
    const PageMove& move = *flight.moves[i];
    if (!move.on_device) copies_.add(move.data, flight.staging[i], round_up(move.bytes(), kSector));
  }
  copies_.flush();
  const cudaError_t error = copy_all();
  return error == cudaSuccess ? try_cuda([&] { return cudaEventRecord(turn_.get(), copy_); })
                              : error;
}

cudaError_t Lane::copy_all() noexcept {
  if (takes_batches_ && copies_.size() > 1) {
    const cudaError_t error = copy_batch();
    // Memory that is not pinned, or a driver that has no such call.
    if (error != cudaErrorInvalidValue && error != cudaErrorNotSupported) return error;
    takes_batches_ = false;
    log_once(LogLevel::Warning,
             fmt::format("CUDA takes no batch of copies ({}): short ones will be slower",
                         cudaGetErrorString(error)));
  }
  return copy_one_by_one();
}

#if CUDART_VERSION >= 13000
cudaError_t Lane::copy_batch() noexcept {
  void** const to = scatters() ? copies_.gpu() : copies_.host();
  void** const from = scatters() ? copies_.host() : copies_.gpu();
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
  size_t of_all = 0;  // the first copy that the attributes are of
  return try_cuda([&] {
    return cudaMemcpyBatchAsync(to, from, copies_.bytes(), copies_.size(), &attributes, &of_all, 1,
                                copy_);
  });
}
#else  // another signature
cudaError_t Lane::copy_batch() noexcept {
  return cudaErrorNotSupported;
}
#endif

cudaError_t Lane::copy_one_by_one() noexcept {
  for (size_t i = 0; i < copies_.size(); ++i) {
    void *const host = copies_.host()[i], *const gpu = copies_.gpu()[i];
    const size_t bytes = copies_.bytes()[i];
    const cudaError_t error = try_cuda([&] {
      return scatters() ? cudaMemcpyAsync(gpu, host, bytes, cudaMemcpyHostToDevice, copy_)
                        : cudaMemcpyAsync(host, gpu, bytes, cudaMemcpyDeviceToHost, copy_);
    });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

size_t Lane::poll(std::span<PageMove*> done) noexcept {
  start_next_steps();
  const size_t count = std::min(done.size(), done_.size());
  std::copy_n(done_.begin(), count, done.begin());
  done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

// And finishes what has landed, in order.
void Lane::start_next_steps() noexcept {
  for (size_t i = 0; i < in_flight_.size(); ++i) {  // after a failure none is
    Flight& flight = *in_flight_[i];
    if (flight.landed) continue;
    const cudaError_t error = try_cuda([&] { return cudaEventQuery(flight.reached.get()); });
    if (error == cudaErrorNotReady) continue;
    if (error != cudaSuccess) {
      fail(flight, error);
    } else if (flight.steps < steps()) {
      start_step(flight);
    } else {
      flight.landed = true;
    }
  }
  while (!in_flight_.empty() && in_flight_.front()->landed) finish(*in_flight_.front(), Status::Ok);
}

// The oldest flight is over.
void Lane::finish(Flight& flight, Status status) noexcept {
  const auto* hashes = reinterpret_cast<const uint64_t*>(flight.host.get() + hash_offset());
  for (PageMove* move : flight.moves) {
    move->status = status;
    move->checksums.clear();
    const uint64_t* next = hashes;
    uint64_t left = move->bytes();
    for (const uint64_t identity : move->identities) {
      const uint64_t size = std::min(left, move->block_size);
      const size_t leaves = div_up(size, kLeaf);
      move->checksums.push_back(combine_leaves({next, leaves}, identity));
      next += leaves;
      left -= size;
    }
    hashes += leaves_of(*move);
    done_.push_back(move);
  }
  ring_.free_to(flight.mark);
  {
    std::scoped_lock lock{kernel_mutex_};
    flight.kernel_ran = false;
  }
  free_.push_back(in_flight_.front());
  in_flight_.pop_front();
}

// Nothing is known of this flight: wait until the GPU is at none, then return those that are
// through as what they are, this one and the others as failed.
void Lane::fail(Flight& flight, cudaError_t error) noexcept {
  log_once(LogLevel::Error, std::string{"GPU copies: "} + cudaGetErrorString(error));
  drain();
  while (!in_flight_.empty()) {
    Flight& oldest = *in_flight_.front();
    const bool is_through = &oldest != &flight && oldest.steps == steps();
    finish(oldest, is_through && !broken_ ? Status::Ok : Status::Io);
  }
}

// The CPU waits outside the lock, which the mover needs to launch what a kernel may depend on. If
// the event has been recorded anew by then, the kernel that was meant has ended.
void Lane::order_after_kernels(std::optional<cudaStream_t> stream) noexcept {
  std::vector<cudaEvent_t> left;
  {
    std::scoped_lock lock{kernel_mutex_};
    for (const auto& flight : flights_) {
      if (!flight->kernel_ran) continue;
      const cudaEvent_t event = flight->kernel_done.get();
      if (try_cuda([&] { return cudaEventQuery(event); }) == cudaSuccess) continue;
      if (stream && try_cuda([&] { return cudaStreamWaitEvent(*stream, event, 0); }) == cudaSuccess)
        continue;
      left.push_back(event);
    }
  }
  for (const cudaEvent_t event : left) {
    const cudaError_t error = try_cuda([&] { return cudaEventSynchronize(event); });
    if (error != cudaSuccess)
      log_once(LogLevel::Error,
               std::string{"waiting for a GPU copy: "} + cudaGetErrorString(error));
  }
}

}  // namespace penstock::cuda
