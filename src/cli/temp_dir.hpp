// TempDir owns a new directory (mode 0700) and removes it with all that is in it, unless kept.
// Move-only; one thread.
#pragma once

#include <string>
#include <utility>

#include "penstock/status.hpp"

namespace penstock::cli {

class TempDir {
 public:
  // `parent` exists; `name` is the beginning of the new directory's name.
  static Result<TempDir> create(const std::string& parent, const std::string& name);
  TempDir(TempDir&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();

  const std::string& path() const noexcept { return path_; }
  std::string keep() noexcept { return std::exchange(path_, {}); }

 private:
  explicit TempDir(std::string path) : path_{std::move(path)} {}
  std::string path_;
};

}  // namespace penstock::cli
