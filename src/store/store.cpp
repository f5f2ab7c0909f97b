#include "store/store.hpp"

#include <unistd.h>

#include <system_error>
#include <thread>

#include "base/log.hpp"
#include "base/signals_blocked.hpp"
#include "store/pool.hpp"
#include "store/registry.hpp"
#include "store/store_core.hpp"
#include "store/work_queue.hpp"

namespace penstock {
namespace {

constexpr std::chrono::seconds kClosePatience{10};
constexpr size_t kMaxChain = 1 << 20;  // chunks of one call
constexpr uint32_t kMaxShards = 4096;  // of one group

bool is_sane(const std::vector<Key>& chain, const std::vector<GroupNeed>& groups) {
  if (chain.size() > kMaxChain || groups.size() > kMaxShards) return false;
  for (const GroupNeed& need : groups)
    if (need.shards == 0 || need.shards > kMaxShards) return false;
  return true;
}

}  // namespace

// Shared by the handle and the index thread, so that a thread that a hung drive holds can be left
// behind: what it uses is freed when it comes back.
struct Store::Impl {
  struct Shared {
    Shared(const StoreOptions& options, StoreParts parts)
        : home{parts.directories.front()}, core{std::in_place, options, std::move(parts)} {}
    ~Shared() {
      core.reset();  // closes the files
      if (is_open) StoreRegistry::instance().closed(home);
    }
    std::string home;
    std::optional<StoreCore> core;
    WorkQueue queue{[this] { return core->upkeep(); }};
    std::mutex mutex;
    std::condition_variable ended;
    bool has_ended = false;  // guarded by mutex
    bool is_open = false;    // else the registry is just opening it, and holds its lock
  };

  template <typename Work>
  bool post(Work work, bool always = false) {
    if (::getpid() != process) return false;  // a child after fork(); it has no index thread
    return shared->queue.post(
        [core = &*shared->core, work = std::move(work)]() mutable { work(*core); }, always);
  }

  static void run(std::shared_ptr<Shared> shared) {
    shared->queue.run();
    {
      std::scoped_lock lock{shared->mutex};
      shared->has_ended = true;
    }
    shared->ended.notify_all();
  }

