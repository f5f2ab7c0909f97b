#include "io/cufile_engine.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "io/cufile_core.hpp"

namespace penstock {
namespace {

class CufileEngine final : public IoEngine {
 public:
  CufileEngine(size_t depth, std::shared_ptr<CufileCore> core)
      : IoEngine{depth}, core_{std::move(core)} {}
  ~CufileEngine() override {
    if (core_->close()) return;
    log(LogLevel::Error,
        "a call into cuFile has not come back; its thread, the registered GPU memory and the "
        "cuFile "
        "driver are left as they are until it does");
  }
  void wake() noexcept override { core_->queue.wake(); }
  std::string_view name() const noexcept override { return "cufile"; }

 private:
  void submit_impl(std::span<IoRequest* const> requests) noexcept override {
    core_->queue.push(requests);
  }
  size_t poll_impl(std::span<Attempt> attempts) noexcept override {
    return core_->queue.poll(attempts);
  }
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override { core_->queue.wait(timeout); }

  std::shared_ptr<CufileCore> core_;
};

}  // namespace

Result<std::unique_ptr<IoEngine>> make_cufile_engine(CufileEngineOptions options) {
  const size_t depth = options.depth;
  const size_t threads = std::clamp<size_t>(options.threads, 1, std::max<size_t>(depth, 1));
  const auto core = std::make_shared<CufileCore>(std::move(options));
  if (!CufileCore::start_thread(core)) return Error{Status::Io, "cannot start a thread for cuFile"};
  auto engine = std::make_unique<CufileEngine>(depth, core);
  if (auto ready = core->wait_until_ready(); !ready) return ready.take_error();
  for (size_t more = 1; more < threads; ++more)
    if (!CufileCore::start_thread(core)) break;  // fewer threads than wanted still do the work
  return std::unique_ptr<IoEngine>{std::move(engine)};
}

}  // namespace penstock
