// MoveQueue: the runs that wait for the device, and those that it has. Mover thread only.
//
// A run counts as one of its job's `moves` from the moment that it is given to the queue until its
// handler has been called or it was dropped; a job is not reported before it has none, because the
// device may be writing its pages. Bounded by the transfers that there are.
#pragma once

#include <functional>
#include <vector>

#include "device/device.hpp"
#include "mover/transfer_pool.hpp"

namespace penstock {

class MoveQueue {
 public:
  using Handler = std::function<void(Transfer&)>;

  MoveQueue(Device& device, TransferPool& transfers, MoverMetrics& metrics)
      : device_{device}, transfers_{transfers}, metrics_{metrics} {}
  // What is called for each move that is done: `gathered` owns the transfer from then on; after
  // `scattered` its slot is given back.
  void on_done(Handler gathered, Handler scattered) {
    gathered_ = std::move(gathered);
    scattered_ = std::move(scattered);
  }

  Device& device() noexcept { return device_; }
  void add_scatter(Transfer& transfer);
  void add_gather(Transfer& transfer);
  // True if as many gathers wait as are worth submitting together.
  bool gathers_are_due() const noexcept { return gathers_.size() >= device_.batch(); }
  // True if there are gathers that the device has not taken yet.
  bool has_gathers() const noexcept { return !gathers_.empty(); }

  // Gives scatters to the device, in order and in batches; those whose chunk has failed are
  // dropped. A batch ends with a layer. While the device has work, one that is not full waits for
  // more, or what was cut once would be launched in small pieces from then on. True if any.
  bool submit_scatters();
  // The same for gathers, through `submit(batch)`, which says how many it has given on, and calls
  // submit_to_device() for that. True if any.
  using Submit = std::function<size_t(std::span<Transfer* const>)>;
  bool submit_gathers(const Submit& submit);
  size_t submit_to_device(std::span<Transfer* const> batch) noexcept;
  // Calls the handlers of what is done. True if any.
  bool poll();

 private:
  size_t next_batch(size_t from) const noexcept;
  void drop_dead(std::vector<Transfer*>& list);
  void release(Transfer& transfer) noexcept;
  void note_done(const Transfer& transfer) noexcept;

  Device& device_;
  TransferPool& transfers_;
  MoverMetrics& metrics_;
  Handler gathered_, scattered_;
  std::vector<Transfer*> scatters_, gathers_;  // not with the device yet
  size_t scattering_ = 0;                      // moves that the device has
  std::vector<PageMove*> moves_;               // scratch
};

}  // namespace penstock
