// CufileCore: what the threads of a cufile engine share, and what outlives the engine where one of
// them hangs.
//
// Held by the engine and by each thread. The first thread sets cuFile up, the last to leave tears
// it down. The engine's thread uses the queue, wait_until_ready() and close(); the rest is the
// workers'.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "io/attempt_queue.hpp"
#include "io/cufile_driver.hpp"
#include "io/cufile_engine.hpp"

namespace penstock {

class CufileCore {
 public:
  explicit CufileCore(CufileEngineOptions options);

  AttemptQueue queue;

  // Starts one more thread. The first one sets up. False if the system has none left.
  static bool start_thread(const std::shared_ptr<CufileCore>& core) noexcept;
  Result<void> wait_until_ready();
  // Stops the threads and waits for them; false if one did not come within close_limit.
  bool close();

 private:
  enum class State { Starting, Ready, Failed, Gone };

  void run(bool first) noexcept;
  Result<void> set_up();
  void leave() noexcept;
  int64_t attempt(const IoRequest& request) noexcept;

  CufileEngineOptions options_;
  std::mutex mutex_;  // guards the four below
  std::condition_variable changed_;
  State state_ = State::Starting;
  Error error_;
  size_t threads_ = 0;
  // Made by the first thread before Ready, used by all, unmade by the last; in this order.
  std::optional<CufileDriver> driver_;
  std::optional<CufileFiles> files_;
  std::optional<CufileBuffer> buffer_;
};

}  // namespace penstock