  std::shared_ptr<Shared> shared;
  std::thread thread;
  pid_t process = ::getpid();
};

Store::Store(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}

Store::~Store() {
  if (::getpid() != impl_->process) {
    // After fork(): thread, locks and connection are the parent's. Nothing may be undone here.
    [[maybe_unused]] Impl* left = impl_.release();
    return;
  }
  impl_->shared->queue.stop();
  // The last handle was in a callback: the thread ends, and closes the files, after it.
  if (std::this_thread::get_id() == impl_->thread.get_id()) {
    impl_->thread.detach();
    return;
  }
  std::unique_lock lock{impl_->shared->mutex};
  const bool ended =
      impl_->shared->ended.wait_for(lock, kClosePatience, [&] { return impl_->shared->has_ended; });
  lock.unlock();
  if (ended) {
    impl_->thread.join();
    return;
  }
  log(LogLevel::Warning, "the index thread of " + impl_->shared->home +
                             " does not return (a hung drive?); it is left behind");
  impl_->thread.detach();
}

Result<std::shared_ptr<Store>> Store::open(const StoreOptions& options) {
  auto directories = prepare_directories(options);
  if (!directories) return directories.take_error();
  const std::string home = directories->front();
  return StoreRegistry::instance().open(home, options, [&]() -> Result<std::shared_ptr<Store>> {
    auto parts = open_store(options, std::move(*directories));
    if (!parts) return parts.take_error();
    auto impl = std::make_unique<Impl>();
    impl->shared = std::make_shared<Impl::Shared>(options, std::move(*parts));
    try {
      const SignalsBlocked inherited;
      impl->thread = std::thread{Impl::run, impl->shared};
    } catch (const std::system_error& error) {  // a limit on threads
      return Error{Status::Io, "cannot start the index thread of " + home + ": " + error.what()};
    }
    impl->shared->is_open = true;
    return std::shared_ptr<Store>{new Store{std::move(impl)}};
  });
}

const std::string& Store::directory() const noexcept {
  return impl_->shared->home;
}

uint64_t Store::block_size() const noexcept {
  return impl_->shared->core->block_size();
}

int Store::pool_fd(uint32_t pool) const noexcept {
  return impl_->shared->core->pool_fd(pool);
}

uint32_t Store::pool_count() const noexcept {
  return impl_->shared->core->pool_count();
}

uint64_t Store::pool_data_offset() noexcept {
  return kPoolHeader;
}

std::span<std::byte> Store::pool_memory(uint32_t pool) const noexcept {
  return impl_->shared->core->pool_memory(pool);
}

bool Store::listen(MemoryListener listener) {
  MemoryWatch* const watch = impl_->shared->core->memory_watch();
  return watch != nullptr && watch->listen(std::move(listener));
}

void Store::unlisten() {
  if (MemoryWatch* const watch = impl_->shared->core->memory_watch()) watch->unlisten();
}

uint64_t Store::range_end(uint32_t pool, uint64_t block) const {
  const MemoryWatch* const watch = impl_->shared->core->memory_watch();
  return watch != nullptr ? watch->range_end(pool, block) : 0;
}

bool Store::open_namespace(const NamespaceSpec& spec, Callback<Result<NamespaceId>> done) {
  return impl_->post(
      [spec, done = std::move(done)](StoreCore& core) { done(core.open_namespace(spec)); });
}

bool Store::lookup(NamespaceId ns, std::vector<Key> chain, std::vector<GroupNeed> groups,
                   Callback<uint32_t> done) {
  return impl_->post([ns, chain = std::move(chain), groups = std::move(groups),
                      done = std::move(done)](StoreCore& core) {
    done(is_sane(chain, groups) ? core.lookup(ns, chain, groups) : 0);
  });
}

bool Store::find(NamespaceId ns, std::vector<CopyName> names,
                 Callback<std::vector<CopyRecord>> done) {
  return impl_->post([ns, names = std::move(names), done = std::move(done)](StoreCore& core) {
    done(core.find(ns, names));
  });
}

bool Store::sample(uint32_t limit, uint64_t random, Callback<std::vector<Extent>> done) {
  return impl_->post([limit, random, done = std::move(done)](StoreCore& core) {
    done(core.sample(limit, random));
  });
}

bool Store::reserve(NamespaceId ns, std::vector<Wish> wishes,
                    Callback<std::vector<Reservation>> done) {
  auto* queue = &impl_->shared->queue;
  return impl_->post(
      [ns, queue, wishes = std::move(wishes), done = std::move(done)](StoreCore& core) {
        done(core.reserve(ns, wishes));
        if (core.needs_room()) queue->upkeep_soon();  // ahead of the next one
      });
}

bool Store::commit(NamespaceId ns, std::vector<CopyInsert> copies,
                   Callback<std::vector<Status>> done) {
  return impl_->post([ns, copies = std::move(copies), done = std::move(done)](StoreCore& core) {
    done(core.commit(ns, copies));
  });
}

bool Store::release(std::vector<Extent> extents) {
  // Never refused while the store is open: there is no more of it than there are reservations.
  return impl_->post(
      [extents = std::move(extents)](StoreCore& core) mutable { core.release(std::move(extents)); },
      true);
}

bool Store::settle(std::vector<int64_t> ids) {
  return impl_->post([ids = std::move(ids)](StoreCore& core) { core.settle(ids); });
}

bool Store::damaged(NamespaceId ns, CopyName name, int64_t record_id, Callback<Status> done) {
  auto* queue = &impl_->shared->queue;
  return impl_->post([ns, queue, name, record_id, done = std::move(done)](StoreCore& core) {
    done(core.damaged(ns, name, record_id));
    queue->upkeep_soon();  // its descendants go next
  });
}

std::vector<uint32_t> Store::take_dirty_pools() {
  return impl_->shared->core->take_dirty_pools();
}

void Store::mark_written(uint32_t pool, uint64_t bytes) noexcept {
  impl_->shared->core->mark_written(pool, bytes);
}

void Store::each_second(std::function<bool()> work) {
  impl_->post([work = std::move(work)](StoreCore& core) { core.each_second(work); }, true);
}

std::map<std::string, double> Store::metrics() const {
  return impl_->shared->core->metrics();
}

std::map<std::string, std::string> Store::facts() const {
  return impl_->shared->core->facts();
}

}  // namespace penstock
