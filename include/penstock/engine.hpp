// Engine: the facade. Saves chunks of KV from registered regions into the store, and loads them
// back.
//
// An engine owns a mover thread (once regions are registered) and shares the store of its cache
// directories with every other engine and process that uses them. All calls are thread-safe; a call
// that may wait says for how long. After a fork the child must not use an engine it inherited.
//
// Guarantees: a job completes exactly once, within its deadline, with a status for each chunk. A
// chunk that is reported Ok holds the bytes that were saved under its key; the rows of a failed
// chunk hold undefined bytes; memory outside the rows of a job is never written. No failure of the
// store or of a drive is fatal: it becomes a miss (load) or a dropped chunk (save), and a counter.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "penstock/config.hpp"
#include "penstock/key.hpp"
#include "penstock/region.hpp"
#include "penstock/status.hpp"

namespace penstock {

// The namespace of a set of copies: a digest of everything besides the tokens that must match, and
// a description (JSON) for people, stored beside it.
struct NamespaceSpec {
  Digest digest;
  std::string description;
};
using NamespaceId = int64_t;

// What a group of layers needs for a prefix of n chunks to be usable.
struct GroupNeed {
  uint32_t group = 0;
  uint32_t shards = 1;         // all of them must be there
  uint32_t window_chunks = 0;  // 0: every chunk (full attention); n: the last n chunks only
};

// Where copies lie, from fast to slow.
enum class Tier : uint8_t {
  Local,  // host memory, shared by the processes of a node
  Gds,    // drives
};
inline constexpr size_t kTiers = 2;
inline constexpr std::array<Tier, kTiers> kAllTiers{Tier::Local, Tier::Gds};

// Chunks, from the first on, that can be loaded from `tier` and faster ones.
struct TierRun {
  Tier tier = Tier::Gds;
  uint32_t chunks = 0;
  friend bool operator==(const TierRun&, const TierRun&) = default;
};

// A lookup that is under way. One thread.
class Lookup {
 public:
  struct State;
  explicit Lookup(std::shared_ptr<State> state) : state_{std::move(state)} {}
  // Waits up to `timeout` for the answer: how many chunks, from the first on, can be loaded.
  // nullopt: not known yet. A failed store answers 0.
  std::optional<uint32_t> wait(std::chrono::microseconds timeout);
  // Where they lie, from fast to slow; each run ends behind the one before it, and the last where
  // wait() says. Before wait() has an answer: as the tiers say that have answered by now.
  std::vector<TierRun> runs() const;
  // How many chunks, from the first on, that tier holds itself. 0: none, or it has not answered.
  uint32_t held_by(Tier tier) const;

 private:
  std::shared_ptr<State> state_;
};

inline constexpr int32_t kNoRow = -1;  // a row that is neither read nor written

// A CUDA stream's handle (cudaStream_t; 0 is the default stream); nullopt: the pages are the
// host's, or the caller has synchronized.
using Stream = std::optional<uint64_t>;

// One copy's part in a job.
struct JobChunk {
  Key key;
  Key parent;  // the chunk before it in its chain; all zero for the first
  uint32_t group = 0;
};

enum class JobKind : uint8_t { Save, Load };

struct JobRequest {
  JobKind kind = JobKind::Load;
  NamespaceId namespace_id = 0;
  uint32_t shard = 0;
  bool layerwise = false;        // read layer after layer over all chunks, not chunk after chunk
  std::vector<JobChunk> chunks;  // parents before children
  std::vector<int32_t> rows;     // for each chunk in turn rows_per_chunk of its group; or kNoRow
  std::chrono::milliseconds deadline{0};  // 0: the configured one
  Stream stream = {};  // the pages are touched after what has been given to it up to submit()
};

using JobId = uint64_t;

struct JobResult {
  JobId id = 0;
  JobKind kind = JobKind::Load;
  Status status = Status::Ok;        // Ok, or the status of the first chunk that is not
  std::vector<Status> chunk_status;  // one per chunk of the request
  uint64_t bytes = 0;                // payload bytes moved for the chunks that are Ok
  double seconds = 0;                // from submit to completion
};

// What reading a little of the store took.
struct DriveSpeed {
  uint64_t bytes = 0;
  double seconds = 0;
};

class Engine {
 public:
  // Opens (or shares) the store of config.gds_config.cache_dir. `layouts` may be empty for an
  // engine that only looks things up; otherwise they are registered, and a new store's block size
  // is no larger than the smallest copy. `device` says where the layouts' memory lies: "cpu", or
  // "cuda:N". Waits for the index, and on a GPU for the proof of cuFile (seconds, once a process).
  static Result<std::unique_ptr<Engine>> open(const Config& config,
                                              std::vector<GroupLayout> layouts,
                                              const std::string& device = "cpu");
  ~Engine();  // stops it, and waits for requests that the kernel still has
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Completes every job (Closed) and joins the threads that touch pages; then none is touched any
  // more. Waits a few seconds at most for the drives. Later jobs are refused (Closed).
  void stop();

  // Interns the namespace in the store. Waits for the index, at most 5 s.
  Result<NamespaceId> open_namespace(const NamespaceSpec& spec);

  // The longest usable prefix of `chain`. Never waits; the answer comes through the Lookup.
  Lookup lookup(NamespaceId namespace_id, std::vector<Key> chain, std::vector<GroupNeed> groups);

  // Queues a job. Busy: too many jobs are queued. Invalid: a group, row or count is wrong.
  Result<JobId> submit(JobRequest request);
  // Takes the results of jobs that have completed since the last call. Never waits.
  std::vector<JobResult> poll();
  // Waits until poll() has something to return; false after `timeout`.
  bool wait(std::chrono::milliseconds timeout);
  // Ends a job early; its unfinished chunks are Cancelled. Unknown ids are ignored.
  void cancel(JobId id);
  // Layers of a load that are complete, in order; all of them once the job has completed.
  uint32_t layers_ready(JobId id) const;
  bool wait_layer(JobId id, uint32_t layer, std::chrono::milliseconds timeout) const;
  // Makes the GPU's `stream` wait instead: it goes on when the layer is complete or the job has
  // ended, at the latest at its deadline. False: the pages are the host's, nothing waits. Until
  // then queue kernels behind it, some hundred of them, and nothing else: CUDA lets copies of other
  // streams wait behind a copy that waits, and a launch that finds the stream's queue (1024) full
  // keeps all other threads out. The load would be held up by what waits for it, to its deadline.
  bool wait_layer_on_stream(JobId id, uint32_t layer, Stream stream);

  // The fence: when it returns, no save reads any of `rows` of `group` any more; on a GPU, not
  // before what is given to `stream` from then on. Chunks whose pages were not read yet are
  // Cancelled. Waits for one block's copy at most, on a GPU for a launch; without a stream, for the
  // kernels that read.
  void release_rows(uint32_t group, std::span<const int32_t> rows, Stream stream = {});

  // Reads about `bytes` of what the store holds from its drives, and throws it away. Waits for
  // them; for a thread that may. NotFound: the store is empty.
  Result<DriveSpeed> probe_drives(uint64_t bytes);

  // Deletes nothing and waits for no drive: copies of other namespaces only age.
  std::map<std::string, double> metrics() const;
  // The same as Prometheus names it, penstock_load_bytes_total{tier="gds"}: see docs/METRICS.md.
  std::map<std::string, double> samples() const;
  // What was chosen at open and why, for logs and doctor: "io_engine", "io_reason", "direct", ...
  std::map<std::string, std::string> facts() const;
  uint64_t block_size() const noexcept;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
