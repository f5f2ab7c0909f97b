// Job, CopyWork and Transfer: what the mover knows of the work in its hands. Mover thread only, but
// for what RowFence says it guards.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "device/page_move.hpp"
#include "io/io_engine.hpp"
#include "mover/tiers.hpp"
#include "penstock/engine.hpp"
#include "store/types.hpp"

namespace penstock {

using Clock = std::chrono::steady_clock;

struct BlockAddress {
  uint32_t pool = 0;
  uint32_t block = 0;
};

// Gives reserved blocks back to the store once neither the chunk nor any move or write in flight
// needs them, unless they were committed.
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
  // They were not.
  void take_back(std::vector<Extent> extents) noexcept { extents_ = std::move(extents); }

 private:
  std::vector<Extent> extents_;
  Release release_;
};

// A copy that is about to be published; see Publisher.
struct PendingCopy {
  enum class State : uint8_t { Making, Ready, Committing, Dropped };

  NamespaceId ns = 0;  // in the store that it is for
  CopyInsert copy;     // its extents are those of the lease, from the commit on
  std::shared_ptr<ExtentLease> lease;
  State state = State::Making;
  std::function<void(Status)> published;  // what came of the commit; may be empty
  std::function<bool()> waits;  // true: not yet, its parent comes another way; may be empty

  // Nobody is to see it any more. What the store has been given goes its way.
  void drop() {
    if (state == State::Committing) return;
    state = State::Dropped;
    lease.reset();
  }
};

struct Parcel;

// A copy on its way, and where it lies.
struct CopyWork {
  CopyName name;
  Key parent;
  uint64_t bytes = 0;
  Tier tier = Tier::Gds;             // of `blocks`
  std::vector<BlockAddress> blocks;  // where it is read from or written to
  std::vector<BlockAddress> memory;  // where it lies or comes to lie in host memory besides
  std::vector<uint64_t> checksums;   // expected (load) or computed (save)
  uint32_t next_block = 0;           // to be issued
  uint32_t moved_blocks = 0;
  int64_t record_id = 0;  // of the copy that is read
  uint64_t stored = 0;    // bytes in its blocks, once that is known; fewer than `bytes`: packed
  std::shared_ptr<Parcel> parcel;  // where it is packed or unpacked
  // Blocks that are being filled: `blocks` of a save, `memory` of a load that is also promoted.
  std::shared_ptr<ExtentLease> lease;
  std::shared_ptr<PendingCopy> pending;  // to be published once they are
};

enum class ChunkPhase : uint8_t {
  Waiting,   // for a store's answer (record or reservation)
  Moving,    // blocks are read or written
  Settling,  // all blocks moved; waits for the commit or for the store's word on damage
  Done,
};

struct ChunkWork : CopyWork {
  std::span<const int32_t> rows;  // in the job's request
  ChunkPhase phase = ChunkPhase::Waiting;
  Status status = Status::Ok;
  uint32_t next_move = 0;    // load of a packed copy; raw block that is moved to the pages next
  bool moves_begun = false;  // the same; `checksums` are those of the raw blocks
  bool again = false;        // load; was bad in host memory, and comes from the drives
  bool wished = false;       // save; asked a store for blocks
  bool fenced = false;       // save; guarded by RowFence
  bool watched = false;      // save; guarded by RowFence
  bool in_memory = false;    // counted in Job::in_memory
};

struct Job {
  JobId id = 0;
  JobRequest request;
  TierNamespace space;
  Clock::time_point started, deadline;
  std::vector<ChunkWork> chunks;
  size_t chunks_left = 0;
  size_t in_memory = 0;  // of these, what moves between host memory and the pages
  size_t cursor = 0;     // chunk whose blocks are issued next
  uint64_t moved_bytes = 0;
  std::vector<uint32_t>
      layer_pending;  // load: blocks that still cover each layer; empty after a failure
  uint32_t layers_ready = 0;
  size_t pieces = 0;      // load; that the fastest tier was asked for and has not answered
  bool answered = false;  // a store has answered
  bool again = false;     // load; chunks wait for a second round, from the drives
  uint32_t moves = 0;     // runs that the device may be at; the pages are not the engine's before 0
  std::shared_ptr<DeviceTicket> ticket;  // of the request's stream

  bool needs_drives() const noexcept { return chunks_left > in_memory; }
  void count_in_memory(ChunkWork& chunk, bool is) noexcept {
    if (chunk.in_memory) --in_memory;
    if (is) ++in_memory;
    chunk.in_memory = is;
  }
};

// The way of a run. Each has its own limit, so that none can take another's place.
enum class Route : uint8_t {
  Staged,    // drive, slot, pages; either direction
  Direct,    // the same, with a slot in memory of the GPU
  Memory,    // host memory that is a tier, pages; either direction
  Promote,   // drive, host memory, pages
  Behind,    // host memory, drive
  Sync,      // no run: an fdatasync
  Packed,    // drive, parcel; either direction
  Unpacked,  // parcel, pages; either direction
};
inline constexpr size_t kRoutes = 8;
constexpr bool has_slot(Route route) noexcept {
  return route == Route::Staged || route == Route::Direct;
}

struct BehindCopy;

// One run in flight: adjacent blocks of one copy. `job` is null once the job has completed without
// it (a missed deadline), and for what belongs to no job: only its place is then given back.
struct Transfer {
  IoRequest io;
  PageMove move;
  Route route = Route::Staged;
  std::byte* slot = nullptr;  // where the route has one
  Job* job = nullptr;
  size_t chunk = 0;
  std::shared_ptr<BehindCopy> behind;  // Behind
  uint32_t first_block = 0;
  uint32_t block_count = 0;
  uint32_t pool = 0;
  bool on_pool = false;                 // counted as one of the pool's requests
  bool ends_layer = false;              // somebody waits for it: the device need not wait for more
  Clock::time_point requested, handed;  // to the I/O engine; to the device
  std::shared_ptr<ExtentLease> lease;
  std::shared_ptr<Parcel> parcel;  // Packed, Unpacked and some of Behind
};

}  // namespace penstock
