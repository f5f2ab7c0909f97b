#include "mover/mover.hpp"

#include <fmt/format.h>
#include <time.h>

namespace penstock {
namespace {

constexpr std::chrono::seconds kSyncPeriod{5};
// Few at a time: on the host each is copied and hashed before the next request is started, and the
// drive must not run dry meanwhile.
constexpr size_t kIoBatch = 4;
constexpr std::chrono::hours kLongestSleep{1};
// At the end, for copies on their way to a drive and for requests. What the kernel still has then
// is waited for by the I/O engine's destructor, however long: it may write to memory that goes
// next.
constexpr std::chrono::seconds kLastWait{2};

uint64_t thread_cpu_micros() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// What a GPU's ring holds, in blocks of a mebibyte; on the host, where each batch is done at once,
// few, so that the drive does not run dry meanwhile.
constexpr size_t kMemoryBatches = 8;

TransferLimits limits_of(const TierStores& stores, const MoverOptions& options,
                         const Device& device, const Packer& packer) {
  TransferLimits limits;
  limits.pools = stores.has(Tier::Gds) ? stores.get(Tier::Gds)->pool_count() : 0;
  limits.depth = options.io_depth;
  limits.memory = stores.has(Tier::Local) ? kMemoryBatches * device.batch() : 0;
  limits.unpacked = packer.parcels() > 0 ? kMemoryBatches * device.batch() : 0;
  limits.batch = std::max(kIoBatch, device.batch());
  return limits;
}

Error invalid(std::string message) {
  return Error{Status::Invalid, std::move(message)};
}

}  // namespace

Mover::Mover(TierStores stores, CopyMaps maps, Staging staging, std::unique_ptr<IoEngine> io,
             std::unique_ptr<DirectPath> direct, std::unique_ptr<Device> device,
             std::unique_ptr<Packer> packer, const MoverOptions& options)
    : stores_{std::move(stores)},
      maps_{std::move(maps)},
      options_{options},
      staging_{std::move(staging)},
      packer_{std::move(packer)},
      transfers_{*io, staging_, direct.get(), limits_of(stores_, options, *device, *packer_),
                 metrics_},
      io_{std::move(io)},
      direct_{std::move(direct)},
      device_{std::move(device)},
      moves_{*device_, transfers_, metrics_},
      inbox_{std::make_shared<Inbox>(*io_)},
      context_{stores_,
               *maps_,
               transfers_,
               moves_,
               inbox_,
               outbox_,
               fence_,
               metrics_,
               options.max_concurrent_ops,
               stores_.get(stores_.slowest())->block_size(),
               *packer_},
      loader_{context_},
      behind_{context_, options.save_deadline},
      saver_{context_, behind_} {
  moves_.on_done([this](Transfer& transfer) { saver_.gathered(transfer); },
                 [this](Transfer& transfer) { loader_.scattered(transfer); });
  packer_->on_free([inbox = inbox_] { inbox->post([] {}); });
  thread_ = std::thread{[this] { run(); }};
}

Mover::~Mover() {
  stop();
  if (pins_) stores_.get(Tier::Local)->unlisten();
}

void Mover::stop() {
  std::scoped_lock lock{stop_mutex_};
  if (!thread_.joinable()) return;
  inbox_->post([this] { stopping_ = true; });
  thread_.join();
}

// Another engine of the process may do so already; when it has gone, this one does.
void Mover::pin_memory() {
  Store* const memory = stores_.get(Tier::Local);
  if (pins_ || memory == nullptr) return;
  pins_ = memory->listen({[&to = *device_](std::span<std::byte> bytes) {
                            to.pin(bytes);
                            return true;
                          },
                          [&to = *device_](std::span<std::byte> bytes) { to.unpin(bytes); }});
}

Result<std::shared_ptr<Job>> Mover::make_job(JobRequest request, const TierNamespace& space) const {
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->space = space;
  job->started = Clock::now();
  auto limit = job->request.deadline;
  if (limit.count() <= 0)
    limit = job->request.kind == JobKind::Load ? options_.load_deadline : options_.save_deadline;
  job->deadline = job->started + limit;
  if (job->request.chunks.empty()) return invalid("a job without chunks");
  const std::vector<CopyMap>& maps = *maps_;
  const std::span<const int32_t> rows{job->request.rows};
  size_t at = 0;
  for (const JobChunk& chunk : job->request.chunks) {
    if (chunk.group >= maps.size())
      return invalid(
          fmt::format("group {} was not registered: there are {}", chunk.group, maps.size()));
    const size_t count = maps[chunk.group].rows_per_chunk();
    if (count > rows.size() - at)
      return invalid(fmt::format("{} rows are too few: group {} takes {} a chunk", rows.size(),
                                 chunk.group, count));
    ChunkWork work;
    work.name = {chunk.key, chunk.group, job->request.shard};
    work.parent = chunk.parent;
    work.bytes = maps[chunk.group].copy_bytes();
    work.rows = rows.subspan(at, count);
    for (int32_t row : work.rows)
      if (!maps[chunk.group].row_is_valid(row))
        return invalid(fmt::format("row {} does not exist in group {}", row, chunk.group));
    at += count;
    job->chunks.push_back(std::move(work));
  }
  if (at != rows.size())
    return invalid(fmt::format("{} rows were given, {} are needed", rows.size(), at));
  job->chunks_left = job->chunks.size();
  return job;
}

Result<JobId> Mover::submit(JobRequest request, const TierNamespace& space) {
  auto made = make_job(std::move(request), space);
  if (!made) return made.take_error();
  const std::shared_ptr<Job>& job = *made;
  std::scoped_lock lock{stop_mutex_};  // a job that comes after the end would never complete
  if (!thread_.joinable()) return Error{Status::Closed, "the engine is closed"};
  const JobId id = job->id = next_id_.fetch_add(1);
  if (!outbox_.open_job(id, options_.max_jobs))
    return Error{Status::Busy, "too many jobs are queued"};
  const bool save = job->request.kind == JobKind::Save;
  job->ticket = device_->ticket(job->request.stream);
  if (save) fence_.watch(*job);
  if (!save) device_->job_started(id);
  if (save)
    inbox_->post([this, job] { saver_.add(job); });
  else
    loader_.submit(job);
  return id;
}

void Mover::cancel(JobId id) {
  inbox_->post([this, id] {
    loader_.end(id, Status::Cancelled);
    saver_.end(id, Status::Cancelled);
  });
}

bool Mover::step() {
  bool progress = inbox_->drain() > 0;
  const auto now = Clock::now();
  loader_.expire(now);
  saver_.expire(now);
  if (stopping_) {
    loader_.end_all(Status::Closed);
    saver_.end_all(Status::Closed);
  }
  // Before what is issued, which is issued before what came is copied: a drive has its next
  // requests while the device has what it brought.
  progress |= transfers_.poll([this](Transfer& transfer, const IoCompletion& completion) {
    if (transfer.io.op == IoOp::Read) return loader_.read(transfer, completion);
    wrote_ = true;
    if (transfer.behind)
      behind_.written(transfer, completion);
    else
      saver_.written(transfer, completion);
    return false;
  }) > 0;
  progress |= loader_.issue();
  // Loads come first: while there are any, saves keep to a quarter of the slots, and a few are
  // always left for a load that is about to come.
  progress |= moves_.poll();
  const bool loads_wait = !loader_.empty();
  const size_t slots = transfers_.limit(transfers_.drive_route());
  const size_t moves = kMemoryBatches * moves_.device().batch();
  progress |=
      saver_.issue(loads_wait ? slots - slots / 4 : slots / 8, loads_wait ? moves - moves / 4 : 0);
  progress |= behind_.issue(loads_wait, now);
  sync_pools(now);
  transfers_.flush();
  progress |= moves_.submit_scatters();
  progress |= moves_.poll();
  progress |= loader_.publish();
  progress |= saver_.publish();
  progress |= behind_.publish();
  // A job that has gone makes room for others, whatever it ended by.
  progress |= loader_.sweep(Clock::now());
  progress |= saver_.sweep();
  metrics_.io_in_flight.set(transfers_.requests());
  metrics_.load_jobs_open.set(loader_.size());
  metrics_.save_jobs_open.set(saver_.size());
  return progress;
}

// A power cut may take what was written since the last sync; the checksums turn it into misses.
void Mover::sync_pools(Clock::time_point now) {
  if (!wrote_ || now < next_sync_) return;
  wrote_ = false;
  next_sync_ = now + kSyncPeriod;
  Store& drives = *stores_.get(Tier::Gds);
  for (const uint32_t pool : drives.take_dirty_pools()) transfers_.sync(pool, drives.pool_fd(pool));
}

std::chrono::nanoseconds Mover::idle_time() const {
  auto until = std::min({loader_.next_deadline(), saver_.next_deadline(), behind_.next_deadline()});
  if (wrote_) until = std::min(until, next_sync_);
  const auto now = Clock::now();
  if (until > now + kLongestSleep) return kLongestSleep;
  return std::max<std::chrono::nanoseconds>(until - now, std::chrono::milliseconds{1});
}

void Mover::run() noexcept {
  device_->enter_thread([this] { io_->wake(); });
  uint64_t cpu = thread_cpu_micros();
  auto give_up = Clock::time_point::max();
  pin_memory();
  while (true) {
    if (step()) continue;
    if (stopping_ && loader_.empty() && saver_.empty()) {
      if (give_up == Clock::time_point::max()) give_up = Clock::now() + kLastWait;
      const bool late = Clock::now() >= give_up;
      if (late) behind_.drop_all();
      if (late || (behind_.empty() && transfers_.in_flight() == 0)) break;
    }
    const uint64_t now = thread_cpu_micros();
    metrics_.mover_cpu_micros.add(now - cpu);
    cpu = now;
    if (!stopping_) pin_memory();
    io_->wait(stopping_ ? std::chrono::nanoseconds{std::chrono::milliseconds{10}} : idle_time());
  }
  inbox_->close();
  inbox_->drain();  // what came since: the jobs are gone, but it may hold reservations
}

}  // namespace penstock
