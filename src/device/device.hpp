// Device: where the engine's pages live. Moves runs between staging memory and pages, and hashes
// them on the way: submit() some moves, poll() what is done. `HostDevice` for pages that the CPU
// addresses, `CudaDevice` for pages in GPU memory.
//
// One thread (the mover's) submits and polls. A move, its rows and its memory stay in place until
// poll() has returned it. Every accepted move comes back exactly once, in the order of submission
// within a direction. A failure of the device is a move's status, never a crash; pages outside a
// move's rows are not written. The functions that say "any thread" do not wait for the CPU side.
#pragma once

#include <functional>
#include <string_view>

#include "device/direct_memory.hpp"
#include "device/page_move.hpp"
#include "penstock/engine.hpp"

namespace penstock {

class Device {
 public:
  virtual ~Device() = default;  // waits for the moves in flight; they are lost

  // How many moves are worth submitting together: each batch costs a launch on a GPU, and holds up
  // the caller on the host.
  virtual size_t batch() const noexcept = 0;
  // Accepts a prefix of `moves`, all of one direction, and returns its length: fewer when staging
  // memory of the device is full.
  virtual size_t submit(std::span<PageMove* const> moves) noexcept = 0;
  // Never waits.
  virtual size_t poll(std::span<PageMove*> done) noexcept = 0;
  virtual std::string_view name() const noexcept = 0;

  // Any thread. What `stream` has been given so far; null where there is nothing to wait for.
  virtual std::shared_ptr<DeviceTicket> ticket(Stream stream) noexcept = 0;
  // Any thread. Work given to `stream` from now on starts after the gathers submitted so far have
  // read their pages. Without a stream it waits for that itself.
  virtual void order_after_gathers(Stream stream) noexcept = 0;

  // Layers of a load for GPU streams to wait for. Any thread; the flag is freed by job_done().
  static constexpr uint32_t kAllLayers = 65535;
  virtual void job_started(JobId) noexcept {}
  virtual void layers_ready(JobId, uint32_t) noexcept {}
  virtual void job_done(JobId) noexcept {}
  // True: `stream` will wait until layer `layer` is ready or the job has ended. False: this device
  // has no streams.
  virtual bool wait_layer(JobId, uint32_t, Stream) noexcept { return false; }

  // Makes host memory fast to copy from and to. Failing is harmless: the copies are slower.
  virtual void pin(std::span<std::byte>) noexcept {}
  virtual void unpin(std::span<std::byte>) noexcept {}

  // Memory of the device for moves with `on_device`. Any thread. Unsupported: the pages are the
  // host's.
  virtual Result<DirectMemory> make_direct_memory(size_t) {
    return Error{Status::Unsupported, "the pages are in host memory"};
  }

  // Called once by the thread that submits, before anything else. `wake` is called, by any thread,
  // when poll() may have something to return.
  virtual void enter_thread(std::function<void()>) noexcept {}
};

}  // namespace penstock
