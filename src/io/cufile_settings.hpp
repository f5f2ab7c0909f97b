// CufileSettings: the configuration that cuFile runs under here, in a private directory, where its
// log goes too.
//
// cuFile reads the file that CUFILE_ENV_PATH_JSON names when its driver is opened. Where the user
// has set that variable, the user's file is used and nothing is made. The directory is removed with
// the object. Any thread makes it; one uses it.
#pragma once

#include <optional>
#include <string>

#include "penstock/status.hpp"

namespace penstock {

inline constexpr const char* kCufileConfigVariable = "CUFILE_ENV_PATH_JSON";

class CufileSettings {
 public:
  static Result<CufileSettings> create();
  CufileSettings(CufileSettings&& other) noexcept : directory_{std::move(other.directory_)} {
    other.directory_.clear();
  }
  CufileSettings& operator=(CufileSettings&& other) noexcept {
    std::swap(directory_, other.directory_);
    return *this;
  }
  ~CufileSettings();

  bool is_the_users() const noexcept { return directory_.empty(); }
  const std::string& directory() const noexcept { return directory_; }
  std::string path() const;           // of the JSON file; empty if it is the user's
  std::string last_log_line() const;  // empty if there is none

 private:
  explicit CufileSettings(std::string directory) noexcept : directory_{std::move(directory)} {}
  std::string directory_;
};

// Sets a variable of the environment while it lives. Other threads of the process may read the
// environment meanwhile, so it lives as short as can be.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value);  // an empty value leaves it alone
  ~ScopedVariable();
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_ = nullptr;
  std::optional<std::string> before_;
};

}  // namespace penstock
