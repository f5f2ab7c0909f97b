// PinnedPieces: the ranges of host memory that are registered with CUDA, each with a call of its
// own. One copy must not reach from one into the next: CUDA calls that an invalid argument. Any
// thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <span>

namespace penstock::cuda {

class PinnedPieces {
 public:
  void add(std::span<std::byte> piece) {
    std::scoped_lock lock{mutex_};
    pieces_[piece.data()] = piece.size();
  }

  // Calls `drop(start)` for each piece that lies in `memory`, and forgets it.
  template <typename Drop>
  void remove(std::span<std::byte> memory, Drop&& drop) {
    std::scoped_lock lock{mutex_};
    std::byte* const end = memory.data() + memory.size();
    for (auto at = pieces_.lower_bound(memory.data());
         at != pieces_.end() && at->first + at->second <= end; at = pieces_.erase(at))
      drop(at->first);
  }

  template <typename Drop>
  void remove_all(Drop&& drop) {
    std::scoped_lock lock{mutex_};
    for (const auto& [start, size] : pieces_) drop(start);
    pieces_.clear();
  }

  // Whether what lies before `address` and what lies there are in one piece. Where it is not known
  // here, somebody else may have registered two.
  bool join(std::byte* address) const {
    std::scoped_lock lock{mutex_};
    const auto after = pieces_.lower_bound(address);
    if (after == pieces_.begin()) return false;
    const auto piece = std::prev(after);
    return address < piece->first + piece->second;
  }

  // How many of `bytes` from `address` on one copy may move.
  uint64_t together(std::byte* address, uint64_t bytes) const {
    std::scoped_lock lock{mutex_};
    const auto after = pieces_.upper_bound(address);
    if (after != pieces_.begin()) {
      const auto piece = std::prev(after);
      const auto inside = static_cast<uint64_t>(address - piece->first);
      if (inside < piece->second) return std::min(bytes, piece->second - inside);
    }
    if (after == pieces_.end()) return bytes;
    return std::min(bytes, static_cast<uint64_t>(after->first - address));
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::byte*, uint64_t> pieces_;  // bytes, by start
};

}  // namespace penstock::cuda
