// Job, ChunkWork and Transfer: what the mover knows of the work in its hands. Mover thread only,
// but for what RowFence says it guards.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "device/page_move.hpp"
#include "io/io_engine.hpp"
#include "penstock/engine.hpp"
#include "store/types.hpp"

namespace penstock {

using Clock = std::chrono::steady_clock;

struct BlockAddress {
  uint32_t pool = 0;
  uint32_t block = 0;
};

// Gives reserved blocks back to the store once neither the chunk nor any write in flight needs
// them, unless they were committed.
class ExtentLease {
 public:
  using Release = std::function<void(std::vector<Extent>)>;
  ExtentLease(std::vector<Extent> extents, Release release)
      : extents_{std::move(extents)}, release_{std::move(release)} {}
  ExtentLease(const ExtentLease&) = delete;
  ExtentLease& operator=(const ExtentLease&) = delete;
  ~ExtentLease() {
    if (!extents_.empty()) release_(std::move(extents_));
  }
  const std::vector<Extent>& extents() const noexcept { return extents_; }
  // The blocks are the committed copy's now.
  std::vector<Extent> hand_over() noexcept { return std::exchange(extents_, {}); }

 private:
  std::vector<Extent> extents_;
  Release release_;
};

enum class ChunkPhase : uint8_t {
  Waiting,   // for the store's answer (record or reservation)
  Moving,    // blocks are read or written
  Settling,  // all blocks moved; waits for the commit or for the store's word on damage
  Done,
};

struct ChunkWork {
  CopyName name;
  Key parent;
  std::span<const int32_t> rows;  // in the job's request
  ChunkPhase phase = ChunkPhase::Waiting;
  Status status = Status::Ok;
  int64_t record_id = 0;
  std::vector<BlockAddress> blocks;
  std::vector<uint64_t> checksums;  // expected (load) or computed (save)
  uint32_t next_block = 0;          // to be issued
  uint32_t moved_blocks = 0;
  std::shared_ptr<ExtentLease> lease;  // save
  bool wished = false;                 // save; asked the store for blocks
  bool fenced = false;                 // save; guarded by RowFence
  bool watched = false;                // save; guarded by RowFence
};

struct Job {
  JobId id = 0;
  JobRequest request;
  Digest digest;  // of the request's namespace
  Clock::time_point started, deadline;
  std::vector<ChunkWork> chunks;
  size_t chunks_left = 0;
  size_t cursor = 0;  // chunk whose blocks are issued next
  uint64_t moved_bytes = 0;
  std::vector<uint32_t>
      layer_pending;  // load: blocks that still cover each layer; empty after a failure
  uint32_t layers_ready = 0;
  bool answered = false;  // the store has answered
  uint32_t moves = 0;     // runs that the device may be at; the pages are not the engine's before 0
  std::shared_ptr<DeviceTicket> ticket;  // of the request's stream
};

// One run in flight: adjacent blocks of one copy, between a drive, a slot and the pages. `job` is
// null once the job has completed without it (a missed deadline): only the slot is then given back.
struct Transfer {
  IoRequest io;
  PageMove move;
  Job* job = nullptr;
  size_t chunk = 0;
  uint32_t first_block = 0;
  uint32_t block_count = 0;
  uint32_t pool = 0;
  std::shared_ptr<ExtentLease> lease;
};

}  // namespace penstock
