// Status, Error and Result: how the core reports what happened. No exceptions cross these types.
//
// A Status is one byte and travels on the data path (one for each chunk of a job). An Error adds a
// sentence that says what was wrong and what to do; it is made only where a person will read it.
// Values; any thread may copy and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace penstock {

enum class Status : uint8_t {
  Ok = 0,
  Present,      // a save without need: the copy is there already, or being written by another job
  NotFound,     // a miss: no such copy, or it was evicted meanwhile; of a save: it has no parent
  Rejected,     // refused by policy: the write limit, or a pool that shrinks
  Busy,         // a bounded queue is full, or the answer is not there yet: ask again
  Io,           // the device or the file system reported an error
  Corrupt,      // the bytes are not the ones that were saved
  Unsupported,  // this machine, file system or layout cannot do it
  Invalid,      // the caller's argument or configuration is wrong
  NoSpace,      // the store is full and nothing can be evicted, or the file system is full
  Timeout,      // the deadline passed
  Cancelled,    // cancelled by the caller, or a source row was about to be overwritten
  Closed,       // the engine is shutting down
};

std::string_view to_string(Status status) noexcept;

struct [[nodiscard]] Error {
  Status status = Status::Invalid;
  std::string message;
};

// Either a T or an Error. Test it with `if (!result)`; reading the absent side is a programmer
// error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_{std::in_place_index<0>, std::move(value)} {}
  Result(Error error) : state_{std::in_place_index<1>, std::move(error)} {}

  explicit operator bool() const noexcept { return state_.index() == 0; }
  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  const Error& error() const { return std::get<1>(state_); }
  Error take_error() { return std::get<1>(std::move(state_)); }
  Status status() const noexcept {
    return state_.index() == 0 ? Status::Ok : std::get<1>(state_).status;
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : failed_{true}, error_{std::move(error)} {}

  explicit operator bool() const noexcept { return !failed_; }
  const Error& error() const noexcept { return error_; }
  Error take_error() { return std::move(error_); }
  Status status() const noexcept { return failed_ ? error_.status : Status::Ok; }

 private:
  bool failed_ = false;
  Error error_;
};

}  // namespace penstock
